//! Puts the program together and runs it: the only file that knows every other.

mod broker;
mod clients;
mod exporters;
mod listening;
mod live;
mod operators;
mod program;
mod reload;
mod reporter;
mod rules;
mod service_manager;
mod signals;
mod sockets;
mod source;
mod standing;
mod token_calls;
mod token_files;
mod unix_socket;
mod worker;

use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{
    broker::Brokering, clients::ClientList, exporters::Exporters, listening::Listening, live::Live,
    operators::Operators, program::Program, reload::Reload, service_manager::State,
    token_calls::AllTokenCalls, worker::Workers,
};
pub(crate) use self::{live::credentials, source::Source};
pub use self::{service_manager::ServiceManager, signals::shutdown_signal};
use crate::{
    admin::{Recent, Reloads},
    config::{Config, Sources},
    proxy::{Ledger, upstream::Connector},
    server::{Address, Connections, ServerSettings, TlsFiles, TlsInUse, TlsSettings},
    telemetry::{Metrics, access::AccessLog, spans::Collector},
    token::foresight::Credential,
};

/// A program whose sockets are bound, so that its addresses are known, and which serves nobody yet.
#[derive(Debug)]
pub struct App {
    config: Config,
    parts: Parts,
    listeners: Vec<Listening>,
    admin: Option<Listening>,
    broker: broker::Plan,
    reload: Option<(Sources, Option<PathBuf>)>,
    manager: ServiceManager,
    access_log: AccessLog,
}

