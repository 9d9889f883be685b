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

/// Carries the bytes of both sides, and counts them where whoever aborts it finds them too. A side that
/// ends its half is still listened to.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
    idle_timeout: Duration,
    from_client: &mut u64,
    from_upstream: &mut u64,
) {
    let activity = Activity::new();
    let mut client = activity.watch(client, |count| *from_client += count as u64);
    let mut upstream = activity.watch(upstream, |count| *from_upstream += count as u64);
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
