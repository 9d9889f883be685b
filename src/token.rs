//! The token path: what a token is, and the one value at which the refresher and the requests meet.
//!
//! [`channel`] makes two halves. The [`Refresher`] is the only one who talks to the token service
//! and the only one who can publish; the [`TokenHandle`] is what requests hold, and all it can do
//! is read and ask. Between them stands an immutable [`Snapshot`] in an arc-swap cell; a watch
//! channel is only the bell that says "look again". Three rules keep it right:
//!
//! 1. *Store, then ring.* Who waits subscribes before it looks, so nothing published in between
//!    is missed.
//! 2. *Ask by level, not by edge.* Who was refused asks for "an attempt after the ones that I
//!    have seen". Two hundred refused requests ask for the same number and cause one call.
//! 3. *A young token is not to blame.* Each renewal that was caused by a 401 and is known not to have
//!    helped doubles the age below which a refused token is believed to be good, so an upstream that
//!    responds with 401 to everything costs a call now and then, and not one a request.

mod channel;
pub mod csp;
pub mod endpoint;
pub mod fixed;
pub mod foresight;
pub mod github;
mod handle;
pub mod refresh_token;
mod refresher;
pub mod schedule;
mod suspicion;

use std::{collections::VecDeque, fmt, future::Future, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};
use secrecy::SecretString;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::secret::wiped_field;

pub use self::{
    channel::{Events, NoEvents, channel},
    handle::{Renewal, TokenHandle, Unavailable},
    refresher::Refresher,
};

/// Where tokens come from: the only trait of the program, so that the refresher can be tested
/// under a paused clock.
pub trait TokenSource: Send {
    /// Gets one token. `&mut self`: a single task owns the source, so it needs no lock.
    ///
    /// # Errors
    /// Why there is none; never anything that holds a secret.
    fn fetch(&mut self) -> impl Future<Output = Result<TokenResponse, FetchError>> + Send;

    /// How many calls the last fetch took: the floor between attempts is for each of them.
    fn calls(&self) -> u32 {
        1
    }

    /// The status of the last response to the last fetch; `None` where there was none.
    fn status(&self) -> Option<StatusCode> {
        None
    }

    /// Whether the source is at a point where it must not be dropped, since what a fetch brings, or has
    /// brought, may exist nowhere else; `None` where it never is.
    fn commitment(&self) -> Option<watch::Receiver<bool>> {
        None
    }

    /// What the last fetch has learned of the refresh token: that the one in its file is right, or why the
    /// one that the service has sent cannot be used. `None` where no response said.
    fn refresh_token(&self) -> Option<Result<(), &'static str>> {
        None
    }

    /// Has fetches begin no call once `stop` is cancelled, while one in flight goes on.
    fn stop_with(&mut self, _stop: &CancellationToken) {}

    /// Stores what a fetch has received and could not store, and tries that again until it succeeds. Makes
    /// no call.
    ///
    /// # Cancel safety
    /// Dropped, it may be called again; what is not stored by then is lost with the source.
    fn settle(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Waits until the credential is another than at the last fetch; for ever where it cannot be.
    ///
    /// # Cancel safety
    /// Must be safe to drop and to call again.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Waits until `stop` is cancelled, and then until a source with that commitment can be dropped without a
/// loss.
///
/// # Cancel safety
/// Safe: it only waits.
pub(crate) async fn may_be_dropped(
    commitment: Option<watch::Receiver<bool>>,
    stop: &CancellationToken,
) {
    stop.cancelled().await;
    if let Some(mut is_committed) = commitment {
        // A source that is gone is committed to nothing.
        drop(is_committed.wait_for(|is_committed| !is_committed).await);
    }
}

/// What a token service granted (RFC 6749 §5.1), as we need it.
#[derive(Debug, Clone)]
pub struct TokenResponse {
    /// The credential.
    pub bearer: Bearer,
    /// How long it lives, counted from when it was asked for.
    pub lifetime: Lifetime,
}

impl TokenResponse {
    /// A token that lives so long.
    #[must_use]
    pub fn new(bearer: Bearer, lifetime: Lifetime) -> Self {
        Self { bearer, lifetime }
    }
}

/// How long a token lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It ends so long after it was asked for.
    Limited(Duration),
    /// The service did not say.
    Unknown,
    /// It does not end (an API token of an original subscription).
    Unlimited,
}

/// The value of `Authorization`, checked to be one: from here on there is no other form of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(HeaderValue);

/// The longest token that is accepted, in bytes. Real ones have several KiB of claims.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;

impl Bearer {
    /// Makes `Bearer …` of a token; `None` when the token is empty, longer than
    /// [`MAX_TOKEN_BYTES`] or holds anything but visible ASCII (RFC 6750 §2.1).
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the token becomes the field that is sent; the field is marked sensitive"
    )]
    pub fn new(token: &SecretString) -> Option<Self> {
        use secrecy::{ExposeSecret, zeroize::Zeroizing};

        let token = token.expose_secret();
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !visible {
            return None;
        }
        let text = Zeroizing::new(["Bearer ", token].concat());
        wiped_field(text).ok().map(Self)
    }

    /// The field value; it is marked sensitive, so it never prints.
    #[must_use]
    pub fn as_header_value(&self) -> &HeaderValue {
        &self.0
    }

    /// The token alone, for whoever it is handed to. Never to be logged.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        let text = self.0.to_str().unwrap_or_default();
        text.strip_prefix("Bearer ").unwrap_or_default()
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

