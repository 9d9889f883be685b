//! The request path: each request is admitted, given the current token and forwarded to the one
//! upstream; its response streams back.
//!
//! Read `Inner::forward` from top to bottom: that is all that happens to a request.

mod error;
mod fields;
mod forwarded;
mod ledger;
pub mod responses;
mod switch;
mod transfer;
mod tunnel;
mod upload;
pub mod upstream;

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout};

pub use self::{
    error::{PROXY_STATUS, ProxyError},
    ledger::{Entry, Ledger},
    switch::Switch,
    upload::Budget,
};
use self::{
    fields::{Additions, Nominated},
    transfer::Stop,
    upload::Upload,
    upstream::{Failure, Lease, Outbound, Upstream},
};
use crate::{
    admission::{Allowed, RequiredField, Rules, admit},
    message::{BodyLength, Fields, Flaw, Name, RequestHead, ResponseHead},
    server::{Exchange, Pass, Peer, Refusal, respond, unless_gone},
    token::{AccessToken, Renewal, TokenHandle},
};

/// What a proxy does within which bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxySettings {
    /// How long a request waits for a token.
    pub hold_timeout: Duration,
    /// How long the upstream may take for the head of its response, from the last byte of the
    /// request that moved.
    pub response_timeout: Duration,
    /// How long the upstream may be silent within the body of its response; `None` for ever.
    pub body_idle_timeout: Option<Duration>,
    /// Bytes of one body that are kept so that the request can be sent again.
    pub replay_body_limit: usize,
    /// The same for all bodies together.
    pub replay_buffer_total: usize,
    /// Requests at the same time.
    pub max_in_flight: usize,
    /// Silence of both sides after which a WebSocket ends.
    pub tunnel_idle_timeout: Duration,
    /// Whether `Via` shows the upstream that we are here.
    pub via: bool,
    /// Whether `Forwarded` shows the upstream who the client is.
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

/// A response of the upstream whose body is yet to be read.
struct Received {
    head: ResponseHead,
    lease: Lease,
    /// What of its trailers is about the connection alone.
    nominated: Nominated,
}

impl Proxy {
    /// Handles one request, and accounts for it.
    ///
    /// The head is handed on by reference, since each future that owned it would have room for it.
    async fn handle(&self, request: &mut RequestHead, peer: Peer, client: &mut impl Exchange) {
        let inner = &*self.0;
        let entry = inner.ledger.open(request, peer, client.abort_state());
        let mut call = Call {
            expects: entry.request.fields.has(Name::Expect),
            informed: false,
            upload: Upload::new(client.body_length(), &inner.budget, entry.started_at()),
            entry,
        };
        match inner.forward(client, &mut call).await {
            Ok(received) if received.head.status == StatusCode::SWITCHING_PROTOCOLS => {
                call.entry.responded(received.head.status);
                Box::pin(inner.switch(received, client, &mut call.entry)).await;
            }
            Ok(received) => {
                call.entry.responded(received.head.status);
                inner.deliver(received, client, &mut call).await;
            }
            Err(Stop::Failed(Failure { error, .. })) => {
                let response = call.entry.failed(&error);
                // What is left of the request's body, or follows a CONNECT, is no next request.
                let is_connect = call.entry.request.method == Method::CONNECT;
                let is_last = error.closes() || is_connect || !client.is_body_read();
                let time_limit = client.body_idle_timeout();
                let responded = Box::pin(respond(client, response, is_last));
                if let Ok(Ok(())) = timeout(time_limit, responded).await {
                    call.entry.completed();
                }
            }
            Err(Stop::Gone) => tracing::debug!("a client went away before its response"),
        }
    }

    fn admits(&self, pass: Pass) -> bool {
        let clients = self.0.rules.clients.as_ref();
        clients.is_none_or(|clients| clients.know(pass))
    }

    fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes> {
        self.0.ledger.refuse(refusal, peer)
    }
}

/// What is known of a request while it is forwarded.
struct Call<'a> {
    /// Whether the client waits for an interim response before it sends its body, ...
    expects: bool,
    /// ... and whether one was sent.
    informed: bool,
    upload: Upload<'a>,
    entry: Entry<'a>,
}

impl Drop for Call<'_> {
    /// Also where the client's connection has ended meanwhile.
    fn drop(&mut self) {
        // A WebSocket has no body, and has counted its bytes.
        self.entry.request_bytes += self.upload.received();
    }
}

