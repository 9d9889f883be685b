//! Logs and counts what the token path does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::standing::Standing;
use crate::{
    admin::Reloads,
    clock::seconds,
    remedy,
    telemetry::{
        Metrics,
        spans::{TokenCall, Tracer},
    },
    token::{Attempt, Events, FetchError, Reason, Snapshot},
};

/// Hears of each token call of a configuration.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) metrics: Arc<Metrics>,
    pub(super) reloads: Reloads,
    /// The host of the token service; `None` where tokens come from a file.
    pub(super) token_service: Option<String>,
    /// Whether clients are served with this configuration by now.
    pub(super) standing: Standing,
    /// Makes a span of each call, where somebody collects them.
    pub(super) tracer: Arc<ArcSwapOption<Tracer>>,
    pub(super) last_line: Mutex<Option<Line>>,
}

/// The last failure that had a line.
#[derive(Debug)]
pub(super) struct Line {
    at: Instant,
    reason: Reason,
    detail: String,
}

/// How often a failure that goes on is logged again.
const REMINDER: Duration = Duration::from_secs(60);

impl Reporter {
    /// Whether a failure is news: another one, or still the same after a while.
    fn is_news(&self, error: &FetchError, now: Instant) -> bool {
        let mut last = self
            .last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_known = last.as_ref().is_some_and(|last| {
            last.reason == error.reason && last.detail == error.detail && now < last.at + REMINDER
        });
        if !is_known {
            *last = Some(Line {
                at: now,
                reason: error.reason,
                detail: error.detail.clone(),
            });
        }
        !is_known
    }

    fn failed(&self, attempt: &Attempt, error: &FetchError, snapshot: &Snapshot, now: Instant) {
        if !self.is_news(error, now) {
            return;
        }
        let token_service = self.token_service.as_deref();
        let next = snapshot.next_attempt.saturating_duration_since(now);
        let since = snapshot.failing_since.unwrap_or(attempt.started_at);
        // Only a person can mend a credential that is not accepted.
        if error.reason.needs_operator() {
            tracing::error!(
                token_service,
                reason = error.reason.as_str(),
                detail = error.detail,
                cause = attempt.cause.as_str(),
                failures = snapshot.consecutive_failures,
                failing_for_seconds = seconds(now - since),
                next_attempt_in_seconds = seconds(next),
                usable = snapshot.usable(now).is_some(),
                remedy = &*remedy::of_token(error),
                "got no token"
            );
        } else {
            tracing::warn!(
                token_service,
                reason = error.reason.as_str(),
                detail = error.detail,
                cause = attempt.cause.as_str(),
                failures = snapshot.consecutive_failures,
                failing_for_seconds = seconds(now - since),
                next_attempt_in_seconds = seconds(next),
                usable = snapshot.usable(now).is_some(),
                remedy = &*remedy::of_token(error),
                "got no token"
            );
        }
        self.standing.while_tried(|| {
            self.metrics.config_waits();
            self.reloads
                .rejected(format!("its credentials give no token: {error}"));
            tracing::warn!(
                failing_for_seconds = seconds(self.reloads.rejected_for()),
                "the new configuration gives no token; the old one stays until it does"
            );
        });
    }

    fn succeeded(&self, attempt: &Attempt, generation: u64, snapshot: &Snapshot, now: Instant) {
        let mut last = self
            .last_line
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = None;
        let end = snapshot.token.as_ref().and_then(|token| token.expires_at);
        let next = snapshot.next_attempt.saturating_duration_since(now);
        tracing::info!(
            generation,
            cause = attempt.cause.as_str(),
            token_service = self.token_service.as_deref(),
            // Left out where the token does not end.
            expires_in_seconds = end.map(|end| seconds(end.saturating_duration_since(now))),
            next_attempt_in_seconds = seconds(next),
            duration_seconds = seconds(attempt.duration),
            "got a token"
        );
    }
}

impl Events for Reporter {
    fn attempted(&self, attempt: &Attempt, snapshot: &Snapshot) {
        let failure = attempt.outcome.as_ref().err();
        let reason = failure.map(|error| error.reason.as_str());
        self.metrics.token_refreshed(reason, attempt.duration);
        let now = Instant::now();
        if let Some(tracer) = &*self.tracer.load() {
            tracer.token_call(&TokenCall {
                ago: now.saturating_duration_since(attempt.started_at),
                duration: attempt.duration,
                cause: attempt.cause.as_str(),
                status: attempt.status.map(|status| status.as_u16()),
                outcome: match &attempt.outcome {
                    Ok(generation) => Ok(*generation),
                    Err(error) => Err(error.reason.as_str()),
                },
            });
        }
        match &attempt.outcome {
            Ok(generation) => self.succeeded(attempt, *generation, snapshot, now),
            Err(error) => self.failed(attempt, error, snapshot, now),
        }
        if let Some(why) = attempt.refresh_token_fault {
            tracing::error!(
                token_service = self.token_service.as_deref(),
                remedy = remedy::REFRESH_TOKEN,
                "the token service has sent a refresh token that cannot be used ({why}); the one in \
                 auth.refresh_token_file stays"
            );
        }
    }

    fn reloaded(&self, accepted: bool) {
        self.metrics.secret_reloaded(accepted);
        if accepted {
            tracing::info!("a changed secret is in use");
        } else {
            tracing::warn!("a changed secret gives no token");
        }
    }
}
