//! How the sidecar is, in one word and in a sentence, and what to do about it: derived from what is
//! known, and stored nowhere.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    status::{Credential, LastReload, Upstream},
    words,
};
use crate::{remedy, token::Snapshot};

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

/// What is thought of it.
#[derive(Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) state: State,
    pub(super) summary: String,
    pub(super) remedy: Option<&'static str>,
}

/// The first that is true counts: what stops requests now, then what will.
pub(super) fn judge(
    is_stopping: bool,
    snapshot: &Snapshot,
    now: Instant,
    upstream: &Upstream,
    credentials: &[Credential],
    reload: Option<&LastReload>,
) -> Judgement {
    let say = |state, summary: String, remedy| Judgement {
        state,
        summary,
        remedy,
    };
    if is_stopping {
        let summary = "it was asked to stop, and finishes the requests in flight";
        return say(State::Stopping, summary.to_owned(), None);
    }
    let is_usable = snapshot.usable(now).is_some();
    if let Some(failure) = &snapshot.failure {
        let why = Some(remedy::of_token(failure));
        let next = snapshot.next_attempt.saturating_duration_since(now);
        let next = words::duration(next.as_secs_f64());
        return if is_usable {
            let summary = format!(
                "the token still works, but renewing it fails: {failure}; tried again in {next}"
            );
            say(State::Degraded, summary, why)
        } else if snapshot.token.is_none() {
            let summary = format!("no token yet: {failure}; tried again in {next}");
            say(State::Starting, summary, why)
        } else {
            let summary = format!(
                "the token has ended and there is no other: {failure}; tried again in {next}"
            );
            say(State::Unavailable, summary, why)
        };
    }
    if !is_usable {
        return if snapshot.token.is_none() {
            let summary = "the first token is being fetched".to_owned();
            say(State::Starting, summary, None)
        } else {
            let summary = "the token has ended; the next one is being fetched".to_owned();
            say(State::Unavailable, summary, None)
        };
    }
    if let Some(since) = &upstream.failing_since {
        let error = upstream.last_error.as_ref();
        let reason = error.map_or("", |error| error.reason.as_ref());
        let detail = error.map_or("", |error| error.detail.as_str());
        let since = words::duration(since.seconds_ago);
        let summary = format!("{} has failed for {since}: {detail}", upstream.url);
        return say(State::Degraded, summary, Some(remedy::of_upstream(reason)));
    }
    if let Some(ended) = credentials.iter().find(|one| one.expires_in_seconds <= 0.0) {
        let summary = format!("requests are served, but {}", words::end(ended));
        return say(State::Degraded, summary, Some(remedy::ENDED));
    }
    if let Some(rejected) = reload.filter(|reload| !reload.accepted) {
        let ago = words::duration(rejected.moment.seconds_ago);
        let problem = rejected.problem.as_deref().unwrap_or_default();
        let summary = format!(
            "requests are served with the old configuration: the new one was rejected {ago} ago: \
             {problem}"
        );
        return say(State::Degraded, summary, Some(remedy::REJECTED));
    }
    say(State::Ready, "requests are served".to_owned(), None)
}
