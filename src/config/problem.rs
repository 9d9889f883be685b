//! What is wrong with a configuration: a key, where its value came from, and what would be right.

use std::fmt;

use serde::Serialize;

/// What a parser of a value says about a wrong one: what would be right. Never the value.
pub(super) type Expected = String;

/// One mistake. It never quotes a value: the value may be a secret in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The key, as `section.key`.
    pub key: String,
    /// Where the value came from; `None` when nothing gave one.
    pub source: Option<String>,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// Everything that is wrong with a configuration. Displayed as one line for each problem.
#[derive(Clone, Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl Problem {
    pub(super) fn new(key: &str, source: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            key: printable(key),
            source: Some(source.into()),
            text: text.into(),
        }
    }

    pub(super) fn missing(key: &str, text: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            source: None,
            text: text.into(),
        }
    }
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// All of them.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{} ({source}): {}", self.key, self.text),
            None => write!(f, "{}: {}", self.key, self.text),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let end_of_last = if index == 0 { "" } else { "\n" };
            write!(f, "{end_of_last}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Text for a terminal: a control character would end the line or move the cursor.
pub(super) fn printable(text: &str) -> String {
    let mut printed = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            printed.extend(c.escape_default());
        } else {
            printed.push(c);
        }
    }
    printed
}
