//! Connections to the upstream with HTTP/1.1 that wait for their next request: last in, first out.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::http1::Connection;

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
    connection: Box<Connection>,
    /// When it is too old to be used again.
    until: Instant,
}

impl Pool {
    pub(super) fn new(max_idle: usize, idle_timeout: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            max_idle,
            idle_timeout,
        }
    }

    /// The connection that was used last, if it is still there. One of another generation is closed.
    pub(super) fn take(&self, generation: usize) -> Option<Box<Connection>> {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(one) = idle.pop() {
            let Idle {
                mut connection,
                until,
            } = one;
            let is_current = connection.generation() == generation;
            if is_current && now < until && connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes what was idle for too long.
    pub(super) fn close_idle(&self) {
        let now = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|one| now < one.until && one.connection.rests_quietly());
    }

    /// Closes all that are idle.
    pub(super) fn clear(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(super) fn put(&self, connection: Box<Connection>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.max_idle {
            let said = connection.idle_limit();
            let patience = said.map_or(self.idle_timeout, |said| said.min(self.idle_timeout));
            let until = Instant::now() + patience;
            idle.push(Idle { connection, until });
        }
    }
}
