//! `FakeCsp`: the token service as a real HTTP server that checks what CSP checks and fails as CSP fails.

mod answer;
mod assertion;
mod check;

pub use answer::Answer;
pub use assertion::{ClientKey, parts};

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;

use self::assertion::Judge;
use super::{
    API_TOKEN, CLIENT_SECRET, RawServer, TOKEN_CANARY, Validator, lock,
    server::{Failures, Gauge, Tls, serve_http},
};

/// One token request, as received.
#[derive(Clone, Debug)]
pub struct Call {
    pub at: Instant,
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    /// The fields of the form, decoded and in order.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

/// The token service; see the module.
///
/// A request that CSP would never be sent by a correct client fails the test when this is dropped.
/// Wrong credentials do not: they are answered as CSP answers them.
#[derive(Debug)]
pub struct FakeCsp {
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
    client_secret: String,
    judge: Judge,
    takes_certificates: bool,
    api_token: String,
    org_id: Option<String>,
    expires_in: Option<Value>,
    real_lifetime: Option<Duration>,
    script: VecDeque<Answer>,
    always: Option<Answer>,
    granted: usize,
    /// Every token that is honoured, and until when; `None` is for ever.
    issued: HashMap<String, Option<Instant>>,
    details: Option<Value>,
    calls: Vec<Call>,
}

impl FakeCsp {
    /// A service that knows [`super::CLIENT_ID`] with [`CLIENT_SECRET`], and [`API_TOKEN`], and grants
    /// [`FakeCsp::token`]`(1)`, then `(2)` and so on, for 1799 seconds each.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same behind TLS; see [`FakeCsp::ca_pem`].
    pub fn start_tls() -> Self {
        Self::start_with(Some(Tls::new()))
    }

    /// The same behind this TLS.
    pub fn start_behind(tls: Tls) -> Self {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<Tls>) -> Self {
        let service = Service {
            state: Arc::new(Mutex::new(State {
                client_secret: CLIENT_SECRET.to_owned(),
                judge: Judge::default(),
                takes_certificates: false,
                api_token: API_TOKEN.to_owned(),
                org_id: None,
                expires_in: Some(json!(1799)),
                real_lifetime: None,
                script: VecDeque::new(),
                always: None,
                granted: 0,
                issued: HashMap::new(),
                details: None,
                calls: Vec::new(),
            })),
            in_flight: Gauge::default(),
            failures: Failures::default(),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let (serving, acceptor) = (service.clone(), tls.clone());
        let server = RawServer::start_at(address, service.failures.clone(), move |_, stream| {
            let (service, acceptor) = (serving.clone(), acceptor.clone());
            async move {
                // A second handle of the socket, for the answers that are not HTTP.
                let stream = stream.into_std().unwrap();
                let socket = Arc::new(stream.try_clone().unwrap());
                let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                serve_http(stream, acceptor, move |request| {
                    service.clone().answer(Arc::clone(&socket), request)
                })
                .await;
            }
        });
        Self {
            server,
            service,
            tls,
        }
    }

    /// The n-th token granted, from 1.
    pub fn token(n: usize) -> String {
        format!("{TOKEN_CANARY}-{n:04}.WyJhbGwiLCJvcGVuaWQiXQ.c2lnbmF0dXJl-_~+/==")
    }

    /// Without a trailing slash.
    pub fn base_url(&self) -> String {
        match self.tls {
            None => format!("http://{}", self.address()),
            Some(_) => format!("https://localhost:{}", self.address().port()),
        }
    }

    /// The endpoint that goes by RFC 6749 alone, for `auth.token_url`.
    pub fn oauth2_url(&self) -> String {
        format!("{}{}", self.base_url(), check::OAUTH2)
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The authority to trust, after [`FakeCsp::start_tls`].
    pub fn ca_pem(&self) -> &str {
        &self.tls.as_ref().unwrap().ca_pem
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.service.state)
    }

    /// The `expires_in` of the grants to come, whatever its type; they live that long, or half an
    /// hour when it is no positive number.
    pub fn lifetime(&self, expires_in: impl Into<Value>) {
        self.state().expires_in = Some(expires_in.into());
    }

    /// Grants to come have no `expires_in`.
    pub fn no_lifetime(&self) {
        self.state().expires_in = None;
    }

    /// How long grants to come are really honoured, whatever they say.
    pub fn really_lives(&self, lifetime: Duration) {
        self.state().real_lifetime = Some(lifetime);
    }

    /// Answers the next requests with these, one each; after them as before.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state().script.extend(answers);
    }

