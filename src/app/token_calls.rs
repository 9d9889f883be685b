//! The token calls of a configuration, on a thread of their own, and how they end.
//!
//! Credentials are files that are read when they are used: a disk that hangs then holds up no signal, no
//! reload and no probe.

use std::{future::pending, io, thread, time::Duration};

use tokio::{
    runtime::Builder,
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::standing::Standing;
use crate::token::{Events, Refresher, TokenSource, may_be_dropped};

/// The token calls of a configuration. Dropped, they end: at once, or after the one in flight where its
/// response may bring what exists nowhere else.
#[derive(Debug)]
pub(super) struct TokenCalls {
    stop: CancellationToken,
    standing: Standing,
    may_commit: bool,
    /// Closed when the thread ends.
    ended: oneshot::Receiver<()>,
}

/// The token calls of all configurations that must be finished, also of those that are no longer in use.
#[derive(Debug, Clone, Default)]
pub(super) struct AllTokenCalls(TaskTracker);

/// The time for a response that has arrived at the last moment to be stored.
const MOMENT: Duration = Duration::from_secs(1);

impl TokenCalls {
    /// Starts to make them.
    pub(super) fn start<S, E>(
        refresher: Refresher<S, E>,
        standing: &Standing,
        all: &AllTokenCalls,
    ) -> io::Result<Self>
    where
        S: TokenSource + 'static,
        E: Events + 'static,
    {
        let stop = CancellationToken::new();
        let commitment = refresher.commitment();
        let (alive, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let stopped = stop.clone();
        thread::Builder::new()
            .name("token-calls".to_owned())
            .spawn(move || {
                runtime.block_on(refresher.run(stopped));
                // A name lookup that hangs must not hold up the end.
                runtime.shutdown_background();
                drop(alive);
            })?;
        let may_commit = commitment.is_some();
        if may_commit {
            let stop = stop.clone();
            // Not for the thread: a disk that hangs may hold it up where there is nothing to be lost.
            all.0
                .spawn(async move { may_be_dropped(commitment, &stop).await });
        }
        Ok(Self {
            stop,
            standing: standing.clone(),
            may_commit,
            ended,
        })
    }

    /// Begins no more calls that would have to be finished. The others go on: whoever is being served may
    /// still need a token.
    pub(super) fn wind_down(&self) {
        if self.may_commit {
            self.stop.cancel();
        }
    }

    /// Waits until they have ended without a stop, as only a fault makes them.
    pub(super) async fn crashed(&mut self) {
        if self.stop.is_cancelled() {
            return pending().await;
        }
        drop((&mut self.ended).await);
    }
}

impl Drop for TokenCalls {
    fn drop(&mut self) {
        // A call that is over at this very moment on its own thread is no longer logged.
        self.standing.give_up();
        self.stop.cancel();
    }
}

impl AllTokenCalls {
    /// Waits for the calls in flight that must be finished, until `deadline`.
    pub(super) async fn finish(&self, deadline: Instant) {
        self.0.close();
        // What was stopped just now needs a moment to end.
        let deadline = deadline.max(Instant::now() + MOMENT);
        if timeout_at(deadline, self.0.wait()).await.is_err() {
            tracing::error!(
                "a token call was still in flight at the end of the drain time, or its refresh token could \
                 not be stored: where the service has rotated the refresh token, the new one is lost"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::watch;

    use super::*;
    use crate::token::{
        FetchError, NoEvents, Reason, TokenResponse, channel, schedule::RefreshPolicy,
    };

    /// Blocks its thread, as a disk that hangs does.
    struct Stuck {
        begins: mpsc::Sender<()>,
        released: mpsc::Receiver<()>,
        is_committed: watch::Sender<bool>,
    }

    impl TokenSource for Stuck {
        async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
            self.begins.send(()).unwrap_or_default();
            self.released.recv().unwrap_or_default();
            self.is_committed.send_replace(false);
            Err(FetchError::new(Reason::Network, "nothing"))
        }

        fn commitment(&self) -> Option<watch::Receiver<bool>> {
            Some(self.is_committed.subscribe())
        }
    }

    #[tokio::test]
    async fn a_thread_that_hangs_is_waited_for_at_the_end_only_where_something_can_be_lost() {
        for is_committed in [false, true] {
            let (begins, begun) = mpsc::channel();
            let (release, released) = mpsc::channel();
            let source = Stuck {
                begins,
                released,
                is_committed: watch::Sender::new(is_committed),
            };
            let (refresher, _tokens) =
                channel(source, RefreshPolicy::default(), NoEvents, fastrand::f64);
            let all = AllTokenCalls::default();
            let calls = TokenCalls::start(refresher, &Standing::new(false), &all).unwrap();
            begun.recv_timeout(Duration::from_secs(10)).unwrap();
            drop(calls);
            let asked = Instant::now();
            all.finish(asked).await;
            let has_waited = asked.elapsed() >= MOMENT;
            assert_eq!(has_waited, is_committed);
            drop(release);
        }
    }
}
