//! The HTTP/1 codec over a client's connection, and the time that the client may take.
//!
//! It is there only while it has something to do: its buffers are most of what a connection costs,
//! and most connections are idle most of the time.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use http::{Request, header::CONNECTION};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::http1::{self, Parts},
    service::service_fn,
};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFuture;

use super::{Entered, Handler, Refusal, ServerSettings, client::Phase, watched::Watched};

/// Why the codec of HTTP/1 has let go of a connection.
pub(super) enum Left {
    /// It is idle.
    AtRest(Watched),
    /// It is of HTTP/2.
    Http2(Watched),
    /// It is to be closed, and this told before.
    Over(Watched, Option<Refusal>),
    /// It became something else.
    Gone,
}

/// Serves a connection until it is idle or over.
pub(super) async fn serve<H: Handler>(
    io: Watched,
    settings: &Arc<ServerSettings>,
    handler: &H,
    codecs: &Arc<AtomicUsize>,
    mut stopping: Pin<&mut WaitForCancellationFuture<'_>>,
    mut timer: Pin<&mut Sleep>,
) -> Left {
    let client = Arc::clone(&io.client);
    let requests = service_fn(|request: Request<Incoming>| {
        client.begin(!request.body().is_end_stream());
        let client = Arc::clone(&client);
        let handler = handler.clone();
        async move {
            let answer = handler.handle(request, &client).await;
            client.answering.store(true, Ordering::Relaxed);
            let closes = answer.headers().get(CONNECTION);
            let is_last = closes.is_some_and(|option| option == "close");
            client.is_last.store(is_last, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .preserve_header_case(true)
        // Framing has judged the head already, by its own bounds; these must not be narrower. (For
        // more fields than it has room for on the stack, the codec would take two pages a request.)
        .max_header_size(settings.max_header_size + 1024)
        .max_buf_size((settings.max_header_size + 16 * 1024).max(CODEC_BUFFER))
        .serve_connection(io, requests)
        .with_upgrades();
    let codec = Entered::enter(codecs, MAX_IDLE);
    let mut draining = false;
    let nap = settings.longest_nap();
    timer.as_mut().reset(Instant::now() + nap.min(IDLE_TIME));
    let (is_at_rest, refusal) = loop {
        tokio::select! {
            biased;
            left = poll_fn(|cx| {
                let mut polled = Pin::new(&mut connection).poll(cx);
                let may_rest = codec.is_none() && client.is_at_rest();
                if polled.is_pending() && may_rest {
                    // What was dropped at the end of the exchange may have left the codec something
                    // to do, such as to pass over the rest of a body.
                    polled = Pin::new(&mut connection).poll(cx);
                }
                match polled {
                Poll::Ready(Ok(())) => Poll::Ready((false, None)),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a client's connection ended early");
                    Poll::Ready((false, None))
                }
                Poll::Pending if client.is_http2() => Poll::Ready((false, None)),
                Poll::Pending if client.is_refusal_due() => Poll::Ready((false, client.refusal())),
                Poll::Pending if codec.is_none() && client.is_at_rest() => {
                    Poll::Ready((true, None))
                }
                Poll::Pending => Poll::Pending,
                }
            }) => break left,
            () = &mut stopping, if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut timer => {
                let (deadline, phase) = client.deadline(settings);
                let now = Instant::now();
                if deadline <= now && phase != Phase::Busy {
                    let is_owed = client.is_owed_an_answer(phase);
                    break (false, is_owed.then_some(Refusal::TooSlow));
                }
                if !draining && client.is_at_rest() && client.load().1 + IDLE_TIME <= now {
                    break (true, None);
                }
                let look = if phase == Phase::Idle { IDLE_TIME } else { BUSY_TIME };
                timer.as_mut().reset(deadline.min(now + nap.min(look)));
            }
        }
    };
    drop(codec);
    match connection.into_parts() {
        None => Left::Gone,
        Some(Parts { io, .. }) if client.is_http2() => Left::Http2(io),
        // What the codec still had would be lost with it: then the connection is too.
        Some(Parts { io, read_buf, .. }) if is_at_rest && read_buf.is_empty() => Left::AtRest(io),
        Some(Parts { io, .. }) => Left::Over(io, refusal),
    }
}

/// What the codec may hold of a connection: its own default.
const CODEC_BUFFER: usize = 400 * 1024;

/// How many codecs there may be before they go as soon as they are idle. To make one again is 15 %
/// of a request's instructions in user space (bench/instructions: 47,870 without, 54,988 with); one
/// that stays takes 18 KiB.
const MAX_IDLE: usize = 128;

/// How long the others stay while nothing is asked of them, ...
const IDLE_TIME: Duration = Duration::from_millis(250);

/// ... but for how long it may take to notice that an exchange is over.
const BUSY_TIME: Duration = Duration::from_secs(1);
