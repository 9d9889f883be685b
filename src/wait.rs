//! `auth-sidecar wait`: waits until a running sidecar is ready, for start-up order and for probes
//! in containers without a shell.

use std::{io::Write, time::Duration};

use anyhow::bail;
use http::StatusCode;
use tokio::time::{Instant, sleep, timeout};

use crate::{admin_client, server::Address};

const PAUSE: Duration = Duration::from_millis(100);

/// Asks the admin listener until it says that a token is usable. Each new reason why not becomes a
/// line in `notes`, but not many of them.
///
/// # Errors
/// When that does not happen within `time_limit`: says what the last reason was.
pub async fn until_ready(
    admin: &Address,
    time_limit: Duration,
    notes: &mut impl Write,
) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    let mut last = None;
    let ready = timeout(time_limit, async {
        while let Some(reason) = why_not(admin).await {
            if progress.is_worth_a_line(&reason, Instant::now()) {
                // Whoever reads along may be away.
                writeln!(notes, "waiting for the sidecar at {admin}: {reason}").unwrap_or_default();
            }
            last = Some(reason);
            sleep(PAUSE).await;
        }
    })
    .await;
    if ready.is_err() {
        let time_limit = humantime::format_duration(time_limit);
        let last = last.unwrap_or_else(|| "it did not respond".to_owned());
        bail!("the sidecar at {admin} is not ready after {time_limit}: {last}");
    }
    Ok(())
}

/// Why the sidecar is not ready, if it is not.
pub(crate) async fn why_not(admin: &Address) -> Option<String> {
    match admin_client::get(admin, "/readyz").await {
        Ok(reply) => match reply.status {
            StatusCode::OK => None,
            StatusCode::SERVICE_UNAVAILABLE if !reply.line().is_empty() => Some(reply.line()),
            status => {
                let status = status.as_u16();
                let reason = match reply.problem() {
                    Some(problem) => format!("status {status}: {problem}"),
                    None => format!("status {status}, which no admin listener of a sidecar sends"),
                };
                Some(reason)
            }
        },
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Which reasons become lines.
#[derive(Debug)]
struct Progress {
    started_at: Instant,
    reported: Option<(String, Instant)>,
}

impl Progress {
    /// Most sidecars are ready before this: nothing to report.
    const GRACE: Duration = Duration::from_secs(1);
    /// The least time between two lines.
    const FLOOR: Duration = Duration::from_secs(5);

    fn new() -> Self {
        Self {
            started_at: Instant::now(),
            reported: None,
        }
    }

    fn is_worth_a_line(&mut self, reason: &str, now: Instant) -> bool {
        let is_time = match &self.reported {
            None => now >= self.started_at + Self::GRACE,
            Some((reported, at)) => reported != reason && now >= *at + Self::FLOOR,
        };
        if is_time {
            self.reported = Some((reason.to_owned(), now));
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_comes_for_a_new_reason_and_not_within_five_seconds_of_the_last() {
        let mut progress = Progress::new();
        let start = Instant::now();
        let reported: Vec<u64> = (0..20_000)
            .step_by(100)
            .filter(|millis| {
                let reason = match millis {
                    0..3_000 => "nothing listens",
                    3_000..9_000 => "no token yet",
                    _ if millis / 100 % 2 == 0 => "this",
                    _ => "that",
                };
                progress.is_worth_a_line(reason, start + Duration::from_millis(*millis))
            })
            .collect();
        assert_eq!(reported, [1_000, 6_000, 11_000, 16_100]);
    }
}
