//! Whether clients are served with the tokens of a configuration, as its token calls have to know: a failure
//! of one that is tried is logged, and no longer once it is given up.

use std::sync::{Arc, Mutex, PoisonError};

/// The standing of a configuration, shared with its token calls.
#[derive(Debug, Clone)]
pub(super) struct Standing(Arc<Mutex<Stage>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A candidate: the configuration has to give a token first.
    Tried,
    InUse,
    GivenUp,
}

impl Standing {
    /// The standing of a candidate, or of the configuration of the start, which is in use from its first
    /// token call on.
    pub(super) fn new(is_candidate: bool) -> Self {
        let stage = if is_candidate {
            Stage::Tried
        } else {
            Stage::InUse
        };
        Self(Arc::new(Mutex::new(stage)))
    }

    /// Clients are served with it from now on.
    pub(super) fn come_into_use(&self) {
        self.set(Stage::InUse);
    }

    /// Ends the trial: nobody waits for the configuration any more. What is being logged of it is logged
    /// when this returns.
    pub(super) fn give_up(&self) {
        self.set(Stage::GivenUp);
    }

    /// Calls `log` while the configuration is tried, and not a moment longer.
    pub(super) fn while_tried(&self, log: impl FnOnce()) {
        let stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage == Stage::Tried {
            log();
        }
    }

    fn set(&self, next: Stage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_or_in_use_is_not_logged_as_tried() {
        for end in [Standing::come_into_use, Standing::give_up] {
            let standing = Standing::new(true);
            let mut logged = 0;
            standing.clone().while_tried(|| logged += 1);
            end(&standing);
            standing.clone().while_tried(|| logged += 1);
            assert_eq!(logged, 1);
        }
    }
}
