//! `FakeIssuer`: a token service of any kind, as a real HTTP server; what it answers is the test's.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::Response;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    RawServer,
    csp::Call,
    lock,
    server::{Closed, Failures, Tls, serve_http},
};

/// What it says to one request: status, fields, body.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub body: String,
}

impl Said {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            fields: vec![("content-type", "application/json".to_owned())],
            body: body.to_string(),
        }
    }

    /// An error of RFC 6749 section 5.2.
    pub fn error(status: u16, code: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": code }))
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// The token service; see the module. A panic of its answer fails the test.
#[derive(Debug)]
pub struct FakeIssuer {
    server: RawServer,
    calls: Arc<Mutex<Vec<Call>>>,
    ca_pem: Option<String>,
}

impl FakeIssuer {
    pub fn start(answer: impl Fn(&Call) -> Said + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer)
    }

    pub fn start_with(
        tls: Option<Tls>,
        answer: impl Fn(&Call) -> Said + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let (answer, recorded) = (Arc::new(answer), Arc::clone(&calls));
        let ca_pem = tls.as_ref().map(|tls| tls.ca_pem.clone());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let failures = Failures::default();
        let noted = failures.clone();
        let server = RawServer::start_at(any, failures, move |_, stream| {
            let (answer, calls) = (Arc::clone(&answer), Arc::clone(&recorded));
            let (tls, noted) = (tls.clone(), noted.clone());
            serve_http(stream, tls, move |request| {
                let (answer, calls) = (Arc::clone(&answer), Arc::clone(&calls));
                let noted = noted.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let Ok(body) = body.collect().await else {
                        return Err(Closed);
                    };
                    let call = Call {
                        at: Instant::now(),
                        method: head.method,
                        target: head.uri.to_string(),
                        headers: head.headers,
                        body: body.to_bytes(),
                    };
                    lock(&calls).push(call.clone());
                    // Judged where a panic is noted, and does not end the connection alone.
                    let judged = std::panic::AssertUnwindSafe(|| answer(&call));
                    let Ok(said) = std::panic::catch_unwind(judged) else {
                        noted.record(format!("not what a correct client sends: {call:?}"));
                        return Err(Closed);
                    };
                    let mut response = Response::builder().status(said.status);
                    for (name, value) in said.fields {
                        response = response.header(name, value);
                    }
                    Ok(response.body(said.body.into()).unwrap())
                }
            })
        });
        Self {
            server,
            calls,
            ca_pem,
        }
    }

    /// Without a trailing slash.
    pub fn url(&self) -> String {
        match self.ca_pem {
            None => format!("http://{}", self.server.address()),
            Some(_) => format!("https://localhost:{}", self.server.address().port()),
        }
    }

    pub fn ca_pem(&self) -> &str {
        self.ca_pem.as_ref().unwrap()
    }

    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    pub fn call_count(&self) -> usize {
        lock(&self.calls).len()
    }
}

/// The fields of a form, of which each name is there once but for those that may repeat.
pub fn field(call: &Call, name: &str) -> Option<String> {
    let form = call.form();
    let mut values = form.iter().filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.clone());
    assert!(values.next().is_none(), "{name} twice: {form:?}");
    value
}

/// The names of a form in their order.
pub fn names(call: &Call) -> Vec<String> {
    call.form().into_iter().map(|(name, _)| name).collect()
}
