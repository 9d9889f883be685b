//! A WebSocket (RFC 6455): offered by the client, agreed on by the upstream, and then bytes both
//! ways until one side ends or both are silent for too long.
//!
//! No other upgrade is passed on: `h2c` would be a way past everything that is done to a request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    time::{Instant, sleep_until},
};
use tokio_util::io::InspectReader;

/// Bytes of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) from_client: u64,
    pub(super) from_upstream: u64,
}

/// Carries the bytes of both sides, and says how many there were. A side that ends its half is still
/// listened to.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    idle_timeout: Duration,
) -> Carried {
    let activity = Activity::new();
    let (of_client, of_upstream) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut client = activity.watch(client, |count| {
        of_client.fetch_add(count as u64, Ordering::Relaxed);
    });
    let mut upstream = activity.watch(upstream, |count| {
        of_upstream.fetch_add(count as u64, Ordering::Relaxed);
    });
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
    Carried {
        from_client: of_client.load(Ordering::Relaxed),
        from_upstream: of_upstream.load(Ordering::Relaxed),
    }
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

    /// Notes what is read from a side, and hands on how much it is.
    fn watch<T: AsyncRead, F: FnMut(usize)>(
        &self,
        io: T,
        mut count: F,
    ) -> InspectReader<T, impl FnMut(&[u8]) + use<T, F>> {
        let activity = self.clone();
        InspectReader::new(io, move |data| {
            activity.note();
            count(data.len());
        })
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
