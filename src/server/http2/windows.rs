//! How much the client of a connection may send of bodies before somebody reads them.
//!
//! A window is a promise of memory. So each connection begins with the smallest that the protocol
//! has, what may come of bodies that nobody reads yet is a share of the bound over all connections
//! ([`crate::backlog`]), and a large body that is being read widens the windows of its connection
//! for as long as there is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{backlog::Share, message::BodyLength};

/// RFC 9113 §6.9.2: a client may send so much before it has heard anything of us.
pub(super) const NARROW: u32 = 65_535;
/// The window of a connection of which a large body is being read, ...
pub(super) const WIDE: u32 = 1024 * 1024;
/// ... and that of each of its streams.
pub(super) const WIDE_STREAM: u32 = 256 * 1024;

/// A body of which so much was read is a large one.
const LARGE: usize = NARROW as usize / 2;

/// The windows of one connection, as its task and the tasks of its streams see them.
#[derive(Debug, Default)]
pub(super) struct Windows {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What may come of bodies that nobody reads yet.
    unread: usize,
    /// How many large bodies are being read.
    reading: usize,
    is_wide: bool,
    share: Share,
}

impl State {
    /// What the client may send as things are.
    fn allowed(&self) -> usize {
        if self.is_wide {
            WIDE as usize
        } else {
            self.unread.min(NARROW as usize)
        }
    }
}

impl Windows {
    /// Room for a body that nobody reads yet; `None` when there is no more.
    pub(super) fn wait(self: &Arc<Self>, length: BodyLength) -> Option<Unread> {
        let bytes = match length {
            BodyLength::Known(length) => usize::try_from(length).unwrap_or(usize::MAX),
            BodyLength::Unknown => usize::MAX,
        };
        let bytes = bytes.min(NARROW as usize);
        let mut state = self.state();
        state.unread += bytes;
        let allowed = state.allowed();
        if state.share.resize(allowed) {
            return Some(Unread {
                windows: Arc::clone(self),
                bytes,
            });
        }
        state.unread -= bytes;
        None
    }

    /// A body of which so much was read, if that makes it a large one.
    pub(super) fn read(self: &Arc<Self>, bytes: usize) -> Option<Reading> {
        if bytes < LARGE {
            return None;
        }
        self.state().reading += 1;
        self.changed.notify_one();
        Some(Reading(Arc::clone(self)))
    }

    /// Waits until the window of the connection is to be another one: which.
    ///
    /// # Cancel safety
    /// Safe: nothing is forgotten.
    pub(super) async fn change(&self) -> u32 {
        loop {
            if let Some(window) = self.settle() {
                return window;
            }
            self.changed.notified().await;
        }
    }

    fn settle(&self) -> Option<u32> {
        let mut state = self.state();
        if !state.is_wide && state.reading > 0 {
            state.is_wide = state.share.resize(WIDE as usize);
            return state.is_wide.then_some(WIDE);
        }
        // What was allowed may have come, and stays until it is read.
        if state.is_wide && state.reading == 0 && state.unread == 0 {
            state.is_wide = false;
            state.share.resize(0);
            return Some(NARROW);
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that nobody reads yet.
#[derive(Debug)]
pub(super) struct Unread {
    windows: Arc<Windows>,
    bytes: usize,
}

impl Drop for Unread {
    fn drop(&mut self) {
        let mut state = self.windows.state();
        state.unread -= self.bytes;
        let allowed = state.allowed();
        state.share.resize(allowed);
        let may_narrow = state.is_wide && state.unread == 0;
        drop(state);
        if may_narrow {
            self.windows.changed.notify_one();
        }
    }
}

/// A large body that is being read.
#[derive(Debug)]
pub(super) struct Reading(Arc<Windows>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.state().reading -= 1;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_on_a_connection_takes_no_more_than_its_window() {
        let windows = Arc::new(Windows::default());
        let known = |length| windows.wait(BodyLength::Known(length)).unwrap();
        let small = known(1000);
        assert_eq!(windows.state().allowed(), 1000);
        let many: Vec<_> = (0..100).map(|_| known(1 << 20)).collect();
        assert_eq!(windows.state().allowed(), NARROW as usize);
        drop(many);
        assert_eq!(windows.state().allowed(), 1000);
        drop(small);
        assert_eq!(windows.state().allowed(), 0);
    }

    #[test]
    fn a_large_body_widens_the_window_until_all_of_its_connection_is_read() {
        let windows = Arc::new(Windows::default());
        assert!(windows.read(1000).is_none());
        let reading = windows.read(LARGE).unwrap();
        assert_eq!(windows.settle(), Some(WIDE));
        assert_eq!(windows.settle(), None);
        let unread = windows.wait(BodyLength::Unknown).unwrap();
        drop(reading);
        assert_eq!(windows.settle(), None);
        drop(unread);
        assert_eq!(windows.settle(), Some(NARROW));
    }
}
