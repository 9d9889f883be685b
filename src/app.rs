//! Puts the program together, runs it, changes its configuration and stops it: the only file that
//! knows every other.

mod clients;
mod listening;
mod live;
mod operators;
mod reload;
mod reporter;
mod rules;
mod service_manager;
mod signals;
mod sockets;
mod source;
mod unix_socket;
mod worker;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    clients::ClientList,
    listening::Listening,
    live::Live,
    operators::Operators,
    reload::{Reload, Reloaded},
    service_manager::State,
    worker::Workers,
};
pub(crate) use self::{live::credentials, source::Source};
pub use self::{service_manager::ServiceManager, signals::shutdown_signal};
use crate::{
    clock::{self, Jump},
    config::{Config, Sources},
    proxy::{Ledger, upstream::Connector},
    server::{Address, Connections, ServerSettings, TlsFiles, TlsInUse, TlsSettings},
    telemetry::Metrics,
};

/// A program whose sockets are bound, so that its addresses are known, and which serves nobody yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    parts: Parts,
    listeners: Vec<Listening>,
    admin: Option<Listening>,
    reload: Option<(Sources, Option<PathBuf>)>,
    manager: ServiceManager,
}

/// What outlives every configuration.
#[derive(Debug, Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    connections: Connections,
    ledger: Ledger,
    server: Arc<ArcSwap<ServerSettings>>,
    tls: TlsInUse,
    stop: CancellationToken,
    started_at: Instant,
}

impl App {
    /// Binds the sockets and prepares everything that can fail at the start.
    ///
    /// # Errors
    /// When an address is taken or a trust store cannot be loaded.
    pub fn bind(config: Config) -> anyhow::Result<Self> {
        sockets::raise_file_limit();
        let parts = Parts::of(&config)?;
        let addresses = config.listen.addresses.iter();
        let listeners = addresses
            .map(|address| Listening::bind(address, &config, "listen.address"))
            .collect::<anyhow::Result<_>>()?;
        let admin = config.admin.address.as_ref();
        let admin = admin
            .map(|address| Listening::bind(address, &config, "admin.address"))
            .transpose()?;
        Ok(Self {
            config,
            parts,
            listeners,
            admin,
            reload: None,
            manager: ServiceManager::default(),
        })
    }

    /// Has it load its configuration again from `sources` on SIGHUP, and when `file` changes.
    #[must_use]
    pub fn reloading(self, sources: Sources, file: Option<PathBuf>) -> Self {
        Self {
            reload: Some((sources, file)),
            ..self
        }
    }

    /// Has it tell `manager` when it serves, and when it stops.
    #[must_use]
    pub fn managed_by(self, manager: ServiceManager) -> Self {
        Self { manager, ..self }
    }

    /// The ports where clients connect, with TLS or without.
    #[must_use]
    pub fn proxy_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter();
        addresses.filter_map(|one| one.address.socket()).collect()
    }

    /// The port where operators connect.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.address.socket()
    }

    /// Serves until `shutdown`, then drains: no more connections, what is in flight within the
    /// drain time, the end.
    ///
    /// # Errors
    /// When a part of the program ends that must not.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            config,
            parts,
            listeners,
            admin,
            reload,
            manager,
        } = self;
        let metrics = Arc::new(Metrics::default());
        let shared = Shared {
            connections: Connections::default(),
            ledger: Ledger::new(Arc::clone(&metrics), config.proxy.max_in_flight),
            server: Arc::new(ArcSwap::from_pointee(config.listen.server.clone())),
            tls: TlsInUse::default(),
            stop: CancellationToken::new(),
            started_at: Instant::now(),
            metrics: Arc::clone(&metrics),
        };
        // Whatever fails from here on, the workers are not left behind.
        let _stop = shared.stop.clone().drop_guard();
        let mut reload = Reload::new(reload, metrics)?;
        let mut live = Live::start(config, parts, &shared)?;
        live.addresses = addresses(&listeners);
        live.show_certificate(&shared);
        let workers = Workers::start(live.config.listen.workers, &live, &shared)?;
        for listening in &listeners {
            workers.serve(listening, &shared.tls).await?;
            tracing::info!(address = %listening.address, upstream = %live.config.upstream.url, "listening");
        }
        let operators = Operators::start(admin, &live, &shared)?;
        let mut program = Program {
            shared,
            workers,
            listeners,
            operators,
            live,
            manager,
        };
        program.manager.tell(State::Ready);
        // On the heap, so that whoever runs this needs no large stack.
        let result = Box::pin(program.serve(&mut reload, shutdown)).await;
        program.stop().await?;
        result
    }
}

/// What is made of a configuration before it is used, and can fail.
#[derive(Debug)]
struct Parts {
    source: Source,
    connector: Arc<Connector>,
    clients: Option<ClientList>,
    tls: Option<TlsFiles>,
}

impl Parts {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let connector = Connector::new(&config.upstream).context("upstream")?;
        let tls = config.listen.tls.as_ref();
        Ok(Self {
            source: Source::new(config)?,
            connector: Arc::new(connector),
            clients: ClientList::of(config)?,
            tls: tls.map(TlsSettings::load).transpose().context("listen")?,
        })
    }
}

fn addresses(listeners: &[Listening]) -> Vec<Address> {
    listeners.iter().map(|one| one.address.clone()).collect()
}

