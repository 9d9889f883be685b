//! Tells the log and the metrics what the token path does.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    telemetry::Metrics,
    token::{Attempt, Events, Snapshot},
};

/// Hears of each token call.
#[derive(Debug)]
pub(super) struct Reporter(pub(super) Arc<Metrics>);

impl Events for Reporter {
    fn attempted(&self, attempt: &Attempt, snapshot: &Snapshot) {
        let now = Instant::now();
        let next = snapshot.next_attempt.saturating_duration_since(now);
        let next_attempt_in = humantime::format_duration(rounded(next)).to_string();
        let reason = attempt
            .outcome
            .as_ref()
            .err()
            .map(|error| error.reason.as_str());
        self.0.token_refreshed(reason, attempt.duration);
        match &attempt.outcome {
            Ok(generation) => {
                let expires_in = snapshot
                    .token
                    .as_ref()
                    .and_then(|token| token.expires_at)
                    .map_or_else(
                        || "never".to_owned(),
                        |end| humantime::format_duration(rounded(end - now)).to_string(),
                    );
                tracing::info!(generation, expires_in, next_attempt_in, "got a token");
            }
            Err(error) => {
                let usable = snapshot.usable(now).is_some();
                tracing::warn!(
                    reason = error.reason.as_str(),
                    detail = error.detail,
                    failures = snapshot.consecutive_failures,
                    next_attempt_in,
                    usable,
                    "got no token"
                );
            }
        }
    }

    fn reloaded(&self, accepted: bool) {
        self.0.secret_reloaded(accepted);
        if accepted {
            tracing::info!("a changed secret is in use");
        } else {
            tracing::warn!("a changed secret gives no token");
        }
    }
}

/// To a tenth of a second: what is below is noise to a reader.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) / 100 * 100)
}
