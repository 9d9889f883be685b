//! The admin listener: started, moved and stopped.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::task::JoinSet;

use super::{Shared, listening::Listening, live::Live, rules};
use crate::{
    admin::{self, Admin},
    config::Config,
    server::{self, Address, Connections, ServerSettings},
};

/// The admin listener at work.
pub(super) struct Operators {
    admin: Admin,
    connections: Connections,
    settings: Arc<ArcSwap<ServerSettings>>,
    serving: Option<(Listening, JoinSet<()>)>,
}

/// Where the admin listener goes.
pub(super) enum Move {
    /// Nowhere.
    Stay,
    /// To this address, or to none.
    To(Box<Option<Listening>>),
}

impl Operators {
    /// Starts it, where there is to be one.
    pub(super) fn start(
        listening: Option<Listening>,
        live: &Live,
        shared: &Shared,
    ) -> anyhow::Result<Self> {
        let address = listening.as_ref().map(|listening| &listening.address);
        let admin = Admin::new(admin_view(address, live, shared));
        let mut operators = Self {
            admin,
            // Probes come anew, and whoever keeps a connection does not keep them out.
            connections: Connections::giving_way(),
            settings: Arc::new(ArcSwap::from_pointee(settings(live))),
            serving: None,
        };
        operators.serving = operators.serve(listening, shared)?;
        Ok(operators)
    }

    /// Where a new configuration wants it.
    pub(super) fn plan(&self, config: &Config) -> anyhow::Result<Move> {
        let current = self.serving.as_ref().map(|(one, _)| one);
        let wanted = config.admin.address.as_ref();
        if wanted == current.map(|one| &one.configured) {
            current.map_or(Ok(()), |one| one.set_access(&config.listen.unix))?;
            return Ok(Move::Stay);
        }
        let bound = wanted.map(|address| Listening::bind(address, config, "admin.address"));
        Ok(Move::To(Box::new(bound.transpose()?)))
    }

    /// Goes there, and responds as the new configuration says.
    pub(super) fn change(
        &mut self,
        plan: Move,
        live: &Live,
        shared: &Shared,
    ) -> anyhow::Result<()> {
        self.settings.store(Arc::new(settings(live)));
        if let Move::To(listening) = plan {
            let listening = *listening;
            let address = listening.as_ref().map(|listening| &listening.address);
            self.admin.set(admin_view(address, live, shared));
            let serving = self.serve(listening, shared)?;
            if let Some((old, mut served)) = std::mem::replace(&mut self.serving, serving) {
                old.shutdown.begin();
                // It drains by itself.
                served.detach_all();
            }
        } else {
            let address = self.serving.as_ref().map(|(one, _)| &one.address);
            self.admin.set(admin_view(address, live, shared));
        }
        self.connections.review();
        Ok(())
    }

    /// Serves an address, if there is one.
    fn serve(
        &self,
        listening: Option<Listening>,
        shared: &Shared,
    ) -> anyhow::Result<Option<(Listening, JoinSet<()>)>> {
        let Some(listening) = listening else {
            return Ok(None);
        };
        let mut serving = JoinSet::new();
        for door in listening.doors(&shared.tls)? {
            serving.spawn(server::serve(
                door.open()?,
                Arc::clone(&self.settings),
                self.connections.clone(),
                self.admin.clone(),
                listening.shutdown.clone(),
            ));
        }
        tracing::info!(address = %listening.address, "admin listening");
        Ok(Some((listening, serving)))
    }

    /// Ends it.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        if let Some((listening, mut serving)) = self.serving {
            listening.shutdown.begin();
            while let Some(ended) = serving.join_next().await {
                ended.context("the admin listener crashed")?;
            }
        }
        Ok(())
    }
}

fn admin_view(address: Option<&Address>, live: &Live, shared: &Shared) -> admin::View {
    admin::View {
        tokens: live.tokens.clone(),
        metrics: Arc::clone(&shared.metrics),
        ledger: shared.ledger.clone(),
        connections: shared.connections.clone(),
        health: live.health.clone(),
        ends: live.ends.clone(),
        recent: shared.recent.clone(),
        reloads: shared.reloads.clone(),
        token_service: live.config.auth.token_service(),
        upstream: live.config.upstream.url.to_string(),
        listeners: live.addresses.iter().map(ToString::to_string).collect(),
        rules: rules::admin(&live.config, address),
        guard: rules::guard(live, address),
        stop: shared.stop.clone(),
        stopping: shared.stopping.clone(),
        allow_quit: live.config.admin.allow_quit,
        started_at: shared.started_at,
        started_at_date: shared.started_at_date,
        access: shared.access_log.of(&live.config.log),
        access_log: shared.access_log.clone(),
    }
}

fn settings(live: &Live) -> ServerSettings {
    ServerSettings {
        max_connections: 256,
        header_read_timeout: Duration::from_secs(10),
        keep_alive_timeout: Duration::from_secs(60),
        body_idle_timeout: Duration::from_secs(10),
        max_header_size: 16 * 1024,
        max_concurrent_streams: 16,
        drain_timeout: Duration::from_secs(1),
        peers: live.config.listen.server.peers.clone(),
    }
}
