//! Spans that wait for the exporter, as many as there is room for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::super::Metrics;

/// The room, in spans: about 2 MiB, and seven times that where every path is as long as it may be.
const ROOM: usize = 2048;
/// The most that are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);

/// Spans on their way to a collector.
#[derive(Debug)]
pub(super) struct SpanQueue {
    waiting: Mutex<Vec<Span>>,
    /// Rung for the first span of a batch, and for the last that has room in it: whoever makes spans wakes
    /// nobody for those between.
    bell: Notify,
    closed: CancellationToken,
    metrics: Arc<Metrics>,
}

impl SpanQueue {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: Mutex::default(),
            bell: Notify::new(),
            closed: CancellationToken::new(),
            metrics,
        }
    }

    /// Takes spans, or drops those for which there is no room.
    pub(super) fn push(&self, spans: [Option<Span>; 2]) {
        let mut waiting = self.lock();
        let before = waiting.len();
        for span in spans.into_iter().flatten() {
            if waiting.len() < ROOM {
                waiting.push(span);
            } else {
                self.metrics.spans_dropped("queue_full", 1);
            }
        }
        let after = waiting.len();
        drop(waiting);
        let is_first = before == 0 && after > 0;
        if is_first || before < BATCH && after >= BATCH {
            self.bell.notify_one();
        }
    }

    /// Says that no more spans come: whoever takes spans ends with the last.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until no more spans come.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// The next spans, once there are enough of them or the first has waited for long enough; `None` where
    /// no more come.
    ///
    /// # Cancel safety
    /// Safe: spans are taken with the last step.
    pub(super) async fn next(&self) -> Option<Vec<Span>> {
        while self.lock().is_empty() {
            if self.is_closed() {
                return None;
            }
            tokio::select! {
                () = self.bell.notified() => {}
                () = self.closed() => {}
            }
        }
        let deadline = Instant::now() + DELAY;
        while self.lock().len() < BATCH && !self.is_closed() {
            tokio::select! {
                () = self.bell.notified() => {}
                () = self.closed() => {}
                () = sleep_until(deadline) => break,
            }
        }
        let mut waiting = self.lock();
        let count = waiting.len().min(BATCH);
        Some(waiting.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Span>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Arc<SpanQueue>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        (Arc::new(SpanQueue::new(Arc::clone(&metrics))), metrics)
    }

    fn one() -> [Option<Span>; 2] {
        [Some(Span::default()), None]
    }

    async fn count(queue: &SpanQueue) -> Option<usize> {
        queue.next().await.map(|spans| spans.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_goes_when_it_is_full_or_its_first_span_has_waited() {
        let (queue, _) = queue();
        queue.push(one());
        let began = Instant::now();
        assert_eq!(count(&queue).await, Some(1));
        assert_eq!(began.elapsed(), DELAY);
        // Somebody waits, and is not woken before there is something.
        let taking = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { count(&queue).await }
        });
        tokio::time::sleep(10 * DELAY).await;
        let began = Instant::now();
        (0..=BATCH).for_each(|_| queue.push(one()));
        assert_eq!(taking.await.unwrap(), Some(BATCH));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(count(&queue).await, Some(1));
        assert_eq!(began.elapsed(), DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_counted_and_the_rest_stays() {
        let (queue, metrics) = queue();
        (0..ROOM + 3).for_each(|_| queue.push(one()));
        assert_eq!(metrics.dropped_spans(), 3);
        queue.close();
        let mut taken = 0;
        while let Some(spans) = queue.next().await {
            assert!(spans.len() <= BATCH);
            taken += spans.len();
        }
        assert_eq!(taken, ROOM);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_gives_what_it_has_at_once_and_ends() {
        let (queue, _) = queue();
        let taking = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { (count(&queue).await, count(&queue).await) }
        });
        queue.push(one());
        let began = Instant::now();
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(taking.await.unwrap(), (Some(1), None));
        assert!(began.elapsed() < DELAY);
    }
}
