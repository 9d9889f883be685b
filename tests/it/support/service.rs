//! `FakeService`: the upstream as a real HTTP server that knows which tokens are good, and what no proxy may forward.

mod check;
mod routes;

pub use routes::pattern;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Version, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use tokio::time::Instant;

use super::{
    RawServer,
    client::Frames,
    lock,
    server::{Closed, Failures, Gauge, Tls, serve_http},
};

/// The body of every 401, to tell it from an answer of the sidecar.
pub const UNAUTHORIZED: &str =
    r#"{"status":{"result":"ERROR","message":"Full authentication is required","code":401}}"#;

/// The most of a body that is recorded.
const RECORDED: usize = 64 << 20;

/// Which tokens a service honours.
#[derive(Clone)]
pub struct Validator(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl Validator {
    pub fn new(is_valid: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_valid))
    }

    /// These tokens, for ever.
    pub fn of(tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let tokens: Vec<String> = tokens.into_iter().map(Into::into).collect();
        Self::new(move |token| tokens.iter().any(|known| known == token))
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

/// One request, as received; recorded as soon as its head is there.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Instant,
    /// The number of the connection that it came on, from 0.
    pub connection: usize,
    pub version: Version,
    pub method: Method,
    /// The request target, byte for byte.
    pub target: String,
    pub headers: HeaderMap,
    /// What came of the body so far, up to 64 MiB.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub complete: bool,
}

impl Received {
    /// The first value of this field.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The bearer token.
    pub fn token(&self) -> &str {
        check::bearer(&self.headers).unwrap()
    }
}

/// The upstream; see the module.
///
/// A request that should never have been forwarded as it was fails the test when this is dropped.
/// A wrong token does not: it is answered 401.
///
/// | Path | Answer |
/// |---|---|
/// | `/echo` | the body, with its `Content-Type`, once it is whole |
/// | `/duplex` | the body, as it comes |
/// | `/status/{code}` | that status |
/// | `/slow?ms=` | 200 after that time |
/// | `/stream?chunks=&ms=` | `chunk 0\n` and so on, one each `ms`; without `chunks` for ever |
/// | `/bytes/{n}` | [`pattern`]`(n)`, with its length |
/// | `/headers` | the fields received as JSON pairs, and two `Set-Cookie` |
/// | `/always401` | 401, whatever the token |
/// | `/trailers` | `content`, then the trailers `grpc-status: 0` and some that may not be there |
/// | `/early` | 200, without reading the body |
/// | `/abort` | half of a body, then a broken connection |
/// | other | 200, `{"path": …}` |
#[derive(Debug)]
pub struct FakeService {
    server: RawServer,
    service: Service,
    tls: Option<Tls>,
}

#[derive(Clone, Debug)]
struct Service {
    state: Arc<Mutex<State>>,
    in_flight: Gauge,
    failures: Failures,
}

#[derive(Debug)]
struct State {
    validator: Validator,
    refuses_early: bool,
    unauthorized: usize,
    requests: Vec<Received>,
}

impl FakeService {
    /// A service that honours what `validator` says, usually [`super::FakeCsp::validator`].
    pub fn start(validator: Validator) -> Self {
        Self::start_with(SocketAddr::from(([127, 0, 0, 1], 0)), validator, None)
    }

    /// At an address that an earlier one had, after its [`FakeService::stop`].
    pub fn start_at(address: SocketAddr, validator: Validator) -> Self {
        Self::start_with(address, validator, None)
    }

    /// Behind TLS; see [`FakeService::ca_pem`].
    pub fn start_tls(validator: Validator) -> Self {
        Self::start_behind(Tls::new(), validator)
    }

