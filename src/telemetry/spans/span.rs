//! What a span says: the record of a request, or a token call, by the names of OpenTelemetry's conventions
//! for HTTP where they have one. `docs/tracing.md` lists the attributes.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::{
        Span, Status,
        span::SpanKind,
        status::StatusCode::{self, Error},
    },
};
use url::Url;

use super::{
    super::access::{Asked, CLIENT_GONE, Client, Record, shown},
    SpanContext, TokenCall,
};
use crate::server::AbortReason;

/// The other side of a call.
#[derive(Debug)]
pub(super) struct Place {
    host: String,
    port: Option<u16>,
    /// The address without user, path and query.
    base: String,
    path: String,
}

impl Place {
    pub(super) fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default();
        let base = match url.port() {
            Some(port) => format!("{}://{host}:{port}", url.scheme()),
            None => format!("{}://{host}", url.scheme()),
        };
        Self {
            host,
            port,
            base,
            path: url.path().to_owned(),
        }
    }

    fn describe(&self, span: &mut Span, path: &str) {
        give(span, "server.address", self.host.as_str());
        if let Some(port) = self.port {
            give(span, "server.port", u64::from(port));
        }
        // A request about the whole server has the path "*".
        let path = if path.starts_with('/') { path } else { "" };
        // Required by the conventions; a query may hold secrets and is left out here, too.
        give(span, "url.full", format!("{}{path}", self.base));
    }
}

/// The span of a request as its client sees it.
pub(super) fn of_request(context: &SpanContext, record: &Record<'_>, now: SystemTime) -> Span {
    let mut span = empty(context, context.span, SpanKind::Server);
    if let Some(parent) = context.parent {
        span.parent_span_id = parent.to_be_bytes().to_vec();
        span.flags |= PARENT_IS_REMOTE;
    }
    times(&mut span, now, record.duration, record.duration);
    method(&mut span, record.asked);
    if let Some(asked) = record.asked {
        give(&mut span, "url.path", path(asked));
        give(&mut span, "network.protocol.version", asked.version);
    }
    let scheme = if record.is_tls { "https" } else { "http" };
    give(&mut span, "url.scheme", scheme);
    if let Some((host, port)) = &context.host {
        give(&mut span, "server.address", host.as_str());
        if let Some(port) = *port {
            give(&mut span, "server.port", u64::from(port));
        }
    }
    if let Some(address) = record.address {
        give(&mut span, "client.address", address.to_string());
    }
    if let Some(status) = record.status {
        give(&mut span, "http.response.status_code", u64::from(status));
    }
    let sizes = [
        ("http.request.body.size", record.request_bytes),
        ("http.response.body.size", record.response_bytes),
    ];
    for (name, size) in sizes {
        give(&mut span, name, size);
    }
    let is_broken = record.error.is_some_and(|(_, label)| label != CLIENT_GONE);
    let is_failure = record.status.is_some_and(|status| status >= 500);
    // What was wrong with a request of its client's own is no failure of the server.
    let is_ours = record.origin == Some("sidecar");
    error_type(&mut span, record, 500);
    if is_failure || is_broken && !is_ours {
        failed(&mut span);
    }
    ours(&mut span, record);
    span
}

/// Adds the attributes that only we know.
fn ours(span: &mut Span, record: &Record<'_>) {
    if let Some(origin) = record.origin {
        give(span, "auth_sidecar.origin", origin);
    }
    if let Some((error, _)) = record.error.filter(|(error, _)| !error.is_empty()) {
        give(span, "auth_sidecar.proxy_status", error);
    }
    let user;
    let (kind, name) = match record.client {
        Client::Token(name) => ("token", name),
        Client::Certificate(subject) => ("certificate", subject),
        Client::User(id) => {
            user = id.to_string();
            ("user", &*user)
        }
        Client::Unknown => ("address", ""),
    };
    give(span, "auth_sidecar.client.kind", kind);
    if !name.is_empty() {
        give(span, "auth_sidecar.client.name", shown(name.as_bytes()));
    }
    if !record.held.is_zero() {
        give(span, "auth_sidecar.held_seconds", record.held.as_secs_f64());
    }
    if let Some(generation) = record.generation {
        give(span, "auth_sidecar.token.generation", generation);
    }
}

