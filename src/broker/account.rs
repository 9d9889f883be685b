//! Keeps account of the broker: who took which token, in the metrics and in the access log.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{
    grant::Grant,
    response::{self, Shape, TokenError},
    route::Route,
};
use crate::{
    admission::Denied,
    client_token::ClientName,
    health::Health,
    message::{RequestHead, RequestId},
    proxy::{ProxyError, answers::Fault},
    server::{Peer, Refusal},
    telemetry::{
        Metrics,
        access::{Access, Asked, Client, HandedOut, Record, WrittenToken},
    },
    token::AccessToken,
};

/// The account of one configuration.
#[derive(Debug)]
pub struct Account {
    metrics: Arc<Metrics>,
    health: Health,
    access: Access,
    takers: Mutex<Takers>,
}

/// Who has got a token by `/auth`, so that the log has a line for each client and token and not for
/// each request.
#[derive(Debug, Default)]
struct Takers {
    generation: u64,
    clients: HashSet<String>,
}

impl Account {
    /// An empty account.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, health: Health, access: Access) -> Self {
        Self {
            metrics,
            health,
            access,
            takers: Mutex::default(),
        }
    }

    /// Opens the account of a request.
    pub(super) fn open<'a>(&'a self, request: &'a RequestHead, peer: &'a Peer) -> Entry<'a> {
        Entry {
            account: self,
            request,
            peer,
            id: RequestId::of(&request.fields),
            started_at: Instant::now(),
            client: None,
            handed_out: None,
            matters: false,
            status: None,
            error: None,
            is_whole: false,
            held: Duration::ZERO,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    /// Accounts for what was refused before there was a request to handle, and gives the response.
    pub(super) fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes> {
        let error = ProxyError::from(refusal);
        let id = RequestId::random();
        let response = error.response(id);
        self.count(&error);
        if self.access.wants(true) {
            self.access.write(&Record {
                id,
                client: Client::of(None, peer),
                address: peer.address(),
                is_tls: peer.is_tls,
                asked: None,
                status: Some(response.status().as_u16()),
                origin: Some(ORIGIN),
                error: Some((error.answer().error, error.label())),
                request_bytes: 0,
                response_bytes: response.body().len() as u64,
                duration: Duration::ZERO,
                first_byte: None,
                upstream: None,
                held: Duration::ZERO,
                generation: None,
                is_replayed: false,
                handed_out: None,
            });
        }
        response
    }

    /// Accounts for a file that was to hold a token.
    pub fn wrote(&self, path: &Path, token: &AccessToken, succeeded: bool) {
        self.metrics.broker_file_written(succeeded);
        if succeeded {
            let now = Instant::now();
            let left = |end: Instant| end.saturating_duration_since(now);
            self.access.write_token(&WrittenToken {
                path,
                generation: token.generation,
                expires_in: token.expires_at.map(left),
            });
        }
    }

    fn count(&self, error: &ProxyError) {
        let row = error.answer();
        tracing::debug!(reason = row.label, "the broker refused a request: {error}");
        self.metrics.responded(row.status, row.label);
        match row.fault {
            Fault::Token => self.health.refused(),
            _ => self.metrics.rejected(row.label),
        }
    }

    /// Whether this client has not had this token by `/auth` before.
    fn is_first(&self, client: &str, generation: u64) -> bool {
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        if takers.generation != generation {
            takers.generation = generation;
            takers.clients.clear();
        }
        !takers.clients.contains(client) && takers.clients.insert(client.to_owned())
    }
}

/// Who responds, as the access log has it.
const ORIGIN: &str = "broker";

