//! One client's connection: the codec over it while there is something to do, rest in between, and
//! the goodbye. One that turns out to be of HTTP/2 goes over to `http2`.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use hyper::body::Bytes;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    ClientState, Handler, Peer, ServerSettings, Stream,
    codec::{self, Left},
    framing::Framing,
    http2,
    watched::{Greeting, Watched},
};

/// Serves a connection to its end.
///
/// While it is idle it has no codec, whose buffers are most of what a connection takes.
pub(super) async fn serve<H: Handler>(
    stream: Stream,
    peer: Peer,
    settings: &Arc<ServerSettings>,
    handler: H,
    codecs: &Arc<AtomicUsize>,
    stop: &CancellationToken,
) {
    let client = Arc::new(ClientState::new(peer));
    let mut io = Watched {
        stream,
        client: Arc::clone(&client),
        framing: Framing::new(settings.max_header_size),
        is_broken: false,
        is_shut: false,
        greeting: Greeting::Unknown(Vec::new()),
    };
    let mut stopping = pin!(stop.cancelled());
    let mut timer = pin!(sleep_until(Instant::now()));
    let (io, refusal) = loop {
        // On the heap, so that there is no room for it while there is none of it.
        let at_work = Box::pin(codec::serve(
            io,
            settings,
            &handler,
            codecs,
            stopping.as_mut(),
            timer.as_mut(),
        ));
        match at_work.await {
            Left::AtRest(at_rest) => io = at_rest,
            Left::Over(io, refusal) => break (io, refusal),
            Left::Http2(io) => return Box::pin(http2::serve(io, settings, handler, stop)).await,
            Left::Gone => {
                // Its connection has gone with the codec.
                if let Some(tunnel) = client.take_tunnel() {
                    tunnel.await;
                }
                return;
            }
        }
        timer.as_mut().reset(client.deadline(settings).0);
        tokio::select! {
            biased;
            readable = io.stream.readable() => if readable.is_err() { return },
            () = &mut stopping => break (io, None),
            () = &mut timer => break (io, None),
        }
    };
    let Watched {
        mut stream,
        framing,
        is_shut,
        ..
    } = io;
    if let Some(refusal) = refusal {
        let mut answer = handler.refuse(refusal);
        if framing.is_for_head() {
            answer.truncate(length_of_head(&answer));
        }
        drop(timeout(GOODBYE, stream.write_all(&answer)).await);
    }
    Box::pin(close(stream, is_shut)).await;
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
    Box::pin(close(stream, false)).await;
}

/// Ends a connection so that the client can read the last answer: what it has sent meanwhile is
/// taken for a moment, or the system would answer it by a reset that also discards our answer
/// (RFC 9112 §9.6).
async fn close(mut stream: Stream, is_shut: bool) {
    let linger = async {
        if !is_shut {
            stream.shutdown().await?;
        }
        let mut rest = [0; 4096];
        while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    drop(timeout(GOODBYE, linger).await);
}

/// The longest that a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
