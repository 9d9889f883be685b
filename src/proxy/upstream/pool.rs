//! Connections to the upstream with HTTP/1.1 that wait for their next request: last in, first out.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::http1::Connection;

/// The idle connections of one worker.
#[derive(Debug)]
pub(super) struct Pool {
    /// Locked for a push or a pop, by one thread only: never contended.
    state: Mutex<State>,
    /// Rung for whoever waits until there is something to close, and when there will be nothing.
    bell: Arc<Notify>,
    max_idle: usize,
    idle_timeout: Duration,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Idle>,
    /// Whether somebody waits for the bell.
    is_awaited: bool,
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
            state: Mutex::default(),
            bell: Arc::default(),
            max_idle,
            idle_timeout,
        }
    }

    /// The connection that was used last, if it is still there. One of another generation is closed.
    pub(super) fn take(&self, generation: usize) -> Option<Box<Connection>> {
        let now = Instant::now();
        let mut state = self.lock();
        while let Some(one) = state.idle.pop() {
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
        let is_good = |one: &mut Idle| now < one.until && one.connection.rests_quietly();
        self.lock().idle.retain_mut(is_good);
    }

    /// What rings once there is something to close again; `None` while there is.
    pub(super) fn next_put(&self) -> Option<Arc<Notify>> {
        let mut state = self.lock();
        state.is_awaited = state.idle.is_empty();
        state.is_awaited.then(|| Arc::clone(&self.bell))
    }

    /// Closes all that are idle.
    pub(super) fn clear(&self) {
        self.lock().idle.clear();
    }

    pub(super) fn put(&self, connection: Box<Connection>) {
        let mut state = self.lock();
        if state.idle.len() < self.max_idle {
            let said = connection.idle_limit();
            let time_limit = said.map_or(self.idle_timeout, |said| said.min(self.idle_timeout));
            let until = Instant::now() + time_limit;
            state.idle.push(Idle { connection, until });
            if std::mem::take(&mut state.is_awaited) {
                self.bell.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Whoever waits ends, too.
        self.bell.notify_one();
    }
}
