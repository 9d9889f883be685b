//! One request and its response, as a handler sees them, whatever version of HTTP the client
//! uses. Whoever implements it frames bodies, keeps the client's connection and knows by itself
//! when the exchange is over.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{AbortState, Pass};
use crate::{
    http1::BodyError,
    message::{BodyLength, Fields, Name, ResponseHead},
};

/// The request's body, the response, and the connection of the client for their time.
///
/// Reading and writing are polled, so that a handler can do both at once. Dropped before its
/// response is finished, the exchange is broken off in a way that the client can detect.
pub trait Exchange: Send {
    /// The client's connection once it is no longer HTTP.
    type Io: AsyncRead + AsyncWrite + Unpin + Send;

    /// Notes what the request was let in by: should that be revoked, the exchange is broken off.
    fn admitted(&mut self, pass: Pass);

    /// Whether the server itself has aborted the exchange, as can be asked once it is over. `None` where
    /// the server never does.
    fn abort_state(&self) -> Option<AbortState>;

    /// What is known of the length of what is left of the request's body.
    fn body_length(&self) -> BodyLength;

    /// Whether the request's body was read to its end.
    fn is_body_read(&self) -> bool;

    /// The next bytes of the request's body; none at its end. They stay until they are consumed.
    ///
    /// # Errors
    /// The client broke off, or its framing is malformed.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>>;

    /// Has used so much of what [`Exchange::poll_body`] gave.
    fn consume_body(&mut self, count: usize);

    /// Whether the client may be silent for as long as it pleases within its body, as a call with
    /// two directions is over HTTP/2.
    fn may_pause(&self) -> bool;

    /// How long the client may take to send the next byte of its body where it may not pause, and
    /// to take the next one of the response.
    fn body_idle_timeout(&self) -> Duration;

    /// Ready when the client has gone. To be asked while its body is not.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when the deadline has passed; the task is woken then.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;

    /// Adds an interim response (RFC 9110 §15.2), for clients that know such.
    fn inform(&mut self, head: &ResponseHead);

    /// Adds the head of the final response, and frames the body that is to follow. `is_last` ends
    /// the connection behind it.
    fn respond(&mut self, head: &ResponseHead, body: BodyLength, is_last: bool);

    /// Takes a part of the response's body: how much of it.
    ///
    /// # Errors
    /// The client does not take it any more.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends what was taken.
    ///
    /// # Errors
    /// The client does not take it any more.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the response's body, with these trailers where the client reads them.
    ///
    /// # Errors
    /// The body is shorter than was said.
    fn finish(&mut self, trailers: Option<&Fields>) -> io::Result<()>;

    /// The connection, behind a response of 101 that was flushed. `None` where there is no way to
    /// switch, or where the client did not wait for it.
    fn switch(&mut self) -> Option<&mut Self::Io>;

    /// Whether something has arrived behind the request.
    fn is_ahead(&self) -> bool;
}

/// Waits for something, unless the client goes away meanwhile.
///
/// # Cancel safety
/// As that of `waited`.
pub(crate) async fn unless_gone<T>(
    exchange: &mut impl Exchange,
    waited: impl Future<Output = T>,
) -> Option<T> {
    let mut waited = pin!(waited);
    poll_fn(|cx| {
        if let Poll::Ready(value) = waited.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        exchange.poll_gone(cx).map(|()| None)
    })
    .await
}

/// Has the client send its body where it waits to be asked for it (RFC 9110 §10.1.1).
///
/// # Errors
/// The client has gone.
pub(crate) async fn ask_for_body(exchange: &mut impl Exchange, fields: &Fields) -> io::Result<()> {
    if !fields.has(Name::Expect) || exchange.is_body_read() {
        return Ok(());
    }
    exchange.inform(&ResponseHead::of(StatusCode::CONTINUE, Fields::default()));
    poll_fn(|cx| exchange.poll_flush(cx)).await
}

/// Sends a whole response. `is_last` ends the connection behind it.
///
/// # Errors
/// The client does not take it any more.
pub(crate) async fn respond(
    exchange: &mut impl Exchange,
    response: Response<Bytes>,
    is_last: bool,
) -> io::Result<()> {
    let (parts, body) = response.into_parts();
    let head = ResponseHead::of(parts.status, Fields::of_map(&parts.headers));
    exchange.respond(&head, BodyLength::Known(body.len() as u64), is_last);
    let mut rest = &*body;
    poll_fn(|cx| {
        while !rest.is_empty() {
            let count = ready!(exchange.poll_write(cx, rest))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        exchange.finish(None)?;
        Poll::Ready(io::Result::Ok(()))
    })
    .await?;
    poll_fn(|cx| exchange.poll_flush(cx)).await
}
