//! The program at work: it goes over to new configurations, and stops.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Parts, ServiceManager, Shared, addresses,
    broker::Brokering,
    listening::Listening,
    live::Live,
    operators::Operators,
    reload::{Outcome, Reload, Reloaded},
    service_manager::State,
    worker::Workers,
};
use crate::{
    clock::{self, Jump},
    config::Config,
    remedy, server,
    telemetry::LogSettings,
};

/// The program at work.
pub(super) struct Program {
    pub(super) shared: Shared,
    pub(super) workers: Workers,
    pub(super) listeners: Vec<Listening>,
    pub(super) operators: Operators,
    pub(super) broker: Brokering,
    pub(super) live: Live,
    pub(super) manager: ServiceManager,
}

/// The time for connections to end whose drain time is over, and for their thread to end.
const AFTER_THE_DRAIN: Duration = server::END.saturating_mul(2);

impl Program {
    /// Serves until it is asked to stop, or a part of it ends that must not.
    pub(super) async fn serve(
        &mut self,
        reload: &mut Reload,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut shutdown = std::pin::pin!(shutdown);
        let stop = self.shared.stop.clone();
        let mut jumps = jumps();
        // A new configuration, until its credentials have given a token: the old one serves on.
        let mut next: Option<Live> = None;
        let mut reported = 0;
        // When the drain begins, once it is known.
        let mut drain_at = None;
        loop {
            let tokens = self.live.tokens.clone();
            let (config, ended) = self.live.watched();
            tokio::select! {
                // In this order: what ends because it was asked to is no failure.
                biased;
                () = &mut shutdown, if drain_at.is_none() => drain_at = Some(self.delay_drain()),
                () = until(drain_at) => return Ok(()),
                () = stop.cancelled() => return Ok(()),
                error = ended => return Err(error),
                _ = self.workers.ended() => anyhow::bail!("a worker ended"),
                Some(jump) = jumps.recv() => self.live.jumped(jump),
                Reloaded { outcome, asked } = reload.next(config) => {
                    // A configuration that waits belongs to sources that say something else by now.
                    next = None;
                    match outcome {
                        Outcome::Same => self.reverted(),
                        Outcome::Changed(config, parts) => next = self.prepare(*config, parts),
                        Outcome::Rejected(error) => reload.reject(&error),
                    }
                    // What is tried reads its own.
                    if asked && next.is_none() {
                        self.live.read_again();
                    }
                }
                () = has_token(next.as_ref()) => if let Some(live) = next.take() {
                    self.change(live).await;
                    reported = 0;
                },
                known = tokens.attempted(reported) => {
                    reported = known.attempts;
                    self.manager.notify_status(&known);
                }
            }
        }
    }

    /// Starts the token path of a new configuration, if it can be used at all.
    fn prepare(&self, config: Config, parts: anyhow::Result<Box<Parts>>) -> Option<Live> {
        tracing::info!("the configuration has changed; it is used once it has a token");
        let start = |parts: Box<Parts>| Live::start(config, *parts, &self.shared, Some(&self.live));
        let live = parts.and_then(start);
        live.inspect_err(|error| self.rejected(error)).ok()
    }

