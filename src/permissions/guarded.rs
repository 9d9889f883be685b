//! Files that are followed only while nobody else may write to them.

use std::{path::PathBuf, time::Duration};

use tokio::{sync::Notify, time::timeout};

use super::writable_by_others;
use crate::secret::{Fingerprint, changed};

/// Files that decide who is let in, or whom is trusted, followed as they change. What others can
/// write to is not followed: a log line says so, and SIGHUP reads it as it is.
///
/// Files with secrets are not of that kind: they are read at each use, and whoever writes to one
/// gains nothing but a rejected credential.
#[derive(Clone, Debug)]
pub struct GuardedFiles {
    paths: Vec<PathBuf>,
    seen: Fingerprint,
    /// How the files looked when they were not followed.
    left: Option<Fingerprint>,
    was_reported: bool,
    /// What has the files read whoever can write to them.
    otherwise: &'static str,
}

/// How often it is looked whether others have lost their access.
const RECHECK: Duration = Duration::from_secs(5);

impl GuardedFiles {
    /// Files as they look now; to be made before they are read, so that what changes in between is
    /// seen as a change.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            seen: Fingerprint::of(&paths),
            paths,
            left: None,
            was_reported: false,
            otherwise: "SIGHUP",
        }
    }

    /// Files that no signal has read again, as they look now.
    #[must_use]
    pub fn read_at_start(paths: Vec<PathBuf>) -> Self {
        Self {
            otherwise: "a restart",
            ..Self::new(paths)
        }
    }

    /// Takes the files as they look now; to be called before they are read because somebody has asked.
    pub fn look(&mut self) {
        self.seen = Fingerprint::of(&self.paths);
        self.left = None;
    }

    /// Waits until the files have changed and nobody else can write to them, or until `asked` is notified;
    /// for ever where there are none. The change counts as seen then.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn changed_or(&mut self, asked: &Notify) {
        tokio::select! {
            () = asked.notified() => self.look(),
            () = self.changed() => {}
        }
    }

    /// [`GuardedFiles::changed_or`], where nobody asks.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn changed(&mut self) {
        self.may_be_followed().await;
        self.look();
    }

    /// Waits as [`GuardedFiles::changed`] does, and leaves it to [`GuardedFiles::follow`] to count the change as seen.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn may_be_followed(&mut self) {
        loop {
            match &self.left {
                None => changed(&self.paths, &self.seen).await,
                Some(left) => drop(timeout(RECHECK, changed(&self.paths, left)).await),
            }
            if self.new_look().is_some() {
                return;
            }
        }
    }

    /// Whether the files have changed and nobody else can write to them. The change counts as seen then.
    #[must_use]
    pub fn follow(&mut self) -> bool {
        let followed = self.new_look();
        let is_followed = followed.is_some();
        self.seen = followed.unwrap_or_else(|| self.seen.clone());
        is_followed
    }

    /// How the files look now, if that is another look and nobody else can have made it.
    fn new_look(&mut self) -> Option<Fingerprint> {
        let now = Fingerprint::of(&self.paths);
        if now == self.seen {
            self.left = None;
            return None;
        }
        let Some(writable) = self.paths.iter().find_map(|path| writable_by_others(path)) else {
            self.left = None;
            self.was_reported = false;
            return Some(now);
        };
        self.left = Some(now);
        if !std::mem::replace(&mut self.was_reported, true) {
            let otherwise = self.otherwise;
            tracing::warn!(
                "a file has changed and is not followed, since {writable}. {otherwise} has it read as it \
                 is"
            );
        }
        None
    }
}
