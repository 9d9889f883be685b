//! `GET /status`: the state as JSON.

use std::time::SystemTime;

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::{Answer, View};
use crate::{
    clock::nameable,
    telemetry::Origin,
    token::{Attempt, Snapshot},
    version,
};

/// Both clocks at one moment: ours for schedules, the wall's for people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Instant,
    wall: SystemTime,
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
}

/// A moment of the wall clock in seconds since 1970.
pub(super) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// What `/status` says; the page for people shows the same.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) version: &'static str,
    pub(super) commit: &'static str,
    pub(super) state: &'static str,
    pub(super) uptime_seconds: f64,
    pub(super) token: Option<Token>,
    pub(super) refresh: Refresh,
    pub(super) credentials: Vec<Credential>,
    pub(super) requests: Requests,
    pub(super) connections: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Token {
    pub(super) usable: bool,
    pub(super) generation: u64,
    pub(super) age_seconds: f64,
    /// `null`: it does not end.
    pub(super) expires_in_seconds: Option<f64>,
    pub(super) expires_at: Option<String>,
}

/// A credential whose end is known.
#[derive(Debug, Serialize)]
pub(super) struct Credential {
    pub(super) kind: &'static str,
    pub(super) expires_at: String,
    pub(super) expires_in_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Refresh {
    pub(super) attempts: u64,
    pub(super) consecutive_failures: u32,
    pub(super) next_attempt_in_seconds: f64,
    pub(super) next_attempt_at: String,
    /// The newest first.
    pub(super) last_attempts: Vec<LastAttempt>,
}

#[derive(Debug, Serialize)]
pub(super) struct LastAttempt {
    pub(super) at: String,
    pub(super) duration_seconds: f64,
    pub(super) result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Requests {
    pub(super) answered_by_upstream: u64,
    pub(super) answered_by_sidecar: u64,
    pub(super) in_flight: usize,
}

pub(super) fn answer(view: &View) -> Answer {
    match serde_json::to_string_pretty(&status(view)) {
        Ok(json) => super::answer(StatusCode::OK, "application/json", json + "\n"),
        Err(_) => super::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the status cannot be written\n",
        ),
    }
}

pub(super) fn status(view: &View) -> Status {
    let clock = Clock::now();
    let snapshot = view.tokens.snapshot();
    Status {
        version: version::VERSION,
        commit: version::COMMIT,
        state: state(view, &snapshot, clock),
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
        credentials: view
            .ends
            .known()
            .into_iter()
            .map(|end| Credential {
                kind: end.kind,
                expires_at: humantime::format_rfc3339_seconds(nameable(end.at)).to_string(),
                expires_in_seconds: unix_seconds(end.at) - unix_seconds(clock.wall),
            })
            .collect(),
        requests: Requests {
            answered_by_upstream: view.metrics.answers(Origin::Upstream),
            answered_by_sidecar: view.metrics.answers(Origin::Sidecar),
            in_flight: view.ledger.in_flight(),
        },
        connections: view.connections.count(),
    }
}

fn state(view: &View, snapshot: &Snapshot, clock: Clock) -> &'static str {
    let usable = snapshot.usable(clock.now).is_some();
    match (view.stop.is_cancelled(), usable, &snapshot.failure) {
        (true, _, _) => "stopping",
        (_, true, None) => "ready",
        // The token still works, and renewing it fails.
        (_, true, Some(_)) => "degraded",
        (_, false, _) if snapshot.token.is_none() => "starting",
        _ => "unavailable",
    }
}

fn last_attempt(attempt: &Attempt, clock: Clock) -> LastAttempt {
    let failure = attempt.outcome.as_ref().err();
    LastAttempt {
        at: clock.text(attempt.started_at),
        duration_seconds: attempt.duration.as_secs_f64(),
        result: if failure.is_some() {
            "failure"
        } else {
            "success"
        },
        generation: attempt.outcome.as_ref().ok().copied(),
        reason: failure.map(|failure| failure.reason.as_str()),
        detail: failure.map(|failure| failure.detail.clone()),
    }
}
