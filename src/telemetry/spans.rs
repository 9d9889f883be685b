//! Spans for a collector of OpenTelemetry: one for a request that was served, one for the part of it that
//! the upstream took, one for a token call.
//!
//! ```text
//!   the account of a request ─► Record ─┬─► a line of the access log
//!                                       └─► Tracer ─► SpanQueue ─► Exporter ─► the collector
//!   a token call ────────────────────────────┘       (bounded,     (a task: batches,
//!                                                     lossy)        deadlines, back-off)
//! ```
//!
//! Nobody waits for any of it. What finds no room in the queue, and what the collector does not take, is
//! counted and gone.

mod batch;
mod collector;
mod context;
mod exporter;

mod queue;
mod span;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use url::Url;

pub(crate) use self::collector::header_fields;
pub use self::{
    collector::{Collector, OtlpSettings},
    context::{SampleRatio, SpanContext},
    exporter::Exporter,
};
use self::{queue::SpanQueue, span::Place};
use super::{Metrics, access::Record};
use crate::message::{RequestHead, RequestId};

/// Makes spans of what one configuration does. Cheap to clone; with the last one that goes to a
/// collector its exporter ends.
#[derive(Debug, Clone)]
pub struct Tracer {
    spans: Arc<Spans>,
    /// The service behind us.
    upstream: Arc<Place>,
    /// Where tokens come from; `None` where nobody is called for them.
    token_service: Option<Arc<Place>>,
}

/// The way to a collector.
#[derive(Debug)]
struct Spans {
    queue: Arc<SpanQueue>,
    ratio: SampleRatio,
}

impl Drop for Spans {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A call of the token service that is over.
#[derive(Debug, Clone, Copy)]
pub struct TokenCall {
    /// How long ago it began.
    pub ago: Duration,
    /// How long it took.
    pub duration: Duration,
    /// Why it was made.
    pub cause: &'static str,
    /// The status of the last response, if there was one.
    pub status: Option<u16>,
    /// The token that it brought, or our word for why there is none.
    pub outcome: Result<u64, &'static str>,
}

impl Tracer {
    /// A tracer, and the exporter that is to be run for it.
    #[must_use]
    pub fn new(
        settings: &OtlpSettings,
        collector: Collector,
        metrics: Arc<Metrics>,
        upstream: &Url,
        token_service: Option<&Url>,
    ) -> (Self, Exporter) {
        let queue = Arc::new(SpanQueue::new(Arc::clone(&metrics)));
        let exporter = Exporter::new(settings, collector, Arc::clone(&queue), metrics);
        let spans = Arc::new(Spans {
            queue,
            ratio: settings.sample_ratio,
        });
        (Self::to(spans, upstream, token_service), exporter)
    }

    /// A tracer to the same collector, of a configuration that leads elsewhere.
    #[must_use]
    pub fn of_another(&self, upstream: &Url, token_service: Option<&Url>) -> Self {
        Self::to(Arc::clone(&self.spans), upstream, token_service)
    }

    fn to(spans: Arc<Spans>, upstream: &Url, token_service: Option<&Url>) -> Self {
        Self {
            spans,
            upstream: Arc::new(Place::of(upstream)),
            token_service: token_service.map(|url| Arc::new(Place::of(url))),
        }
    }

    /// Begins the span of a request; `None` for one that is not recorded.
    #[must_use]
    pub fn begin(&self, request: &RequestHead) -> Option<Box<SpanContext>> {
        SpanContext::of(request, self.spans.ratio).map(Box::new)
    }

    /// Ends a span, with what is known of its request by now.
    pub fn end(&self, context: &SpanContext, record: &Record<'_>) {
        let now = SystemTime::now();
        let server = span::of_request(context, record, now);
        let client = span::of_upstream(context, record, &self.upstream, now);
        self.spans.queue.push([Some(server), client]);
    }

    /// Makes the span of what was refused before there was a request, unless it is not recorded.
    pub fn refused(&self, record: &Record<'_>) {
        if let Some(context) = SpanContext::root(record.id, self.spans.ratio) {
            let span = span::of_request(&context, record, SystemTime::now());
            self.spans.queue.push([Some(span), None]);
        }
    }

    /// Makes the span of a token call, unless it is not recorded.
    pub fn token_call(&self, call: &TokenCall) {
        let Some(place) = &self.token_service else {
            return;
        };
        if let Some(context) = SpanContext::root(RequestId::random(), self.spans.ratio) {
            let span = span::of_token_call(&context, call, place, SystemTime::now());
            self.spans.queue.push([Some(span), None]);
        }
    }
}