/// The program at work.
struct Program {
    shared: Shared,
    workers: Workers,
    listeners: Vec<Listening>,
    operators: Operators,
    live: Live,
    manager: ServiceManager,
}

impl Program {
    /// Serves until it is asked to stop, or a part of it ends that must not.
    async fn serve(
        &mut self,
        reload: &mut Reload,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);
        let stop = self.shared.stop.clone();
        let mut jumps = jumps();
        // A new configuration, until its credentials have given a token: the old one serves on.
        let mut next: Option<Live> = None;
        loop {
            let Live { config, tasks, .. } = &mut self.live;
            tokio::select! {
                // In this order: what ends because it was asked to is no failure.
                biased;
                () = &mut shutdown => return Ok(()),
                () = stop.cancelled() => return Ok(()),
                error = live::ended(tasks) => return Err(error),
                _ = self.workers.ended() => anyhow::bail!("a worker ended"),
                Some(jump) = jumps.recv() => self.live.jumped(jump),
                reloaded = reload.next(config) => match reloaded {
                    Reloaded::Same => self.live.tokens.refresh_now(),
                    Reloaded::Changed(config) => next = self.prepare(*config),
                },
                () = has_token(next.as_ref()) => if let Some(live) = next.take() {
                    self.change(live).await;
                },
            }
        }
    }

    /// Starts the token path of a new configuration, if it can be used at all.
    fn prepare(&self, config: Config) -> Option<Live> {
        tracing::info!("the configuration has changed; getting a token with it");
        let live = Parts::of(&config).and_then(|parts| Live::start(config, parts, &self.shared));
        live.inspect_err(|error| self.rejected(error)).ok()
    }

    /// Changes to a configuration whose token path works; whole, or not at all.
    async fn change(&mut self, live: Live) {
        match self.try_change(live).await {
            Ok(()) => {
                self.shared.metrics.config_reloaded(true);
                tracing::info!("the new configuration is in use");
            }
            Err(error) => self.rejected(&error),
        }
    }

    async fn try_change(&mut self, mut live: Live) -> anyhow::Result<()> {
        let config = &live.config;
        let access = &config.listen.unix;
        let mut new = Vec::new();
        for address in &config.listen.addresses {
            if !self.listeners.iter().any(|one| one.configured == *address) {
                new.push(Listening::bind(address, config, "listen.address")?);
            }
        }
        let operators = self.operators.plan(config)?;
        let mut kept = self.listeners.iter();
        kept.try_for_each(|listening| listening.set_access(access))?;
        // From here on nothing fails but what would fail for the old configuration too.
        let is_kept = |one: &Listening| config.listen.addresses.contains(&one.configured);
        let (kept, given_up): (Vec<_>, Vec<_>) = self.listeners.drain(..).partition(is_kept);
        self.listeners = kept;
        self.listeners.extend(new);
        live.addresses = addresses(&self.listeners);
        live.show_certificate(&self.shared);
        self.workers.handle(&live, &self.shared).await;
        for listening in &self.listeners {
            // Those that are served already say so by being kept.
            if !self.live.addresses.contains(&listening.address) {
                self.workers.serve(listening, &self.shared.tls).await?;
                tracing::info!(address = %listening.address, "listening");
            }
        }
        for listening in given_up {
            listening.stop.cancel();
        }
        let server = live.config.listen.server.clone();
        self.shared.server.store(Arc::new(server));
        if live.config.listen.workers != self.live.config.listen.workers {
            tracing::warn!("listen.workers takes effect at the next start");
        }
        if live.config.log != self.live.config.log {
            tracing::warn!("log.level and log.format take effect at the next start");
        }
        if live.config.process != self.live.config.process {
            tracing::warn!("process.sandbox takes effect at the next start");
        }
        self.operators.change(operators, &live, &self.shared)?;
        self.live = live;
        Ok(())
    }

    fn rejected(&self, error: &anyhow::Error) {
        self.shared.metrics.config_reloaded(false);
        tracing::error!("the new configuration cannot be used; the old one stays: {error:#}");
    }

    /// Drains: no more connections, and what is in flight within the drain time.
    async fn stop(mut self) -> anyhow::Result<()> {
        tracing::info!("stopping: finishing the requests in flight");
        self.manager.tell(State::Stopping);
        // Readiness is false from here on, and the admin listener goes on telling so to the end.
        self.shared.stop.cancel();
        for listening in self.listeners.drain(..) {
            listening.stop.cancel();
        }
        while self.workers.ended().await.is_some() {}
        self.operators.stop().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn has_token(live: Option<&Live>) {
    match live {
        Some(live) => live.has_token().await,
        None => std::future::pending().await,
    }
}

/// Jumps of the clock, as they come. The channel ends where the system does not tell of them.
fn jumps() -> mpsc::Receiver<Jump> {
    let (tell, jumps) = mpsc::channel(4);
    tokio::spawn(async move {
        // Of many at a time, one is enough.
        let watching = clock::watch(|jump| tell.try_send(jump).unwrap_or_default());
        tokio::select! {
            result = watching => if let Err(error) = result {
                tracing::debug!(%error, "cannot watch the clock");
            },
            () = tell.closed() => {}
        }
    });
    jumps
}
