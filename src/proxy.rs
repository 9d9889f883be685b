//! The request path: each request is judged, given the current token and forwarded to the one
//! upstream; its answer streams back.
//!
//! Read `Inner::forward` from top to bottom: that is all that happens to a request.

mod admission;
mod download;
mod error;
mod fields;
mod forwarded;
mod head;
mod ledger;
mod switch;
mod tunnel;
mod upload;
pub mod upstream;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, request::Parts};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

pub use self::{
    admission::{Allowed, Clients, Preset, RequiredField, Rule, Rules, admit},
    download::ResponseBody,
    error::{PROXY_STATUS, ProxyError},
    ledger::{Entry, Ledger},
    switch::Switch,
    upload::{Budget, RequestBody},
};
use self::{
    head::{Head, inbound},
    tunnel::Offer,
    upload::Upload,
    upstream::{Answer, ExchangeError, Upstream},
};
use crate::{
    server::{ClientState, Refusal},
    telemetry::Origin,
    token::{AccessToken, Renewal, TokenHandle},
};

/// What a proxy does within which bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxySettings {
    /// How long a request waits for a token.
    pub hold_timeout: Duration,
    /// How long the upstream may take for the head of its answer, from the last byte of the
    /// request that moved.
    pub response_timeout: Duration,
    /// Bytes of one body that are kept so that the request can be sent again.
    pub replay_body_limit: usize,
    /// The same for all bodies together.
    pub replay_buffer_total: usize,
    /// Requests at the same time.
    pub max_in_flight: usize,
    /// Silence of both sides after which a WebSocket ends.
    pub tunnel_idle_timeout: Duration,
    /// Whether the upstream is told by `Via` that we are here.
    pub via: bool,
    /// Whether the upstream is told by `Forwarded` who the client is.
    pub forwarded: bool,
    /// Further names that clients may use for us, without a port.
    pub allow_hosts: Vec<String>,
    /// Origins of pages that may use us.
    pub allow_origins: Vec<String>,
    /// A field that every request must have, and that goes no further.
    pub required_field: Option<RequiredField>,
    /// What clients may ask for; `None` allows everything.
    pub allowed: Option<Allowed>,
}

/// The request path of one worker. Cheap to clone: a connection has its own.
#[derive(Debug, Clone)]
pub struct Proxy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: ProxySettings,
    rules: Rules,
    tokens: TokenHandle,
    upstream: Upstream,
    ledger: Ledger,
    budget: Budget,
}

impl Proxy {
    /// Puts the parts together. `ledger` and `budget` are shared by all workers.
    #[must_use]
    pub fn new(
        settings: ProxySettings,
        rules: Rules,
        tokens: TokenHandle,
        upstream: Upstream,
        ledger: Ledger,
        budget: Budget,
    ) -> Self {
        Self(Arc::new(Inner {
            settings,
            rules,
            tokens,
            upstream,
            ledger,
            budget,
        }))
    }

    /// Closes idle upstream connections in time, for as long as it is used.
    pub fn close_idle(&self) -> impl Future<Output = ()> + use<> {
        self.0.upstream.close_idle()
    }
}

impl Proxy {
    /// Answers one request, and accounts for it.
    async fn handle(
        &self,
        mut request: Request<Incoming>,
        client: &Arc<ClientState>,
    ) -> Response<ResponseBody> {
        let inner = &*self.0;
        let mut entry = inner.ledger.open(request.method().clone());
        let is_connect = request.method() == Method::CONNECT;
        let offer = Offer::take(&mut request).filter(|_| inner.upstream.can_switch());
        let (parts, incoming) = request.into_parts();
        let upload = Upload::new(incoming, client, &inner.budget);
        let forwarded = inner
            .forward(parts, client, &upload, offer.as_ref(), entry.started_at())
            .await;
        let result = forwarded.and_then(|answer| {
            let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            // What is sent before both have agreed belongs to neither protocol (RFC 9931).
            if switches && client.is_ahead() {
                return Err(ProxyError::Malformed("bytes before the switch"));
            }
            Ok(answer)
        });
        match result {
            Ok(answer) => {
                entry.answered(answer.status(), Origin::Upstream);
                let client = Arc::clone(client);
                match offer {
                    Some(offer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                        inner.switch(answer, offer, client, entry)
                    }
                    _ => answer.map(|body| ResponseBody::upstream(body, upload, client, entry)),
                }
            }
            Err(error) => {
                upload.cancel();
                inner.ledger.failed(&error);
                // What is left of the request's body, or follows a CONNECT or what is malformed,
                // is no next request.
                let is_malformed = matches!(error, ProxyError::Malformed(_));
                let close = is_connect || is_malformed || !upload.is_read();
                let answer = error.response(close);
                entry.answered(answer.status(), Origin::Sidecar);
                answer.map(|body| ResponseBody::own(body, Arc::clone(client), Some(entry)))
            }
        }
    }

    fn refuse(&self, refusal: Refusal) -> Bytes {
        let error = ProxyError::from(refusal);
        self.0.ledger.failed(&error);
        error.wire()
    }
}

