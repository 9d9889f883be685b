//! Keeps account of requests: how many are in flight, and what became of each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::error::ProxyError;
use crate::telemetry::{Metrics, Origin};

/// The account of all workers.
#[derive(Debug, Clone)]
pub struct Ledger {
    metrics: Arc<Metrics>,
    in_flight: Arc<AtomicUsize>,
    limit: usize,
}

impl Ledger {
    /// An empty one, for at most `limit` requests at the same time.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, limit: usize) -> Self {
        Self {
            metrics,
            in_flight: Arc::default(),
            limit,
        }
    }

    /// The same account with another limit.
    #[must_use]
    pub fn with_limit(&self, limit: usize) -> Self {
        Self {
            limit,
            ..self.clone()
        }
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Opens the account of a request.
    pub(super) fn open(&self, method: Method) -> Entry<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Entry {
            ledger: self,
            started_at: Instant::now(),
            method,
            outcome: None,
        }
    }

    /// Whether there are more than there may be, the newest included.
    pub(super) fn is_over_limit(&self) -> bool {
        self.in_flight() > self.limit
    }

    /// Logs and counts an answer of our own: once, here, at a level by blame.
    pub(super) fn failed(&self, error: &ProxyError) {
        if error.is_refusal() {
            self.metrics.rejected(error.label());
            tracing::debug!(reason = error.label(), "refused a request: {error}");
        } else if matches!(error, ProxyError::NoToken(_)) {
            // The token path has told it once; a line a request would drown that.
            tracing::debug!(
                reason = error.label(),
                "answered a request with an error: {error}"
            );
        } else {
            tracing::warn!(
                reason = error.label(),
                "answered a request with an error: {error}"
            );
        }
    }

    /// Counts a token that the upstream refused.
    pub(super) fn unauthorized(&self) {
        self.metrics.unauthorized();
    }

    /// Counts what came of sending a request again with a newer token.
    pub(super) fn replayed(&self, result: &'static str) {
        self.metrics.replayed(result);
    }

    /// Counts a request that waits for a token, until the guard is dropped.
    pub(super) fn held(&self) -> Held {
        Held::new(Arc::clone(&self.metrics))
    }
}

/// One request in flight. When it is dropped the request is over, and counted.
#[derive(Debug)]
pub struct Entry<'a> {
    ledger: &'a Ledger,
    started_at: Instant,
    method: Method,
    /// What the client was told, and by whom; `None` when it went away before.
    outcome: Option<(StatusCode, Origin)>,
}

impl Entry<'_> {
    /// Notes the answer.
    pub(super) fn answered(&mut self, status: StatusCode, origin: Origin) {
        self.outcome = Some((status, origin));
    }

    /// When the request's head was complete.
    pub(super) fn started_at(&self) -> Instant {
        self.started_at
    }

    fn duration(&self) -> Duration {
        self.started_at.elapsed()
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.ledger.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some((status, origin)) = self.outcome {
            self.ledger
                .metrics
                .answered(&self.method, status, origin, self.duration());
        }
    }
}

/// One request that waits for a token.
#[derive(Debug)]
pub(super) struct Held(Arc<Metrics>);

impl Held {
    fn new(metrics: Arc<Metrics>) -> Self {
        metrics.held(1);
        Self(metrics)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held(-1);
    }
}
