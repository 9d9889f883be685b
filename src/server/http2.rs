//! A client's connection with HTTP/2 (RFC 9113): the codec over it, a task for each stream, and the
//! bounds that keep one client from costing more than its share.
//!
//! A connection gets here that began with the preface of HTTP/2, by prior knowledge or after TLS
//! has agreed on it; an `Upgrade: h2c` never does.

mod resets;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, header::CONNECTION};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::{
    task_local,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::resets::Resets;
use super::{ClientState, Handler, ServerSettings, client::Phase, watched::Watched};

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(
    io: Watched,
    settings: &Arc<ServerSettings>,
    handler: H,
    stop: &CancellationToken,
) {
    let client = Arc::clone(&io.client);
    let streams = Streams {
        connection: Arc::clone(&client),
        settings: Arc::clone(settings),
        count: Arc::new(Count {
            open: AtomicUsize::new(0),
            resets: Resets::new(settings.max_concurrent_streams),
        }),
    };
    streams.idle();
    let requests = service_fn(|request: Request<Incoming>| {
        let handler = handler.clone();
        async move {
            let client = STREAM.get();
            client.begin(!request.body().is_end_stream());
            let answer = handler.handle(request, &client).await;
            client.answering.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(answered(answer, client))
        }
    });
    let mut connection = pin!(
        http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(
                u32::try_from(settings.max_concurrent_streams).unwrap_or(u32::MAX)
            )
            .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_local_error_reset_streams(MAX_PROTOCOL_ERRORS)
            .keep_alive_interval(PING_INTERVAL)
            .serve_connection(io, requests)
    );
    let mut stopping = pin!(stop.cancelled());
    let mut draining = false;
    let mut timer = pin!(sleep_until(Instant::now() + settings.longest_nap()));
    loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                if streams.count.resets.are_too_many() { Poll::Ready(Ok(())) } else { polled }
            }) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a client's connection ended early");
                }
                break;
            }
            () = &mut stopping, if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut timer => {
                let (deadline, phase) = client.deadline(settings);
                let now = Instant::now();
                if deadline <= now && phase == Phase::Idle {
                    connection.as_mut().graceful_shutdown();
                    // It ends with the client's next word, or once a slow one has taken the last of
                    // an answer that is here already.
                    drop(timeout(settings.body_idle_timeout, connection.as_mut()).await);
                    break;
                }
                // The client takes nothing at all any more.
                if deadline <= now && phase == Phase::Body {
                    break;
                }
                timer.as_mut().reset(deadline.min(now + settings.longest_nap()));
            }
        }
    }
}

task_local! {
    /// The stream that a task serves.
    static STREAM: Arc<ClientState>;
}

/// Runs the streams of one connection, each in a task, and keeps count of them.
#[derive(Debug, Clone)]
struct Streams {
    connection: Arc<ClientState>,
    settings: Arc<ServerSettings>,
    count: Arc<Count>,
}

#[derive(Debug)]
struct Count {
    open: AtomicUsize,
    resets: Resets,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, exchange: F) {
        let state = Arc::new(self.connection.stream());
        let stream = Stream::begin(self.clone(), Arc::clone(&state));
        tokio::spawn(STREAM.scope(state, async move {
            stream.carry(exchange).await;
        }));
    }
}

impl Streams {
    /// No stream is open: from now on the patience runs.
    fn idle(&self) {
        self.connection.enter(Phase::Idle);
    }
}

/// One open stream; counted until it is dropped.
#[derive(Debug)]
struct Stream {
    streams: Streams,
    state: Arc<ClientState>,
}

impl Stream {
    fn begin(streams: Streams, state: Arc<ClientState>) -> Self {
        if streams.count.open.fetch_add(1, Ordering::Relaxed) == 0 {
            streams.connection.busy();
        }
        Self { streams, state }
    }

    /// Runs an exchange until it is over, or the client has taken nothing of the answer for too
    /// long: dropped, the stream is reset and its upload ends, and its neighbours do not notice.
    async fn carry(self, exchange: impl Future<Output = ()>) {
        let settings = &self.streams.settings;
        let mut exchange = pin!(exchange);
        let mut timer = pin!(sleep_until(Instant::now() + settings.longest_nap()));
        loop {
            tokio::select! {
                biased;
                () = &mut exchange => return,
                () = &mut timer => {
                    let (deadline, phase) = self.state.deadline(settings);
                    let now = Instant::now();
                    if deadline <= now && phase == Phase::Body {
                        tracing::debug!("a client takes nothing of an answer; its stream is reset");
                        return;
                    }
                    timer.as_mut().reset(deadline.min(now + settings.longest_nap()).max(now + NAP));
                }
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let count = &self.streams.count;
        if self.state.is_answered() {
            count.resets.answered();
        } else {
            count.resets.broken_off();
        }
        if count.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.streams.idle();
        }
    }
}

fn answered<B>(mut answer: Response<B>, stream: Arc<ClientState>) -> Response<Answer<B>> {
    // Of the connection of HTTP/1 only.
    answer.headers_mut().remove(CONNECTION);
    answer.map(|inner| Answer { inner, stream })
}

/// The body of an answer. It is asked for a part when the client has room for it: between two
/// parts, the client is waited for.
struct Answer<B> {
    inner: B,
    stream: Arc<ClientState>,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.stream.body_moved();
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_ready() {
            self.stream.waits_for_body();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// How much a client may send of one body, and of all, before it is taken on.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How much of an answer is kept for a client that is slow to take it.
const SEND_BUFFER: usize = 256 * 1024;

/// How many streams may end by an error that the client has made us make (CVE-2025-8671).
const MAX_PROTOCOL_ERRORS: usize = 100;

/// A client that has vanished without a word is found out by this.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The shortest time between two looks at a stream.
const NAP: Duration = Duration::from_millis(10);
