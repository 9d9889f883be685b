//! `GET /status`: the state as JSON; `auth-sidecar status` reads it back.

use std::{borrow::Cow, path::PathBuf, time::SystemTime};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    AdminResponse, View,
    state::{State, state_of, summary},
    trouble::{self, Known, Trouble},
};
use crate::{
    clock::nameable,
    telemetry::Origin,
    token::{Attempt, foresight::End},
    version,
};

/// Words of ours, or those that another sidecar sent.
type Word = Cow<'static, str>;

/// Both clocks at one moment: ours for schedules, the wall's for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Clock {
    pub(super) fn now() -> Self {
        Self {
            now: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// A moment of our clock in seconds since 1970.
    pub(super) fn unix_seconds(self, at: Instant) -> f64 {
        unix_seconds(self.wall) + self.seconds_until(at)
    }

    /// Negative for a moment that has passed.
    fn seconds_until(self, at: Instant) -> f64 {
        let ahead = at.saturating_duration_since(self.now).as_secs_f64();
        let behind = self.now.saturating_duration_since(at).as_secs_f64();
        ahead - behind
    }

    fn text(self, at: Instant) -> String {
        let ahead = at.saturating_duration_since(self.now);
        let behind = self.now.saturating_duration_since(at);
        let wall = (self.wall + ahead).checked_sub(behind).unwrap_or(self.wall);
        humantime::format_rfc3339_millis(nameable(wall)).to_string()
    }

    pub(super) fn moment(self, at: Instant) -> Moment {
        Moment {
            at: self.text(at),
            seconds_ago: -self.seconds_until(at),
        }
    }
}

/// A moment of the wall clock in seconds since 1970.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn date(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(nameable(at)).to_string()
}

/// What `/status` says; the page for people and `auth-sidecar status` show the same. What older
/// sidecars do not have may be missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: Word,
    #[serde(default)]
    pub(crate) commit: Word,
    pub(crate) state: State,
    /// The state in words.
    #[serde(default)]
    pub(crate) summary: String,
    /// What to do about it, where something is to be done.
    #[serde(default)]
    pub(crate) remedy: Option<String>,
    /// Everything that is wrong, the worst first.
    #[serde(default)]
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) uptime_seconds: f64,
    pub(crate) token: Option<Token>,
    pub(crate) refresh: Refresh,
    #[serde(default)]
    pub(crate) upstream: Upstream,
    /// Where clients connect.
    #[serde(default)]
    pub(crate) listeners: Vec<String>,
    /// The last change of the configuration; `null`: none since the start.
    #[serde(default)]
    pub(crate) last_reload: Option<LastReload>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) requests: Requests,
    pub(crate) connections: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) usable: bool,
    pub(crate) generation: u64,
    pub(crate) age_seconds: f64,
    /// `null`: it does not end.
    pub(crate) expires_in_seconds: Option<f64>,
    pub(crate) expires_at: Option<String>,
}

/// A moment that has passed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Moment {
    pub(crate) at: String,
    pub(crate) seconds_ago: f64,
}

/// How the service behind us is, as far as requests have shown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Upstream {
    pub(crate) url: String,
    pub(crate) last_success: Option<Moment>,
    pub(crate) last_error: Option<UpstreamError>,
    /// Since when no request got through, and how many did not.
    pub(crate) failing_since: Option<Moment>,
    #[serde(default)]
    pub(crate) failures: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UpstreamError {
    #[serde(flatten)]
    pub(crate) moment: Moment,
    pub(crate) reason: Word,
    #[serde(default)]
    pub(crate) detail: String,
}

/// The last change of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LastReload {
    #[serde(flatten)]
    pub(crate) moment: Moment,
    pub(crate) accepted: bool,
    /// Why it was not; the old configuration stays then.
    pub(crate) problem: Option<String>,
    /// Since when none was accepted.
    #[serde(default)]
    pub(crate) rejected_since: Option<Moment>,
}

