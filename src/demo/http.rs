//! The small HTTP server under both embedded services: the sidecar's own, since the targets that it
//! passes on are not all ones that a library takes; bounded bodies, JSON responses.

use std::{
    borrow::Cow,
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    http1::BodyError,
    message::{Fields, RequestHead},
    proxy::ProxyError,
    server::{
        Connections, Exchange, Handler, Http, Listener, Pass, Peer, Peers, Refusal, ServerSettings,
        Shutdown, ask_for_body, respond, serve as serve_connections, unless_gone,
    },
};

const MAX_BODY: usize = 4 * 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Idle connections end later than clients end theirs, so that it is they who close.
const SETTINGS: ServerSettings = ServerSettings {
    max_connections: 512,
    header_read_timeout: Duration::from_secs(75),
    keep_alive_timeout: Duration::from_secs(75),
    body_idle_timeout: BODY_TIMEOUT,
    max_header_size: 64 * 1024,
    max_concurrent_streams: 100,
    drain_timeout: Duration::ZERO,
    peers: Peers {
        users: Vec::new(),
        groups: Vec::new(),
    },
};

/// A response with its whole body.
pub(super) type FullResponse = Response<Bytes>;

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: RequestHead,
    pub(super) body: Bytes,
}

impl Request {
    /// The target; what is no UTF-8 in it is replaced, since nothing here has such a name.
    pub(super) fn target(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.head.target())
    }
}

/// An embedded service. It sees whole requests, never sockets.
pub(super) trait Service: Send + Sync + 'static {
    /// What the check of a head found.
    type Checked: Send;

    /// Checks the head on its arrival: a token that expires while the body is on its way was still good.
    fn check_head(&self, head: &RequestHead) -> Self::Checked;

    /// Makes the response, once the body is here.
    fn call(
        &self,
        checked: Self::Checked,
        request: Request,
    ) -> impl Future<Output = FullResponse> + Send;

    /// The response to a failure, in the shape of this service.
    fn refusal(&self, status: StatusCode, message: &'static str) -> FullResponse;
}

/// Opens a socket on a free loopback port.
pub(super) async fn bind() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until it is dropped.
pub(super) async fn serve<S: Service>(listener: TcpListener, service: Arc<S>) {
    let settings = Arc::new(ArcSwap::from_pointee(SETTINGS));
    let protocol = Http(Embedded(service));
    serve_connections(
        Listener::Tcp(listener),
        settings,
        Connections::default(),
        protocol,
        Shutdown::default(),
    )
    .await;
}

/// A JSON response. The body ends in a newline, because people read it in a terminal.
pub(super) fn json(status: StatusCode, body: &Value) -> FullResponse {
    let mut response = Response::new(Bytes::from(format!("{body}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A service, as the server knows it.
#[derive(Debug)]
struct Embedded<S>(Arc<S>);

impl<S> Clone for Embedded<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Service> Handler for Embedded<S> {
    async fn handle(&self, head: RequestHead, _peer: Peer, client: &mut impl Exchange) {
        let checked = self.0.check_head(&head);
        // Read even when the request will be refused: closing on unread bytes could reset the connection
        // before the response arrives.
        let body = timeout(BODY_TIMEOUT, read(client, &head.fields)).await;
        let response = match body.unwrap_or(Err(Unread::TooSlow)) {
            Ok(body) => {
                let response = self.0.call(checked, Request { head, body });
                unless_gone(client, response).await
            }
            Err(unread) => unread
                .status_and_message()
                .map(|(status, message)| self.0.refusal(status, message)),
        };
        if let Some(response) = response {
            let is_last = !client.is_body_read();
            let responded = timeout(BODY_TIMEOUT, respond(client, response, is_last)).await;
            if !matches!(responded, Ok(Ok(()))) {
                tracing::debug!("a connection of the demo ended early");
            }
        }
    }

    fn admits(&self, _pass: Pass) -> bool {
        true
    }

    fn refuse(&self, refusal: Refusal, _peer: &Peer) -> FullResponse {
        let status = ProxyError::from(refusal).row().status;
        self.0.refusal(status, "the request cannot be read")
    }
}

/// Why there is no body.
#[derive(Debug)]
enum Unread {
    TooLarge,
    TooSlow,
    Malformed,
    /// The client has left: there is nobody to respond to.
    Gone,
}

impl Unread {
    fn status_and_message(&self) -> Option<(StatusCode, &'static str)> {
        Some(match self {
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the demo takes bodies of at most 4 MiB",
            ),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Self::Malformed => (StatusCode::BAD_REQUEST, "the body is broken"),
            Self::Gone => return None,
        })
    }
}

/// Reads a whole body.
async fn read(client: &mut impl Exchange, fields: &Fields) -> Result<Bytes, Unread> {
    let asked = ask_for_body(client, fields).await;
    asked.map_err(|_| Unread::Gone)?;
    let mut body = Vec::new();
    poll_fn(|cx| {
        loop {
            let data = match ready!(client.poll_body(cx)) {
                Ok(data) => data,
                Err(BodyError::Malformed) => return Poll::Ready(Err(Unread::Malformed)),
                Err(BodyError::Cut | BodyError::Io(_)) => {
                    return Poll::Ready(Err(Unread::Gone));
                }
            };
            if data.is_empty() {
                return Poll::Ready(Ok(std::mem::take(&mut body).into()));
            }
            if body.len() + data.len() > MAX_BODY {
                return Poll::Ready(Err(Unread::TooLarge));
            }
            body.extend_from_slice(data);
            let count = data.len();
            client.consume_body(count);
        }
    })
    .await
}
