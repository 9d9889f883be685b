//! Keeps account of requests: how many are in flight, what became of each, and what that says of the
//! upstream.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{error::ProxyError, responses::Fault, transfer::Broken};
use crate::{
    client_token::ClientName,
    health::{Health, Outage, Refusal},
    message::{Fields, RequestHead, RequestId, trace_parent},
    remedy,
    server::{self, AbortState, Peer},
    telemetry::{
        Metrics, Origin,
        access::{Access, Asked, CLIENT_GONE, Client, Record},
        spans::{SpanContext, Tracer},
    },
    text::for_terminal,
    token::AccessToken,
};

/// The account of all workers.
#[derive(Debug, Clone)]
pub struct Ledger {
    metrics: Arc<Metrics>,
    in_flight: Arc<AtomicUsize>,
    limit: usize,
    health: Health,
    access: Access,
    /// `None` where nobody traces requests.
    tracer: Option<Tracer>,
}

impl Ledger {
    /// An empty one, for at most `limit` requests at the same time.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, limit: usize) -> Self {
        Self {
            metrics,
            in_flight: Arc::default(),
            limit,
            health: Health::default(),
            access: Access::default(),
            tracer: None,
        }
    }

    /// The same account with another limit, for what leads to an upstream of this health.
    #[must_use]
    pub fn with(
        &self,
        limit: usize,
        health: Health,
        access: Access,
        tracer: Option<Tracer>,
    ) -> Self {
        Self {
            limit,
            health,
            access,
            tracer,
            ..self.clone()
        }
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Opens the account of a request.
    pub(super) fn open<'a>(
        &'a self,
        request: &'a mut RequestHead,
        peer: Peer,
        abort_state: Option<AbortState>,
    ) -> Entry<'a> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let tracer = self.tracer.as_ref();
        let span = tracer.and_then(|tracer| tracer.begin(request));
        Entry {
            ledger: self,
            request,
            peer,
            abort_state,
            started_at: Instant::now(),
            id: span.as_ref().map(|span| span.id()),
            span,
            client: None,
            outcome: None,
            error: None,
            is_whole: false,
            is_replayed: false,
            generation: None,
            sent_at: None,
            head_at: None,
            held: Duration::ZERO,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// Whether there are more than there may be, the newest included.
    pub(super) fn is_over_limit(&self) -> bool {
        self.in_flight() > self.limit
    }

    /// Accounts for what was refused before there was a request to handle, and gives the response.
    pub(super) fn refuse(&self, refusal: server::Refusal, peer: &Peer) -> Response<Bytes> {
        let error = ProxyError::from(refusal);
        let id = RequestId::random();
        let response = error.response(id);
        self.failed(&error, &Client::of(None, peer), peer.address());
        self.metrics.refused(response.status());
        let record = Record {
            status: Some(response.status().as_u16()),
            origin: Some(Origin::Sidecar.as_str()),
            error: Some((error.row().error, error.label())),
            response_bytes: response.body().len() as u64,
            ..Record::of(id, None, peer)
        };
        if self.access.wants(true) {
            self.access.write(&record);
        }
        if let Some(tracer) = &self.tracer {
            tracer.refused(&record);
        }
        response
    }

    /// Counts a response of our own, and what it says of the upstream, the token and the client: once,
    /// here.
    fn failed(&self, error: &ProxyError, client: &Client<'_>, address: Option<IpAddr>) {
        let row = error.row();
        self.metrics.responded(row.status, row.label);
        tracing::debug!(reason = row.label, "refused a request: {error}");
        match row.fault {
            fault @ (Fault::Client | Fault::Limit) => {
                self.metrics.rejected(row.label);
                if row.status.is_client_error() || row.status.is_server_error() {
                    let refusal = Refusal {
                        reason: row.label,
                        client: &name_of(client, address),
                        status: row.status.as_u16(),
                        remedy: row.remedy,
                        is_limit: fault == Fault::Limit,
                    };
                    self.health.refused_client(Instant::now(), &refusal);
                }
            }
            Fault::Token => {
                if matches!(error, ProxyError::NoToken(_)) {
                    self.health.refused();
                }
            }
            fault @ (Fault::Unreachable | Fault::Operator | Fault::Upstream) => {
                self.metrics.upstream_failed(row.label);
                let detail = error.to_string();
                let outage = Outage {
                    reason: row.label,
                    remedy: &remedy::of_upstream(row.label, &detail),
                    detail: &detail,
                    needs_operator: fault == Fault::Operator,
                    status: row.status.as_u16(),
                };
                self.health.upstream_failed(Instant::now(), &outage);
            }
        }
    }

    /// Counts a token that the upstream refused.
    pub(super) fn unauthorized(&self) {
        self.metrics.unauthorized();
    }

    /// Notes a 401 to a token that had just come.
    pub(super) fn refused_fresh(&self, token: &AccessToken) {
        let now = Instant::now();
        let age = now.saturating_duration_since(token.requested_at);
        self.health.token_refused(now, token.generation, age);
    }

    /// Counts what came of sending a request again with a newer token.
    pub(super) fn replayed(&self, result: &'static str) {
        self.metrics.replayed(result);
    }
}

