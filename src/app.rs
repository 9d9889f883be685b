//! Puts the program together, runs it and stops it: the only file that knows every other.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    num::NonZero,
    sync::Arc,
    thread,
};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin},
    config::{Config, Credentials},
    proxy::{Budget, Ledger, Proxy, Rules, upstream::Upstream},
    server::{self, Connections, ServerSettings},
    telemetry::Metrics,
    token::{
        self, Attempt, Events, FetchError, Snapshot, TokenHandle, TokenResponse, TokenSource,
        endpoint::TokenEndpoint, fixed::FixedToken,
    },
};

/// A program whose sockets are bound, so that its addresses are known, and which serves nobody yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    source: Source,
    proxy_listeners: Vec<StdListener>,
    proxy_addresses: Vec<SocketAddr>,
    admin_listener: Option<(StdListener, SocketAddr)>,
}

impl App {
    /// Binds the sockets and prepares everything that can fail at the start.
    ///
    /// # Errors
    /// When an address is taken or a trust store cannot be loaded.
    pub fn bind(config: Config) -> anyhow::Result<Self> {
        raise_file_limit();
        let source = Source::new(&config)?;
        // Loaded once here so that a broken trust store is an error now and not in a worker.
        Upstream::new(&config.upstream, Arc::default()).context("upstream")?;
        let mut proxy_listeners = Vec::new();
        let mut proxy_addresses = Vec::new();
        for address in &config.listen.addresses {
            let (listener, bound) = listen(*address)
                .with_context(|| format!("cannot listen on {address} (listen.address)"))?;
            proxy_listeners.push(listener);
            proxy_addresses.push(bound);
        }
        let admin_listener = config
            .admin
            .address
            .map(|address| {
                listen(address)
                    .with_context(|| format!("cannot listen on {address} (admin.address)"))
            })
            .transpose()?;
        Ok(Self {
            config,
            source,
            proxy_listeners,
            proxy_addresses,
            admin_listener,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn proxy_addresses(&self) -> &[SocketAddr] {
        &self.proxy_addresses
    }

    /// Where operators connect.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_listener.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown`, then drains: no more connections, what is in flight within the
    /// drain time, the end.
    ///
    /// # Errors
    /// When a part of the program ends that must not.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let metrics = Arc::new(Metrics::default());
        let (refresher, tokens) = token::channel(
            self.source,
            self.config.auth.policy.clone(),
            Reporter(Arc::clone(&metrics)),
            fastrand::f64,
        );
        let stop = CancellationToken::new();
        let connections = Connections::default();
        let ledger = Ledger::new(Arc::clone(&metrics), self.config.proxy.max_in_flight);
        let workers = Workers {
            config: &self.config,
            rules: data_rules(&self.config, &self.proxy_addresses),
            tokens: tokens.clone(),
            metrics: Arc::clone(&metrics),
            connections: connections.clone(),
            ledger: ledger.clone(),
            stop: stop.clone(),
        };
        let mut ended = workers.start(&self.proxy_listeners)?;
        drop(self.proxy_listeners);
        let refresher = tokio::spawn(refresher.run());
        let admin_stop = CancellationToken::new();
        let admin = self.admin_listener.map(|(listener, address)| {
            let admin = Admin::new(admin::Inner {
                tokens,
                metrics,
                ledger,
                connections,
                rules: admin_rules(&self.config, address),
                stop: stop.clone(),
                allow_quit: self.config.admin.allow_quit,
                started_at: Instant::now(),
            });
            let serving = serve_admin(listener, admin, admin_stop.clone())?;
            anyhow::Ok((address, serving))
        });
        let admin = admin.transpose()?;
        for address in &self.proxy_addresses {
            tracing::info!(%address, upstream = %self.config.upstream.url, "listening");
        }
        if let Some((address, _)) = &admin {
            tracing::info!(%address, "admin listening");
        }
        let refreshing = refresher.abort_handle();
        let result = tokio::select! {
            // In this order: what ends because it was asked to is no failure.
            biased;
            () = shutdown => Ok(()),
            () = stop.cancelled() => Ok(()),
            result = refresher => Err(result.map_or_else(anyhow::Error::from, |()| {
                anyhow::anyhow!("the refresher ended")
            })),
            _ = ended.recv() => Err(anyhow::anyhow!("a worker ended")),
        };
        tracing::info!("stopping: finishing the requests in flight");
        stop.cancel();
        // Readiness is false by now, and the admin listener goes on telling so to the end.
        while ended.recv().await.is_some() {}
        refreshing.abort();
        admin_stop.cancel();
        if let Some((_, serving)) = admin {
            serving.await.context("the admin listener crashed")?;
        }
        tracing::info!("stopped");
        result
    }
}

/// Waits for SIGTERM or SIGINT. A second one ends the process at once, with exit code 1.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("a second signal: stopping at once");
            exit_now();
        });
    })
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "somebody asked twice: nothing that is still open is worth waiting for"
)]
fn exit_now() {
    std::process::exit(1);
}

/// What every worker gets its share of.
struct Workers<'a> {
    config: &'a Config,
    rules: Rules,
    tokens: TokenHandle,
    metrics: Arc<Metrics>,
    connections: Connections,
    ledger: Ledger,
    stop: CancellationToken,
}

