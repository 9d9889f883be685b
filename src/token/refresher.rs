//! The write half: the one loop that talks to the token service.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    AccessToken, Attempt, Cause, Events, FetchError, HISTORY, Lifetime, Reason, RefreshTokenFault,
    Snapshot, TokenResponse, TokenSource,
    channel::{Order, Shared},
    may_be_dropped,
    schedule::{Fault, Occasion, RefreshPolicy},
};

/// Gets a token, publishes it, and waits until the next is due, until it is stopped.
///
/// No failure is final: an error is published beside the token that may still be good, and the
/// next attempt comes after a back-off. No response makes a hot loop: two attempts never start
/// within [`RefreshPolicy::floor`] of each other.
#[derive(Debug)]
pub struct Refresher<S, E> {
    source: S,
    policy: RefreshPolicy,
    events: E,
    random: fn() -> f64,
    shared: Arc<Shared>,
    wanted: watch::Receiver<u64>,
    orders: mpsc::Receiver<Order>,
}

impl<S: TokenSource, E: Events> Refresher<S, E> {
    pub(super) fn new(
        source: S,
        policy: RefreshPolicy,
        events: E,
        random: fn() -> f64,
        shared: Arc<Shared>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let wanted = shared.wanted.subscribe();
        Self {
            source,
            policy,
            events,
            random,
            shared,
            wanted,
            orders,
        }
    }

    /// Whether this must not be dropped, as its source has it ([`TokenSource::commitment`]).
    pub fn commitment(&self) -> Option<watch::Receiver<bool>> {
        self.source.commitment()
    }

    /// Runs until `stop`, and then to the end of a call in flight that must not be dropped, and until what
    /// it has brought is stored. Whoever wants it to end sooner drops it.
    ///
    /// # Cancel safety
    /// Dropping it between two polls publishes nothing half done: a snapshot is stored whole. What a call
    /// in flight brings is lost, for ever where the source is committed ([`TokenSource::commitment`]).
    pub async fn run(mut self, stop: CancellationToken) {
        self.source.stop_with(&stop);
        self.renew(&stop).await;
        self.source.settle().await;
    }

    /// Makes one attempt after the other until `stop`.
    async fn renew(&mut self, stop: &CancellationToken) {
        let mut cause = Cause::Start;
        loop {
            let started_at = Instant::now();
            let Some(result) = self.fetch(stop).await else {
                return;
            };
            self.publish(cause, started_at, result);
            if cause == Cause::Changed {
                let snapshot = self.shared.snapshot.load();
                self.events.reloaded(snapshot.failure.is_none());
            }
            let Some(next) = stop.run_until_cancelled(self.wait(started_at)).await else {
                return;
            };
            cause = next;
        }
    }

    /// Makes one attempt, or none once this is stopped. A sleep of the machine is noted meanwhile, since
    /// the attempt may hang on a connection that did not survive it.
    async fn fetch(
        &mut self,
        stop: &CancellationToken,
    ) -> Option<Result<TokenResponse, FetchError>> {
        if stop.is_cancelled() {
            return None;
        }
        let commitment = self.source.commitment();
        let mut may_be_dropped = std::pin::pin!(may_be_dropped(commitment, stop));
        let Self {
            source,
            orders,
            shared,
            ..
        } = self;
        let mut fetching = std::pin::pin!(source.fetch());
        loop {
            tokio::select! {
                // What has arrived is published, also at the end.
                biased;
                result = &mut fetching => return Some(result),
                () = &mut may_be_dropped => return None,
                Some(order) = orders.recv() => match order {
                    Order::Slept(duration) => age(shared, duration),
                    // It is under way.
                    Order::Refresh => {}
                },
            }
        }
    }

    /// Waits until the next attempt is due, or sooner when somebody wants one. Says why it is made.
    async fn wait(&mut self, last_start: Instant) -> Cause {
        let Self {
            source,
            policy,
            shared,
            wanted,
            orders,
            ..
        } = self;
        let snapshot = shared.snapshot.load_full();
        let floor = last_start + policy.floor * source.calls();
        let mut due = snapshot.next_attempt.max(floor);
        let mut cause = Cause::Schedule;
        // A failure's back-off is for the sake of the service: what requests want does not shorten
        // it. They wait for the attempt that comes anyway.
        let may_hurry = snapshot.failure.is_none();
        // A changed credential goes before our own back-off, but not before what the service itself
        // asked for; an order does not go before a refusal of this credential either.
        let asked = snapshot.failure.as_ref().and_then(|f| f.retry_after);
        let may_order = !snapshot
            .failure
            .as_ref()
            .is_some_and(FetchError::outlasts_orders);
        loop {
            if may_hurry && *wanted.borrow_and_update() > snapshot.attempts {
                due = floor;
                if cause == Cause::Schedule {
                    cause = Cause::Unauthorized;
                }
            }
            tokio::select! {
                () = sleep_until(due) => return cause,
                Ok(()) = wanted.changed(), if may_hurry => continue,
                () = source.changed(), if cause != Cause::Changed => cause = Cause::Changed,
                Some(order) = orders.recv() => {
                    let asked = match order {
                        Order::Slept(duration) => {
                            age(shared, duration);
                            Cause::Slept
                        }
                        Order::Refresh if may_order => Cause::Asked,
                        Order::Refresh => continue,
                    };
                    // A changed credential has to be reported as the cause.
                    if cause != Cause::Changed {
                        cause = asked;
                    }
                },
            }
            if asked.is_none() {
                due = floor;
            }
        }
    }