impl Inner {
    /// Forwards one request and gets the head of its response.
    async fn forward(
        &self,
        client: &mut impl Exchange,
        call: &mut Call<'_>,
    ) -> Result<Received, Stop> {
        if self.ledger.is_over_limit() {
            return Err(ProxyError::Overloaded.into());
        }
        let admitted = admit(call.entry.request, call.entry.peer(), &self.rules);
        let admitted = admitted.map_err(ProxyError::from)?;
        call.entry.client = admitted.client;
        client.admitted(admitted.pass);
        let is_websocket = self.prepare(&mut call.entry)?;
        let since = call.entry.started_at();
        let mut token = self.token(since, client, &mut call.entry).await?;
        let mut received = self.send(&mut token, client, call, is_websocket).await?;
        if received.head.status == StatusCode::UNAUTHORIZED {
            // What is rare is on the heap, here and below: every request would carry the room for
            // it otherwise.
            let retried = self.retry(token, client, call, is_websocket, received);
            received = Box::pin(retried).await?;
        }
        call.upload.forget();
        let ResponseHead {
            status, connection, ..
        } = received.head;
        let is_agreed = is_websocket && fields::names_websocket(&received.head.fields, connection);
        if status == StatusCode::SWITCHING_PROTOCOLS && !is_agreed {
            return Err(ProxyError::BadResponse("101 that was not offered".to_owned()).into());
        }
        received.nominated = fields::inbound(&mut received.head.fields, connection);
        Ok(received)
    }

    /// Makes a client's request one to the upstream, all but the token; whether it offers a change
    /// to a WebSocket.
    fn prepare(&self, entry: &mut Entry<'_>) -> Result<bool, ProxyError> {
        let forwarded = self.settings.forwarded;
        let forwarded = forwarded.then(|| forwarded::element(entry.peer(), entry.request));
        let request = &mut *entry.request;
        if fields::is_loop(&request.fields) {
            return Err(ProxyError::Loop);
        }
        if request.method == Method::OPTIONS {
            fields::count_down(&mut request.fields)?;
        }
        if let Some(required) = &self.settings.required_field {
            required.remove(&mut request.fields);
        }
        let is_websocket = request.method == Method::GET
            && request.version == http::Version::HTTP_11
            && self.upstream.can_switch()
            && fields::names_websocket(&request.fields, request.connection);
        let additions = Additions {
            via: self.settings.via,
            trailers: self.upstream.speaks_http2(),
            websocket: is_websocket,
        };
        fields::outbound(request, additions);
        if let Some(forwarded) = forwarded {
            // What the client has sent stays in front of ours, as with Via.
            request.fields.push(b"Forwarded", forwarded.as_bytes());
        }
        entry.add_traceparent();
        Ok(is_websocket)
    }

    /// The token to send now.
    async fn token(
        &self,
        now: Instant,
        client: &mut impl Exchange,
        entry: &mut Entry<'_>,
    ) -> Result<Arc<AccessToken>, Stop> {
        if let Some(token) = self.tokens.usable(now) {
            return Ok(token);
        }
        let _held = entry.hold();
        let token = self.tokens.current(now + self.settings.hold_timeout);
        let token = Box::pin(unless_gone(client, token)).await;
        token
            .ok_or(Stop::Gone)?
            .map_err(|unavailable| ProxyError::NoToken(unavailable).into())
    }

    /// The upstream refused the token. Gets a newer one and sends the request again, once; twice
    /// only if the newer token was itself older than the refusal, and so proves nothing.
    async fn retry(
        &self,
        mut token: Arc<AccessToken>,
        client: &mut impl Exchange,
        call: &mut Call<'_>,
        switches: bool,
        mut received: Received,
    ) -> Result<Received, Stop> {
        self.ledger.unauthorized();
        let refused_at = Instant::now();
        let deadline = refused_at + self.settings.hold_timeout;
        while token.requested_at < refused_at {
            let held = call.entry.hold();
            let renewal = unless_gone(client, self.tokens.newer_than(&token, deadline)).await;
            drop(held);
            token = match renewal.ok_or(Stop::Gone)? {
                Renewal::Newer(newer) => newer,
                // Whether the 401 was the token's fault cannot be known now, and clients lose
                // data on a 401: that of one who comes back is safe.
                Renewal::Unavailable(unavailable) if call.upload.is_held() => {
                    return Err(ProxyError::NoToken(unavailable).into());
                }
                Renewal::NotToBlame => {
                    self.ledger.refused_fresh(&token);
                    return Ok(received);
                }
                Renewal::Unavailable(_) => return Ok(received),
            };
            if !call.upload.is_held() {
                self.ledger.replayed("not_held");
                self.tokens.did_not_help(&token);
                return Err(ProxyError::NotReplayed.into());
            }
            if transfer::discard(&mut received.lease).await {
                self.upstream.give_back(received.lease);
            }
            call.entry.is_replayed = true;
            received = self.send(&mut token, client, call, switches).await?;
            if received.head.status != StatusCode::UNAUTHORIZED {
                self.tokens.helped();
                self.ledger.replayed("accepted");
                return Ok(received);
            }
        }
        self.ledger.replayed("refused");
        self.ledger.refused_fresh(&token);
        self.tokens.did_not_help(&token);
        Ok(received)
    }

