//! One request to the broker, from its head to its line in the access log.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{Account, ORIGIN};
use crate::{
    admission::Denied,
    broker::{
        grant::Grant,
        response::{self, Shape, TokenError},
        route::Route,
    },
    client_token::ClientName,
    message::{RequestHead, RequestId},
    proxy::ProxyError,
    server::{AbortState, Peer},
    telemetry::{
        Metrics,
        access::{Asked, HandedOut, Record},
    },
};

/// One request to the broker. When it is dropped the request is over and, where that is wanted,
/// logged.
#[derive(Debug)]
pub(in crate::broker) struct Entry<'a> {
    account: &'a Account,
    pub(in crate::broker) request: &'a RequestHead,
    pub(in crate::broker) peer: &'a Peer,
    abort_state: Option<AbortState>,
    id: RequestId,
    started_at: Instant,
    /// The client whose local token the request showed.
    pub(in crate::broker) client: Option<ClientName>,
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
    pub(in crate::broker) request_bytes: u64,
    response_bytes: u64,
}

impl<'a> Entry<'a> {
    pub(super) fn open(
        account: &'a Account,
        request: &'a RequestHead,
        peer: &'a Peer,
        abort_state: Option<AbortState>,
    ) -> Self {
        Self {
            account,
            request,
            peer,
            abort_state,
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
}

impl Entry<'_> {
    /// Notes a token that the client is given.
    pub(in crate::broker) fn handed_out(&mut self, route: Route, grant: &Grant) {
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
    pub(in crate::broker) fn refused(&mut self, error: &ProxyError) -> Response<Bytes> {
        self.account.count(error);
        self.error = Some((error.row().error, error.label()));
        error.response(self.id)
    }

    /// Notes a refusal in the words of a token endpoint, and gives the response.
    pub(in crate::broker) fn rejected(
        &mut self,
        shape: Shape,
        error: TokenError,
    ) -> Response<Bytes> {
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
    pub(in crate::broker) fn responded(&mut self, response: &Response<Bytes>) {
        self.status = Some(response.status());
        self.response_bytes = response.body().len() as u64;
    }

    /// Notes that the client has got all of the response.
    pub(in crate::broker) fn completed(&mut self) {
        self.is_whole = true;
    }

    /// Counts the request among those that wait for a token, until the guard is dropped.
    pub(in crate::broker) fn hold(&mut self) -> Held<'_> {
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
            let metrics = &self.account.metrics;
            self.error = Some(("", metrics.broken_off(self.abort_state.as_ref())));
        }
        let went_wrong = self.error.is_some() || self.status.is_none_or(|one| !one.is_success());
        if !self.account.access.wants(went_wrong || self.matters) {
            return;
        }
        self.account.access.write(&Record {
            asked: Some(Asked::of(self.request)),
            status: self.status.map(|status| status.as_u16()),
            origin: self.status.map(|_| ORIGIN),
            error: self.error,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            duration: self.started_at.elapsed(),
            held: self.held,
            generation: self.handed_out.map(|(generation, _)| generation),
            handed_out: self.handed_out.map(|(_, handed_out)| handed_out),
            ..Record::of(self.id, self.client.as_ref(), self.peer)
        });
    }
}

/// The name of a client in the metric: that of its local token, or what the kernel knows of it.
fn label(client: Option<&ClientName>, peer: &Peer) -> String {
    match (client, peer.user) {
        (Some(name), _) => name.to_string(),
        (None, Some(user)) => of_user(user),
        (None, None) => "unknown".to_owned(),
    }
}

/// The name of a user in the metric.
pub(super) fn of_user(user: u32) -> String {
    format!("uid:{user}")
}

/// One request that waits for a token.
#[derive(Debug)]
pub(in crate::broker) struct Held<'a> {
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
