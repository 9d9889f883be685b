//! What is known of the two that every request needs, the upstream and a token, and of what is refused:
//! since when something fails, how often and why.
//!
//! Whoever serves reports here. The log hears of each change once, with what was counted since the
//! last one; `/status`, `/readyz` and `/metrics` read the same state.
//!
//! A configuration with another upstream or other credentials has a health of its own: of another
//! upstream nothing is known yet. What is known of the token goes on with the token.

mod refusals;
mod token;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::token::Lost;
use crate::{
    clock::seconds,
    remedy,
    subject::{Change, Subject},
};

pub(crate) use self::refusals::Refusal;
pub use self::{
    refusals::{Refusals, Refused},
    token::{TokenHealth, watch_token},
};
pub use crate::subject::{LastError, SubjectHealth};

/// What is known of the upstream: when it last responded, why it last did not, and since when and how
/// often it fails now.
pub type UpstreamHealth = SubjectHealth;

/// The health of what a configuration leads to. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The host and port of the upstream, as the log names it.
    upstream: String,
    /// Whether the upstream responds.
    responses: Subject,
    /// Whether the upstream takes a token that has just come.
    acceptance: Subject,
    /// Whether the upstream allows what clients ask for.
    permission: Subject,
    /// The method and path that it last forbade.
    forbidden: Mutex<Option<String>>,
    /// What we refuse, whatever upstream there is.
    refusals: Arc<Refusals>,
    /// Whether there is a token: the same for another upstream with the same credentials.
    token: Arc<Supply>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            upstream: String::new(),
            responses: Subject::default(),
            acceptance: Subject::default(),
            // That the others succeed says nothing of the one that does not.
            permission: Subject::forgetting(FORGOTTEN),
            forbidden: Mutex::default(),
            refusals: Arc::default(),
            token: Arc::default(),
        }
    }
}

/// After how long nobody needs to hear of a refusal any more.
pub(crate) const FORGOTTEN: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Default)]
struct Supply {
    /// Requests that had to wait for a token, ever.
    held: AtomicU64,
    /// Requests that were refused because there was none, ever.
    refused: AtomicU64,
    lost: Mutex<Option<Lost>>,
}

/// Why the upstream gave no response, for whoever can mend it.
#[derive(Debug, Clone, Copy)]
pub struct Outage<'a> {
    /// Our word for it, as in the metrics.
    pub reason: &'static str,
    /// What happened; no secret.
    pub detail: &'a str,
    /// What to do.
    pub remedy: &'a str,
    /// Whether only a person can mend it.
    pub needs_operator: bool,
    /// The status that clients get.
    pub status: u16,
}

impl Health {
    /// The health of an upstream of which nothing is known yet.
    #[must_use]
    pub fn of(upstream: String) -> Self {
        Self(Arc::new(Inner {
            upstream,
            ..Inner::default()
        }))
    }

    /// The health of another upstream, of which nothing is known yet, with the same tokens.
    #[must_use]
    pub fn of_another(&self, upstream: String) -> Self {
        Self(Arc::new(Inner {
            upstream,
            refusals: Arc::clone(&self.0.refusals),
            token: Arc::clone(&self.0.token),
            ..Inner::default()
        }))
    }

    /// What is known of the upstream.
    #[must_use]
    pub fn upstream(&self) -> UpstreamHealth {
        self.0.responses.health()
    }

    /// What is known of how the upstream takes our tokens: an error is a 401 to one that had just
    /// come.
    #[must_use]
    pub fn acceptance(&self) -> SubjectHealth {
        self.0.acceptance.health()
    }

    /// What is known of how the upstream takes what clients ask for with our tokens: an error is a
    /// 403, and its detail the method and path.
    #[must_use]
    pub fn permission(&self) -> SubjectHealth {
        self.0.permission.health()
    }

