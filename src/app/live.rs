//! A configuration at work: its token path, and the watch over its credentials.

use std::{
    future::{Future, pending},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use url::Url;

use super::{Parts, Shared, reporter::Reporter, standing::Standing, token_calls::TokenCalls};
use crate::{
    admission::Clients,
    clock::Jump,
    config::{Config, Credentials},
    health::{Health, watch_token},
    proxy::upstream::Connector,
    server::{Address, TlsFiles},
    telemetry::spans::{Collector, Tracer},
    tls::TlsSettings,
    token::{
        self, TokenHandle,
        foresight::{Credential, Ends},
    },
};

/// One generation of the configuration. Dropped, its tasks end.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) config: Config,
    /// The addresses that are listened on for it.
    pub(super) addresses: Vec<Address>,
    pub(super) tokens: TokenHandle,
    pub(super) health: Health,
    /// Whether clients are served with it, so that the log can distinguish it from one that is tried.
    standing: Standing,
    /// Makes spans of what it does, where somebody collects them.
    pub(super) tracer: Option<Tracer>,
    /// The same for token calls, whose path may be that of the generation before.
    token_tracer: Arc<ArcSwapOption<Tracer>>,
    pub(super) ends: Ends,
    pub(super) connector: Arc<Connector>,
    /// Whom local tokens let in.
    pub(super) clients: Option<Clients>,
    /// The same for the broker.
    pub(super) broker_clients: Option<Clients>,
    tls: Option<TlsFiles>,
    /// Notified when the files are to be read again, whoever can write to them.
    asked: Arc<Notify>,
    /// `None` where they are still those of the generation before.
    token_calls: Option<TokenCalls>,
    tasks: JoinSet<()>,
}

impl Live {
    /// Starts the token path of a configuration, or goes on with that of `current` where its
    /// credentials are the same: then nothing waits for a token, least of all who is to be locked
    /// out.
    pub(super) fn start(
        config: Config,
        parts: Parts,
        shared: &Shared,
        current: Option<&Self>,
    ) -> anyhow::Result<Self> {
        let Parts {
            source,
            connector,
            clients,
            broker_clients,
            tls,
            collector,
            credentials,
        } = parts;
        let upstream = host_and_port(&config.upstream.url);
        let tracer = tracer(&config, collector, shared, current);
        let mut token_calls = None;
        let (tokens, health, standing, token_tracer);
        if let Some(current) = current.filter(|one| one.config.auth == config.auth) {
            tokens = current.tokens.clone();
            health = if current.config.upstream == config.upstream {
                current.health.clone()
            } else {
                current.health.of_another(upstream)
            };
            standing = current.standing.clone();
            token_tracer = Arc::clone(&current.token_tracer);
        } else {
            health = Health::of(upstream);
            standing = Standing::new(current.is_some());
            token_tracer = Arc::new(ArcSwapOption::from_pointee(tracer.clone()));
            let reporter = Reporter {
                metrics: Arc::clone(&shared.metrics),
                reloads: shared.reloads.clone(),
                token_service: config.auth.token_service(),
                standing: standing.clone(),
                tracer: Arc::clone(&token_tracer),
                last_line: Mutex::default(),
            };
            let policy = config.auth.policy.clone();
            let (task, handle) = token::channel(source, policy, reporter, fastrand::f64);
            token_calls = Some(TokenCalls::start(task, &standing, &shared.token_calls)?);
            tokens = handle;
        }
        let ends = Ends::default();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (connector, metrics) = (Arc::clone(&connector), Arc::clone(&shared.metrics));
            async move {
                let renewed = |accepted| metrics.secret_reloaded(accepted);
                connector.follow_files(renewed).await;
            }
        });
        for credential in credentials {
            let (tokens, ends) = (tokens.clone(), ends.clone());
            let metrics = Arc::clone(&shared.metrics);
            metrics.has_credential(credential.kind());
            tasks.spawn(async move {
                // Without a token there is more urgent news than the end of a credential.
                has_token(&tokens).await;
                let checked = move |kind, known| metrics.credential_checked(kind, known);
                credential.watch(ends, checked).await;
            });
        }
        let asked = Arc::<Notify>::default();
        let lists = [
            (clients, &shared.connections),
            (broker_clients, &shared.broker_connections),
        ];
        let [clients, broker_clients] = lists.map(|(list, connections)| {
            let list = list?;
            let clients = Clients::new(&list.tokens, Arc::clone(&shared.metrics));
            tasks.spawn(list.watch(
                clients.clone(),
                connections.clone(),
                Arc::clone(&asked),
                Arc::clone(&shared.metrics),
            ));
            Some(clients)
        });
        Ok(Self {
            health,
            standing,
            tracer,
            token_tracer,
            config,
            addresses: Vec::new(),
            tokens,
            ends,
            connector,
            clients,
            broker_clients,
            tls,
            asked,
            token_calls,
            tasks,
        })
    }

    /// Has TLS listeners show its certificate from now on, and follow its files.
    pub(super) fn show_certificate(&mut self, shared: &Shared) {
        shared.tls.set(self.tls.as_ref());
        if let Some(files) = self.tls.take() {
            let metrics = Arc::clone(&shared.metrics);
            let connections = shared.connections.clone();
            let reloaded = move |accepted| {
                metrics.secret_reloaded(accepted);
                connections.review();
            };
            let asked = Arc::clone(&self.asked);
            self.tasks
                .spawn(files.watch(shared.tls.clone(), asked, reloaded));
        }
    }

    /// Logs when clients are without a token, from now on.
    pub(super) fn come_into_use(&mut self) {
        self.standing.come_into_use();
        self.token_tracer.store(self.tracer.clone().map(Arc::new));
        let service = self.config.auth.token_service();
        let watching = watch_token(self.tokens.clone(), self.health.clone(), service);
        self.tasks.spawn(watching);
    }

    /// Reads the secrets again, and the lists and certificates of clients.
    pub(super) fn read_again(&self) {
        self.tokens.refresh_now();
        self.asked.notify_waiters();
    }

    /// Reports a jump of the clock to the token path.
    pub(super) fn jumped(&self, jump: Jump) {
        tracing::info!(?jump, "the clock jumped; renewing the token");
        match jump {
            Jump::Slept(duration) => self.tokens.slept(duration),
            Jump::Set => self.tokens.refresh_now(),
        }
    }

    /// Waits until it can serve as well as the generation before.
    pub(super) async fn has_token(&self) {
        if self.token_calls.is_some() {
            has_token(&self.tokens).await;
        }
    }

    /// Takes over what goes on from the generation before.
    pub(super) fn take_over(&mut self, before: &mut Self) {
        if self.token_calls.is_none() {
            self.token_calls = before.token_calls.take();
        }
    }

    /// Begins no more token calls that would have to be finished.
    pub(super) fn wind_down(&self) {
        if let Some(calls) = &self.token_calls {
            calls.wind_down();
        }
    }

    /// The configuration, and what waits until a task ends, which none should.
    pub(super) fn watched(&mut self) -> (&Config, impl Future<Output = anyhow::Error>) {
        let Self {
            config,
            token_calls,
            tasks,
            ..
        } = self;
        let crashed = async {
            match token_calls {
                Some(calls) => calls.crashed().await,
                None => pending().await,
            }
        };
        let ended = async {
            tokio::select! {
                () = crashed => anyhow::anyhow!("the refresher ended"),
                ended = tasks.join_next() => match ended {
                    Some(Err(error)) => error.into(),
                    _ => anyhow::anyhow!("a task of the configuration ended"),
                },
            }
        };
        (config, ended)
    }
}

