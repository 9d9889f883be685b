//! Work on files whose disk may hang, on threads that can wait for it while nothing else does.

use std::{io, sync::mpsc, thread, time::Duration};

use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// The threads for one kind of work. Each whose disk hangs is one less for that kind, and for no other.
#[derive(Debug)]
pub(crate) struct Threads(Semaphore);

/// For the files of refresh tokens, each of which has two at most.
pub(crate) static REFRESH_TOKENS: Threads = Threads(Semaphore::const_new(32));
/// For the files of tokens, each of which has one at most, and one more at a change of the configuration.
pub(crate) static TOKEN_FILES: Threads = Threads(Semaphore::const_new(256));
/// For configurations that are loaded again.
pub(crate) static CONFIGURATIONS: Threads = Threads(Semaphore::const_new(8));

impl Threads {
    /// Does `work`, and gives what came of it unless that takes longer than `limit`; then it goes on unheard.
    ///
    /// # Errors
    /// When it takes longer, or cannot be begun.
    ///
    /// # Cancel safety
    /// Dropped, it has begun nothing or goes on to its end: what is being written is written whole.
    pub(crate) async fn within<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        self.begin(move || drop(done.send(work())))?;
        let result = timeout(limit, result).await.map_err(|_| hangs())?;
        result.map_err(|_| crashed())
    }

    /// The same for the start, where nothing else is at work yet.
    ///
    /// # Errors
    /// As [`Self::within`].
    pub(crate) fn within_blocking<T: Send + 'static>(
        &'static self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = mpsc::channel();
        self.begin(move || drop(done.send(work())))?;
        result.recv_timeout(limit).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => hangs(),
            mpsc::RecvTimeoutError::Disconnected => crashed(),
        })
    }

    /// Begins it on a thread that is not the runtime's, whose end would wait for it.
    fn begin(&'static self, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let permit = self.0.try_acquire().map_err(|_| hangs())?;
        let thread = thread::Builder::new().name("disk".to_owned());
        thread
            .spawn(move || {
                work();
                drop(permit);
            })
            .map(drop)
    }
}

fn hangs() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk does not respond")
}

fn crashed() -> io::Error {
    io::Error::other("the work on a file crashed")
}

#[cfg(test)]
mod tests {
    use super::*;

    static THREADS: Threads = Threads(Semaphore::const_new(32));
    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn what_takes_too_long_is_given_up_and_still_done() {
        let (done, ended) = mpsc::channel();
        let slow = || {
            let (release, released) = mpsc::channel::<()>();
            let done = done.clone();
            let work = move || {
                released.recv().unwrap_or_default();
                done.send(()).unwrap();
            };
            (release, work)
        };
        let ((first, work), (second, other)) = (slow(), slow());
        let errors = [
            THREADS.within(SHORT, work).await.unwrap_err(),
            THREADS.within_blocking(SHORT, other).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert!(ended.try_recv().is_err());
        for release in [first, second] {
            drop(release);
            ended.recv_timeout(Duration::from_secs(10)).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_done_in_time_is_given() {
        assert_eq!(THREADS.within(SHORT * 100, || 1).await.unwrap(), 1);
        assert_eq!(THREADS.within_blocking(SHORT * 100, || 2).unwrap(), 2);
    }
}