    /// What we have refused in the last minutes.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refused> {
        self.0.refusals.recent()
    }

    /// What is known of the token's loss.
    #[must_use]
    pub fn token(&self) -> TokenHealth {
        let Supply { held, refused, .. } = &*self.0.token;
        TokenHealth {
            lost_since: self.lost().as_ref().map(|lost| lost.since),
            held: held.load(Ordering::Relaxed),
            refused: refused.load(Ordering::Relaxed),
        }
    }

    /// Whether a response of the upstream would be news.
    pub(crate) fn awaits_news(&self) -> bool {
        let Inner {
            responses,
            acceptance,
            permission,
            ..
        } = &*self.0;
        responses.is_failing()
            || acceptance.is_failing()
            || permission.is_failing()
            || responses.is_unknown()
    }

    /// The upstream has responded.
    pub(crate) fn upstream_responded(&self, now: Instant) {
        let Some(Change::Recovered(episode)) = self.0.responses.succeeded(now) else {
            return;
        };
        tracing::info!(
            upstream = self.0.upstream,
            failures = episode.failures,
            lasted_seconds = seconds(now - episode.since),
            "the upstream responds again"
        );
    }

    /// The upstream has not responded.
    pub(crate) fn upstream_failed(&self, now: Instant, outage: &Outage<'_>) {
        let Outage {
            reason,
            detail,
            remedy,
            needs_operator,
            status,
        } = *outage;
        let error = LastError {
            at: now,
            reason,
            detail: detail.to_owned(),
        };
        let Some(Change::Failing { episode, before }) = self.0.responses.failed(error) else {
            return;
        };
        let upstream = &*self.0.upstream;
        let failing_for_seconds = seconds(now - episode.since);
        let failures = episode.failures + before;
        // Two calls, since a level is part of the place in the code.
        if needs_operator {
            tracing::error!(
                upstream,
                reason,
                detail,
                status,
                failures,
                failing_for_seconds,
                remedy,
                "the upstream cannot be used: clients get errors until the configuration fits"
            );
        } else {
            tracing::warn!(
                upstream,
                reason,
                detail,
                status,
                failures,
                failing_for_seconds,
                remedy,
                "the upstream fails: clients get errors until it responds again"
            );
        }
    }

    /// The upstream has taken our token.
    pub(crate) fn token_accepted(&self, now: Instant) {
        let Some(Change::Recovered(episode)) = self.0.acceptance.succeeded(now) else {
            return;
        };
        tracing::info!(
            upstream = self.0.upstream,
            refusals = episode.failures,
            lasted_seconds = seconds(now - episode.since),
            "the upstream accepts the token again"
        );
    }

    /// The upstream has responded 401 to a token that a renewal had just brought.
    pub(crate) fn token_refused(&self, now: Instant, generation: u64, age: Duration) {
        let error = LastError {
            at: now,
            reason: "unauthorized",
            detail: format!("401 to token {generation}"),
        };
        let Some(Change::Failing { episode, before }) = self.0.acceptance.failed(error) else {
            return;
        };
        let upstream = &*self.0.upstream;
        let failing_for = now - episode.since;
        let failing_for_seconds = seconds(failing_for);
        let age_seconds = seconds(age);
        let refusals = episode.failures + before;
        // Until then it may be about a part of the service that this credential may not use.
        if failing_for >= ALL_OF_IT {
            tracing::error!(
                upstream,
                status = 401,
                generation,
                age_seconds,
                refusals,
                failing_for_seconds,
                remedy = remedy::UNAUTHORIZED,
                "the upstream refuses a fresh token: clients get its 401"
            );
        } else {
            tracing::warn!(
                upstream,
                status = 401,
                generation,
                age_seconds,
                refusals,
                failing_for_seconds,
                remedy = remedy::UNAUTHORIZED,
                "the upstream refuses a fresh token: clients get its 401"
            );
        }
    }

    /// The upstream has responded 403 to a request with our token.
    pub(crate) fn forbidden(&self, now: Instant, what: String) {
        self.lock_forbidden().replace(what.clone());
        let error = LastError {
            at: now,
            reason: "forbidden",
            detail: what,
        };
        let asked = error.detail.clone();
        let Some(Change::Failing { episode, before }) = self.0.permission.failed(error) else {
            return;
        };
        tracing::warn!(
            upstream = self.0.upstream,
            status = 403,
            request = asked,
            refusals = episode.failures + before,
            failing_for_seconds = seconds(now - episode.since),
            remedy = remedy::FORBIDDEN,
            "the upstream forbids what a client asks for: the credential lacks a permission"
        );
    }

    /// The upstream has responded something else than 401 or 403.
    pub(crate) fn allowed(&self, now: Instant, what: impl FnOnce() -> String) {
        if !self.0.permission.is_failing() {
            return;
        }
        let forbidden = self.lock_forbidden();
        if forbidden.as_ref() != Some(&what()) {
            return;
        }
        drop(forbidden);
        if let Some(Change::Recovered(episode)) = self.0.permission.succeeded(now) {
            tracing::info!(
                upstream = self.0.upstream,
                refusals = episode.failures,
                lasted_seconds = seconds(now - episode.since),
                "the upstream allows what it forbade"
            );
        }
    }

    /// A request or a connection was refused.
    pub(crate) fn refused_client(&self, now: Instant, refusal: &Refusal<'_>) {
        self.0.refusals.note(now, refusal);
    }

    /// A request has to wait for a token.
    pub(crate) fn held(&self) {
        self.0.token.held.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was refused because there is no token.
    pub(crate) fn refused(&self) {
        self.0.token.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn lock_forbidden(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        let forbidden = self.0.forbidden.lock();
        forbidden.unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Option<Lost>> {
        let lost = self.0.token.lost.lock();
        lost.unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long not one request must have been accepted until that is taken for the credential's fault.
const ALL_OF_IT: Duration = Duration::from_secs(60);
