//! Both directions of one exchange at once: what is left of the request to the upstream, and the
//! response to the client. Each wait has its deadline.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use http::StatusCode;
use tokio::time::Instant;

use super::{
    ProxyError,
    fields::{self, Nominated},
    upload::{Side, Upload, UploadError},
    upstream::{Failure, Lease},
};
use crate::{
    http1::BodyError,
    message::ResponseHead,
    server::{Exchange, Refusal},
};

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Stop {
    /// The exchange with the upstream failed.
    Failed(Failure),
    /// The client has gone: there is nobody to respond to.
    Gone,
}

impl<T: Into<Failure>> From<T> for Stop {
    fn from(error: T) -> Self {
        Self::Failed(error.into())
    }
}

/// Sends a request that was begun, and gets the head of its final response. Interim ones are passed
/// on as they come (RFC 9110 §15.2); `informed` is set where one of them asks for the body.
///
/// `response_timeout` counts from the last byte of the request that moved.
///
/// # Errors
/// There will be no response. What the client has sent so far may be held by `upload`.
///
/// # Cancel safety
/// Dropped, it leaves an exchange that is good for nothing.
pub(super) async fn request(
    client: &mut impl Exchange,
    upstream: &mut Lease,
    upload: &mut Upload<'_>,
    response_timeout: Duration,
    informed: &mut bool,
) -> Result<ResponseHead, Stop> {
    let mut is_taken = true;
    poll_fn(|cx| {
        if is_taken && !upload.is_over() {
            match upload.poll(cx, client, upstream) {
                Poll::Ready(Err(UploadError::Client(error))) => {
                    return Poll::Ready(Err(broken_off(error)));
                }
                // Its response may be there all the same.
                Poll::Ready(Err(UploadError::NotTaken)) => is_taken = false,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        while let Poll::Ready(head) = upstream.poll_head(cx) {
            let mut head = match head {
                Ok(head) => head,
                Err(failure) => return Poll::Ready(Err(failure.into())),
            };
            let is_interim =
                head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS;
            if !is_interim {
                return Poll::Ready(Ok(head));
            }
            fields::inbound(&mut head.fields, head.connection);
            client.inform(&head);
            *informed |= head.status == StatusCode::CONTINUE;
        }
        if client.poll_flush(cx).map(|sent| sent.is_err()) == Poll::Ready(true) {
            return Poll::Ready(Err(Stop::Gone));
        }
        let waits_for_client = is_taken && !upload.is_over() && upload.waits_for == Side::Client;
        if !waits_for_client && client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::Gone));
        }
        if waits_for_client && !client.may_pause() {
            let deadline = upload.moved + client.body_idle_timeout();
            if client.poll_deadline(cx, deadline).is_ready() {
                return Poll::Ready(Err(ProxyError::Refused(Refusal::TooSlow).into()));
            }
        }
        let deadline = upload.moved + response_timeout;
        client
            .poll_deadline(cx, deadline)
            .map(|()| Err(ProxyError::ResponseTimeout.into()))
    })
    .await
}

/// What a request is whose body breaks off.
fn broken_off(error: BodyError) -> Stop {
    match error {
        BodyError::Malformed => {
            let flaw = crate::message::Flaw::of("body: its framing");
            ProxyError::Refused(Refusal::Malformed(flaw)).into()
        }
        BodyError::Cut | BodyError::Io(_) => Stop::Gone,
    }
}

/// How a response ended whose head was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// The client went away, or took nothing of it for too long.
    #[error("the client takes nothing of the response any more: {0}")]
    Client(io::ErrorKind),
    /// The client broke off its own body, or sent nothing of it for too long.
    #[error("the client broke off its body")]
    Upload,
    /// The upstream broke it off.
    #[error("the response of the upstream broke off: {0}")]
    Upstream(BodyError),
    /// The upstream said nothing for too long.
    #[error("the response of the upstream stalled")]
    Stalled,
}

