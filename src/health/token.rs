//! When clients are without a token, and what that cost them.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Health;
use crate::{clock::seconds, remedy, token::TokenHandle};

/// What is known of the token's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenHealth {
    /// Since when there is none that can be used; `None` while there is one, and until the first
    /// attempt is over.
    pub lost_since: Option<Instant>,
    /// Requests that had to wait for one, ever.
    pub held: u64,
    /// Requests that were refused for want of one, ever.
    pub refused: u64,
}

/// A loss, and what was counted at its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost {
    pub(super) since: Instant,
    held: u64,
    refused: u64,
}

/// Logs when the token is lost and when one is back; for ever. `service` is who gives tokens.
///
/// # Cancel safety
/// Safe: dropped, it logs no more, and what it has noted stays.
pub async fn watch_token(tokens: TokenHandle, health: Health, service: Option<String>) {
    let service = service.as_deref().unwrap_or("none");
    let started_at = Instant::now();
    let mut snapshot = tokens.snapshot();
    loop {
        let now = Instant::now();
        let usable = snapshot.usable(now);
        let known = health.token();
        let lost = *health.lost();
        match (usable, lost) {
            (None, None) if snapshot.attempts > 0 => {
                let ended_at = snapshot.token.as_ref().and_then(|token| token.expires_at);
                *health.lost() = Some(Lost {
                    since: ended_at.unwrap_or(started_at).min(now),
                    held: known.held,
                    refused: known.refused,
                });
                let failure = snapshot.failure.as_ref();
                let reason = failure.map(|failure| failure.reason.as_str());
                let detail = failure.map(|failure| &*failure.detail);
                let remedy = failure.map(remedy::of_token);
                let remedy = remedy.as_deref();
                let next = snapshot.next_attempt.saturating_duration_since(now);
                let next_attempt_in_seconds = seconds(next);
                let failures = snapshot.consecutive_failures;
                let since = snapshot.failing_since.unwrap_or(now).min(now);
                let failing_for_seconds = seconds(now - since);
                if failure.is_some_and(|failure| failure.reason.needs_operator()) {
                    tracing::error!(
                        token_service = service,
                        reason,
                        detail,
                        failures,
                        failing_for_seconds,
                        next_attempt_in_seconds,
                        remedy,
                        "no usable token: requests wait for one, then get 503"
                    );
                } else {
                    tracing::warn!(
                        token_service = service,
                        reason,
                        detail,
                        failures,
                        failing_for_seconds,
                        next_attempt_in_seconds,
                        remedy,
                        "no usable token: requests wait for one, then get 503"
                    );
                }
            }
            (Some(token), Some(lost)) => {
                *health.lost() = None;
                tracing::info!(
                    token_service = service,
                    generation = token.generation,
                    lasted_seconds = seconds(now - lost.since),
                    held = known.held - lost.held,
                    refused = known.refused - lost.refused,
                    "there is a usable token again"
                );
            }
            _ => {}
        }
        let end = usable.and_then(|token| token.expires_at);
        tokio::select! {
            changed = tokens.changed(&snapshot) => snapshot = changed,
            () = sleep_until(end.unwrap_or(now + DAY)) => {}
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
