//! Connections to the upstream with HTTP/1.1 that wait for their next request: last in, first out.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use super::lease::Lease;
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
        Lease::http1(Arc::downgrade(pool), sender)
    }

    /// Closes what was idle for too long.
    pub(super) fn close_idle(&self, idle_timeout: Duration) {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| !one.sender.is_closed() && now < one.since + idle_timeout);
    }

    /// Closes all that are idle.
    pub(super) fn clear(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(super) fn put(&self, sender: SendRequest<RequestBody>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.max_idle {
            let since = Instant::now();
            idle.push(Idle { sender, since });
        }
    }
}
