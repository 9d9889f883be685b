//! One client's connection: the HTTP/1 codec over it, and the time that it may take. One that turns
//! out to be of HTTP/2 goes over to `http2`.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use http::{Request, header::CONNECTION};
use http_body::Body;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    ClientState, Handler, Refusal, ServerSettings, Stream,
    client::Phase,
    framing::Framing,
    http2,
    watched::{Greeting, Watched},
};

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(
    stream: Stream,
    settings: &Arc<ServerSettings>,
    handler: H,
    stop: &CancellationToken,
) {
    let client = Arc::new(ClientState::new(stream.peer()));
    let io = Watched {
        stream,
        client: Arc::clone(&client),
        framing: Framing::new(settings.max_header_size),
        is_broken: false,
        greeting: Greeting::Unknown(Vec::new()),
    };
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
    let mut stopping = pin!(stop.cancelled());
    let mut draining = false;
    let mut timer = pin!(sleep_until(Instant::now() + settings.longest_nap()));
    let refusal = loop {
        tokio::select! {
            biased;
            refusal = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(None),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a client's connection ended early");
                    Poll::Ready(None)
                }
                Poll::Pending if client.is_http2() => Poll::Ready(None),
                Poll::Pending if client.is_refusal_due() => Poll::Ready(client.refusal()),
                Poll::Pending => Poll::Pending,
            }) => break refusal,
            () = &mut stopping, if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut timer => {
                let (deadline, phase) = client.deadline(settings);
                let now = Instant::now();
                if deadline <= now && phase != Phase::Busy {
                    break client.is_owed_an_answer(phase).then_some(Refusal::TooSlow);
                }
                timer.as_mut().reset(deadline.min(now + settings.longest_nap()));
            }
        }
    };
    let Some(parts) = connection.into_parts() else {
        // Its connection has gone with it.
        if let Some(tunnel) = client.take_tunnel() {
            tunnel.await;
        }
        return;
    };
    if client.is_http2() {
        // On the heap, and so is the goodbye: every idle connection would have room for them.
        return Box::pin(http2::serve(parts.io, settings, handler, stop)).await;
    }
    let Watched {
        mut stream,
        framing,
        ..
    } = parts.io;
    if let Some(refusal) = refusal {
        let mut answer = handler.refuse(refusal);
        if framing.is_for_head() {
            answer.truncate(length_of_head(&answer));
        }
        drop(timeout(GOODBYE, stream.write_all(&answer)).await);
    }
    Box::pin(close(stream)).await;
}

/// How much of an answer is not its body.
fn length_of_head(answer: &[u8]) -> usize {
    memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |end| end + 4)
}

/// Tells a client that there is no room, and closes. An answer before the request would surprise
/// it, so its first byte is waited for.
pub(super) async fn refuse(mut stream: Stream, answer: Bytes) {
    drop(timeout(GOODBYE, stream.readable()).await);
    drop(timeout(GOODBYE, stream.write_all(&answer)).await);
    close(stream).await;
}

/// Ends a connection so that the client can read the last answer: what it has sent meanwhile is
/// taken for a moment, or the system would answer it by a reset that also discards our answer
/// (RFC 9112 §9.6).
async fn close(mut stream: Stream) {
    let linger = async {
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    drop(timeout(GOODBYE, linger).await);
}

/// What the codec may hold of a connection: its own default.
const CODEC_BUFFER: usize = 400 * 1024;

/// The longest that a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