    /// Behind this TLS.
    pub fn start_behind(tls: Tls, validator: Validator) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_with(address, validator, Some(tls))
    }

    /// Behind TLS that agrees on these versions of HTTP only.
    pub fn start_speaking(protocols: &[&str], validator: Validator) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_with(address, validator, Some(Tls::speaking(protocols)))
    }

    pub fn accepting(tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::start(Validator::of(tokens))
    }

    pub fn accepting_all() -> Self {
        Self::start(Validator::new(|_| true))
    }

    fn start_with(address: SocketAddr, validator: Validator, tls: Option<Tls>) -> Self {
        let service = Service {
            state: Arc::new(Mutex::new(State {
                validator,
                refuses_early: false,
                unauthorized: 0,
                requests: Vec::new(),
            })),
            in_flight: Gauge::default(),
            failures: Failures::default(),
        };
        let (serving, acceptor) = (service.clone(), tls.clone());
        let server =
            RawServer::start_at(address, service.failures.clone(), move |index, stream| {
                let (service, acceptor) = (serving.clone(), acceptor.clone());
                let port = stream.local_addr().unwrap().port();
                serve_http(stream, acceptor, move |request| {
                    service.clone().answer(index, port, request)
                })
            });
        Self {
            server,
            service,
            tls,
        }
    }

    pub fn url(&self) -> String {
        match self.tls {
            None => format!("http://{}", self.address()),
            Some(_) => format!("https://localhost:{}", self.address().port()),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The authority to trust, after [`FakeService::start_tls`].
    pub fn ca_pem(&self) -> &str {
        &self.tls.as_ref().unwrap().ca_pem
    }

    /// Honours something else from now on.
    pub fn accept(&self, validator: Validator) {
        lock(&self.service.state).validator = validator;
    }

    /// Answers 401 from now on without reading the body first.
    pub fn refuse_early(&self) {
        lock(&self.service.state).refuses_early = true;
    }

    pub fn requests(&self) -> Vec<Received> {
        lock(&self.service.state).requests.clone()
    }

    pub fn request_count(&self) -> usize {
        lock(&self.service.state).requests.len()
    }

    /// How many times it answered 401.
    pub fn unauthorized_count(&self) -> usize {
        lock(&self.service.state).unauthorized
    }

    /// How many requests it is working on.
    pub fn in_flight(&self) -> usize {
        self.service.in_flight.get()
    }

    /// The most that it worked on at a time.
    pub fn in_flight_max(&self) -> usize {
        self.service.in_flight.max()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    pub fn open_connections(&self) -> usize {
        self.server.open_connections()
    }

    /// Closes the listener and every connection; from then on the address refuses.
    pub fn stop(&mut self) {
        self.server.stop();
    }
}

impl Service {
    fn honours(&self, headers: &HeaderMap) -> bool {
        let validator = lock(&self.state).validator.clone();
        (validator.0)(check::bearer(headers).unwrap())
    }

    /// The number under which the request is recorded.
    fn record(&self, connection: usize, head: &Parts) -> usize {
        let requests = &mut lock(&self.state).requests;
        requests.push(Received {
            at: Instant::now(),
            connection,
            method: head.method.clone(),
            version: head.version,
            target: head
                .uri
                .path_and_query()
                .map_or("", |target| target.as_str())
                .to_owned(),
            headers: head.headers.clone(),
            body: Vec::new(),
            complete: false,
        });
        requests.len() - 1
    }

    /// Reads and records the body, and passes it on frame by frame where that is wanted.
    async fn read(
        &self,
        received: usize,
        mut body: Incoming,
        echo: Option<Frames>,
    ) -> Result<Bytes, Closed> {
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Closed)?.into_data() else {
                continue;
            };
            {
                let recorded = &mut lock(&self.state).requests[received].body;
                let room = RECORDED.saturating_sub(recorded.len());
                recorded.extend_from_slice(&data[..data.len().min(room)]);
            }
            match &echo {
                Some(frames) => frames
                    .send(Ok(Frame::data(data)))
                    .await
                    .map_err(|_| Closed)?,
                None => whole.extend_from_slice(&data),
            }
        }
        lock(&self.state).requests[received].complete = true;
        Ok(whole.into())
    }
}
