//! Since when lines of a log are lost, and why.

use std::{io, path::PathBuf};

use tokio::time::Instant;

use crate::{
    clock::seconds,
    remedy,
    subject::{Change, LastError, Subject, SubjectHealth},
};

/// What is known of the lines that one queue loses.
#[derive(Debug, Default)]
pub(super) struct Loss {
    lines: Subject,
    /// The file that is written to, where the log can tell of its loss; the log itself cannot.
    file: Option<PathBuf>,
}

/// Why lines are lost.
#[derive(Debug)]
pub(super) enum Cause<'a> {
    /// There was no room for them to wait: the lines before are not taken.
    NoRoom,
    /// They could not be written.
    Write(Option<&'a io::Error>),
}

/// A log that loses lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LosingLog {
    /// The file of the log; `None` for standard error.
    pub file: Option<PathBuf>,
    /// Since when, how often, and why.
    pub health: SubjectHealth,
}

impl Loss {
    /// Counts the loss of what is written to this file, or to standard error.
    pub(super) fn of(file: Option<PathBuf>) -> Self {
        Self {
            lines: Subject::default(),
            file,
        }
    }

    /// Notes that a line is lost. What comes of it is for [`Loss::tell`].
    pub(super) fn goes_on(&self, cause: &Cause<'_>) -> Option<Change> {
        let (reason, detail) = match cause {
            Cause::NoRoom => ("slow", "they come faster than they are written".to_owned()),
            Cause::Write(error) => (
                "write",
                error.map_or_else(|| "nothing was written".to_owned(), ToString::to_string),
            ),
        };
        self.lines.failed(LastError {
            at: Instant::now(),
            reason,
            detail,
        })
    }

    /// Notes that lines get through. What comes of it is for [`Loss::tell`].
    pub(super) fn ended(&self) -> Option<Change> {
        self.lines.succeeded(Instant::now())
    }

    /// Logs a change, with the number of lines that are lost by now. It writes to the log, so nothing
    /// that the log may need can be held meanwhile.
    pub(super) fn tell(&self, change: Option<Change>, lost: u64) {
        let (Some(change), Some(file)) = (change, &self.file) else {
            return;
        };
        match change {
            Change::Failing { episode, .. } => {
                let error = self.lines.health().last_error;
                tracing::error!(
                    file = %file.display(),
                    reason = error.as_ref().map(|error| error.reason),
                    detail = error.map(|error| error.detail),
                    lost,
                    failing_for_seconds = seconds(episode.since.elapsed()),
                    remedy = remedy::LINES_LOST,
                    "the access log loses lines"
                );
            }
            Change::Recovered(episode) => tracing::info!(
                file = %file.display(),
                lasted_seconds = seconds(episode.since.elapsed()),
                "the access log is written again"
            ),
        }
    }

    /// The log, while lines are lost.
    pub(super) fn losing(&self) -> Option<LosingLog> {
        let health = self.lines.health();
        health.is_failing().then(|| LosingLog {
            file: self.file.clone(),
            health,
        })
    }
}
