//! Connections to the upstream that wait for their next request: last in, first out.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use tokio::time::{Instant, sleep, timeout};

use crate::proxy::upload::RequestBody;

/// The idle connections of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    /// Locked for a push or a pop, by one thread only: never contended.
    idle: Mutex<Vec<Idle>>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle,
            idle_timeout,
        }
    }

    /// The connection that was used last, if it is still there.
    pub(super) fn take(self: &Arc<Self>) -> Option<Lease> {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { sender, since }) = idle.pop() {
            if sender.is_ready() && now < since + self.idle_timeout {
                return Some(Self::lease(self, sender));
            }
        }
        None
    }

    /// Lends a connection; it comes back by [`Lease::give_back`].
    pub(super) fn lease(pool: &Arc<Self>, sender: SendRequest<RequestBody>) -> Lease {
        Lease {
            pool: Arc::downgrade(pool),
            sender,
            is_last: false,
        }
    }

    /// Closes what was idle for too long, until the pool is gone.
    pub(super) fn close_idle(pool: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let pause = (pool.idle_timeout / 2).max(Duration::from_millis(100));
        let pool = Arc::downgrade(pool);
        async move {
            loop {
                sleep(pause).await;
                let Some(pool) = pool.upgrade() else { return };
                let now = Instant::now();
                let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
                idle.retain(|one| !one.sender.is_closed() && now < one.since + pool.idle_timeout);
            }
        }
    }

    /// Closes all that are idle.
    pub(super) fn clear(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn put(&self, sender: SendRequest<RequestBody>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.max_idle {
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
    }
}

/// A connection in use. Dropped before its exchange is over, it is closed.
#[derive(Debug)]
pub struct Lease {
    pool: Weak<Pool>,
    sender: SendRequest<RequestBody>,
    is_last: bool,
}

impl Lease {
    /// Says that the connection is not to be used again.
    pub fn close_after(&mut self) {
        self.is_last = true;
    }

    /// Sends a request on it; an error comes with the request, if no byte of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (Option<Request<RequestBody>>, hyper::Error)> {
        self.sender
            .try_send_request(request)
            .await
            .map_err(|mut error| (error.take_message(), error.into_error()))
    }

    /// Reads the rest of an answer that nobody wants, if it is short, so that the connection can
    /// be used again; or closes it.
    pub async fn finish(self, mut body: Incoming) {
        let read = async {
            let mut read = 0;
            while !body.is_end_stream() && read <= UNWANTED {
                match body.frame().await {
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
            body.is_end_stream()
        };
        if timeout(UNWANTED_TIME, read).await == Ok(true) {
            self.give_back();
        }
    }

    /// Says that the answer was read to its end.
    pub fn give_back(mut self) {
        let Some(pool) = self.pool.upgrade().filter(|_| !self.is_last) else {
            return;
        };
        if self.sender.is_ready() {
            pool.put(self.sender);
        } else if !self.sender.is_closed() {
            // An early answer: the request is still being sent. Worth a short wait; an upstream
            // that does not take the rest will close the connection.
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(LAST_BYTES, self.sender.ready()).await {
                    pool.put(self.sender);
                }
            });
        }
    }
}

/// How much of an unwanted answer is read, and how long it may take.
const UNWANTED: usize = 16 * 1024;
const UNWANTED_TIME: Duration = Duration::from_millis(50);

const LAST_BYTES: Duration = Duration::from_secs(1);
