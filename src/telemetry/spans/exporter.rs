//! The task that sends spans to a collector, batch by batch, and says when that begins to fail and when it
//! works again. Requests do not know of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Collector, OtlpSettings, batch::Maker, collector::ExportError, queue::SpanQueue};
use crate::{
    clock::seconds,
    subject::{Change, LastError, Subject},
    telemetry::Metrics,
};

/// Sends the spans of a queue until that is closed.
#[derive(Debug)]
pub struct Exporter {
    queue: Arc<SpanQueue>,
    collector: Collector,
    maker: Maker,
    metrics: Arc<Metrics>,
    health: Subject,
    /// Failures since the last success, for the back-off.
    failures: u32,
}

/// The least and the most time between a failure and the next attempt.
const FLOOR: Duration = Duration::from_secs(1);
const CEILING: Duration = Duration::from_secs(30);
/// How long a batch is tried again. Newer spans are of more use than older ones.
const TIMEOUT: Duration = Duration::from_secs(60);

const REMEDY: &str = "check that the collector runs and that telemetry.otlp_endpoint is its address for \
                      OTLP over HTTP (usually port 4318); requests are served all the same";

impl Exporter {
    pub(super) fn new(
        settings: &OtlpSettings,
        collector: Collector,
        queue: Arc<SpanQueue>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            queue,
            collector,
            maker: Maker::new(&settings.service_name),
            metrics,
            health: Subject::default(),
            failures: 0,
        }
    }

    /// Runs until the last span is sent or dropped, after the last tracer has gone or `finish` has come.
    pub async fn run(mut self, finish: CancellationToken) {
        let queue = Arc::clone(&self.queue);
        let sending = async {
            while let Some(spans) = queue.next().await {
                self.send(spans).await;
            }
        };
        tokio::pin!(sending);
        tokio::select! {
            () = &mut sending => return,
            () = finish.cancelled() => queue.close(),
        }
        sending.await;
    }

    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let batch = self.maker.message(spans);
        let give_up = Instant::now() + TIMEOUT;
        loop {
            // At the end each batch has one chance.
            let is_end = self.queue.is_closed();
            let error = match self.attempt(batch.clone()).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    self.metrics.spans_exported(count - rejected);
                    self.metrics.spans_dropped("rejected", rejected);
                    return;
                }
                Err(error) => error,
            };
            let pause = back_off(self.failures, error.retry_after, fastrand::f64());
            self.failures = self.failures.saturating_add(1);
            let is_last = !error.may_retry || is_end || Instant::now() + pause >= give_up;
            if is_last {
                self.metrics.spans_dropped("not_exported", count);
            }
            // Also behind a batch that is given up: the next one would fare no better at once.
            tokio::select! {
                () = sleep(pause) => {}
                () = self.queue.closed() => {}
            }
            if is_last {
                return;
            }
        }
    }

    /// Sends a batch, and logs a change.
    async fn attempt(&mut self, batch: Bytes) -> Result<u64, ExportError> {
        let result = self.collector.export(batch).await;
        let now = Instant::now();
        match &result {
            Ok(_) => {
                self.failures = 0;
                if let Some(Change::Recovered(episode)) = self.health.succeeded(now) {
                    tracing::info!(
                        collector = self.collector.name(),
                        failures = episode.failures,
                        lasted_seconds = seconds(now - episode.since),
                        "the collector takes spans again"
                    );
                }
            }
            Err(error) => self.failed(error, now),
        }
        result
    }

    fn failed(&self, error: &ExportError, now: Instant) {
        let ExportError {
            reason,
            detail,
            needs_operator,
            ..
        } = error;
        let last = LastError {
            at: now,
            reason,
            detail: detail.clone(),
        };
        let Some(Change::Failing { episode, before }) = self.health.failed(last) else {
            return;
        };
        let collector = self.collector.name();
        let failures = episode.failures + before;
        let failing_for_seconds = seconds(now - episode.since);
        // Two calls, since a level is part of the place in the code.
        if *needs_operator {
            tracing::error!(
                collector,
                reason,
                detail,
                failures,
                failing_for_seconds,
                remedy = REMEDY,
                "the collector takes no spans: they are dropped until it does"
            );
        } else {
            tracing::warn!(
                collector,
                reason,
                detail,
                failures,
                failing_for_seconds,
                remedy = REMEDY,
                "the collector takes no spans: they are dropped until it does"
            );
        }
    }
}

/// How long to leave the collector alone after so many failures: twice as long each time, less up to a
/// third by chance, and no less than it asked for.
fn back_off(failures: u32, asked: Option<Duration>, random: f64) -> Duration {
    let doubled = FLOOR.saturating_mul(1 << failures.min(5)).min(CEILING);
    let pause = doubled.mul_f64(1.0 - random / 3.0);
    pause.max(asked.unwrap_or_default().min(CEILING)).max(FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_off_has_a_floor_and_a_ceiling_and_heeds_the_collector() {
        let millis = |failures, asked: Option<u64>, random| {
            let pause = back_off(failures, asked.map(Duration::from_secs), random);
            pause.as_millis()
        };
        assert_eq!(millis(0, None, 0.0), 1_000);
        assert_eq!(millis(0, None, 0.99), 1_000);
        assert_eq!(millis(3, None, 0.0), 8_000);
        assert!(millis(3, None, 0.9) < 6_000);
        assert_eq!(millis(u32::MAX, None, 0.0), 30_000);
        assert_eq!(millis(0, Some(7), 0.0), 7_000);
        assert_eq!(millis(0, Some(7_000), 0.0), 30_000);
    }
}