/// What outlives every configuration.
#[derive(Debug, Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    connections: Connections,
    /// The connections of the broker.
    broker_connections: Connections,
    ledger: Ledger,
    server: Arc<ArcSwap<ServerSettings>>,
    tls: TlsInUse,
    access_log: AccessLog,
    exporters: Exporters,
    token_calls: AllTokenCalls,
    /// Set when the program ends as soon as it can.
    stop: CancellationToken,
    /// Set with it, or before: from then on the program is not ready.
    stopping: CancellationToken,
    started_at: Instant,
    /// The same by the wall clock.
    started_at_date: SystemTime,
    recent: Recent,
    reloads: Reloads,
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
        let broker = broker::Plan::of(&config)?;
        Ok(Self {
            access_log: AccessLog::open(&config.log).context("log.access_file")?,
            config,
            parts,
            listeners,
            admin,
            broker,
            reload: None,
            manager: ServiceManager::default(),
        })
    }

    /// Has it load its configuration again from `sources` on SIGHUP, and when `file` changes.
    #[must_use]
    pub fn reloading(self, sources: Sources, file: Option<PathBuf>) -> Self {
        Self {
            reload: Some((
                Sources {
                    is_reload: true,
                    ..sources
                },
                file,
            )),
            ..self
        }
    }

    /// Notifies `manager` when the program serves, and when it stops.
    #[must_use]
    pub fn managed_by(self, manager: ServiceManager) -> Self {
        Self { manager, ..self }
    }

    /// The ports where clients connect, with TLS or without.
    #[must_use]
    pub fn proxy_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.listeners.iter();
        addresses.flat_map(|one| one.address.sockets()).collect()
    }

    /// The port where operators connect.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.address.socket()
    }

    /// The ports where programs ask for tokens.
    #[must_use]
    pub fn broker_addresses(&self) -> Vec<SocketAddr> {
        let addresses = broker::addresses(&self.broker);
        addresses.filter_map(Address::socket).collect()
    }

    /// Serves until `shutdown`, then drains: no more connections, what is in flight within the
    /// drain time, the end.
    ///
    /// # Errors
    /// When a part of the program ends that must not.
    pub fn run(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> impl Future<Output = anyhow::Result<()>> {
        // On the heap, so that whoever runs this needs no large stack.
        Box::pin(self.start_and_serve(shutdown))
    }

    async fn start_and_serve(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            config,
            parts,
            listeners,
            admin,
            broker,
            reload,
            manager,
            access_log,
        } = self;
        let metrics = Arc::new(Metrics::default());
        let connections = Connections::default();
        let ledger = Ledger::new(Arc::clone(&metrics), config.proxy.max_in_flight);
        let stop = CancellationToken::new();
        let shared = Shared {
            recent: Recent::new(Arc::clone(&metrics), ledger.clone(), connections.clone()),
            reloads: Reloads::of(reload.as_ref().and_then(|(_, file)| file.clone())),
            connections,
            broker_connections: Connections::default(),
            ledger,
            server: Arc::new(ArcSwap::from_pointee(config.listen.server.clone())),
            tls: TlsInUse::default(),
            access_log,
            exporters: Exporters::default(),
            token_calls: AllTokenCalls::default(),
            stopping: stop.child_token(),
            stop,
            started_at: Instant::now(),
            started_at_date: SystemTime::now(),
            metrics: Arc::clone(&metrics),
        };
        // Whatever fails from here on, the workers are not left behind.
        let _stop = shared.stop.clone().drop_guard();
        let mut reload = Reload::new(reload, metrics, shared.reloads.clone())?;
        let rotation = shared.access_log.rotation()?.map(tokio::spawn);
        let (token_calls, drain_timeout) = (
            shared.token_calls.clone(),
            config.listen.server.drain_timeout,
        );
        let started = Box::pin(async move {
            let mut live = Live::start(config, parts, &shared, None)?;
            live.addresses = addresses(&listeners);
            live.show_certificate(&shared);
            live.come_into_use();
            let workers = Workers::start(live.config.listen.workers, &live, &shared)?;
            for listening in &listeners {
                workers.serve(listening, &shared.tls).await?;
                tracing::info!(address = %listening.address, upstream = %live.config.upstream.url, "listening");
            }
            anyhow::Ok(Program {
                operators: Operators::start(admin, &live, &shared)?,
                broker: Brokering::start(broker, &live, &shared)?,
                shared,
                workers,
                listeners,
                live,
                manager,
            })
        });
        let mut program = match started.await {
            Ok(program) => program,
            Err(error) => {
                // A call that has begun meanwhile may bring what exists nowhere else.
                token_calls.finish(Instant::now() + drain_timeout).await;
                return Err(error);
            }
        };
        let sampling = tokio::spawn(program.shared.recent.clone().watch());
        program.manager.notify(State::Ready);
        // What starts and stops has no room for it.
        let result = Box::pin(program.serve(&mut reload, shutdown)).await;
        let access_log = program.shared.access_log.clone();
        let stopped = program.stop().await;
        sampling.abort();
        access_log.finish();
        if let Some(rotation) = rotation {
            rotation.abort();
        }
        // What has ended it is the cause of what followed.
        result.and(stopped)
    }
}

/// What is made of a configuration before it is used, and can fail.
#[derive(Debug)]
struct Parts {
    source: Source,
    connector: Arc<Connector>,
    clients: Option<ClientList>,
    broker_clients: Option<ClientList>,
    tls: Option<TlsFiles>,
    collector: Option<Collector>,
    /// The credentials whose end can be found out.
    credentials: Vec<Credential>,
}

impl Parts {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let connector = Connector::new(&config.upstream).context("upstream")?;
        let tls = config.listen.tls.as_ref();
        let collector = config.telemetry.as_ref().map(Collector::new);
        Ok(Self {
            source: Source::new(config)?,
            connector: Arc::new(connector),
            clients: ClientList::of(config)?,
            collector: collector.transpose().context("telemetry")?,
            broker_clients: ClientList::of_broker(config)?,
            tls: tls.map(TlsSettings::load).transpose().context("listen")?,
            credentials: credentials(config)?,
        })
    }
}

fn addresses(listeners: &[Listening]) -> Vec<Address> {
    listeners.iter().map(|one| one.address.clone()).collect()
}