    /// Changes to a configuration whose token path works; whole, or not at all.
    async fn change(&mut self, live: Live) {
        match self.try_change(live).await {
            Ok(()) => {
                self.shared.metrics.config_reloaded(true);
                self.shared.reloads.accepted();
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
        let broker = self.broker.plan(config).await?;
        let mut kept = self.listeners.iter();
        kept.try_for_each(|listening| listening.set_access(access))?;
        self.broker.set_access(config)?;
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
        let server = live.config.listen.server.clone();
        self.shared.server.store(Arc::new(server));
        // They drain for as long as the new settings say.
        for listening in given_up {
            listening.shutdown.begin();
        }
        self.shared.connections.review();
        if live.config.listen.workers != self.live.config.listen.workers {
            tracing::warn!("listen.workers takes effect at the next start");
        }
        let fixed = |log: &LogSettings| {
            let file = log.access.file.clone();
            (log.level.clone(), log.format, file)
        };
        if fixed(&live.config.log) != fixed(&self.live.config.log) {
            tracing::warn!(
                "log.level, log.format and log.access_file take effect at the next start"
            );
        }
        if live.config.process != self.live.config.process {
            tracing::warn!("process.sandbox takes effect at the next start");
        }
        let operators = self.operators.change(operators, &live, &self.shared);
        let broker = self.broker.change(broker, &live, &self.shared).await;
        if self.shared.stopping.is_cancelled() {
            self.announce_end();
        }
        operators.and(broker)?;
        live.take_over(&mut self.live);
        live.come_into_use();
        self.live = live;
        Ok(())
    }

    /// Notes that the configuration is again the one in use, where another was rejected meanwhile.
    fn reverted(&self) {
        if self.shared.reloads.is_rejected() {
            self.shared.metrics.config_reloaded(true);
            self.shared.reloads.accepted();
            tracing::info!("the configuration is again the one in use");
        }
    }

    fn rejected(&self, error: &anyhow::Error) {
        self.shared.metrics.config_reloaded(false);
        self.shared.reloads.rejected(format!("{error:#}"));
        tracing::error!(
            failing_for_seconds = clock::seconds(self.shared.reloads.rejected_for()),
            remedy = remedy::REJECTED,
            "the new configuration cannot be used; the old one stays: {error:#}"
        );
    }

    /// Begins the drain delay, and says when it is over: clients are served on, and everything else goes on
    /// too, but the program is not ready any more, so that whoever spreads requests over several goes
    /// elsewhere. Before the first token nobody is served, and there is nothing to wait for.
    fn delay_drain(&self) -> Instant {
        let now = Instant::now();
        let delay = self.live.config.listen.drain_delay;
        if delay.is_zero() || self.live.tokens.snapshot().token.is_none() {
            return now;
        }
        tracing::info!(
            seconds = delay.as_secs_f64(),
            "stopping: not ready any more, serving on for the drain delay"
        );
        self.manager.notify(State::Stopping);
        self.shared.stopping.cancel();
        self.announce_end();
        now + delay
    }

    /// Has clients come back on connections that may lead elsewhere.
    fn announce_end(&self) {
        let listeners = self.listeners.iter();
        listeners.for_each(|listening| listening.shutdown.announce());
        self.broker.announce_end();
    }

    /// Drains: no more connections, and what is in flight within the drain time.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        tracing::info!("stopping: finishing the requests in flight");
        self.manager.notify(State::Stopping);
        // Readiness is false from here on, and the admin listener responds so to the end.
        self.shared.stop.cancel();
        let drain_timeout = self.live.config.listen.server.drain_timeout;
        let deadline = Instant::now() + drain_timeout;
        // A call that begins now could outlast the drain.
        self.live.wind_down();
        for listening in self.listeners.drain(..) {
            listening.shutdown.begin();
        }
        self.workers.all_ended(deadline + AFTER_THE_DRAIN).await;
        // Whoever used the broker may have been finishing, too.
        let broker = self.broker.stop(deadline).await;
        drop(self.live);
        // Whatever else has failed: what a call brings may exist nowhere else.
        self.shared.token_calls.finish(deadline).await;
        self.shared.exporters.finish().await;
        broker?;
        self.operators.stop().await?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn has_token(live: Option<&Live>) {
    match live {
        Some(live) => live.has_token().await,
        None => std::future::pending().await,
    }
}

/// Jumps of the clock, as they come. The channel ends where the system does not report them.
fn jumps() -> mpsc::Receiver<Jump> {
    let (sender, jumps) = mpsc::channel(4);
    tokio::spawn(async move {
        // Of many at a time, one is enough.
        let watching = clock::watch(|jump| sender.try_send(jump).unwrap_or_default());
        tokio::select! {
            result = watching => if let Err(error) = result {
                tracing::debug!(%error, "cannot watch the clock");
            },
            () = sender.closed() => {}
        }
    });
    jumps
}