/// One request to the broker. When it is dropped the request is over and, where that is wanted,
/// logged.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    account: &'a Account,
    pub(super) request: &'a RequestHead,
    pub(super) peer: &'a Peer,
    id: RequestId,
    started_at: Instant,
    /// The client whose local token the request showed.
    pub(super) client: Option<ClientName>,
    /// A token that the client is given: its generation, and how it was handed out.
    handed_out: Option<(u64, HandedOut)>,
    /// Whether the log wants to know of the request also where it went well.
    matters: bool,
    /// `None` until there is a response.
    status: Option<StatusCode>,
    /// The type of RFC 9209 where there is one, and a word for what went wrong.
    error: Option<(&'static str, &'static str)>,
    /// Whether the client has got all of the response.
    is_whole: bool,
    /// How long the request waited for a token.
    held: Duration,
    pub(super) request_bytes: u64,
    response_bytes: u64,
}

impl Entry<'_> {
    /// Notes a token that the client is given.
    pub(super) fn handed_out(&mut self, route: Route, grant: &Grant) {
        let endpoint = route.endpoint();
        let client = label(self.client.as_ref(), self.peer);
        self.account.metrics.broker_tokens(&client, endpoint).inc();
        let Grant { token, expires_in } = grant;
        self.matters = route != Route::Auth || self.account.is_first(&client, token.generation);
        let handed_out = HandedOut {
            endpoint,
            expires_in: *expires_in,
        };
        self.handed_out = Some((token.generation, handed_out));
    }

    /// Notes a refusal in the words of the sidecar, and gives the response.
    pub(super) fn refused(&mut self, error: &ProxyError) -> Response<Bytes> {
        self.account.count(error);
        self.error = Some((error.answer().error, error.label()));
        error.response(self.id)
    }

    /// Notes a refusal in the words of a token endpoint, and gives the response.
    pub(super) fn rejected(&mut self, shape: Shape, error: TokenError) -> Response<Bytes> {
        match error {
            TokenError::Client | TokenError::Grant => {
                let label = ProxyError::from(Denied::UnknownClient).label();
                self.account.metrics.rejected(label);
            }
            TokenError::Unavailable(unavailable) => {
                self.account.count(&ProxyError::NoToken(unavailable));
            }
            TokenError::Method
            | TokenError::Request(_)
            | TokenError::TooSlow
            | TokenError::GrantType => {}
        }
        self.error = Some(("", error.code()));
        response::refused(shape, &error)
    }

    /// Notes a response that is about to be sent.
    pub(super) fn responded(&mut self, response: &Response<Bytes>) {
        self.status = Some(response.status());
        self.response_bytes = response.body().len() as u64;
    }

    /// Notes that the client has got all of the response.
    pub(super) fn completed(&mut self) {
        self.is_whole = true;
    }

    /// Counts the request among those that wait for a token, until the guard is dropped.
    pub(super) fn hold(&mut self) -> Held<'_> {
        self.account.metrics.held(1);
        self.account.health.held();
        Held {
            metrics: &self.account.metrics,
            since: Instant::now(),
            total: &mut self.held,
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.error.is_none() && !self.is_whole {
            self.error = Some(("", "client_gone"));
        }
        let went_wrong = self.error.is_some() || self.status.is_none_or(|one| !one.is_success());
        if !self.account.access.wants(went_wrong || self.matters) {
            return;
        }
        self.account.access.write(&Record {
            id: self.id,
            client: Client::of(self.client.as_ref(), self.peer),
            address: self.peer.address(),
            is_tls: self.peer.is_tls,
            asked: Some(Asked::of(self.request)),
            status: self.status.map(|status| status.as_u16()),
            origin: self.status.map(|_| ORIGIN),
            error: self.error,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            duration: self.started_at.elapsed(),
            first_byte: None,
            upstream: None,
            held: self.held,
            generation: self.handed_out.map(|(generation, _)| generation),
            is_replayed: false,
            handed_out: self.handed_out.map(|(_, handed_out)| handed_out),
        });
    }
}

/// The name of a client in the metric: that of its local token, or what the kernel knows of it.
fn label(client: Option<&ClientName>, peer: &Peer) -> String {
    match (client, peer.user) {
        (Some(name), _) => name.to_string(),
        (None, Some(user)) => format!("uid:{user}"),
        (None, None) => "unknown".to_owned(),
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
