//! How the sidecar is, in one word and in a sentence: derived from what is wrong.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::trouble::Trouble;
use crate::token::Snapshot;

/// One word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// There was no token yet.
    Starting,
    /// Requests are served.
    Ready,
    /// Requests are served, and something that keeps it so fails.
    Degraded,
    /// There is no usable token.
    Unavailable,
    /// The program was asked to stop.
    Stopping,
}

impl State {
    /// As `/status` says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
            Self::Stopping => "stopping",
        }
    }
}

/// How it is, given whether there is a token and what is wrong.
pub(super) fn state_of(
    is_stopping: bool,
    snapshot: &Snapshot,
    now: Instant,
    all: &[Trouble],
) -> State {
    if is_stopping {
        State::Stopping
    } else if snapshot.usable(now).is_none() {
        match snapshot.token {
            None => State::Starting,
            Some(_) => State::Unavailable,
        }
    } else if all.iter().any(Trouble::degrades) {
        State::Degraded
    } else {
        State::Ready
    }
}

/// The same in a sentence.
pub(super) fn summary(state: State, all: &[Trouble]) -> String {
    let first = all.iter().find(|trouble| trouble.degrades());
    match (state, first) {
        (State::Stopping, _) => "it was asked to stop".to_owned(),
        (_, Some(trouble)) => trouble.text.clone(),
        (State::Starting, None) => "the first token is being fetched".to_owned(),
        (State::Unavailable, None) => {
            "the token has ended; the next one is being fetched".to_owned()
        }
        (State::Ready | State::Degraded, None) => "requests are served".to_owned(),
    }
}
