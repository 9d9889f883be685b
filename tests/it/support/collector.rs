//! `FakeCollector`: a collector of OpenTelemetry as a real HTTP server, which decodes what it is sent with
//! the messages of OTLP, and fails as collectors fail.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode as Code},
};
use prost::Message;

use super::{
    Body, DEADLINE, RawServer, eventually, lock,
    server::{Closed, Failures, Tls, serve_http},
};

/// What a collector says to a batch.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Takes all of it.
    Accept,
    /// Takes all but so many.
    Reject(i64),
    /// Says this, with these fields.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// Says that all is well in a page for people.
    Page,
    /// Says that all is well in bytes that mean nothing.
    Rubbish,
    /// Says nothing for ever.
    Hang,
    /// Closes the connection.
    Close,
}

/// A request to the collector.
#[derive(Clone, Debug)]
pub struct Export {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A span, with its attributes as text.
#[derive(Clone, Debug)]
pub struct Traced {
    pub name: String,
    pub kind: SpanKind,
    /// As in `traceparent`.
    pub trace: String,
    pub id: String,
    /// Empty where it has none.
    pub parent: String,
    pub is_error: bool,
    pub attributes: BTreeMap<String, String>,
    /// Who has made it.
    pub resource: BTreeMap<String, String>,
    pub start: u64,
    pub end: u64,
    pub flags: u32,
}

impl Traced {
    /// # Panics
    /// When it has no such attribute.
    pub fn get(&self, name: &str) -> &str {
        let found = self.attributes.get(name);
        found.unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }
}

/// The collector; see the module. What is no message of OTLP fails the test when it is dropped.
#[derive(Debug)]
pub struct FakeCollector {
    server: RawServer,
    state: Arc<Mutex<State>>,
    tls: Option<Tls>,
}

#[derive(Debug)]
struct State {
    always: Verdict,
    script: VecDeque<Verdict>,
    exports: Vec<Export>,
    taken: Vec<Traced>,
}

impl FakeCollector {
    pub fn start() -> Self {
        Self::start_with(SocketAddr::from(([127, 0, 0, 1], 0)), None)
    }

    /// One that comes back.
    pub fn start_at(address: SocketAddr) -> Self {
        Self::start_with(address, None)
    }

    /// The same behind TLS; see [`FakeCollector::ca_pem`].
    pub fn start_tls() -> Self {
        Self::start_with(SocketAddr::from(([127, 0, 0, 1], 0)), Some(Tls::new()))
    }

    fn start_with(address: SocketAddr, tls: Option<Tls>) -> Self {
        let state = Arc::new(Mutex::new(State {
            always: Verdict::Accept,
            script: VecDeque::new(),
            exports: Vec::new(),
            taken: Vec::new(),
        }));
        let failures = Failures::default();
        let (serving, noting, acceptor) = (Arc::clone(&state), failures.clone(), tls.clone());
        let server = RawServer::start_at(address, failures, move |_, stream| {
            let (state, failures) = (Arc::clone(&serving), noting.clone());
            let acceptor = acceptor.clone();
            async move {
                serve_http(stream, acceptor, move |request| {
                    take(Arc::clone(&state), failures.clone(), request)
                })
                .await;
            }
        });
        Self { server, state, tls }
    }

