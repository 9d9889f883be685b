//! What became of the last change of the configuration.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// The last change. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reloads(Arc<Mutex<Option<Reload>>>);

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reload {
    pub(super) at: Instant,
    /// Why it did not come into use.
    pub(super) problem: Option<String>,
}

impl Reloads {
    /// A new configuration is in use.
    pub fn accepted(&self) {
        self.set(None);
    }

    /// Notes that a changed configuration cannot be used, and why; `problem` holds no secret.
    pub fn rejected(&self, problem: String) {
        self.set(Some(problem));
    }

    fn set(&self, problem: Option<String>) {
        let at = Instant::now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reload { at, problem });
    }

    pub(super) fn last(&self) -> Option<Reload> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