/// What makes spans of a configuration: by the way to the collector that is in use, where that is the same.
fn tracer(
    config: &Config,
    collector: Option<Collector>,
    shared: &Shared,
    current: Option<&Live>,
) -> Option<Tracer> {
    let (upstream, token_url) = (&config.upstream.url, config.auth.token_url());
    let settings = config.telemetry.as_ref()?;
    let kept = current.filter(|one| one.config.telemetry.as_ref() == Some(settings));
    if let Some(kept) = kept.and_then(|one| one.tracer.as_ref()) {
        return Some(kept.of_another(upstream, token_url));
    }
    let metrics = Arc::clone(&shared.metrics);
    let (tracer, exporter) = Tracer::new(settings, collector?, metrics, upstream, token_url);
    shared.exporters.start(exporter);
    Some(tracer)
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

async fn has_token(tokens: &TokenHandle) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    while tokens.current(Instant::now() + DAY).await.is_err() {}
}

/// The credentials of a configuration whose end can be found out.
pub(crate) fn credentials(config: &Config) -> anyhow::Result<Vec<Credential>> {
    let mut credentials = Vec::new();
    if let Credentials::Endpoint(request) = &config.auth.credentials
        && let Some((url, secret)) = request.api_token()
    {
        let settings = &config.auth.endpoint;
        credentials.push(Credential::api_token(&url, secret, settings)?);
    }
    let listener = config.listen.tls.as_ref();
    let (service, upstream) = (&config.auth.endpoint.tls, &config.upstream.tls);
    let collector = config.telemetry.as_ref().map(|telemetry| &telemetry.tls);
    let of_client = |tls: &TlsSettings| tls.identity.as_ref().map(|one| one.cert_file.clone());
    let files = [
        (
            "listener",
            "listen.tls_cert_file",
            listener.map(|tls| tls.cert_file.clone()),
        ),
        (
            "client_ca",
            "listen.tls_client_ca_file",
            listener.and_then(|tls| tls.client_ca_file.clone()),
        ),
        ("token_service_ca", "auth.ca_file", service.ca_file.clone()),
        (
            "token_service_client_cert",
            "auth.client_cert_file",
            of_client(service),
        ),
        ("upstream_ca", "upstream.ca_file", upstream.ca_file.clone()),
        (
            "upstream_client_cert",
            "upstream.client_cert_file",
            of_client(upstream),
        ),
        (
            "collector_ca",
            "telemetry.ca_file",
            collector.and_then(|tls| tls.ca_file.clone()),
        ),
        (
            "collector_client_cert",
            "telemetry.client_cert_file",
            collector.and_then(of_client),
        ),
    ];
    credentials.extend(
        files
            .into_iter()
            .filter_map(|(kind, key, path)| Some(Credential::certificates(kind, key, path?))),
    );
    Ok(credentials)
}
