//! The small HTTP/1.1 server under both embedded services: accepts on loopback, reads bounded bodies, answers JSON.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const MAX_CONNECTIONS: usize = 512;
const MAX_HEAD: usize = 64 * 1024;
const MAX_BODY: usize = 4 * 1024 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Also ends idle connections; longer than clients keep theirs, so that it is they who close.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Accepting fails when file descriptors run out; without a pause the loop would spin until one is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) type Answer = Response<Full<Bytes>>;

/// What an embedded service decides. It sees whole requests, never sockets.
pub(super) trait Service: Send + Sync + 'static {
    /// What the head of a request proved.
    type Verdict: Send;

    /// Judges the head on its arrival: a token that expires while the body is on its way was still good.
    fn judge(&self, head: &Parts) -> Self::Verdict;

    /// Answers the request, now that its body is here.
    fn answer(
        &self,
        verdict: Self::Verdict,
        request: Request<Bytes>,
    ) -> impl Future<Output = Answer> + Send;

    /// A failure in the shape that this service gives its failures.
    fn refusal(&self, status: StatusCode, message: &'static str) -> Answer;
}

/// Opens a socket on a free loopback port.
pub(super) async fn bind() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until it is dropped; that ends its connections too.
pub(super) async fn serve<S: Service>(listener: TcpListener, service: Arc<S>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&service)));
                }
                Err(error) => {
                    tracing::debug!(%error, "the demo could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// A JSON answer. It ends in a newline, because people read it in a terminal.
pub(super) fn json(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::from(format!("{body}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

async fn converse<S: Service>(stream: TcpStream, service: Arc<S>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection of the demo keeps its delay");
    }
    let handler = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(exchange(&*service, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the demo ended early");
    }
}

async fn exchange<S: Service>(service: &S, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let verdict = service.judge(&head);
    // Read even when the verdict will be a refusal: closing on unread bytes could reset the answer away.
    let body =
        match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return service.refusal(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the demo takes bodies of at most 4 MiB",
                );
            }
            Ok(Err(_)) => return service.refusal(StatusCode::BAD_REQUEST, "the body is broken"),
            Err(_) => {
                return service.refusal(StatusCode::REQUEST_TIMEOUT, "the body took too long");
            }
        };
    let request = Request::from_parts(head, body);
    service.answer(verdict, request).await
}
