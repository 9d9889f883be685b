//! The last minutes in numbers, and how the upstream is: read from the counters at intervals, so that
//! the request path does nothing for it.
//!
//! It is the one place that derives the upstream's health for `/status` and the page. Moments are
//! those of the looks, so they are as exact as [`INTERVAL`].

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
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

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Recent {
    metrics: Arc<Metrics>,
    ledger: Ledger,
    connections: Connections,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen so far.
#[derive(Debug)]
struct Seen {
    samples: VecDeque<Sample>,
    counts: Counts,
    health: Health,
}

/// The counters at one moment; they only grow.
#[derive(Debug, Clone, Default)]
struct Counts {
    by_upstream: u64,
    by_sidecar: u64,
    failures: Vec<(&'static str, u64)>,
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

/// How the upstream is, as far as requests have shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    pub(super) last_success: Option<SystemTime>,
    /// When, and the label of the failure.
    pub(super) last_failure: Option<(SystemTime, &'static str)>,
    /// Since when there were only failures.
    pub(super) failing_since: Option<SystemTime>,
}

impl Counts {
    fn failed(&self) -> u64 {
        self.failures.iter().map(|(_, count)| count).sum()
    }
}

impl Recent {
    /// Looks at these.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, ledger: Ledger, connections: Connections) -> Self {
        let seen = Seen {
            samples: VecDeque::with_capacity(KEPT),
            counts: Counts::default(),
            health: Health::default(),
        };
        Self {
            metrics,
            ledger,
            connections,
            seen: Arc::new(Mutex::new(seen)),
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
                failures: counts.failed().saturating_sub(before.failed()),
                in_flight: self.ledger.in_flight(),
                connections: self.connections.count(),
            };
            before = counts;
            let mut seen = self.look();
            if seen.samples.len() == KEPT {
                seen.samples.pop_front();
            }
            seen.samples.push_back(sample);
        }
    }

    /// The samples, the oldest first.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.look().samples.iter().copied().collect()
    }

    /// How the upstream is now.
    pub(super) fn health(&self) -> Health {
        self.look().health.clone()
    }

    /// What was seen, this moment included.
    fn look(&self) -> MutexGuard<'_, Seen> {
        let counts = self.counts();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.learn(counts, SystemTime::now());
        seen
    }

    fn counts(&self) -> Counts {
        Counts {
            by_upstream: self.metrics.answers(Origin::Upstream),
            by_sidecar: self.metrics.answers(Origin::Sidecar),
            failures: self.metrics.upstream_failures(),
        }
    }
}

impl Seen {
    fn learn(&mut self, counts: Counts, now: SystemTime) {
        let before = |label: &str| {
            let mut known = self.counts.failures.iter();
            let found = known.find(|(known, _)| *known == label);
            found.map_or(0, |(_, count)| *count)
        };
        let mut grown = counts.failures.iter();
        let failed = grown.find(|(label, count)| *count > before(label));
        let health = &mut self.health;
        if let Some((label, _)) = failed {
            health.last_failure = Some((now, label));
            health.failing_since.get_or_insert(now);
        }
        if counts.by_upstream > self.counts.by_upstream {
            health.last_success = Some(now);
            health.failing_since = None;
        }
        self.counts = counts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_fails_from_the_first_failure_to_the_next_answer() {
        let mut seen = Seen {
            samples: VecDeque::new(),
            counts: Counts::default(),
            health: Health::default(),
        };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut learn = |by_upstream, dns, connect, second| {
            let failures = vec![("dns", dns), ("connect", connect)];
            let counts = Counts {
                by_upstream,
                by_sidecar: 0,
                failures,
            };
            seen.learn(counts, at(second));
            seen.health.clone()
        };
        let nothing = learn(0, 0, 0, 1);
        assert!(nothing.last_success.is_none() && nothing.last_failure.is_none());
        learn(0, 1, 0, 2);
        let failing = learn(0, 1, 1, 3);
        assert_eq!(failing.failing_since, Some(at(2)));
        assert_eq!(failing.last_failure, Some((at(3), "connect")));
        let same = learn(0, 1, 1, 4);
        assert_eq!(same.last_failure, Some((at(3), "connect")));
        let well = learn(1, 1, 1, 5);
        assert_eq!((well.failing_since, well.last_success), (None, Some(at(5))));
        assert_eq!(well.last_failure, Some((at(3), "connect")));
    }
}
