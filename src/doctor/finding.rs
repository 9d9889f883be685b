//! One line of the report.

use std::fmt;

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but look at it.
    Warning,
    /// The sidecar cannot do its work.
    Failed,
}

/// What was found out about one subject, with advice where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What it is about.
    pub subject: &'static str,
    /// What was found, in words.
    pub text: String,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, subject, text)
    }

    pub(super) fn warning(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, subject, text)
    }

    pub(super) fn failed(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, subject, text)
    }

    fn new(verdict: Verdict, subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            verdict,
            subject,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        write!(f, "{verdict:<8} {:<14} {}", self.subject, self.text)
    }
}