impl Workers<'_> {
    /// Starts one thread a core, each with a runtime, the listeners and a pool of upstream
    /// connections of its own, so that a request never changes cores and takes no shared lock.
    /// The channel tells of each that ends, and ends with the last.
    fn start(&self, listeners: &[StdListener]) -> anyhow::Result<mpsc::Receiver<()>> {
        let budget = Budget::new(
            self.config.proxy.replay_body_limit,
            self.config.proxy.replay_buffer_total,
        );
        let count = match self.config.listen.workers {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        let (alive, ended) = mpsc::channel(count);
        for number in 0..count {
            let listeners = listeners
                .iter()
                .map(StdListener::try_clone)
                .collect::<io::Result<Vec<_>>>()?;
            let upstream = Upstream::new(&self.config.upstream, Arc::clone(&self.metrics))?;
            let proxy = Proxy::new(
                self.config.proxy.clone(),
                self.rules.clone(),
                self.tokens.clone(),
                upstream,
                self.ledger.clone(),
                budget.clone(),
            );
            let settings = self.config.listen.server.clone();
            let connections = self.connections.clone();
            let stop = self.stop.clone();
            let alive = Alive(alive.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(work(listeners, settings, connections, proxy, stop));
                    drop(alive);
                })?;
        }
        Ok(ended)
    }
}

/// Says that a worker has ended, also when it panicked.
struct Alive(mpsc::Sender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        // There is a place for each worker, so this is refused only when nobody listens.
        self.0.try_send(()).unwrap_or_default();
    }
}

/// One worker's life.
async fn work(
    listeners: Vec<StdListener>,
    settings: ServerSettings,
    connections: Connections,
    proxy: Proxy,
    stop: CancellationToken,
) {
    let mut serving = tokio::task::JoinSet::new();
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                serving.spawn(server::serve(
                    listener,
                    settings.clone(),
                    connections.clone(),
                    proxy.clone(),
                    stop.clone(),
                ));
            }
            Err(error) => tracing::error!(%error, "a worker cannot use a listener"),
        }
    }
    tokio::select! {
        _ = serving.join_all() => {}
        () = proxy.close_idle() => {}
    }
}

fn serve_admin(
    listener: StdListener,
    admin: Admin,
    stop: CancellationToken,
) -> io::Result<tokio::task::JoinHandle<()>> {
    let settings = ServerSettings {
        max_connections: 256,
        header_read_timeout: std::time::Duration::from_secs(10),
        keep_alive_timeout: std::time::Duration::from_secs(60),
        body_idle_timeout: std::time::Duration::from_secs(10),
        max_header_size: 16 * 1024,
        drain_timeout: std::time::Duration::from_secs(1),
    };
    let listener = TcpListener::from_std(listener)?;
    let connections = Connections::default();
    Ok(tokio::spawn(server::serve(
        listener,
        settings,
        connections,
        admin,
        stop,
    )))
}

/// The names under which clients may know the data listener.
fn data_rules(config: &Config, addresses: &[SocketAddr]) -> Rules {
    let upstream = config.upstream.url.host_str().map(ToOwned::to_owned);
    let own = addresses.iter().map(|address| address.ip().to_string());
    Rules {
        hosts: upstream
            .into_iter()
            .chain(own)
            .chain(config.proxy.allow_hosts.iter().cloned())
            .collect(),
        any_address: false,
        origins: config.proxy.allow_origins.clone(),
    }
}

/// The same for the admin listener. A probe from elsewhere knows it by its address.
fn admin_rules(config: &Config, address: SocketAddr) -> Rules {
    Rules {
        hosts: config.proxy.allow_hosts.clone(),
        any_address: !address.ip().is_loopback(),
        origins: Vec::new(),
    }
}

fn listen(address: SocketAddr) -> io::Result<(StdListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = StdListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Clients that connect at once, as after a restart, must not be turned away by the system.
const BACKLOG: i32 = 4096;

/// A proxied connection takes two files; the usual soft limit of 1024 is for programs that use
/// `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}

/// The kinds of sources behind one type.
#[derive(Debug)]
enum Source {
    Endpoint(Box<TokenEndpoint>),
    Fixed(FixedToken),
}

impl Source {
    fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(match &config.auth.credentials {
            Credentials::Endpoint(request) => Self::Endpoint(Box::new(TokenEndpoint::new(
                request.clone(),
                &config.auth.endpoint,
            )?)),
            Credentials::Static(secret) => Self::Fixed(FixedToken::new(secret.clone())),
        })
    }
}

impl TokenSource for Source {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        match self {
            Self::Endpoint(endpoint) => endpoint.fetch().await,
            Self::Fixed(token) => token.fetch().await,
        }
    }
}

/// Tells the log and the metrics of each token call.
#[derive(Debug)]
struct Reporter(Arc<Metrics>);

impl Events for Reporter {
    fn attempted(&self, attempt: &Attempt, snapshot: &Snapshot) {
        let now = Instant::now();
        let next = snapshot.next_attempt.saturating_duration_since(now);
        let next_attempt_in = humantime::format_duration(rounded(next)).to_string();
        let reason = attempt
            .outcome
            .as_ref()
            .err()
            .map(|error| error.reason.as_str());
        self.0.token_refreshed(reason, attempt.duration);
        match &attempt.outcome {
            Ok(generation) => {
                let expires_in = snapshot
                    .token
                    .as_ref()
                    .and_then(|token| token.expires_at)
                    .map_or_else(
                        || "never".to_owned(),
                        |end| humantime::format_duration(rounded(end - now)).to_string(),
                    );
                tracing::info!(generation, expires_in, next_attempt_in, "got a token");
            }
            Err(error) => {
                let usable = snapshot.usable(now).is_some();
                tracing::warn!(
                    reason = error.reason.as_str(),
                    detail = error.detail,
                    failures = snapshot.consecutive_failures,
                    next_attempt_in,
                    usable,
                    "got no token"
                );
            }
        }
    }
}

/// To a tenth of a second: what is below is noise to a reader.
fn rounded(duration: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_millis(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) / 100 * 100,
    )
}
