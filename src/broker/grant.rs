//! Which token is handed out, and for how long its taker may keep it: never one that is about to end.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::token::{AccessToken, Snapshot, TokenHandle, Unavailable, schedule::RefreshPolicy};

/// A token for somebody outside.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) token: Arc<AccessToken>,
    /// Whole seconds for which it may be kept; at least one.
    pub(super) expires_in: u64,
}

/// What the taker of a token does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Sends it with one request, now.
    Send,
    /// Keeps it for as long as `expires_in` says.
    Keep,
}

/// How long a token that does not end may be kept: its file can be given another one at any time.
const UNLIMITED: u64 = 300;

/// The least time for which a token is handed out to be kept.
const LEAST: Duration = Duration::from_secs(1);

/// What is taken off the time that is left, for the taker's clock and for requests on their way:
/// five seconds, or a sixth of the lead where tokens are short.
fn safety(lifetime: Duration) -> Duration {
    (RefreshPolicy::lead(lifetime) / 6).min(Duration::from_secs(5))
}

/// Gives a token that serves its purpose, where there is one that needs no renewal first.
pub(super) fn at_once(tokens: &TokenHandle, purpose: Purpose) -> Option<Grant> {
    match choose(&tokens.snapshot(), purpose, Instant::now()) {
        Choice::Give(grant) => Some(grant),
        Choice::Renew(_) => None,
    }
}

