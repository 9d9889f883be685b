//! The cell between the two halves, and how they are made together.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Attempt, Refresher, Snapshot, TokenHandle, TokenSource, schedule::RefreshPolicy,
    suspicion::Suspicion,
};

/// What both halves share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The value. Written by the refresher alone.
    pub(super) snapshot: ArcSwap<Snapshot>,
    /// Rung after each publication.
    pub(super) bell: watch::Sender<()>,
    /// The number of the attempt that somebody waits for; it only grows.
    pub(super) wanted: watch::Sender<u64>,
    /// How far a 401 is believed to be the token's fault.
    pub(super) suspicion: Suspicion,
    /// Orders to the refresher.
    pub(super) orders: mpsc::Sender<Order>,
}

/// An order to the refresher.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Try now, without regard to the back-off after an outage (never to the floor).
    Refresh,
    /// The machine slept for so long, which our clock has not seen.
    Slept(Duration),
}

/// Receives each finished attempt: metrics and logs, which the token path does not know.
pub trait Events: Send {
    /// An attempt is over, and this is what is known now.
    fn attempted(&self, attempt: &Attempt, snapshot: &Snapshot);

    /// The credential had changed before the last attempt, which succeeded or not.
    fn reloaded(&self, accepted: bool);
}

/// Nobody listens.
#[derive(Debug, Clone, Copy)]
pub struct NoEvents;

impl Events for NoEvents {
    fn attempted(&self, _: &Attempt, _: &Snapshot) {}
    fn reloaded(&self, _: bool) {}
}

/// Makes the two halves of the token path.
///
/// `random` gives numbers in 0..1 for the jitter; tests pass their own.
pub fn channel<S: TokenSource, E: Events>(
    source: S,
    policy: RefreshPolicy,
    events: E,
    random: fn() -> f64,
) -> (Refresher<S, E>, TokenHandle) {
    // Orders are rare; more than these at a time say nothing new.
    let (orders, ordered) = mpsc::channel(8);
    let shared = Arc::new(Shared {
        snapshot: ArcSwap::from_pointee(Snapshot {
            refresh_token_fault: None,
            token: None,
            failure: None,
            failing_since: None,
            consecutive_failures: 0,
            attempts: 0,
            next_attempt: Instant::now(),
            history: VecDeque::new(),
        }),
        bell: watch::Sender::new(()),
        wanted: watch::Sender::new(0),
        suspicion: Suspicion::default(),
        orders,
    });
    let refresher = Refresher::new(source, policy, events, random, Arc::clone(&shared), ordered);
    (refresher, TokenHandle::new(shared))
}
