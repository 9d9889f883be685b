//! One client's connection: the HTTP/1 codec over it, and the time that it may take.

use std::{
    cell::RefCell,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Request;
use http_body::Body;
use hyper::{
    body::{Bytes, Incoming},
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Handler, Refusal, ServerSettings,
    framing::{Framing, Violation},
};
use crate::gather;

/// What a connection waits for, and since when.
///
/// One timer a connection looks at it when it fires, and not at each request: a request costs
/// a store or two here, and no timer.
pub struct ClientState {
    epoch: Instant,
    /// The phase in the two lowest bits, above them the milliseconds since `epoch`.
    phase: AtomicU64,
    /// Whether the client has yet to take a part of an answer.
    unsent: AtomicBool,
    /// Whether the answer to the request that is handled has begun.
    answering: AtomicBool,
    /// What of an exchange is still open: the request's body, the answer.
    parts: AtomicU8,
    /// Whether a part of the next head is here already.
    has_partial_head: AtomicBool,
    /// The answer that the message earns at which reading has stopped.
    refusal: OnceLock<Refusal>,
    /// What the connection is for once its codec has let go of it.
    tunnel: Mutex<Option<Tunnel>>,
    /// Whether it is for that: what arrives is no request then.
    is_tunnel: AtomicBool,
}

impl fmt::Debug for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientState")
            .field("phase", &self.load().0)
            .finish_non_exhaustive()
    }
}

/// Work on a connection that is no longer HTTP.
pub type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What we wait for the client to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// To begin a request.
    Idle = 0,
    /// To end the head of its request.
    Head = 1,
    /// Nothing: its request is being handled.
    Busy = 2,
    /// To send or to take a part of a body.
    Body = 3,
}

impl ClientState {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            phase: AtomicU64::new(0),
            unsent: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            parts: AtomicU8::new(0),
            has_partial_head: AtomicBool::new(false),
            refusal: OnceLock::new(),
            tunnel: Mutex::default(),
            is_tunnel: AtomicBool::new(false),
        }
    }

    /// A request's head is complete: it is our turn.
    fn begin(&self, has_body: bool) {
        self.answering.store(false, Ordering::Relaxed);
        self.parts.store(1 + u8::from(has_body), Ordering::Relaxed);
        self.busy();
    }

    fn busy(&self) {
        // No time is needed: nothing is due while we are busy ourselves.
        self.phase.store(Phase::Busy as u64, Ordering::Relaxed);
    }

    /// Gives the connection to something else once the answer is sent.
    pub fn tunnel(&self, tunnel: Tunnel) {
        self.is_tunnel.store(true, Ordering::Relaxed);
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// Whether reading has stopped at something that is no request.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refusal.get().is_some()
    }

    fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Ordering::Relaxed)
    }

    fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The request's body or the answer is over; with the second of the two, the exchange is.
    pub fn part_over(&self) {
        let before = self.parts.fetch_sub(1, Ordering::Relaxed);
        if before > 1 {
            return;
        }
        self.enter(if self.has_partial_head.load(Ordering::Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        });
    }

    /// Whether a client that is given up has a request that was not answered at all.
    fn is_owed_an_answer(&self, phase: Phase) -> bool {
        match phase {
            Phase::Head => true,
            Phase::Body => !self.answering.load(Ordering::Relaxed),
            Phase::Idle | Phase::Busy => false,
        }
    }

    /// The client has to send or to take a part of a body.
    pub fn waits_for_body(&self) {
        if self.load().0 == Phase::Busy {
            self.enter(Phase::Body);
        }
    }

    /// It did.
    pub fn body_moved(&self) {
        if self.load().0 == Phase::Body {
            self.busy();
        }
    }

    /// The refusal that is due: all that came before it is answered.
    fn due_refusal(&self) -> Option<Refusal> {
        let refusal = self.refusal.get()?;
        let (phase, _) = self.load();
        let is_between_requests = matches!(phase, Phase::Idle | Phase::Head);
        (is_between_requests && !self.unsent.load(Ordering::Relaxed)).then_some(*refusal)
    }

    fn received(&self) {
        if self.load().0 == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    fn enter(&self, phase: Phase) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.phase
            .store((now << 2) | phase as u64, Ordering::Relaxed);
    }

    fn load(&self) -> (Phase, Instant) {
        let word = self.phase.load(Ordering::Relaxed);
        let phase = match word & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Body,
        };
        (phase, self.epoch + Duration::from_millis(word >> 2))
    }

    /// When the patience ends, and what the client owes us then.
    fn deadline(&self, settings: &ServerSettings) -> (Instant, Phase) {
        let (phase, since) = self.load();
        let patience = match phase {
            Phase::Idle => settings.keep_alive_timeout,
            Phase::Head => settings.header_read_timeout,
            Phase::Body => settings.body_idle_timeout,
            Phase::Busy => return (Instant::now() + settings.longest_nap(), phase),
        };
        (since + patience, phase)
    }
}

