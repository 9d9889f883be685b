//! The broker: its listeners and its files, started, moved and stopped.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::{task::JoinSet, time::Instant};

use super::{
    Shared,
    listening::Listening,
    live::Live,
    rules,
    token_files::{self, TokenFiles},
};
use crate::{
    broker::{Account, Broker, Takers, TokenFile, View},
    config::Config,
    server::{self, Address, Http, ServerSettings},
};

/// The broker at work.
pub(super) struct Brokering {
    broker: Broker,
    settings: Arc<ArcSwap<ServerSettings>>,
    serving: Vec<(Listening, JoinSet<()>)>,
    files: TokenFiles,
}

/// What a configuration wants of the broker that can fail: sockets that are new, and files.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) new: Vec<Listening>,
    files: Vec<TokenFile>,
}

impl Plan {
    /// What a start takes: all of it.
    pub(super) fn of(config: &Config) -> anyhow::Result<Self> {
        let new = Self::sockets(config, &[])?;
        let files = token_files::prepare_at_start(config)?;
        Ok(Self { new, files })
    }

    fn sockets(
        config: &Config,
        kept: &[(Listening, JoinSet<()>)],
    ) -> anyhow::Result<Vec<Listening>> {
        let mut new = Vec::new();
        for address in &config.broker.addresses {
            match kept.iter().find(|(one, _)| one.configured == *address) {
                Some(_) => {}
                None => new.push(Listening::bind(address, config, "broker.address")?),
            }
        }
        Ok(new)
    }
}

impl Brokering {
    /// Starts it, as far as there is to be one.
    pub(super) fn start(plan: Plan, live: &Live, shared: &Shared) -> anyhow::Result<Self> {
        let account = account(live, shared);
        let mut brokering = Self {
            broker: Broker::new(view(live, &account)),
            settings: Arc::new(ArcSwap::from_pointee(settings(live))),
            serving: Vec::new(),
            files: TokenFiles::start(plan.files, &live.tokens, &account)?,
        };
        brokering.serve(plan.new, shared)?;
        Ok(brokering)
    }

    /// What a change to a new configuration takes.
    pub(super) async fn plan(&self, config: &Config) -> anyhow::Result<Plan> {
        let new = Plan::sockets(config, &self.serving)?;
        let files = token_files::prepare(config).await?;
        Ok(Plan { new, files })
    }

    /// Gives the files of the sockets that stay to those who may have them now.
    pub(super) fn set_access(&self, config: &Config) -> anyhow::Result<()> {
        let mut kept = self.serving.iter().map(|(listening, _)| listening);
        kept.try_for_each(|listening| {
            if config.broker.addresses.contains(&listening.configured) {
                listening.set_access(&config.listen.unix)
            } else {
                Ok(())
            }
        })
    }

    /// Goes over to a new configuration, as planned.
    pub(super) async fn change(
        &mut self,
        plan: Plan,
        live: &Live,
        shared: &Shared,
    ) -> anyhow::Result<()> {
        let account = account(live, shared);
        let mut files = TokenFiles::start(plan.files, &live.tokens, &account)?;
        // A file that stays is never away.
        files.settled().await;
        std::mem::replace(&mut self.files, files).stop().await;
        let wanted = &live.config.broker.addresses;
        self.serving.retain_mut(|(listening, serving)| {
            let is_wanted = wanted.contains(&listening.configured);
            if !is_wanted {
                // It drains by itself.
                serving.detach_all();
                listening.shutdown.begin();
            }
            is_wanted
        });
        // Those that are left take no more connections: what follows is not meant for them.
        self.settings.store(Arc::new(settings(live)));
        self.broker.set(view(live, &account));
        shared.broker_connections.review();
        self.serve(plan.new, shared)
    }

    /// Announces the end to those who have connections open.
    pub(super) fn announce_end(&self) {
        let listeners = self.serving.iter();
        listeners.for_each(|(listening, _)| listening.shutdown.announce());
    }

    /// Ends connections, of which those with a request have until `deadline`, and then files.
    pub(super) async fn stop(self, deadline: Instant) -> anyhow::Result<()> {
        let mut settings = ServerSettings::clone(&self.settings.load());
        let left = deadline.saturating_duration_since(Instant::now());
        settings.drain_timeout = settings.drain_timeout.max(left);
        self.settings.store(Arc::new(settings));
        let (listeners, serving): (Vec<_>, Vec<_>) = self.serving.into_iter().unzip();
        for listening in listeners {
            // All at once, and with its socket: nobody is to wait for one that is no longer served.
            listening.shutdown.begin();
        }
        let mut result = Ok(());
        for mut serving in serving {
            while let Some(ended) = serving.join_next().await {
                result = result.and(ended.context("the broker crashed"));
            }
        }
        self.files.stop().await;
        result
    }

    fn serve(&mut self, listeners: Vec<Listening>, shared: &Shared) -> anyhow::Result<()> {
        for listening in listeners {
            let mut serving = JoinSet::new();
            for door in listening.doors(&shared.tls)? {
                serving.spawn(server::serve(
                    door.open()?,
                    Arc::clone(&self.settings),
                    shared.broker_connections.clone(),
                    Http(self.broker.clone()),
                    listening.shutdown.clone(),
                ));
            }
            tracing::info!(address = %listening.address, "broker listening");
            self.serving.push((listening, serving));
        }
        Ok(())
    }
}

/// The addresses of the broker, once it is bound.
pub(super) fn addresses(plan: &Plan) -> impl Iterator<Item = &Address> {
    plan.new.iter().map(|listening| &listening.address)
}

fn account(live: &Live, shared: &Shared) -> Arc<Account> {
    let access = shared.access_log.of(&live.config.log);
    let metrics = Arc::clone(&shared.metrics);
    let account = Account::new(metrics, live.health.clone(), access);
    let users = &live.config.broker.peers.users;
    Arc::new(account.expecting(live.broker_clients.as_ref(), users))
}

fn view(live: &Live, account: &Arc<Account>) -> View {
    View {
        tokens: live.tokens.clone(),
        rules: rules::broker(&live.config),
        takers: takers(live),
        hold_timeout: live.config.proxy.hold_timeout,
        account: Arc::clone(account),
    }
}

fn takers(live: &Live) -> Takers {
    if live.config.broker.addresses.is_empty() {
        return Takers::Nobody;
    }
    let clients = live.broker_clients.clone();
    clients.map_or(Takers::UnixPeers, Takers::Clients)
}

fn settings(live: &Live) -> ServerSettings {
    ServerSettings {
        max_connections: 1024,
        header_read_timeout: Duration::from_secs(10),
        keep_alive_timeout: Duration::from_secs(75),
        body_idle_timeout: Duration::from_secs(10),
        max_header_size: 64 * 1024,
        max_concurrent_streams: 100,
        drain_timeout: Duration::from_secs(1),
        peers: live.config.broker.peers.clone(),
    }
}
