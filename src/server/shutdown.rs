//! How a listener ends: announced first, where somebody wants that, and then for good.

use std::future::Future;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// The end of a listener and of its connections, as whoever serves them sees it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stop: CancellationToken,
    /// Set with `stop`, or before.
    announced: CancellationToken,
}

impl Shutdown {
    /// Announces the end: connections are still taken, and each response is the last of its connection
    /// (RFC 9112 §9.6, RFC 9113 §6.8), so that clients come back on one that may lead elsewhere.
    pub fn announce(&self) {
        self.announced.cancel();
    }

    /// Begins the end: no more connections, and what is open finishes what it has begun.
    pub fn begin(&self) {
        self.stop.cancel();
    }

    /// The same for one worker, whose connections then share no lock with those of others.
    pub(super) fn child(&self) -> Self {
        Self {
            stop: self.stop.child_token(),
            announced: self.announced.child_token(),
        }
    }

    /// Waits for the beginning.
    pub fn begun(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// Waits for the announcement.
    pub(super) fn announced(&self) -> impl Future<Output = ()> + '_ {
        self.announced.cancelled()
    }

    /// Whether the end was announced, or has begun.
    pub(super) fn is_announced(&self) -> bool {
        self.announced.is_cancelled()
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        let stop = CancellationToken::new();
        Self {
            announced: stop.child_token(),
            stop,
        }
    }
}