    /// Answers every request with this from now on, after what is scripted.
    pub fn always(&self, answer: Answer) {
        self.state().always = Some(answer);
    }

    /// Works again: forgets [`FakeCsp::script`] and [`FakeCsp::always`].
    pub fn restore(&self) {
        let mut state = self.state();
        state.script.clear();
        state.always = None;
    }

    /// Regenerates the secret of the app, which ends the old one and every token at once.
    pub fn rotate_secret(&self, secret: &str) {
        let mut state = self.state();
        secret.clone_into(&mut state.client_secret);
        state.issued.clear();
    }

    /// Accepts assertions that one of these keys has signed and that are for
    /// [`FakeCsp::oauth2_url`], and no others from now on; ends every token.
    pub fn accept_keys(&self, keys: impl IntoIterator<Item = ClientKey>) {
        let audience = self.oauth2_url();
        let mut state = self.state();
        state.judge.keys = keys.into_iter().collect();
        state.judge.audience = audience;
        state.issued.clear();
    }

    /// Assertions must be for somebody of that name from now on.
    pub fn expect_audience(&self, audience: &str) {
        audience.clone_into(&mut self.state().judge.audience);
    }

    /// Accepts whoever has got through to it, by the certificate of the connection.
    pub fn accept_certificates(&self) {
        self.state().takes_certificates = true;
    }

    /// Accepts this API token and no other from now on.
    pub fn accept_api_token(&self, api_token: &str) {
        api_token.clone_into(&mut self.state().api_token);
    }

    /// Expects this `orgId` from now on; before, none.
    pub fn expect_org(&self, org_id: &str) {
        self.state().org_id = Some(org_id.to_owned());
    }

    /// What asking for the details of the API token answers from now on; before, 404.
    pub fn api_token_details(&self, details: Value) {
        self.state().details = Some(details);
    }

    pub fn revoke(&self, token: &str) {
        self.state().issued.remove(token);
    }

    pub fn revoke_all(&self) {
        self.state().issued.clear();
    }

    pub fn is_valid(&self, token: &str) -> bool {
        self.state().is_valid(token)
    }

    /// [`FakeCsp::is_valid`] as a handle, for a [`super::FakeService`].
    pub fn validator(&self) -> Validator {
        let state = Arc::clone(&self.service.state);
        Validator::new(move |token| lock(&state).is_valid(token))
    }

    /// The token requests so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    pub fn call_count(&self) -> usize {
        self.state().calls.len()
    }

    /// How many token requests were under way at most at once.
    pub fn concurrent_max(&self) -> usize {
        self.service.in_flight.max()
    }

    /// How many are under way now.
    pub fn in_flight(&self) -> usize {
        self.service.in_flight.get()
    }

    pub fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Closes the listener and every connection; from then on the address refuses.
    pub fn stop(&mut self) {
        self.server.stop();
    }
}

impl State {
    fn next_answer(&mut self) -> Answer {
        self.script
            .pop_front()
            .or_else(|| self.always.clone())
            .unwrap_or(Answer::Default)
    }

    fn next_grant(&mut self) -> (String, Option<Value>) {
        self.granted += 1;
        (FakeCsp::token(self.granted), self.expires_in.clone())
    }

    fn grant(&mut self, token: String, expires_in: Option<Value>) -> Value {
        let mut grant = json!({
            "id_token": null,
            "token_type": "bearer",
            "scope": "aoa:directDataIngestion aoa/*",
            "access_token": token,
            "refresh_token": null,
            "a_field_of_next_year": {"unknown": [1, null]},
        });
        let announced = expires_in.as_ref().and_then(seconds);
        if let Some(expires_in) = expires_in {
            grant
                .as_object_mut()
                .unwrap()
                .insert("expires_in".to_owned(), expires_in);
        }
        let lifetime = self
            .real_lifetime
            .or(announced)
            .unwrap_or(Duration::from_secs(1800));
        self.issued
            .insert(token, Instant::now().checked_add(lifetime));
        grant
    }

    fn is_valid(&self, token: &str) -> bool {
        self.issued
            .get(token)
            .is_some_and(|until| until.is_none_or(|until| Instant::now() < until))
    }
}

fn seconds(expires_in: &Value) -> Option<Duration> {
    let seconds = match expires_in {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // Too many for a Duration is as good as for ever.
    (seconds > 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}