/// A credential whose end is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Credential {
    pub(crate) kind: Word,
    #[serde(default)]
    pub(crate) key: Word,
    #[serde(default)]
    pub(crate) file: Option<PathBuf>,
    pub(crate) expires_at: String,
    /// Negative where it has ended.
    pub(crate) expires_in_seconds: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refresh {
    pub(crate) attempts: u64,
    pub(crate) consecutive_failures: u32,
    pub(crate) next_attempt_in_seconds: f64,
    pub(crate) next_attempt_at: String,
    /// The newest first.
    pub(crate) last_attempts: Vec<LastAttempt>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LastAttempt {
    pub(crate) at: String,
    pub(crate) duration_seconds: f64,
    pub(crate) result: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Word>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Requests {
    pub(crate) answered_by_upstream: u64,
    pub(crate) answered_by_sidecar: u64,
    pub(crate) in_flight: usize,
}

pub(super) fn response(view: &View) -> AdminResponse {
    match serde_json::to_string_pretty(&status(view)) {
        Ok(json) => super::response(StatusCode::OK, "application/json", json + "\n"),
        Err(_) => super::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the status cannot be written\n",
        ),
    }
}

pub(super) fn status(view: &View) -> Status {
    let clock = Clock::now();
    let snapshot = view.tokens.snapshot();
    let credentials: Vec<Credential> = view
        .ends
        .known()
        .into_iter()
        .map(|end| credential(end, clock))
        .collect();
    let upstream = upstream(view, clock);
    let last_reload = view.reloads.last().map(|last| LastReload {
        moment: clock.moment(last.at),
        accepted: last.problem.is_none(),
        rejected_since: last.rejected_since.map(|at| clock.moment(at)),
        problem: last.problem,
    });
    let known = Known {
        clock,
        snapshot: &snapshot,
        upstream: &upstream,
        credentials: &credentials,
        reload: last_reload.as_ref(),
    };
    let troubles = trouble::all(view, known);
    let state = state_of(
        view.stopping.is_cancelled(),
        &snapshot,
        clock.now,
        &troubles,
    );
    let worst = troubles.iter().find(|trouble| trouble.degrades());
    Status {
        version: version::VERSION.into(),
        commit: version::COMMIT.into(),
        state,
        summary: summary(state, &troubles),
        remedy: worst.map(|trouble| trouble.remedy.clone()),
        troubles,
        uptime_seconds: (clock.now - view.started_at).as_secs_f64(),
        token: snapshot.token.as_ref().map(|token| Token {
            usable: token.is_usable(clock.now),
            generation: token.generation,
            age_seconds: (clock.now - token.requested_at).as_secs_f64(),
            expires_in_seconds: token.expires_at.map(|at| clock.seconds_until(at)),
            expires_at: token.expires_at.map(|at| clock.text(at)),
        }),
        refresh: Refresh {
            attempts: snapshot.attempts,
            consecutive_failures: snapshot.consecutive_failures,
            next_attempt_in_seconds: clock.seconds_until(snapshot.next_attempt).max(0.0),
            next_attempt_at: clock.text(snapshot.next_attempt),
            last_attempts: snapshot
                .history
                .iter()
                .map(|attempt| last_attempt(attempt, clock))
                .collect(),
        },
        upstream,
        listeners: view.listeners.clone(),
        last_reload,
        credentials,
        requests: Requests {
            answered_by_upstream: view.metrics.responses(Origin::Upstream),
            answered_by_sidecar: view.metrics.responses(Origin::Sidecar),
            in_flight: view.ledger.in_flight(),
        },
        connections: view.connections.count(),
    }
}

fn upstream(view: &View, clock: Clock) -> Upstream {
    let health = view.health.upstream();
    Upstream {
        url: view.upstream.clone(),
        last_success: health.last_success.map(|at| clock.moment(at)),
        last_error: health.last_error.map(|error| UpstreamError {
            moment: clock.moment(error.at),
            reason: error.reason.into(),
            detail: error.detail,
        }),
        failing_since: health.since.map(|at| clock.moment(at)),
        failures: health.failures,
    }
}

fn credential(end: End, clock: Clock) -> Credential {
    Credential {
        kind: end.kind.into(),
        key: end.key.into(),
        file: end.file,
        expires_at: date(end.at),
        expires_in_seconds: unix_seconds(end.at) - unix_seconds(clock.wall),
    }
}

fn last_attempt(attempt: &Attempt, clock: Clock) -> LastAttempt {
    let failure = attempt.outcome.as_ref().err();
    LastAttempt {
        at: clock.text(attempt.started_at),
        duration_seconds: attempt.duration.as_secs_f64(),
        result: if failure.is_some() {
            "failure".into()
        } else {
            "success".into()
        },
        generation: attempt.outcome.as_ref().ok().copied(),
        reason: failure.map(|failure| failure.reason.as_str().into()),
        detail: failure.map(|failure| failure.detail.clone()),
    }
}
