//! The broker: hands the current token to programs that forward requests by themselves, on listeners
//! of its own. Off by default, because a token that has left the process can be used anywhere.
//!
//! Three ways lead to it over HTTP, each a `route`: a token endpoint (RFC 6749 §4.4), the two paths
//! of VMware Cloud Services in its own shape, and `/auth`, for a proxy that asks before each
//! request. `file` writes tokens to files instead, and [`mod@command`] fetches one for a script. All of
//! them read the token path as requests do ([`TokenHandle::changed`]), and none can make it renew.
//! [`Account`] knows who took which token.

mod account;
pub mod command;
mod credentials;
pub mod file;
mod form;
mod grant;
mod response;
mod route;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Response};
use tokio::time::{Instant, timeout};

pub(crate) use self::file::DISK_TIMEOUT;
pub use self::{
    account::Account,
    file::{FileFormat, FileSettings, TokenFile},
};
use self::{
    account::Entry,
    credentials::Credentials,
    form::Form,
    grant::{Grant, Purpose},
    response::TokenError,
    route::Route,
};
use crate::{
    admission::{Admitted, Clients, Denied, Rules, admit},
    message::RequestHead,
    proxy::ProxyError,
    server::{Exchange, Handler, Node, Pass, Peer, Refusal, respond, unless_gone},
    token::{TokenHandle, Unavailable},
};

/// The broker as its listeners serve it; what it looks at can be exchanged meanwhile.
#[derive(Debug, Clone)]
pub struct Broker(Arc<ArcSwap<View>>);

/// What one configuration hands out, and to whom.
#[derive(Debug)]
pub struct View {
    /// The token path.
    pub tokens: TokenHandle,
    /// The hosts and origins that are served.
    pub rules: Rules,
    /// Who gets tokens.
    pub takers: Takers,
    /// How long a request waits for a token.
    pub hold_timeout: Duration,
    /// Who took which token.
    pub account: Arc<Account>,
}

/// Who gets tokens. Each request is looked at by itself: it may have come to a listener that the
/// configuration before had.
#[derive(Debug)]
pub enum Takers {
    /// Clients who show one of these local tokens.
    Clients(Clients),
    /// Whoever the unix socket lets in.
    UnixPeers,
    /// Nobody: there is no broker any more.
    Nobody,
}

impl Takers {
    /// The clients who have to prove themselves; `None` where their connection has done so.
    ///
    /// # Errors
    /// When nobody may come by such a connection.
    fn clients(&self, peer: &Peer) -> Result<Option<&Clients>, Denied> {
        match self {
            Self::Clients(clients) => Ok(Some(clients)),
            Self::UnixPeers if peer.node == Node::Unix => Ok(None),
            Self::UnixPeers | Self::Nobody => Err(Denied::UnknownClient),
        }
    }
}

/// Time for the body of a token request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

impl Broker {
    /// A broker that looks at this.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(view)))
    }

    /// Looks at this from now on.
    pub fn set(&self, view: View) {
        self.0.store(Arc::new(view));
    }
}

impl Handler for Broker {
    async fn handle(&self, request: RequestHead, peer: Peer, exchange: &mut impl Exchange) {
        let view = self.0.load_full();
        let mut entry = view.account.open(&request, &peer, exchange.abort_state());
        let Some(response) = view.response(exchange, &mut entry).await else {
            return;
        };
        entry.responded(&response);
        let is_last = !exchange.is_body_read();
        let idle_timeout = exchange.body_idle_timeout();
        let responded = respond(exchange, response, is_last);
        if let Ok(Ok(())) = timeout(idle_timeout, responded).await {
            entry.completed();
        }
    }

    fn admits(&self, pass: Pass) -> bool {
        match &self.0.load().takers {
            Takers::Clients(clients) => clients.know(pass),
            Takers::UnixPeers => true,
            Takers::Nobody => false,
        }
    }

    fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes> {
        self.0.load().account.refuse(refusal, peer)
    }
}

impl View {
    /// The response to one request; `None` when the client has gone.
    async fn response(
        &self,
        exchange: &mut impl Exchange,
        entry: &mut Entry<'_>,
    ) -> Option<Response<Bytes>> {
        if let Err(denied) = admit(entry.request, entry.peer, &self.rules) {
            return Some(entry.refused(&denied.into()));
        }
        match Route::of(entry.request) {
            None => Some(response::nothing_here()),
            Some(Route::Auth) => self.auth(exchange, entry).await,
            Some(route) => match self.token(route, exchange, entry).await? {
                Ok(grant) => Some(response::granted(route.shape(), &grant)),
                Err(error) => Some(entry.rejected(route.shape(), error)),
            },
        }
    }

    /// The token that a token request asks for.
    async fn token(
        &self,
        route: Route,
        exchange: &mut impl Exchange,
        entry: &mut Entry<'_>,
    ) -> Option<Result<Grant, TokenError>> {
        if entry.request.method != Method::POST {
            return Some(Err(TokenError::Method));
        }
        let credentials = match timeout(BODY_TIMEOUT, credentials(route, exchange, entry)).await {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(error)) => return Some(Err(error)),
            Err(_) => return Some(Err(TokenError::TooSlow)),
        };
        let admitted = match self.takers.clients(entry.peer) {
            Ok(None) => Some(Admitted::default()),
            Ok(Some(clients)) => credentials.client(clients),
            Err(_) => None,
        };
        let Some(admitted) = admitted else {
            return Some(Err(credentials.rejection()));
        };
        entry.client = admitted.client;
        exchange.admitted(admitted.pass);
        let granted = self.grant(Purpose::Keep, exchange, entry).await?;
        Some(
            granted
                .inspect(|grant| entry.handed_out(route, grant))
                .map_err(TokenError::Unavailable),
        )
    }

    /// The field that a proxy is to put on the request that it asks for.
    async fn auth(
        &self,
        exchange: &mut impl Exchange,
        entry: &mut Entry<'_>,
    ) -> Option<Response<Bytes>> {
        let clients = self.takers.clients(entry.peer);
        let admitted = clients.and_then(|clients| match clients {
            None => Ok(Admitted::default()),
            Some(clients) => clients.check(&entry.request.fields),
        });
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(denied) => return Some(entry.refused(&denied.into())),
        };
        entry.client = admitted.client;
        exchange.admitted(admitted.pass);
        Some(match self.grant(Purpose::Send, exchange, entry).await? {
            Ok(grant) => {
                entry.handed_out(Route::Auth, &grant);
                response::authorization(&grant)
            }
            Err(unavailable) => entry.refused(&ProxyError::NoToken(unavailable)),
        })
    }

    async fn grant(
        &self,
        purpose: Purpose,
        exchange: &mut impl Exchange,
        entry: &mut Entry<'_>,
    ) -> Option<Result<Grant, Unavailable>> {
        if let Some(grant) = grant::at_once(&self.tokens, purpose) {
            return Some(Ok(grant));
        }
        let _held = entry.hold();
        let deadline = Instant::now() + self.hold_timeout;
        unless_gone(exchange, grant::wait(&self.tokens, purpose, deadline)).await
    }
}

/// What a token request proves itself by.
async fn credentials(
    route: Route,
    exchange: &mut impl Exchange,
    entry: &mut Entry<'_>,
) -> Result<Credentials, TokenError> {
    let fields = &entry.request.fields;
    let mut types = fields.named(b"content-type");
    if !types.next().is_some_and(form::is_form) {
        return Err(TokenError::Request(
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    let body = form::read(exchange, fields).await?;
    entry.request_bytes = body.len() as u64;
    let form = Form::parse(&body)?;
    if route == Route::ApiToken {
        return Credentials::of_api_token(&form);
    }
    Credentials::of_client(fields, &form)
}