/// Streams a response whose head was given to the client, and what is left of the request. `written`
/// counts what the client has taken.
///
/// # Errors
/// Why the response broke off: the client can detect that it is not whole.
pub(super) async fn response(
    client: &mut impl Exchange,
    upstream: &mut Lease,
    nominated: &Nominated,
    upload: &mut Upload<'_>,
    wants_upload: bool,
    written: &mut u64,
    idle_timeout: Option<Duration>,
) -> Result<(), Broken> {
    let mut is_over = false;
    let mut is_taken = wants_upload;
    // Since when each of the two is waited for.
    let mut of_client = None;
    let mut of_upstream = None;
    poll_fn(|cx| {
        let mut waits_for_upstream = false;
        let mut waits_for_client = false;
        while !is_over {
            let data = match upstream.poll_body(cx) {
                Poll::Ready(Ok(data)) => data,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Upstream(error))),
                Poll::Pending => {
                    waits_for_upstream = true;
                    break;
                }
            };
            of_upstream = None;
            if data.is_empty() {
                let mut trailers = upstream.take_trailers();
                if let Some(trailers) = &mut trailers {
                    fields::trailers(trailers, nominated);
                }
                if client.finish(trailers.as_ref()).is_err() {
                    return Poll::Ready(Err(Broken::Upstream(BodyError::Cut)));
                }
                is_over = true;
                break;
            }
            match client.poll_write(cx, data) {
                Poll::Ready(Ok(count)) => {
                    of_client = None;
                    *written += count as u64;
                    upstream.consume(count);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Client(error.kind()))),
                Poll::Pending => {
                    waits_for_client = true;
                    break;
                }
            }
        }
        if !waits_for_client {
            match client.poll_flush(cx) {
                Poll::Ready(Ok(())) => of_client = None,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Client(error.kind()))),
                Poll::Pending => waits_for_client = true,
            }
        }
        if is_taken && !upload.is_over() {
            match upload.poll(cx, client, upstream) {
                Poll::Ready(Err(UploadError::Client(_))) => {
                    return Poll::Ready(if is_over && !waits_for_client {
                        // The response is whole all the same.
                        Ok(())
                    } else {
                        Err(Broken::Upload)
                    });
                }
                Poll::Ready(Err(UploadError::NotTaken)) => is_taken = false,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            is_taken &= !is_over || upstream.poll_closed(cx).is_pending();
        }
        let is_uploading = is_taken && !upload.is_over();
        if is_over && !waits_for_client && !is_uploading {
            return Poll::Ready(Ok(()));
        }
        let reads_client = is_uploading && upload.waits_for == Side::Client;
        if !reads_client && !is_over && client.poll_gone(cx).is_ready() {
            let kind = io::ErrorKind::ConnectionAborted;
            return Poll::Ready(Err(Broken::Client(kind)));
        }
        if waits_for_client {
            let since = *of_client.get_or_insert_with(Instant::now);
            let deadline = since + client.body_idle_timeout();
            if client.poll_deadline(cx, deadline).is_ready() {
                return Poll::Ready(Err(Broken::Client(io::ErrorKind::TimedOut)));
            }
        }
        if is_uploading && (is_over || (reads_client && !client.may_pause())) {
            let longest = if client.may_pause() {
                LAST_BYTES
            } else {
                client.body_idle_timeout()
            };
            if client.poll_deadline(cx, upload.moved + longest).is_ready() {
                return Poll::Ready(if is_over { Ok(()) } else { Err(Broken::Upload) });
            }
        }
        if let Some(timeout) = idle_timeout.filter(|_| waits_for_upstream) {
            let since = *of_upstream.get_or_insert_with(Instant::now);
            if client.poll_deadline(cx, since + timeout).is_ready() {
                return Poll::Ready(Err(Broken::Stalled));
            }
        }
        Poll::Pending
    })
    .await
}

/// How long a call with two directions may pause in the one once the other is over.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Reads the rest of a response that nobody wants, if it is short, so that its connection can be
/// used again; whether it was.
pub(super) async fn discard(upstream: &mut Lease) -> bool {
    let read = poll_fn(|cx| {
        let mut read = 0;
        loop {
            let count = match std::task::ready!(upstream.poll_body(cx)) {
                Ok(data) => data.len(),
                Err(_) => return Poll::Ready(false),
            };
            read += count;
            if count == 0 || read > UNWANTED {
                return Poll::Ready(count == 0);
            }
            upstream.consume(count);
        }
    });
    tokio::time::timeout(UNWANTED_TIME, read).await == Ok(true)
}

/// How much of an unwanted response is read, and how long it may take.
const UNWANTED: usize = 16 * 1024;
const UNWANTED_TIME: Duration = Duration::from_millis(50);