/// The span of the part that the upstream took, if it was asked.
pub(super) fn of_upstream(
    context: &SpanContext,
    record: &Record<'_>,
    place: &Place,
    now: SystemTime,
) -> Option<Span> {
    let waited = record.upstream?;
    // From when a connection had the request.
    let until_head = record.first_byte.unwrap_or(record.duration);
    let sent_at = until_head.saturating_sub(waited);
    let mut span = empty(context, context.upstream, SpanKind::Client);
    span.parent_span_id = context.span.to_be_bytes().to_vec();
    let took = record.duration.saturating_sub(sent_at);
    times(&mut span, now, took, took);
    method(&mut span, record.asked);
    let path = record.asked.map(path).unwrap_or_default();
    place.describe(&mut span, &path);
    let status = record.status.filter(|_| record.origin == Some("upstream"));
    if let Some(status) = status {
        give(&mut span, "http.response.status_code", u64::from(status));
    }
    if let Some(first_byte) = record.first_byte {
        let wait = first_byte.saturating_sub(sent_at).as_secs_f64();
        give(&mut span, "auth_sidecar.first_byte_seconds", wait);
    }
    if record.is_replayed {
        give(&mut span, "http.request.resend_count", 1);
    }
    // To whoever asks, a response 4xx is a failure, too.
    error_type(&mut span, record, 400);
    let is_failure = status.is_some_and(|status| status >= 400);
    // What the client or the sidecar has ended is no failure of the upstream.
    let is_elsewhere = |label| label == CLIENT_GONE || AbortReason::is_label(label);
    let is_broken = record.error.is_some_and(|(_, label)| !is_elsewhere(label));
    if is_failure || is_broken {
        failed(&mut span);
    }
    Some(span)
}

/// The span of a token call.
pub(super) fn of_token_call(
    context: &SpanContext,
    call: &TokenCall,
    place: &Place,
    now: SystemTime,
) -> Span {
    let mut span = empty(context, context.span, SpanKind::Client);
    times(&mut span, now, call.ago, call.duration);
    "POST".clone_into(&mut span.name);
    give(&mut span, "http.request.method", "POST");
    place.describe(&mut span, &place.path);
    if let Some(status) = call.status {
        give(&mut span, "http.response.status_code", u64::from(status));
    }
    give(&mut span, "auth_sidecar.token.cause", call.cause);
    match call.outcome {
        Ok(generation) => give(&mut span, "auth_sidecar.token.generation", generation),
        Err(reason) => {
            give(&mut span, "error.type", reason);
            failed(&mut span);
        }
    }
    span
}

/// What every recorded span is.
const SAMPLED: u32 = 1;
/// Both bits of OTLP: whether the parent is in another process is known, and it is.
const PARENT_IS_REMOTE: u32 = 0x300;

fn empty(context: &SpanContext, id: u64, kind: SpanKind) -> Span {
    Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        kind: kind.into(),
        flags: SAMPLED,
        ..Span::default()
    }
}

/// Sets when a span began, so long ago, and when it ended.
fn times(span: &mut Span, now: SystemTime, ago: Duration, duration: Duration) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let begin = since.unwrap_or_default().saturating_sub(ago);
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    span.start_time_unix_nano = nanoseconds(begin);
    span.end_time_unix_nano = nanoseconds(begin.saturating_add(duration));
}

/// Names a span by the method of its request, whose path would be a name of its own for each request. A
/// method that is none of the usual ones is no name.
fn method(span: &mut Span, asked: Option<Asked<'_>>) {
    const USUAL: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    let method = asked.map(|asked| asked.method);
    if let Some(usual) = method.filter(|method| USUAL.contains(method)) {
        usual.clone_into(&mut span.name);
        give(span, "http.request.method", usual);
        return;
    }
    "HTTP".clone_into(&mut span.name);
    give(span, "http.request.method", "_OTHER");
    if let Some(method) = method {
        let original = shown(method.as_bytes());
        give(span, "http.request.method_original", original);
    }
}

/// The path as it came, escaped and cut, without the query.
fn path(asked: Asked<'_>) -> String {
    shown(asked.path())
}

/// Names what went wrong: by our own word, or by a status from `least` on.
fn error_type(span: &mut Span, record: &Record<'_>, least: u16) {
    if let Some((_, label)) = record.error {
        give(span, "error.type", label);
    } else if let Some(status) = record.status.filter(|status| *status >= least) {
        give(span, "error.type", status.to_string());
    }
}

fn failed(span: &mut Span) {
    span.status = Some(Status {
        // The attributes say more than a sentence could.
        message: String::new(),
        code: StatusCode::into(Error),
    });
}

fn give(span: &mut Span, name: &str, value: impl Into<Given>) {
    span.attributes.push(attribute(name, value));
}

/// An attribute.
pub(super) fn attribute(name: &str, value: impl Into<Given>) -> KeyValue {
    let Given(value) = value.into();
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The value of an attribute.
pub(super) struct Given(Value);

impl From<&str> for Given {
    fn from(text: &str) -> Self {
        Self(Value::StringValue(text.to_owned()))
    }
}

impl From<String> for Given {
    fn from(text: String) -> Self {
        Self(Value::StringValue(text))
    }
}

impl From<u64> for Given {
    fn from(number: u64) -> Self {
        Self(Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<f64> for Given {
    fn from(number: f64) -> Self {
        Self(Value::DoubleValue(number))
    }
}
