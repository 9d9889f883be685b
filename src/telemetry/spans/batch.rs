//! Many spans as one message of OTLP, with who has made them.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

use super::span::attribute;
use crate::version;

/// Who has made the spans.
#[derive(Debug)]
pub(super) struct Maker(Resource);

impl Maker {
    pub(super) fn new(service_name: &str) -> Self {
        // One for each process, so that those of one name can be distinguished.
        let instance = format!("{:032x}", fastrand::u128(..));
        let attributes = [
            ("service.name", service_name),
            ("service.version", version::VERSION),
            ("service.instance.id", &instance),
        ];
        Self(Resource {
            attributes: attributes
                .map(|(name, value)| attribute(name, value))
                .into(),
            ..Resource::default()
        })
    }

    /// The message that sends these spans.
    pub(super) fn message(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: version::VERSION.to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = ScopeSpans {
            scope: Some(scope),
            spans,
            ..ScopeSpans::default()
        };
        let resource_spans = ResourceSpans {
            resource: Some(self.0.clone()),
            scope_spans: vec![spans],
            ..ResourceSpans::default()
        };
        let message = ExportTraceServiceRequest {
            resource_spans: vec![resource_spans],
        };
        message.encode_to_vec().into()
    }
}

/// How many spans a response says that the collector has rejected; `None` for what is no such response.
pub(super) fn rejected(response: &[u8]) -> Option<u64> {
    let response = ExportTraceServiceResponse::decode(response).ok()?;
    let rejected = response.partial_success.map(|part| part.rejected_spans);
    Some(u64::try_from(rejected.unwrap_or_default()).unwrap_or_default())
}