/// A token in use.
#[derive(Debug, Clone)]
pub struct AccessToken {
    /// The credential.
    pub bearer: Bearer,
    /// Which of our tokens this is, from 1.
    pub generation: u64,
    /// When the call that brought it was sent: lifetimes count from here.
    pub requested_at: Instant,
    /// When it ends; `None`: never.
    pub expires_at: Option<Instant>,
}

impl AccessToken {
    /// Whether it may be sent at that time.
    #[must_use]
    pub fn is_usable(&self, now: Instant) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// How long it lives in all; `None`: for ever.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        Some(self.expires_at? - self.requested_at)
    }
}

/// Why there is no token. What it says is safe to log and to show: no secret, and in `detail` no
/// text of the service's own.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct FetchError {
    /// The class, which decides how long to wait and what is counted.
    pub reason: Reason,
    /// What happened, in our own words.
    pub detail: String,
    /// How long the service asked to be left alone.
    pub retry_after: Option<Duration>,
    /// What the service said, for `doctor`: people who ask are shown more than the log.
    pub refusal: Option<Box<Refusal>>,
}

/// What a token service gave as its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error code (RFC 6749 §5.2), or the one that stands for the response of another service.
    pub code: String,
    /// The service's own words, without what could be a credential, and short.
    pub description: Option<String>,
}

impl FetchError {
    /// Whether its back-off is for the sake of the service, so that nobody's order shortens it: it has
    /// asked for that, or has rejected the credential, as it will again.
    #[must_use]
    pub fn outlasts_orders(&self) -> bool {
        let is_refused = matches!(self.reason, Reason::InvalidClient | Reason::RateLimited);
        is_refused || self.retry_after.is_some()
    }

    /// An error of that class.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            retry_after: None,
            refusal: None,
        }
    }
}

/// The classes of failures, named as in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The service cannot be reached.
    Network,
    /// The service sent no response in time.
    Timeout,
    /// The service responded with a status that grants nothing.
    BadStatus,
    /// The service responded with a 2xx and something that is no token.
    BadResponse,
    /// The service does not accept the credential.
    InvalidClient,
    /// The file of the credential cannot be read, holds none, or cannot be replaced where it must be;
    /// the service was not asked.
    SecretUnreadable,
    /// The service asked to be called less often.
    RateLimited,
}

impl Reason {
    /// All of them, in the order of the metrics' documentation.
    pub const ALL: [Self; 7] = [
        Self::Network,
        Self::Timeout,
        Self::BadStatus,
        Self::BadResponse,
        Self::InvalidClient,
        Self::SecretUnreadable,
        Self::RateLimited,
    ];

    /// Whether only a person can mend it.
    #[must_use]
    pub fn needs_operator(self) -> bool {
        matches!(self, Self::InvalidClient | Self::SecretUnreadable)
    }

    /// The label of the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::BadStatus => "bad_status",
            Self::BadResponse => "bad_response",
            Self::InvalidClient => "invalid_client",
            Self::SecretUnreadable => "secret_unreadable",
            Self::RateLimited => "rate_limited",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// All that is known, published whole after each attempt.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The newest token, which may have ended meanwhile.
    pub token: Option<Arc<AccessToken>>,
    /// Why the last attempt failed; `None` when it did not.
    pub failure: Option<FetchError>,
    /// When the first attempt since the last success began that failed.
    pub failing_since: Option<Instant>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// How many attempts are over.
    pub attempts: u64,
    /// When the next one is due.
    pub next_attempt: Instant,
    /// What is wrong with the refresh token, until a response says that nothing is.
    pub refresh_token_fault: Option<RefreshTokenFault>,
    /// The last attempts, newest first, at most [`HISTORY`].
    pub history: VecDeque<Attempt>,
}

/// A refresh token that was sent and cannot be used: the next call may be rejected.
#[derive(Debug, Clone, Copy)]
pub struct RefreshTokenFault {
    /// Why it cannot be used.
    pub why: &'static str,
    /// When the first such response was asked for.
    pub since: Instant,
}

/// How many attempts a snapshot remembers.
pub const HISTORY: usize = 10;

/// Why a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There was none yet.
    Start,
    /// The schedule: in time before the last one ends, or after a back-off.
    Schedule,
    /// The upstream responded with 401 to the last one.
    Unauthorized,
    /// The credential has changed.
    Changed,
    /// Somebody asked for it: an operator, or a clock that was set.
    Asked,
    /// The machine slept.
    Slept,
}

impl Cause {
    /// As the log says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Schedule => "schedule",
            Self::Unauthorized => "unauthorized",
            Self::Changed => "changed_credential",
            Self::Asked => "asked",
            Self::Slept => "slept",
        }
    }
}

/// One finished call to the token service.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Why it was made.
    pub cause: Cause,
    /// When it was sent.
    pub started_at: Instant,
    /// How long it took.
    pub duration: Duration,
    /// The status of the response, if there was one.
    pub status: Option<StatusCode>,
    /// What came of it: the generation that it brought, or the reason why not.
    pub outcome: Result<u64, FetchError>,
    /// Why the refresh token that came with the response cannot be used, where one came that cannot.
    pub refresh_token_fault: Option<&'static str>,
}

impl Snapshot {
    /// The token, if it may be sent at that time.
    #[must_use]
    pub fn usable(&self, now: Instant) -> Option<&Arc<AccessToken>> {
        self.token.as_ref().filter(|token| token.is_usable(now))
    }
}
