//! A client's connection with HTTP/2 (RFC 9113): a task for each stream, and the bounds that keep one
//! client from costing more than its share.
//!
//! A connection gets here that began with the preface of HTTP/2, by prior knowledge or after TLS
//! has agreed on it; an `Upgrade: h2c` never does. The codec is `h2`, which is hyper's own, without
//! hyper's service around it: that can send no interim responses.

mod exchange;
mod head;
mod resets;
mod windows;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use h2::{Ping, PingPong, server::Builder};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    exchange::{Responded, serve_stream},
    resets::Resets,
    windows::{NARROW, WIDE, WIDE_STREAM, Windows},
};
use super::{Handler, Peer, Seat, ServerSettings, Shutdown, Stream};
use crate::{http1::Rewound, timer::Timer};

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(
    io: Rewound<Stream>,
    peer: Peer,
    settings: &Arc<ServerSettings>,
    handler: H,
    shutdown: &Shutdown,
    seat: &Seat,
) {
    let handshake = builder(settings).handshake::<_, Bytes>(io);
    let Ok(Ok(mut connection)) = timeout(settings.header_read_timeout, handshake).await else {
        tracing::debug!("a client began HTTP/2 and did not go on");
        return;
    };
    let mut streams = JoinSet::new();
    let mut resets = Resets::new(settings.max_concurrent_streams);
    let windows = Arc::new(Windows::default());
    let mut alive = Alive::new(connection.ping_pong());
    let mut idle = Timer::default();
    let mut idle_since = Instant::now();
    let leave = CancellationToken::new();
    seat.member().set_leave(leave.clone());
    let stopping = async {
        tokio::select! {
            () = shutdown.begun() => {}
            () = leave.cancelled() => {}
        }
    };
    let mut stopping = pin!(stopping);
    let mut announced = pin!(shutdown.announced());
    let mut has_served = false;
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            Some(ended) = streams.join_next(), if !streams.is_empty() => {
                match ended {
                    Ok(Responded(true)) => resets.responded(),
                    Ok(Responded(false)) | Err(_) => resets.broken_off(),
                }
                if resets.are_too_many() {
                    tracing::debug!("a client breaks off too many requests; its connection ends");
                    return;
                }
                idle_since = Instant::now();
            }
            accepted = connection.accept() => match accepted {
                Some(Ok((request, response))) => {
                    has_served = true;
                    let body_idle_timeout = settings.body_idle_timeout;
                    let (peer, handler) = (peer.clone(), handler.clone());
                    let seat = seat.for_stream();
                    let member = Arc::clone(seat.member());
                    member.set_task(streams.spawn(serve_stream(
                        request,
                        response,
                        peer,
                        body_idle_timeout,
                        Arc::clone(&windows),
                        handler,
                        seat,
                    )));
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a client's connection ended early");
                    return;
                }
                None => return,
            },
            window = windows.change() => {
                connection.set_target_window_size(window);
                // Those of the streams stay wide: that of the connection bounds them all. A client
                // that has yet to hear of the last settings keeps what it has.
                if window == WIDE && connection.set_initial_window_size(WIDE_STREAM).is_err() {
                    tracing::debug!("the windows of a client's streams stay as they are");
                }
            }
            // Whoever has just connected has one request: a client that is sent away before it may give up.
            () = &mut announced, if !draining && has_served => {
                draining = true;
                connection.graceful_shutdown();
            }
            () = &mut stopping, if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
            () = alive.lost() => {
                tracing::debug!("a client does not respond to a ping; its connection ends");
                return;
            }
            () = poll_fn(|cx| idle.poll(cx, idle_since + settings.keep_alive_timeout)),
                if streams.is_empty() => break,
        }
    }
    connection.graceful_shutdown();
    // It ends with the client's next word, or once a slow one has taken the last of a response that
    // is here already.
    let ended = poll_fn(|cx| connection.poll_closed(cx));
    drop(timeout(settings.body_idle_timeout, ended).await);
}

fn builder(settings: &ServerSettings) -> Builder {
    let bound = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(bound(settings.max_concurrent_streams))
        .max_header_list_size(bound(settings.max_header_size))
        .initial_window_size(NARROW)
        .initial_connection_window_size(NARROW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(MAX_PROTOCOL_ERRORS));
    builder
}

/// Finds out a client that has vanished without a word.
struct Alive {
    ping: Option<PingPong>,
    timer: Timer,
    deadline: Instant,
    is_asked: bool,
}

impl Alive {
    fn new(ping: Option<PingPong>) -> Self {
        Self {
            ping,
            timer: Timer::default(),
            deadline: Instant::now() + PING_INTERVAL,
            is_asked: false,
        }
    }

    /// Asks now and then, and waits until there is no response in time.
    ///
    /// # Cancel safety
    /// Safe: it goes on where it was.
    async fn lost(&mut self) {
        let Self {
            ping,
            timer,
            deadline,
            is_asked,
        } = self;
        poll_fn(|cx| {
            let Some(ping) = ping else {
                return Poll::Pending;
            };
            if *is_asked && ping.poll_pong(cx).is_ready() {
                *is_asked = false;
                *deadline = Instant::now() + PING_INTERVAL;
            }
            while timer.poll(cx, *deadline).is_ready() {
                if *is_asked {
                    return Poll::Ready(());
                }
                *is_asked = ping.send_ping(Ping::opaque()).is_ok();
                *deadline = Instant::now()
                    + if *is_asked {
                        PONG_TIMEOUT
                    } else {
                        PING_INTERVAL
                    };
                if *is_asked && ping.poll_pong(cx).is_ready() {
                    *is_asked = false;
                }
            }
            Poll::Pending
        })
        .await;
    }
}

/// How much of a response is kept for a client that is slow to take it.
const SEND_BUFFER: usize = 256 * 1024;

/// How many streams may end by an error that the client has made us make (CVE-2025-8671).
const MAX_PROTOCOL_ERRORS: usize = 100;

/// How often a client is asked whether it is there, and how long it may take to respond.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PONG_TIMEOUT: Duration = Duration::from_secs(20);