    /// Without a path.
    pub fn url(&self) -> String {
        match self.tls {
            None => format!("http://{}", self.address()),
            Some(_) => format!("https://localhost:{}", self.address().port()),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The authority to trust, after [`FakeCollector::start_tls`].
    pub fn ca_pem(&self) -> &str {
        &self.tls.as_ref().unwrap().ca_pem
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Says this to the next batch, and goes on as before.
    pub fn script(&self, verdicts: impl IntoIterator<Item = Verdict>) {
        self.state().script.extend(verdicts);
    }

    /// Says this to every batch from now on.
    pub fn always(&self, verdict: Verdict) {
        self.state().always = verdict;
    }

    /// Every request so far, taken or not.
    pub fn exports(&self) -> Vec<Export> {
        self.state().exports.clone()
    }

    /// The spans that it took, in the order in which they ended.
    pub fn spans(&self) -> Vec<Traced> {
        self.state().taken.clone()
    }

    /// Spans of a kind.
    pub fn of_kind(&self, kind: SpanKind) -> Vec<Traced> {
        let mut spans = self.spans();
        spans.retain(|span| span.kind == kind);
        spans
    }

    /// The only span that answers to this, once it is there.
    pub async fn the(&self, is_it: impl Fn(&Traced) -> bool) -> Traced {
        let found = || {
            let mut spans = self.spans();
            spans.retain(|span| is_it(span));
            spans
        };
        eventually(|| !found().is_empty(), DEADLINE).await;
        let mut found = found();
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// How many connections were made to it so far.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Closes everything; from then on the address refuses.
    pub fn stop(&mut self) {
        self.server.stop();
    }
}

async fn take(
    state: Arc<Mutex<State>>,
    failures: Failures,
    request: Request<Incoming>,
) -> Result<Response<Body>, Closed> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let message = match ExportTraceServiceRequest::decode(body.clone()) {
        Ok(message) => message,
        Err(error) => {
            failures.record(format!("a batch is no message of OTLP: {error}"));
            return Err(Closed);
        }
    };
    if head.method != http::Method::POST {
        failures.record(format!("a batch came by {}", head.method));
    }
    let verdict = {
        let mut state = lock(&state);
        state.exports.push(Export {
            path: head.uri.to_string(),
            headers: head.headers,
            body,
        });
        let verdict = state.script.pop_front();
        let verdict = verdict.unwrap_or_else(|| state.always.clone());
        if matches!(verdict, Verdict::Accept | Verdict::Reject(_)) {
            state.taken.extend(spans(message));
        }
        verdict
    };
    let protobuf = "application/x-protobuf";
    let (status, fields, body) = match verdict {
        Verdict::Accept => (200, vec![("content-type", protobuf)], Vec::new()),
        Verdict::Reject(rejected_spans) => {
            let response = ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans,
                    error_message: "canary-of-the-collector".to_owned(),
                }),
            };
            let fields = vec![("content-type", protobuf)];
            (200, fields, response.encode_to_vec())
        }
        Verdict::Status(status, fields) => (status, fields, b"canary-of-the-collector".to_vec()),
        Verdict::Page => (200, vec![("content-type", "text/html")], b"<html>".to_vec()),
        Verdict::Rubbish => (200, vec![("content-type", protobuf)], vec![0xff; 16]),
        Verdict::Hang => std::future::pending().await,
        Verdict::Close => return Err(Closed),
    };
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in fields {
        response = response.header(name, value);
    }
    Ok(response.body(Body::from(body)).unwrap())
}

fn spans(message: ExportTraceServiceRequest) -> Vec<Traced> {
    let mut spans = Vec::new();
    for of_resource in message.resource_spans {
        let resource = texts(&of_resource.resource.unwrap().attributes);
        for of_scope in of_resource.scope_spans {
            assert_eq!(of_scope.scope.unwrap().name, "auth-sidecar");
            let made = of_scope.spans.iter();
            spans.extend(made.map(|span| traced(span, resource.clone())));
        }
    }
    spans
}

fn traced(span: &Span, resource: BTreeMap<String, String>) -> Traced {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    };
    let status = span.status.as_ref();
    let attributes = texts(&span.attributes);
    assert_eq!(
        attributes.len(),
        span.attributes.len(),
        "one of a name: {span:?}"
    );
    Traced {
        name: span.name.clone(),
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        is_error: status.is_some_and(|status| status.code() == Code::Error),
        attributes,
        resource,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        flags: span.flags,
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(yes) => yes.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = attributes.iter().map(|pair| {
        let value = pair.value.as_ref().and_then(|any| any.value.as_ref());
        (pair.key.clone(), text(value.unwrap()))
    });
    pairs.collect()
}
