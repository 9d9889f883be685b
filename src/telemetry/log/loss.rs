//! Since when lines of a log are lost, and why.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

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
    /// The file that is written to, where the log can report its loss; the log itself cannot.
    file: Option<PathBuf>,
    /// Held from a change until it is logged, so that the last line about the loss is the last change.
    reporting: Mutex<()>,
}

/// A change that is to be logged, before there can be another.
#[must_use]
#[derive(Debug)]
pub(super) struct News<'a> {
    change: Change,
    error: Option<LastError>,
    _turn: MutexGuard<'a, ()>,
}

/// Why lines are lost.
#[derive(Debug)]
pub(super) enum Cause<'a> {
    /// No room for the lines to wait: the lines before are not taken.
    NoRoom,
    /// The lines could not be written.
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
            reporting: Mutex::default(),
        }
    }

    /// Notes that a line is lost. What comes of it is for [`Loss::report`].
    pub(super) fn goes_on(&self, cause: &Cause<'_>) -> Option<News<'_>> {
        let (reason, detail) = match cause {
            Cause::NoRoom => ("slow", "they come faster than they are written".to_owned()),
            Cause::Write(error) => (
                "write",
                error.map_or_else(|| "nothing was written".to_owned(), ToString::to_string),
            ),
        };
        let error = LastError {
            at: Instant::now(),
            reason,
            detail,
        };
        let change = self.lines.failed(error.clone())?;
        Some(self.news(change, Some(error)))
    }

    /// Notes that lines get through. What comes of it is for [`Loss::report`].
    pub(super) fn ended(&self) -> Option<News<'_>> {
        let change = self.lines.succeeded(Instant::now())?;
        Some(self.news(change, None))
    }

    fn news(&self, change: Change, error: Option<LastError>) -> News<'_> {
        News {
            change,
            error,
            _turn: self
                .reporting
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Logs a change, with the number of lines that are lost by now. It writes to the log, so nothing
    /// that the log may need can be held meanwhile.
    pub(super) fn report(&self, news: Option<News<'_>>, lost: u64) {
        let (Some(news), Some(file)) = (news, &self.file) else {
            return;
        };
        let error = news.error.as_ref();
        match news.change {
            Change::Failing { episode, .. } => {
                tracing::error!(
                    file = %file.display(),
                    reason = error.map(|error| error.reason),
                    detail = error.map(|error| &*error.detail),
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
