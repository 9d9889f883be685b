//! A WebSocket (RFC 6455): offered by the client, agreed on by the upstream, and then bytes both
//! ways until one side ends or both are silent for too long.
//!
//! No other upgrade is passed on: `h2c` would be a way past everything that is done to a request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until},
};

/// Carries the bytes of both sides, and says how many went to the client. A side that ends its half is
/// still listened to.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    idle_timeout: Duration,
) -> u64 {
    let activity = Activity::new();
    let mut client = activity.watch(client);
    let mut upstream = activity.watch(upstream);
    tokio::select! {
        carried = copy_bidirectional(&mut client, &mut upstream) => {
            if let Err(error) = carried {
                tracing::debug!(%error, "a WebSocket broke off");
            }
        }
        () = activity.ceases(idle_timeout) => {
            tracing::debug!("a WebSocket was silent for too long");
        }
    }
    upstream.read
}

/// When a byte was last read from either side.
#[derive(Debug, Clone)]
struct Activity {
    epoch: Instant,
    /// Milliseconds since `epoch`.
    last: Arc<AtomicU64>,
}

impl Activity {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            last: Arc::default(),
        }
    }

    fn watch<T>(&self, io: T) -> ActivityIo<T> {
        ActivityIo {
            io,
            activity: self.clone(),
            read: 0,
        }
    }

    fn note(&self) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Waits until there was none for so long.
    async fn ceases(&self, idle_timeout: Duration) {
        loop {
            let last = self.epoch + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if Instant::now() >= last + idle_timeout {
                return;
            }
            sleep_until(last + idle_timeout).await;
        }
    }
}

/// One side of a tunnel.
struct ActivityIo<T> {
    io: T,
    activity: Activity,
    /// Bytes that came from it.
    read: u64,
}

impl<T: AsyncRead + Unpin> AsyncRead for ActivityIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.read += (buf.filled().len() - before) as u64;
            self.activity.note();
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ActivityIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
