//! Since when lines of a log are lost, and why.

use std::{io, path::PathBuf};

use tokio::time::Instant;

use crate::{
    clock::seconds,
    remedy,
    subject::{Change, LastError, Subject, SubjectHealth},
};

/// What is known of the lines that one writer could not write.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Loss {
    lines: Subject,
    /// The file that is written to, where the log can tell of its loss; the log itself cannot.
    file: Option<PathBuf>,
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
    /// Counts the loss of what is written to this file.
    pub(in crate::telemetry) fn of_file(file: PathBuf) -> Self {
        Self {
            lines: Subject::default(),
            file: Some(file),
        }
    }

    /// Notes lines that could not be written; without an error there was no room for them to wait.
    pub(super) fn goes_on(&self, lost: u64, error: Option<&io::Error>) {
        let now = Instant::now();
        let (reason, detail) = match error {
            Some(error) => ("write", error.to_string()),
            None => ("slow", "they come faster than they are written".to_owned()),
        };
        let error = LastError {
            at: now,
            reason,
            detail: detail.clone(),
        };
        let change = self.lines.failed(error);
        if let (Some(Change::Failing { episode, .. }), Some(file)) = (change, &self.file) {
            tracing::error!(
                file = %file.display(),
                reason,
                detail,
                lost,
                failing_for_seconds = seconds(now - episode.since),
                remedy = remedy::LINES_LOST,
                "the access log loses lines"
            );
        }
    }

    /// Notes that lines get through.
    pub(super) fn ended(&self) {
        let now = Instant::now();
        if let (Some(Change::Recovered(episode)), Some(file)) =
            (self.lines.succeeded(now), &self.file)
        {
            tracing::info!(
                file = %file.display(),
                lasted_seconds = seconds(now - episode.since),
                "the access log is written again"
            );
        }
    }

    /// What is to be told, while lines are lost.
    pub(in crate::telemetry) fn told(&self) -> Option<LosingLog> {
        let health = self.lines.health();
        health.is_failing().then(|| LosingLog {
            file: self.file.clone(),
            health,
        })
    }
}
