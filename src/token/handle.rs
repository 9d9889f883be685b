//! The read half: what a request can ask of the token path.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    AccessToken, FetchError, Reason, Snapshot,
    channel::{Order, Shared},
};

/// Reads the current token and asks for newer ones. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TokenHandle {
    shared: Arc<Shared>,
}

/// There is no usable token, and none is expected in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// Time until the next attempt to get one.
    pub retry_after: Duration,
    /// Why the last attempt failed; `None` while the first is under way.
    pub reason: Option<Reason>,
}

impl Snapshot {
    /// Why there is no token, and when it is tried again.
    #[must_use]
    pub fn unavailable(&self, now: Instant) -> Unavailable {
        Unavailable {
            retry_after: self.next_attempt.saturating_duration_since(now),
            reason: self.failure.as_ref().map(|failure| failure.reason),
        }
    }
}

/// What became of the wish for a newer token.
#[derive(Debug, Clone)]
pub enum Renewal {
    /// Here it is.
    Newer(Arc<AccessToken>),
    /// The token is not to blame: it is young and the last such renewals did not help, or the
    /// service gave the same token again.
    NotToBlame,
    /// It could not be had.
    Unavailable(Unavailable),
}

impl TokenHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// All that is known now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// All that is known, as soon as it is something else than `seen`: at once, where it is already.
    ///
    /// By level and not by edge: whoever passes what it has acted on misses nothing, however long the
    /// acting took, and returns once from what has changed several times meanwhile. Every reader of the
    /// token path waits by this: requests, the broker, its files, and the reporter of the token's loss. That
    /// a token ends is no change; when it does stands in the snapshot.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn changed(&self, seen: &Arc<Snapshot>) -> Arc<Snapshot> {
        // Subscribed before the look, so that what is published in between is not missed.
        let mut bell = self.shared.bell.subscribe();
        loop {
            let current = self.snapshot();
            if !Arc::ptr_eq(&current, seen) {
                return current;
            }
            if bell.changed().await.is_err() {
                // The bell is ours too, so this is never reached.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The token that may be sent at that time. Never waits, takes no lock.
    #[must_use]
    pub fn usable(&self, now: Instant) -> Option<Arc<AccessToken>> {
        self.shared.snapshot.load().usable(now).cloned()
    }

    /// A usable token; waits for one as long as an attempt that may bring it is under way or due
    /// before the deadline.
    ///
    /// # Errors
    /// [`Unavailable`] at the deadline, or sooner when no attempt is due before it.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn current(&self, deadline: Instant) -> Result<Arc<AccessToken>, Unavailable> {
        self.wait(deadline, |snapshot, now| {
            snapshot.usable(now).cloned().map(Ok).or_else(|| {
                (snapshot.next_attempt > deadline).then(|| Err(snapshot.unavailable(now)))
            })
        })
        .await
        .unwrap_or_else(|| Err(self.snapshot().unavailable(Instant::now())))
    }

    /// A token newer than the one that the upstream refused, from one renewal that all who ask
    /// at the same time share.
    ///
    /// # Cancel safety
    /// Safe: the renewal goes on for the others.
    pub async fn newer_than(&self, refused: &AccessToken, deadline: Instant) -> Renewal {
        let newer = |snapshot: &Snapshot, now| {
            snapshot
                .usable(now)
                .filter(|token| token.generation > refused.generation)
                .cloned()
        };
        let now = Instant::now();
        let snapshot = self.snapshot();
        if let Some(token) = newer(&snapshot, now) {
            return Renewal::Newer(token);
        }
        let wanted = snapshot.attempts + 1;
        // Who finds a renewal on its way joins it, and so does who finds that the last one failed:
        // then it is not known whether it would have helped, and the next one comes anyway. Only
        // who would start one has to pass the cooldown.
        if snapshot.failure.is_none() && *self.shared.wanted.borrow() < wanted {
            if now < refused.requested_at + self.shared.suspicion.cooldown(now) {
                return Renewal::NotToBlame;
            }
            self.want(wanted);
        }
        self.wait(deadline, |snapshot, now| {
            if let Some(token) = newer(snapshot, now) {
                return Some(Renewal::Newer(token));
            }
            if snapshot.failure.is_none() && snapshot.attempts >= wanted {
                return Some(Renewal::NotToBlame);
            }
            (snapshot.failure.is_some() && snapshot.next_attempt > deadline)
                .then(|| Renewal::Unavailable(snapshot.unavailable(now)))
        })
        .await
        .unwrap_or_else(|| Renewal::Unavailable(self.snapshot().unavailable(Instant::now())))
    }

    /// What is known once more than `seen` attempts are over; waits for that, for ever if need be.
    ///
    /// # Cancel safety
    /// Safe: it only reads.
    pub async fn attempted(&self, seen: u64) -> Arc<Snapshot> {
        let mut bell = self.shared.bell.subscribe();
        loop {
            let snapshot = self.snapshot();
            if snapshot.attempts > seen {
                return snapshot;
            }
            if bell.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Says that a renewal caused by a 401 helped: the newer token was accepted.
    pub fn helped(&self) {
        self.shared.suspicion.clear();
    }

    /// Says that it did not, or that it could not be found out: the newer token was refused too.
    pub fn did_not_help(&self, newer: &AccessToken) {
        self.shared
            .suspicion
            .raise(newer.generation, Instant::now());
    }

    /// Asks for an attempt now, whatever the schedule says; the floor between calls holds, and the
    /// back-off after a credential that was rejected.
    pub fn refresh_now(&self) {
        self.order(Order::Refresh);
    }

    /// The same, for somebody who wants to know whether it will be heeded.
    ///
    /// # Errors
    /// When the next attempt comes in its own time.
    pub fn order_refresh(&self) -> Result<(), Unavailable> {
        let snapshot = self.snapshot();
        let now = Instant::now();
        let failure = snapshot.failure.as_ref();
        if failure.is_some_and(FetchError::outlasts_orders) && snapshot.next_attempt > now {
            return Err(snapshot.unavailable(now));
        }
        self.refresh_now();
        Ok(())
    }

    /// Reports that the machine slept for so long: tokens grew older than our clock knows.
    pub fn slept(&self, duration: Duration) {
        self.order(Order::Slept(duration));
    }

    fn order(&self, order: Order) {
        // A full queue holds orders enough, and a closed one means that we are stopping.
        self.shared.orders.try_send(order).unwrap_or_default();
    }

    /// Asks for an attempt of at least that number.
    fn want(&self, attempt: u64) {
        self.shared.wanted.send_if_modified(|wanted| {
            let asks_for_more = *wanted < attempt;
            *wanted = attempt.max(*wanted);
            asks_for_more
        });
    }

    /// Looks at each snapshot until `look` is content, or until the deadline (`None`).
    async fn wait<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&Snapshot, Instant) -> Option<T>,
    ) -> Option<T> {
        if let Some(found) = look(&self.shared.snapshot.load(), Instant::now()) {
            return Some(found);
        }
        timeout_at(deadline, async {
            let mut snapshot = self.snapshot();
            loop {
                if let Some(found) = look(&snapshot, Instant::now()) {
                    return found;
                }
                snapshot = self.changed(&snapshot).await;
            }
        })
        .await
        .ok()
    }
}
