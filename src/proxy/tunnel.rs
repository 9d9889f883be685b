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

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded, on},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until},
};

use super::{ledger::Entry, upstream::Answer};

/// A client's wish to change to a WebSocket.
#[derive(Debug)]
pub(super) struct Offer(OnUpgrade);

impl Offer {
    /// Takes it from a request. What else may be offered there is forgotten.
    pub(super) fn take(request: &mut Request<Incoming>) -> Option<Self> {
        let is_websocket = request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && names_websocket(request.headers());
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        upgrade.filter(|_| is_websocket).map(Self)
    }
}

/// Whether the fields of a request or of an answer are about a WebSocket and nothing else.
pub(super) fn names_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let is_one = protocols
        .next()
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let is_named = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    is_one && protocols.next().is_none() && is_named
}

/// Puts the two fields back that the removal of connection fields took.
pub(super) fn restore(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Carries the bytes of both sides, once the codecs have let go of their connections. A side that
/// ends its half is still listened to.
pub(super) async fn carry(
    offer: Offer,
    mut answer: Response<Answer>,
    idle_timeout: Duration,
    entry: Entry,
) {
    let (client, upstream) = tokio::join!(offer.0, on(&mut answer));
    let (Ok(client), Ok(upstream)) = (client, upstream) else {
        tracing::debug!("a WebSocket ended before it began");
        return;
    };
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
    drop(entry);
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

    fn watch(&self, upgraded: Upgraded) -> Watched {
        Watched {
            io: TokioIo::new(upgraded),
            activity: self.clone(),
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
struct Watched {
    io: TokioIo<Upgraded>,
    activity: Activity,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.activity.note();
        }
        read
    }
}

impl AsyncWrite for Watched {
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
