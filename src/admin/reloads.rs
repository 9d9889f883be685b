//! What became of the last change of the configuration.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The last change. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reloads(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    file: Option<PathBuf>,
    last: Mutex<Option<Reload>>,
}

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reload {
    pub(super) at: Instant,
    /// Why it did not come into use.
    pub(super) problem: Option<String>,
    /// When the first one was rejected since one was accepted.
    pub(super) rejected_since: Option<Instant>,
}

impl Reloads {
    /// Changes of the configuration in that file, if it is in one.
    #[must_use]
    pub fn of(file: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            file,
            last: Mutex::default(),
        }))
    }

    /// A new configuration is in use.
    pub fn accepted(&self) {
        self.set(None);
    }

    /// Notes that a changed configuration cannot be used, and why; `problem` holds no secret.
    pub fn rejected(&self, problem: String) {
        self.set(Some(problem));
    }

    /// For how long none was accepted; nothing while the last one was.
    #[must_use]
    pub fn rejected_for(&self) -> Duration {
        let since = self.last().and_then(|last| last.rejected_since);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether the last change did not come into use.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.last().is_some_and(|last| last.problem.is_some())
    }

    /// The file of the configuration.
    pub(super) fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    fn set(&self, problem: Option<String>) {
        let at = Instant::now();
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.as_ref().and_then(|last| last.rejected_since);
        let rejected_since = problem.is_some().then(|| before.unwrap_or(at));
        *last = Some(Reload {
            at,
            problem,
            rejected_since,
        });
    }

    pub(super) fn last(&self) -> Option<Reload> {
        let last = self.0.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
