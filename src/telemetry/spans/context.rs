//! Which requests have a span, of which trace, and what the upstream gets of it.

use http::uri::Authority;

use crate::message::{Name, RequestHead, RequestId, TraceParent, trace_parent};

/// The longest name of a host, in bytes (RFC 1035 §2.3.4), with a port.
const MAX_HOST: usize = 255 + 6;

/// The part of the traces that begin here which is recorded, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRatio(f64);

impl SampleRatio {
    /// A ratio; `None` for a number that is none.
    #[must_use]
    pub fn new(ratio: f64) -> Option<Self> {
        (0.0..=1.0).contains(&ratio).then_some(Self(ratio))
    }

    /// Whether a trace is recorded. Decided by its id, as the SDKs do it, so that others with the same
    /// ratio decide alike.
    #[expect(
        clippy::cast_precision_loss,
        reason = "what is lost is far below what a ratio means"
    )]
    fn takes(self, trace: u128) -> bool {
        let Self(ratio) = self;
        // The half of the id that is random in every version of the standard, without its sign.
        let id = u64::try_from(trace & u128::from(u64::MAX)).unwrap_or_default() >> 1;
        ratio >= 1.0 || (id as f64) < ratio * (1_u64 << 63) as f64
    }
}

impl Default for SampleRatio {
    fn default() -> Self {
        Self(1.0)
    }
}

/// The place of a request in its trace. There is one for requests that are recorded alone.
#[derive(Debug)]
pub struct SpanContext {
    pub(super) trace: u128,
    /// The span of the client, where the request belongs to a trace of its own.
    pub(super) parent: Option<u64>,
    /// The span of the request.
    pub(super) span: u64,
    /// The span of the part that the upstream takes.
    pub(super) upstream: u64,
    /// The host that was asked for, and its port.
    pub(super) host: Option<(String, Option<u16>)>,
    /// Whether our `traceparent` is sent to the upstream, since the client has sent none.
    is_sent: bool,
}

impl SpanContext {
    /// The place of a request, if it is recorded: whoever began its trace decides, or we where that is
    /// nobody.
    pub(super) fn of(request: &RequestHead, ratio: SampleRatio) -> Option<Self> {
        let fields = &request.fields;
        let parent = TraceParent::of(fields);
        let mut context = match parent {
            Some(parent) => parent.is_sampled.then(|| Self::new(parent.trace))?,
            None => Self::root(RequestId::random(), ratio)?,
        };
        context.parent = parent.map(|parent| parent.span);
        // What the client sends of this kind goes on as it is, sound or not, and a second field beside it
        // would make both of them invalid.
        let mut sent = fields.iter().map(|field| field.name);
        context.is_sent = !sent.any(|name| {
            name.eq_ignore_ascii_case(trace_parent::NAME)
                || name.eq_ignore_ascii_case(b"tracestate")
        });
        let host = request.authority().or_else(|| fields.first(Name::Host));
        // A longer one is the name of no host, and would be kept with the span.
        let host = host.filter(|host| host.len() <= MAX_HOST);
        let host = host.and_then(|host| Authority::try_from(host).ok());
        // Without a user's name, which an authority may have.
        context.host = host.map(|host| (host.host().to_owned(), host.port_u16()));
        Some(context)
    }

    /// The beginning of a trace, if it is recorded.
    pub(super) fn root(id: RequestId, ratio: SampleRatio) -> Option<Self> {
        let trace = id.number();
        ratio.takes(trace).then(|| Self::new(trace))
    }

    fn new(trace: u128) -> Self {
        Self {
            trace,
            parent: None,
            span: fastrand::u64(1..),
            upstream: fastrand::u64(1..),
            host: None,
            is_sent: false,
        }
    }

    /// The id of the request everywhere else: in our responses and in the log.
    #[must_use]
    pub fn id(&self) -> RequestId {
        RequestId::new(self.trace)
    }

    /// The `traceparent` that the upstream gets from us.
    #[must_use]
    pub fn traceparent(&self) -> Option<String> {
        let Self {
            trace, upstream, ..
        } = *self;
        self.is_sent.then(|| {
            let parent = TraceParent {
                trace,
                span: upstream,
                is_sampled: true,
            };
            parent.value()
        })
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ALL: SampleRatio = SampleRatio(1.0);
    const NONE: SampleRatio = SampleRatio(0.0);

    fn request(fields: &[(&str, &str)]) -> RequestHead {
        let mut request = RequestHead::to(Method::GET, b"/x");
        for (name, value) in fields {
            request.fields.push(name.as_bytes(), value.as_bytes());
        }
        request
    }

    #[test]
    fn whoever_began_a_trace_decides_whether_it_is_recorded() {
        let sampled = request(&[("traceparent", PARENT)]);
        let context = SpanContext::of(&sampled, NONE).unwrap();
        assert_eq!(context.parent, Some(0x00f0_67aa_0ba9_02b7));
        assert_eq!(context.id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let unsampled = request(&[("traceparent", &PARENT.replace("-01", "-00"))]);
        assert!(SpanContext::of(&unsampled, ALL).is_none());
        // One that is not sound is none.
        let malformed = request(&[("traceparent", "00-nonsense")]);
        assert!(SpanContext::of(&malformed, NONE).is_none());
        let context = SpanContext::of(&malformed, ALL).unwrap();
        assert_eq!(context.parent, None);
    }

    #[test]
    fn the_upstream_hears_of_us_only_where_the_client_says_nothing() {
        let context = SpanContext::of(&request(&[]), ALL).unwrap();
        let sent = context.traceparent().unwrap();
        let (trace, span) = (context.trace, context.upstream);
        assert_eq!(sent, format!("00-{trace:032x}-{span:016x}-01"));
        for field in [
            ("Traceparent", PARENT),
            ("traceparent", "00-nonsense"),
            ("tracestate", "vendor=value"),
        ] {
            let context = SpanContext::of(&request(&[field]), ALL).unwrap();
            assert_eq!(context.traceparent(), None, "{field:?}");
        }
    }

    #[test]
    fn a_ratio_takes_its_part_of_the_traces() {
        for wrong in [-0.1, 1.1, f64::NAN] {
            assert_eq!(SampleRatio::new(wrong), None);
        }
        assert!(ALL.takes(u128::MAX) && !NONE.takes(1));
        let quarter = SampleRatio::new(0.25).unwrap();
        // The upper half of an id says nothing.
        let few = u128::from(u64::MAX) << 64;
        assert!(quarter.takes(few | 1) && !quarter.takes(few | u128::from(u64::MAX >> 1)));
        let mut random = fastrand::Rng::with_seed(1);
        let taken = (0..10_000)
            .filter(|_| quarter.takes(random.u128(1..)))
            .count();
        assert!((2_300..2_700).contains(&taken), "{taken}");
    }

    #[test]
    fn a_host_has_no_user() {
        let asked = request(&[("host", "localhost:9797")]);
        let context = SpanContext::of(&asked, ALL).unwrap();
        assert_eq!(context.host, Some(("localhost".to_owned(), Some(9797))));
        let asked = request(&[("host", "user:canary@localhost")]);
        let context = SpanContext::of(&asked, ALL).unwrap();
        assert_eq!(context.host, Some(("localhost".to_owned(), None)));
    }
}