/// One request in flight. When it is dropped the request is over, counted and, where it is wanted,
/// logged and traced.
#[derive(Debug)]
pub struct Entry<'a> {
    ledger: &'a Ledger,
    pub(super) request: &'a mut RequestHead,
    peer: Peer,
    abort_state: Option<AbortState>,
    started_at: Instant,
    /// Set once it is sent or logged.
    id: Option<RequestId>,
    /// The request's place in a trace that is recorded.
    span: Option<Box<SpanContext>>,
    /// Whose local token it showed.
    pub(super) client: Option<ClientName>,
    /// The status that the client got, and from whom; `None` where it left before.
    outcome: Option<(StatusCode, Origin)>,
    /// The type of RFC 9209, and our word for what went wrong.
    error: Option<(&'static str, &'static str)>,
    /// Whether the client has got all of the response.
    is_whole: bool,
    pub(super) is_replayed: bool,
    /// Which of our tokens it went with.
    pub(super) generation: Option<u64>,
    /// When it was first given to a connection of the upstream.
    pub(super) sent_at: Option<Instant>,
    /// When the head of the upstream's response was there, where somebody wants to know.
    head_at: Option<Instant>,
    /// How long it waited for a token.
    held: Duration,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

impl Entry<'_> {
    /// When the request's head was complete.
    pub(super) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Where it comes from.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Adds our `traceparent`, where the client has sent none.
    pub(super) fn add_traceparent(&mut self) {
        let parent = self.span.as_ref().and_then(|span| span.traceparent());
        if let Some(parent) = parent {
            let fields = &mut self.request.fields;
            fields.push(trace_parent::NAME, parent.as_bytes());
        }
    }

    /// Notes the response of the upstream.
    pub(super) fn responded(&mut self, status: StatusCode) {
        self.outcome = Some((status, Origin::Upstream));
        let Ledger { health, access, .. } = self.ledger;
        if health.awaits_news() {
            let now = Instant::now();
            health.upstream_responded(now);
            if status != StatusCode::UNAUTHORIZED {
                health.token_accepted(now);
            }
            if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                health.allowed(now, || asked_for(self.request));
            }
        }
        if status == StatusCode::FORBIDDEN {
            self.ledger.metrics.forbidden();
            health.forbidden(Instant::now(), asked_for(self.request));
        }
        if access.wants(status.is_server_error()) || self.span.is_some() {
            self.head_at = Some(Instant::now());
        }
        if !access.wants(true) && self.span.is_none() {
            // A response may stream for long, and needs no room for its request.
            self.request.fields = Fields::default();
        }
    }

    /// Notes that the client has got all of the response.
    pub(super) fn completed(&mut self) {
        self.is_whole = true;
    }

    /// Notes a response of our own, and gives it.
    pub(super) fn failed(&mut self, error: &ProxyError) -> Response<Bytes> {
        let fields = &self.request.fields;
        let id = *self.id.get_or_insert_with(|| RequestId::of(fields));
        let response = error.response(id);
        let client = Client::of(self.client.as_ref(), &self.peer);
        self.ledger.failed(error, &client, self.peer.address());
        self.outcome = Some((response.status(), Origin::Sidecar));
        self.error = Some((error.row().error, error.label()));
        self.response_bytes = response.body().len() as u64;
        response
    }

    /// Notes that the response of the upstream is not whole.
    pub(super) fn broke_off(&mut self, broken: Broken) {
        let reason = match broken {
            Broken::Client(_) | Broken::Upload => CLIENT_GONE,
            Broken::Upstream(_) => "broken_off",
            Broken::Stalled => "stalled",
        };
        self.error = Some(("", reason));
        if reason != CLIENT_GONE {
            self.ledger.metrics.upstream_failed(reason);
            let outage = Outage {
                reason,
                detail: &broken.to_string(),
                remedy: "clients can detect that such a response is not whole; see what the upstream, \
                         or something on the way to it, closes or stops",
                needs_operator: false,
                status: self.outcome.map_or(0, |(status, _)| status.as_u16()),
            };
            self.ledger.health.upstream_failed(Instant::now(), &outage);
        }
    }

    /// Counts the request among those that wait for a token, until the guard is dropped.
    pub(super) fn hold(&mut self) -> Held<'_> {
        self.ledger.metrics.held(1);
        self.ledger.health.held();
        Held {
            metrics: &self.ledger.metrics,
            since: Instant::now(),
            total: &mut self.held,
        }
    }

    /// Records the outcome of the request in the log, and in its span.
    fn record(&mut self, now: Instant, is_logged: bool) {
        let fields = &self.request.fields;
        let id = *self.id.get_or_insert_with(|| RequestId::of(fields));
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from);
        let record = Record {
            asked: Some(Asked::of(self.request)),
            status: self.outcome.map(|(status, _)| status.as_u16()),
            origin: self.outcome.map(|(_, origin)| origin.as_str()),
            error: self.error,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            duration: since(self.started_at, now),
            first_byte: self.head_at.map(|head_at| since(self.started_at, head_at)),
            upstream: self
                .sent_at
                .map(|sent_at| since(sent_at, self.head_at.unwrap_or(now))),
            held: self.held,
            generation: self.generation,
            is_replayed: self.is_replayed,
            ..Record::of(id, self.client.as_ref(), &self.peer)
        };
        if is_logged {
            self.ledger.access.write(&record);
        }
        if let (Some(tracer), Some(span)) = (&self.ledger.tracer, &self.span) {
            tracer.end(span, &record);
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let Ledger {
            metrics,
            in_flight,
            health,
            access,
            ..
        } = self.ledger;
        in_flight.fetch_sub(1, Ordering::Relaxed);
        let now = Instant::now();
        if self.error.is_none() && !self.is_whole {
            self.error = Some(("", metrics.broken_off(self.abort_state.as_ref())));
        }
        if let Some((status, origin)) = self.outcome {
            let took = now.saturating_duration_since(self.started_at);
            metrics.request_over(&self.request.method, status, origin, took);
            if origin == Origin::Upstream && self.is_whole {
                health.upstream_responded(now);
            }
        }
        let has_gone = matches!(self.error, Some(("", CLIENT_GONE)));
        if has_gone {
            metrics.client_gone(self.outcome.is_some());
        }
        let went_wrong = match self.outcome {
            Some((status, Origin::Upstream)) => {
                status.is_server_error() || self.error.is_some() && !has_gone
            }
            Some((_, Origin::Sidecar)) | None => true,
        };
        let is_logged = access.wants(went_wrong);
        if is_logged || self.span.is_some() {
            self.record(now, is_logged);
        }
    }
}

/// What was asked for, on one line and without the query, which may hold secrets.
fn asked_for(request: &RequestHead) -> String {
    const LONGEST: usize = 200;
    let target = request.target();
    let path = target
        .split(|byte| *byte == b'?')
        .next()
        .unwrap_or_default();
    let path = for_terminal(&String::from_utf8_lossy(path), LONGEST);
    format!("{} {path}", request.method)
}

/// Who asked, by what is known best.
fn name_of(client: &Client<'_>, address: Option<IpAddr>) -> String {
    match (client, address) {
        (Client::Token(name), _) => (*name).to_owned(),
        (Client::Certificate(subject), _) => format!("certificate {subject}"),
        (Client::User(number), _) => format!("user {number}"),
        (Client::Unknown, Some(address)) => address.to_string(),
        (Client::Unknown, None) => "a process of this machine".to_owned(),
    }
}

/// One request that waits for a token.
#[derive(Debug)]
pub(super) struct Held<'a> {
    metrics: &'a Metrics,
    since: Instant,
    total: &'a mut Duration,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.metrics.held(-1);
        *self.total += self.since.elapsed();
    }
}