    /// Stores what is known after an attempt, then rings.
    fn publish(
        &self,
        cause: Cause,
        started_at: Instant,
        result: Result<TokenResponse, FetchError>,
    ) {
        let now = Instant::now();
        let previous = self.shared.snapshot.load_full();
        let said = self.source.refresh_token();
        let refresh_token_fault = match said {
            None => previous.refresh_token_fault,
            Some(Ok(())) => None,
            Some(Err(why)) => Some(RefreshTokenFault {
                why,
                since: previous
                    .refresh_token_fault
                    .map_or(started_at, |fault| fault.since),
            }),
        };
        let result = result.and_then(|response| self.accept(response, &previous, started_at, now));
        let mut history = previous.history.clone();
        let attempt = Attempt {
            cause,
            started_at,
            duration: now - started_at,
            status: self.source.status(),
            outcome: match &result {
                Ok((token, _)) => Ok(token.generation),
                Err(error) => Err(error.clone()),
            },
            refresh_token_fault: said.and_then(Result::err),
        };
        history.truncate(HISTORY - 1);
        history.push_front(attempt.clone());
        let attempts = previous.attempts + 1;
        let snapshot = match result {
            Ok((token, renew_after)) => Snapshot {
                token: Some(Arc::new(token)),
                failure: None,
                failing_since: None,
                consecutive_failures: 0,
                attempts,
                next_attempt: (started_at + renew_after).max(now),
                refresh_token_fault,
                history,
            },
            Err(error) => {
                let consecutive_failures = previous.consecutive_failures.saturating_add(1);
                let failing_since = previous.failing_since.unwrap_or(started_at);
                let fault = match error.reason {
                    Reason::InvalidClient | Reason::SecretUnreadable => {
                        Fault::Rejection(consecutive_failures)
                    }
                    Reason::RateLimited => Fault::Limit(consecutive_failures),
                    _ => Fault::Outage(now - failing_since),
                };
                let retry_after = error.retry_after;
                let back_off = self.policy.back_off(fault, retry_after, (self.random)());
                Snapshot {
                    token: previous.token.clone(),
                    failure: Some(error),
                    failing_since: Some(failing_since),
                    consecutive_failures,
                    attempts,
                    next_attempt: now + back_off,
                    refresh_token_fault,
                    history,
                }
            }
        };
        let snapshot = Arc::new(snapshot);
        self.shared.snapshot.store(Arc::clone(&snapshot));
        self.shared.bell.send_replace(());
        self.events.attempted(&attempt, &snapshot);
    }

    /// Makes a token of a response, with the time after which it is to be renewed.
    fn accept(
        &self,
        response: TokenResponse,
        previous: &Snapshot,
        requested_at: Instant,
        now: Instant,
    ) -> Result<(AccessToken, Duration), FetchError> {
        let lifetime = match response.lifetime {
            Lifetime::Limited(lifetime) => Some(lifetime.min(self.policy.max_lifetime)),
            Lifetime::Unknown => Some(self.policy.default_lifetime),
            Lifetime::Unlimited => None,
        };
        if lifetime.is_some_and(|lifetime| requested_at + lifetime <= now) {
            return Err(FetchError::new(
                Reason::BadResponse,
                "the token had expired when it arrived",
            ));
        }
        // The same token again is no newer one: a request that it failed would fail again.
        let generation = match &previous.token {
            Some(token) if token.bearer == response.bearer => token.generation,
            Some(token) => token.generation + 1,
            None => 1,
        };
        let occasion = if previous.failure.is_none() && previous.token.is_some() {
            Occasion::Routine
        } else {
            Occasion::Synchronised
        };
        let renew_after = self.policy.renew_after(
            lifetime.unwrap_or(self.policy.max_lifetime),
            occasion,
            (self.random)(),
        );
        let token = AccessToken {
            bearer: response.bearer,
            generation,
            requested_at,
            expires_at: lifetime.map(|lifetime| requested_at + lifetime),
        };
        Ok((token, renew_after))
    }
}

/// Makes the token older than our clock says: it stood still while the machine slept.
fn age(shared: &Shared, slept: Duration) {
    let mut snapshot = Snapshot::clone(&shared.snapshot.load());
    if let Some(token) = &mut snapshot.token {
        let token = Arc::make_mut(token);
        token.expires_at = token
            .expires_at
            .map(|end| end.checked_sub(slept).unwrap_or(token.requested_at));
    }
    snapshot.next_attempt = Instant::now();
    shared.snapshot.store(Arc::new(snapshot));
    shared.bell.send_replace(());
}

#[cfg(test)]
mod tests;
