//! The broker: hands the current token to programs that forward requests by themselves, on listeners
//! of its own. Off by default, because a token that has left the process can be used anywhere.
//!
//! Three ways lead to it over HTTP: a token endpoint (RFC 6749 §4.4), the two paths of VMware Cloud
//! Services in its own shape, and `/auth`, which answers whoever asks before each request. [`file`]
//! writes tokens to files instead, and [`command`] fetches one for a script. All of them read the
//! token path as requests do; none of them can make it renew.

mod answer;
pub mod command;
pub mod file;
mod form;
mod grant;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout};

pub use self::file::{FileFormat, FileSettings, TokenFile};
use self::{
    answer::{Shape, TokenError},
    form::{Credentials, Form},
    grant::{Grant, Purpose, grant},
};
use crate::{
    message::{Fields, Name, RequestHead, RequestId, ResponseHead},
    proxy::{Clients, ProxyError, Rules, admit},
    server::{Exchange, Handler, Pass, Peer, Refusal, respond, unless_gone},
    telemetry::Metrics,
    token::TokenHandle,
};

/// The broker's answers; what they are about can be exchanged while it serves.
#[derive(Debug, Clone)]
pub struct Broker(Arc<ArcSwap<View>>);

/// Whose tokens are handed out, and to whom.
#[derive(Debug)]
pub struct View {
    /// The token path.
    pub tokens: TokenHandle,
    /// The hosts and origins that are served.
    pub rules: Rules,
    /// The clients whose local tokens are accepted. `None`: whoever the unix socket lets in.
    pub clients: Option<Clients>,
    /// How long a request waits for a token.
    pub hold_timeout: Duration,
    /// The counters.
    pub metrics: Arc<Metrics>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// A token endpoint that takes client credentials.
    Client(Shape),
    /// The exchange of a user's API token.
    ApiToken,
    /// The question that a proxy asks before it forwards a request.
    Auth,
}

impl Route {
    /// Clients whose base URL ends in a slash send two.
    fn of(head: &RequestHead) -> Option<Self> {
        let path = head.path();
        let slashes = path.iter().take_while(|byte| **byte == b'/').count();
        match path.get(slashes.saturating_sub(1)..)? {
            b"/oauth2/token" => Some(Self::Client(Shape::OAuth2)),
            b"/csp/gateway/am/api/auth/authorize" => Some(Self::Client(Shape::Csp)),
            b"/csp/gateway/am/api/auth/api-tokens/authorize" => Some(Self::ApiToken),
            // Envoy asks for the path of the request, behind a prefix.
            path if path == b"/auth" || path.starts_with(b"/auth/") => Some(Self::Auth),
            _ => None,
        }
    }

    /// The label of the metric.
    fn label(self) -> &'static str {
        match self {
            Self::Client(Shape::OAuth2) => "oauth2",
            Self::Client(Shape::Csp) | Self::ApiToken => "csp",
            Self::Auth => "auth",
        }
    }
}

/// The endpoints as the metric names them.
pub const ENDPOINTS: [&str; 3] = ["oauth2", "csp", "auth"];

impl Broker {
    /// Answers with this.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(view)))
    }

    /// Answers with this from now on.
    pub fn set(&self, view: View) {
        self.0.store(Arc::new(view));
    }
}

impl Handler for Broker {
    async fn handle(&self, request: RequestHead, peer: Peer, exchange: &mut impl Exchange) {
        let view = self.0.load_full();
        let Some(response) = view.answer(&request, peer, exchange).await else {
            return;
        };
        let is_last = !exchange.is_body_read();
        let patience = exchange.body_idle_timeout();
        drop(timeout(patience, respond(exchange, response, is_last)).await);
    }

    /// Each request is judged by itself, and none outlasts the wait for a token.
    fn admits(&self, _: Pass) -> bool {
        true
    }

    fn refuse(&self, refusal: Refusal, _peer: &Peer) -> Response<Bytes> {
        self.0.load().refused(&refusal.into(), RequestId::random())
    }
}

