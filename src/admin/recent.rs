//! The last minutes in numbers: read from the counters at intervals, so that the request path does
//! nothing for it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    proxy::Ledger,
    server::Connections,
    telemetry::{Metrics, Origin},
};

/// The time between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// How many are kept: ten minutes, and the one before.
const KEPT: usize = 121;

/// The last minutes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Recent {
    metrics: Arc<Metrics>,
    ledger: Ledger,
    connections: Connections,
    samples: Arc<Mutex<VecDeque<Sample>>>,
}

/// The numbers of one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    pub(super) by_upstream: u64,
    pub(super) by_sidecar: u64,
    pub(super) failures: u64,
    pub(super) in_flight: usize,
    pub(super) connections: usize,
}

/// The counters at one moment; they only grow.
#[derive(Debug, Clone, Copy)]
struct Counts {
    by_upstream: u64,
    by_sidecar: u64,
    failures: u64,
}

impl Recent {
    /// Looks at these.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, ledger: Ledger, connections: Connections) -> Self {
        Self {
            metrics,
            ledger,
            connections,
            samples: Arc::new(Mutex::new(VecDeque::with_capacity(KEPT))),
        }
    }

    /// Takes samples for ever.
    pub async fn watch(self) {
        let mut ticks = interval(INTERVAL);
        // A machine that slept has missed nothing that could be made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = self.counts();
        loop {
            let _: Instant = ticks.tick().await;
            let counts = self.counts();
            let sample = Sample {
                by_upstream: counts.by_upstream.saturating_sub(before.by_upstream),
                by_sidecar: counts.by_sidecar.saturating_sub(before.by_sidecar),
                failures: counts.failures.saturating_sub(before.failures),
                in_flight: self.ledger.in_flight(),
                connections: self.connections.count(),
            };
            before = counts;
            let mut samples = self.lock();
            if samples.len() == KEPT {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// The samples, the oldest first.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> Counts {
        Counts {
            by_upstream: self.metrics.responses(Origin::Upstream),
            by_sidecar: self.metrics.responses(Origin::Sidecar),
            failures: self.metrics.upstream_failures(),
        }
    }
}