impl ServerSettings {
    /// How long the timer may sleep while nothing is due, without missing what begins meanwhile.
    fn longest_nap(&self) -> Duration {
        self.header_read_timeout
            .min(self.keep_alive_timeout)
            .min(self.body_idle_timeout)
    }
}

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    settings: &ServerSettings,
    handler: H,
    stop: &CancellationToken,
) {
    let client = Arc::new(ClientState::new());
    let io = Watched {
        stream,
        client: Arc::clone(&client),
        framing: Framing::new(settings.max_header_size),
        is_broken: false,
    };
    let requests = service_fn(|request: Request<Incoming>| {
        client.begin(!request.body().is_end_stream());
        let client = Arc::clone(&client);
        let handler = handler.clone();
        async move {
            let answer = handler.handle(request, &client).await;
            client.answering.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .preserve_header_case(true)
        // Framing has judged the head already, by its own bounds; these must not be narrower.
        .max_headers(128)
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
                Poll::Pending => client.due_refusal().map_or(Poll::Pending, |due| Poll::Ready(Some(due))),
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
    let Watched { mut stream, .. } = parts.io;
    if let Some(refusal) = refusal {
        drop(timeout(GOODBYE, stream.write_all(&handler.refuse(refusal))).await);
    }
    close(stream).await;
}

/// Tells a client that there is no room, and closes. An answer before the request would surprise
/// it, so its first byte is waited for.
pub(super) async fn refuse(mut stream: TcpStream, answer: Bytes) {
    drop(timeout(GOODBYE, stream.readable()).await);
    drop(timeout(GOODBYE, stream.write_all(&answer)).await);
    close(stream).await;
}

/// Ends a connection so that the client can read the last answer: what it has sent meanwhile is
/// taken for a moment, or the system would answer it by a reset that also discards our answer
/// (RFC 9112 §9.6).
async fn close(mut stream: TcpStream) {
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

/// The client's socket, watched: what arrives goes through [`Framing`], and it is noted when the
/// client does not take what we send.
struct Watched {
    stream: TcpStream,
    client: Arc<ClientState>,
    framing: Framing,
    /// Whether a body cannot be read to its end.
    is_broken: bool,
}

/// What the codec is told in the middle of a body whose framing is broken.
fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

thread_local! {
    /// What was read and is not yet judged: one buffer a worker, so that an idle connection has none.
    static ARRIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}

impl Watched {
    fn poll_arrival(
        &mut self,
        cx: &mut Context<'_>,
        arrived: &mut [u8],
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = arrived.len().min(buf.remaining());
        let mut arrived = tokio::io::ReadBuf::new(arrived.get_mut(..room).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut arrived))?;
        self.client.received();
        let bytes = arrived.filled();
        let scanned = self.framing.scan(bytes);
        let is_partial = self.framing.has_partial_head();
        self.client
            .has_partial_head
            .store(is_partial, Ordering::Relaxed);
        match scanned {
            Ok(()) => buf.put_slice(bytes),
            // What came before is served; then the driver of the connection answers this.
            Err(Violation::Head { before, refusal }) => {
                // Reading stops here, so it is the first and only one.
                self.client.refusal.get_or_init(|| refusal);
                if before == 0 {
                    return Poll::Pending;
                }
                buf.put_slice(bytes.get(..before).unwrap_or_default());
            }
            // The good part of the body goes on, so that its head is not lost with it.
            Err(Violation::Body { before }) => {
                self.is_broken = true;
                buf.put_slice(bytes.get(..before).unwrap_or_default());
                if before == 0 {
                    return Poll::Ready(Err(broken()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn note<R>(&self, written: Poll<R>) -> Poll<R> {
        let unsent = written.is_pending();
        self.client.unsent.store(unsent, Ordering::Relaxed);
        if unsent {
            self.client.waits_for_body();
        } else {
            self.client.body_moved();
        }
        written
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.client.is_refused() {
            return Poll::Pending;
        }
        if self.client.is_tunnel() {
            return Pin::new(&mut TokioIo::new(&mut self.stream)).poll_read(cx, buf);
        }
        if self.is_broken {
            return Poll::Ready(Err(broken()));
        }
        ARRIVED.with_borrow_mut(|arrived| self.poll_arrival(cx, arrived, buf))
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = gather::poll_write(&mut self.stream, cx, bufs);
        self.note(written)
    }
}