impl View {
    /// The response to one request; `None` when the client has gone.
    async fn answer(
        &self,
        request: &RequestHead,
        peer: Peer,
        exchange: &mut impl Exchange,
    ) -> Option<Response<Bytes>> {
        if let Err(error) = admit(request, &peer, &self.rules) {
            return Some(self.refused(&error, RequestId::of(&request.fields)));
        }
        let Some(route) = Route::of(request) else {
            return Some(answer::nothing_here());
        };
        let shape = match route {
            Route::Auth => return self.auth(request, peer, exchange).await,
            Route::Client(shape) => shape,
            Route::ApiToken => Shape::Csp,
        };
        if request.method != Method::POST {
            return Some(answer::refused(shape, &TokenError::Method));
        }
        let credentials = match timeout(PATIENCE, credentials(route, request, exchange)).await {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(error)) => return Some(answer::refused(shape, &error)),
            Err(_) => return Some(answer::refused(shape, &TokenError::TooSlow)),
        };
        let client = match &self.clients {
            None => Some(of_peer(&peer)),
            Some(clients) => credentials.client(clients),
        };
        let Some(client) = client else {
            self.metrics.rejected(ProxyError::UnknownClient.label());
            return Some(answer::refused(shape, &credentials.rejection()));
        };
        let granted = self.grant(Purpose::Keep, exchange).await?;
        Some(match granted {
            Ok(grant) => {
                self.handed_out(&client, route, &grant);
                answer::granted(shape, &grant)
            }
            Err(unavailable) => answer::refused(shape, &TokenError::Unavailable(unavailable)),
        })
    }

    /// The field that a proxy is to put on the request that it asks for.
    async fn auth(
        &self,
        request: &RequestHead,
        peer: Peer,
        exchange: &mut impl Exchange,
    ) -> Option<Response<Bytes>> {
        let client = match &self.clients {
            None => of_peer(&peer),
            Some(clients) => match clients.check(&request.fields) {
                Ok(admitted) => admitted
                    .client
                    .map(|name| name.to_string())
                    .unwrap_or_default(),
                Err(error) => return Some(self.refused(&error, RequestId::of(&request.fields))),
            },
        };
        let granted = self.grant(Purpose::Send, exchange).await?;
        Some(match granted {
            Ok(grant) => {
                self.handed_out(&client, Route::Auth, &grant);
                answer::authorization(&grant)
            }
            Err(unavailable) => {
                ProxyError::NoToken(unavailable).response(RequestId::of(&request.fields))
            }
        })
    }

    async fn grant(
        &self,
        purpose: Purpose,
        exchange: &mut impl Exchange,
    ) -> Option<Result<Grant, crate::token::Unavailable>> {
        let deadline = Instant::now() + self.hold_timeout;
        unless_gone(exchange, grant(&self.tokens, purpose, deadline)).await
    }

    fn handed_out(&self, client: &str, route: Route, grant: &Grant) {
        let endpoint = route.label();
        self.metrics.broker_tokens(client, endpoint).inc();
        let (generation, expires_in) = (grant.token.generation, grant.expires_in);
        if route == Route::Auth {
            // One a request.
            tracing::debug!(client, endpoint, generation, "handed out a token");
        } else {
            tracing::info!(
                client,
                endpoint,
                generation,
                expires_in,
                "handed out a token"
            );
        }
    }

    fn refused(&self, error: &ProxyError, id: RequestId) -> Response<Bytes> {
        self.metrics.rejected(error.label());
        tracing::debug!(
            reason = error.label(),
            "the broker refused a request: {error}"
        );
        error.response(id)
    }
}

/// Time for the body of a token request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a client that the kernel vouches for.
fn of_peer(peer: &Peer) -> String {
    match peer.user {
        Some(user) => format!("uid:{user}"),
        None => "unknown".to_owned(),
    }
}

/// What a token request proves itself by.
async fn credentials(
    route: Route,
    request: &RequestHead,
    exchange: &mut impl Exchange,
) -> Result<Credentials, TokenError> {
    let mut types = request.fields.named(b"content-type");
    if !types.next().is_some_and(form::is_form) {
        return Err(TokenError::Request(
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    if request.fields.has(Name::Expect) && !exchange.is_body_read() {
        exchange.inform(&ResponseHead::of(StatusCode::CONTINUE, Fields::default()));
    }
    let form = Form::parse(&form::read(exchange).await?)?;
    if route == Route::ApiToken {
        return Credentials::of_api_token(&form);
    }
    Credentials::of_client(&request.fields, &form)
}
