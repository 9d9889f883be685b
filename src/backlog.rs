//! A bound on what is buffered of bodies, over all connections of the process: whoever reads further
//! ahead than a little takes a share of it first, and whoever gets none makes do with the little.
//!
//! Without it the requests that wait for a token, each with the beginning of its body, would take
//! more memory together than the process may have.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Together with what is kept to send requests again (`upstream.replay_buffer_total`), it leaves room
/// for the rest within the 64 MiB that `deploy/kubernetes.yaml` gives.
const TOTAL: usize = 8 * 1024 * 1024;

/// Memory is the process's, and so is its bound.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A part of it, in bytes; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Share(usize);

impl Share {
    /// Makes the share that large, which can always be done to make it smaller; whether it could be
    /// done.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        if bytes == self.0 {
            return true;
        }
        let resized = TAKEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            let taken = (taken - self.0).saturating_add(bytes);
            (taken <= TOTAL).then_some(taken)
        });
        if resized.is_err() {
            return false;
        }
        self.0 = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_come_back() {
        // Other tests of the process may have some.
        const HALF: usize = TOTAL / 2 + 1;
        let (mut one, mut other) = (Share::default(), Share::default());
        assert!(one.resize(HALF));
        assert!(!other.resize(HALF));
        assert!(one.resize(1));
        assert!(other.resize(HALF));
        drop(other);
        assert!(one.resize(HALF));
    }
}