impl Inner {
    /// Forwards one request and gets the head of its answer.
    async fn forward(
        &self,
        parts: Parts,
        client: &ClientState,
        upload: &Upload,
        offer: Option<&Offer>,
        since: Instant,
    ) -> Result<Response<Answer>, ProxyError> {
        if self.ledger.is_over_limit() {
            return Err(ProxyError::Overloaded);
        }
        admit(&parts, &self.rules)?;
        let mut head = Head::outbound(
            parts,
            client,
            offer.is_some(),
            &self.settings,
            &self.upstream,
        )?;
        let mut token = self.token(since).await?;
        let mut answer = self.send(&mut head, &mut token, upload).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // What is rare is on the heap, here and below: every request would carry the room for
            // it otherwise, and every idle connection too.
            answer = Box::pin(self.retry(&mut head, token, upload, answer)).await?;
        }
        upload.forget();
        if !upload.is_read() {
            // An early answer: a client that reads it only after its last byte must not wait for us.
            answer.body_mut().detach();
        }
        if answer.version() == Version::HTTP_10 {
            // The codec would speak its dialect from now on.
            answer.body_mut().close_after();
        }
        inbound(answer, offer.is_some())
    }

    /// Hands a client's connection over to a tunnel, behind the answer that agrees to it.
    fn switch(
        &self,
        mut answer: Response<Answer>,
        offer: Offer,
        client: Arc<ClientState>,
        entry: Entry,
    ) -> Response<ResponseBody> {
        answer.body_mut().detach();
        let mut agreed = Response::new(());
        *agreed.status_mut() = answer.status();
        agreed.headers_mut().clone_from(answer.headers());
        let idle_timeout = self.settings.tunnel_idle_timeout;
        client.tunnel(Box::pin(tunnel::carry(offer, answer, idle_timeout, entry)));
        agreed.map(|()| ResponseBody::own(Bytes::new(), client, None))
    }

    /// The token to send now.
    async fn token(&self, now: Instant) -> Result<Arc<AccessToken>, ProxyError> {
        if let Some(token) = self.tokens.usable(now) {
            return Ok(token);
        }
        let _held = self.ledger.held();
        let token = self.tokens.current(now + self.settings.hold_timeout);
        Box::pin(token).await.map_err(ProxyError::NoToken)
    }

    /// The upstream refused the token. Gets a newer one and sends the request again, once; twice
    /// only if the newer token was itself older than the refusal, and so proves nothing.
    async fn retry(
        &self,
        head: &mut Head,
        mut token: Arc<AccessToken>,
        upload: &Upload,
        mut answer: Response<Answer>,
    ) -> Result<Response<Answer>, ProxyError> {
        self.ledger.unauthorized();
        let refused_at = Instant::now();
        let patience = refused_at + self.settings.hold_timeout;
        while token.requested_at < refused_at {
            token = match self.tokens.newer_than(&token, patience).await {
                Renewal::Newer(newer) => newer,
                // Whether the 401 was the token's fault cannot be known now, and clients lose
                // data on a 401: that of one who comes back is safe.
                Renewal::Unavailable(unavailable) if upload.is_held() => {
                    return Err(ProxyError::NoToken(unavailable));
                }
                Renewal::NotToBlame | Renewal::Unavailable(_) => return Ok(answer),
            };
            if !upload.is_held() {
                self.ledger.replayed("not_held");
                self.tokens.did_not_help(&token);
                return Err(ProxyError::NotReplayed);
            }
            answer.into_body().finish().await;
            answer = self.send(head, &mut token, upload).await?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                self.tokens.helped();
                self.ledger.replayed("accepted");
                return Ok(answer);
            }
        }
        self.ledger.replayed("refused");
        self.tokens.did_not_help(&token);
        Ok(answer)
    }

    /// Sends the request with a token. A kept connection that ends without an answer is not the
    /// client's concern: an idempotent request is sent once more, and any that was not looked at.
    async fn send(
        &self,
        head: &mut Head,
        token: &mut Arc<AccessToken>,
        upload: &Upload,
    ) -> Result<Response<Answer>, ProxyError> {
        match self.exchange(head, token, upload).await {
            Err(error) if error.may_send_again(&head.method) && upload.is_held() => {
                tracing::debug!(error = %error.error, "a kept connection ended; sending again");
                // The first exchange may have outlived its token.
                *token = self.token(Instant::now()).await?;
                Box::pin(self.exchange(head, token, upload)).await
            }
            other => other,
        }
        .map_err(|error| error.error)
    }

    async fn exchange(
        &self,
        head: &mut Head,
        token: &AccessToken,
        upload: &Upload,
    ) -> Result<Response<Answer>, ExchangeError> {
        // Nothing is left of a body that was too large to keep: whoever asks has looked first.
        let body = upload.body().ok_or(ProxyError::NotReplayed)?;
        let request = head.request(token, body);
        let mut exchange = std::pin::pin!(self.upstream.exchange(request, head.is_websocket));
        let mut since = Instant::now();
        loop {
            let deadline = since + self.settings.response_timeout;
            if let Ok(result) = timeout_at(deadline, &mut exchange).await {
                return result;
            }
            match upload.progress() {
                Some(progress) if progress > since => since = progress,
                _ => return Err(ProxyError::AnswerTimeout.into()),
            }
        }
    }
}