/// Gives a token that serves its purpose; waits for one as long as a renewal that may bring it is
/// under way or due before the deadline.
///
/// # Errors
/// [`Unavailable`] at the deadline, or sooner when no renewal is due before it.
///
/// # Cancel safety
/// Safe: it only reads.
pub(super) async fn wait(
    tokens: &TokenHandle,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Grant, Unavailable> {
    let mut snapshot = tokens.snapshot();
    loop {
        let now = Instant::now();
        match choose(&snapshot, purpose, now) {
            Choice::Give(grant) => return Ok(grant),
            Choice::Renew(None) if snapshot.next_attempt > deadline => {
                return Err(snapshot.unavailable(now));
            }
            Choice::Renew(_) => match timeout_at(deadline, tokens.changed(&snapshot)).await {
                Ok(changed) => snapshot = changed,
                // What was good enough at the beginning may have ended meanwhile.
                Err(_) => return at_last(&tokens.snapshot(), purpose),
            },
        }
    }
}

/// Gives what there is when no more time is left.
fn at_last(snapshot: &Snapshot, purpose: Purpose) -> Result<Grant, Unavailable> {
    let now = Instant::now();
    match choose(snapshot, purpose, now) {
        Choice::Give(grant) | Choice::Renew(Some(grant)) => Ok(grant),
        Choice::Renew(None) => Err(snapshot.unavailable(now)),
    }
}

#[derive(Debug)]
enum Choice {
    Give(Grant),
    /// A newer token is on its way; until then there is this one, if it can be had at all.
    Renew(Option<Grant>),
}

fn choose(snapshot: &Snapshot, purpose: Purpose, now: Instant) -> Choice {
    let Some(token) = snapshot.usable(now) else {
        return Choice::Renew(None);
    };
    let grant = |expires_in| Grant {
        token: Arc::clone(token),
        expires_in,
    };
    let (Some(end), Some(lifetime)) = (token.expires_at, token.lifetime()) else {
        return Choice::Give(grant(UNLIMITED));
    };
    let left = end.saturating_duration_since(now);
    let kept = left.saturating_sub(safety(lifetime));
    match purpose {
        Purpose::Send if !kept.is_zero() => Choice::Give(grant(kept.as_secs().max(1))),
        Purpose::Keep if kept >= LEAST => {
            let grant = grant(kept.as_secs());
            // The renewal of one with less than its lead left is under way, unless it has failed.
            if left >= RefreshPolicy::lead(lifetime) || snapshot.failure.is_some() {
                Choice::Give(grant)
            } else {
                Choice::Renew(Some(grant))
            }
        }
        _ => Choice::Renew(None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use secrecy::SecretString;
    use tokio::time::sleep_until;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::token::{
        Bearer, FetchError, Lifetime, NoEvents, Reason, TokenResponse, TokenSource, channel,
    };

    /// Grants for a minute, the first one at once, the others after five seconds or not at all.
    struct Slow {
        calls: u32,
        fails: bool,
    }

    impl TokenSource for Slow {
        async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
            self.calls += 1;
            if self.calls > 1 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                if self.fails {
                    return Err(FetchError::new(Reason::Network, "down"));
                }
            }
            let bearer = Bearer::new(&SecretString::from(format!("t{}", self.calls))).unwrap();
            let lifetime = Lifetime::Limited(Duration::from_secs(60));
            Ok(TokenResponse::new(bearer, lifetime))
        }
    }

    /// What is given after so many seconds to whoever waits at most eight, and how long that took.
    /// The renewal begins after thirty.
    async fn asked_after(
        seconds: u64,
        purpose: Purpose,
        fails: bool,
    ) -> (Result<(u64, u64), Unavailable>, u64) {
        let start = Instant::now();
        let slow = Slow { calls: 0, fails };
        let (refresher, tokens) = channel(slow, RefreshPolicy::default(), NoEvents, || 1.0);
        let refreshing = tokio::spawn(refresher.run(CancellationToken::new()));
        let asked_at = start + Duration::from_secs(seconds) + Duration::from_millis(500);
        sleep_until(asked_at).await;
        let granted = wait(&tokens, purpose, asked_at + Duration::from_secs(8)).await;
        refreshing.abort();
        let granted = granted.map(|grant| (grant.token.generation, grant.expires_in));
        (granted, asked_at.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_with_less_than_its_lead_left_is_renewed_before_it_is_handed_out() {
        let given = asked_after(29, Purpose::Keep, false).await;
        assert_eq!(given, (Ok((1, 25)), 0));
        let given = asked_after(30, Purpose::Keep, false).await;
        assert!(matches!(given, (Ok((2, 49..=50)), 4)), "{given:?}");
        // For one request it is good enough.
        let (granted, waited) = asked_after(30, Purpose::Send, false).await;
        assert_eq!((granted.unwrap().0, waited), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_renewal_fails_it_is_handed_out_after_all_but_not_to_its_end() {
        let given = asked_after(30, Purpose::Keep, true).await;
        assert!(matches!(given, (Ok((1, 19..=20)), 4)), "{given:?}");
        let (granted, waited) = asked_after(57, Purpose::Keep, true).await;
        assert!(granted.is_err() && waited <= 8, "{granted:?} {waited}");
        let (granted, _) = asked_after(57, Purpose::Send, true).await;
        assert!(granted.is_err(), "{granted:?}");
    }

    fn snapshot(lifetime: Option<f64>, fails: bool) -> Snapshot {
        let now = Instant::now();
        let lifetime = lifetime.map(Duration::from_secs_f64);
        Snapshot {
            refresh_token_fault: None,
            token: Some(Arc::new(AccessToken {
                bearer: Bearer::new(&SecretString::from("t")).unwrap(),
                generation: 1,
                requested_at: now,
                expires_at: lifetime.map(|lifetime| now + lifetime),
            })),
            failure: fails.then(|| FetchError::new(Reason::Network, "down")),
            failing_since: None,
            consecutive_failures: 0,
            attempts: 1,
            next_attempt: now,
            history: VecDeque::new(),
        }
    }

    /// The seconds for which it is given, or those of the second best.
    fn given(snapshot: &Snapshot, purpose: Purpose, after: f64) -> Result<u64, Option<u64>> {
        let now = Instant::now() + Duration::from_secs_f64(after);
        match choose(snapshot, purpose, now) {
            Choice::Give(grant) => Ok(grant.expires_in),
            Choice::Renew(second_best) => Err(second_best.map(|grant| grant.expires_in)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_less_a_safety_is_what_it_may_be_kept_for() {
        for (lifetime, after, expected) in [
            (1799.0, 0.0, Ok(1794)),
            (1799.0, 1000.0, Ok(794)),
            // Less than the lead is left: the renewal comes first.
            (1799.0, 1700.0, Err(Some(94))),
            (60.0, 0.0, Ok(55)),
            (60.0, 30.0, Ok(25)),
            (60.0, 30.5, Err(Some(24))),
            // Nobody is given one that is about to end.
            (60.0, 54.5, Err(None)),
            (60.0, 61.0, Err(None)),
            (3.0, 0.0, Ok(2)),
            (3.0, 1.5, Ok(1)),
            (3.0, 1.6, Err(Some(1))),
            (3.0, 1.8, Err(None)),
            (1.0, 0.0, Err(None)),
        ] {
            let snapshot = snapshot(Some(lifetime), false);
            let given = given(&snapshot, Purpose::Keep, after);
            assert_eq!(given, expected, "{lifetime} {after}");
        }
        let unlimited = snapshot(None, false);
        assert_eq!(given(&unlimited, Purpose::Keep, 1e6), Ok(UNLIMITED));
    }

    #[tokio::test(start_paused = true)]
    async fn while_renewals_fail_what_is_there_serves_until_it_is_about_to_end() {
        let failing = snapshot(Some(60.0), true);
        assert_eq!(given(&failing, Purpose::Keep, 31.0), Ok(24));
        assert_eq!(given(&failing, Purpose::Keep, 53.0), Ok(2));
        assert_eq!(given(&failing, Purpose::Keep, 54.5), Err(None));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_in_vain_is_given_what_is_left_by_then() {
        let left = |snapshot: &Snapshot| {
            let granted = at_last(snapshot, Purpose::Keep);
            granted.ok().map(|grant| grant.expires_in)
        };
        let waiting = snapshot(Some(60.0), false);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(left(&waiting), Some(15));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(left(&waiting), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_at_once_needs_no_more_than_the_safety() {
        for (lifetime, last) in [(1799.0, 1793.9), (60.0, 54.9), (3.0, 2.7), (1.0, 0.9)] {
            let snapshot = snapshot(Some(lifetime), false);
            assert!(given(&snapshot, Purpose::Send, last).is_ok(), "{lifetime}");
            let late = lifetime - (lifetime - last) / 2.0;
            assert!(given(&snapshot, Purpose::Send, late).is_err(), "{lifetime}");
        }
    }
}