    /// Sends the request with a token. A kept connection that ends without a response is not the
    /// client's concern: what was not sent is sent on another, and of what was sent an idempotent
    /// request is sent once more, and any that was not looked at.
    async fn send(
        &self,
        token: &mut Arc<AccessToken>,
        client: &mut impl Exchange,
        call: &mut Call<'_>,
        switches: bool,
    ) -> Result<Received, Stop> {
        let mut was_sent_again = false;
        for _ in 0..upstream::MAX_CONNECTS {
            let failure = match self.exchange(token, client, call, switches).await {
                Err(Stop::Failed(failure)) if call.upload.is_held() => failure,
                other => return other,
            };
            if failure.is_unsent {
                tracing::debug!(error = %failure.error, "a kept connection had ended");
            } else if failure.may_send_again(&call.entry.request.method) && !was_sent_again {
                tracing::debug!(error = %failure.error, "a kept connection ended; sending again");
                was_sent_again = true;
                if failure.on_kept_connection {
                    self.upstream.forget_connections();
                }
                // The first exchange may have outlived its token.
                let now = Instant::now();
                *token = self.token(now, client, &mut call.entry).await?;
            } else {
                return Err(failure.into());
            }
        }
        let why = "it ends each connection before a request";
        Err(ProxyError::Terminated(why.to_owned()).into())
    }

    async fn exchange(
        &self,
        token: &AccessToken,
        client: &mut impl Exchange,
        call: &mut Call<'_>,
        switches: bool,
    ) -> Result<Received, Stop> {
        let lease = unless_gone(client, self.upstream.connection(switches)).await;
        let mut lease = lease.ok_or(Stop::Gone)??;
        let now = Instant::now();
        call.upload.begin(now);
        call.entry.sent_at.get_or_insert(now);
        call.entry.generation = Some(token.generation);
        let body = call.upload.length(client.body_length());
        lease.begin(&Outbound {
            head: call.entry.request,
            host: self.upstream.host(),
            body,
            bearer: &token.bearer,
        })?;
        if call.expects && !call.informed && !lease.receives_interim_responses() {
            // That of the upstream would not arrive.
            client.inform(&ResponseHead::of(StatusCode::CONTINUE, Fields::default()));
            call.informed = true;
        }
        let head = transfer::request(
            client,
            &mut lease,
            &mut call.upload,
            self.settings.response_timeout,
            &mut call.informed,
        );
        let head = head.await?;
        Ok(Received {
            head,
            lease,
            nominated: Nominated::default(),
        })
    }

    /// Gives the client a response, and the upstream what is left of the request.
    async fn deliver(
        &self,
        mut received: Received,
        client: &mut impl Exchange,
        call: &mut Call<'_>,
    ) {
        let is_whole = call.upload.is_over();
        // Whoever waits to be asked for the body, and is not, does not send it.
        let is_unasked = call.expects && !call.informed && !call.upload.has_begun();
        let wants_upload = !is_whole && !is_unasked && !received.lease.is_last();
        let is_last = !is_whole && !wants_upload;
        client.respond(&received.head, received.lease.body_length(), is_last);
        let ended = transfer::response(
            client,
            &mut received.lease,
            &received.nominated,
            &mut call.upload,
            wants_upload,
            &mut call.entry.response_bytes,
            self.settings.body_idle_timeout,
        );
        match ended.await {
            Ok(()) => {
                call.entry.completed();
                self.upstream.give_back(received.lease);
            }
            Err(broken) => {
                tracing::debug!(%broken, "a response broke off");
                call.entry.broke_off(broken);
            }
        }
    }

    /// Agrees to a WebSocket, and carries it to its end.
    async fn switch(
        &self,
        mut received: Received,
        client: &mut impl Exchange,
        entry: &mut Entry<'_>,
    ) {
        // What is sent before both have agreed belongs to neither protocol (RFC 9931).
        if client.is_ahead() {
            let error = ProxyError::from(Refusal::Malformed(Flaw::of("bytes before the switch")));
            let response = entry.failed(&error);
            if let Ok(()) = respond(client, response, true).await {
                entry.completed();
            }
            return;
        }
        fields::switches(&mut received.head.fields);
        client.respond(&received.head, BodyLength::EMPTY, false);
        let time_limit = client.body_idle_timeout();
        let flushed = timeout(time_limit, poll_fn(|cx| client.poll_flush(cx))).await;
        if let Ok(Ok(())) = flushed
            && let Some(client) = client.switch()
            && let Some(upstream) = received.lease.into_tunnel()
        {
            let timeout = self.settings.tunnel_idle_timeout;
            let Entry {
                request_bytes,
                response_bytes,
                ..
            } = entry;
            tunnel::carry(client, upstream, timeout, request_bytes, response_bytes).await;
            entry.completed();
        }
    }
}
