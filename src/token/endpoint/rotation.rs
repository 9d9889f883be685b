//! The refresh token of a request: it is stored before the response that it came with is used.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep};

use super::{
    TokenEndpoint,
    outgoing::{REFRESH_TOKEN, unreadable},
    response::{Granted, NextRefreshToken},
};
use crate::{
    secret::Which,
    token::{
        FetchError, Lifetime, Reason, TokenResponse,
        refresh_token::{DISK_TIMEOUT, HeldRefreshToken, RefreshTokenError},
    },
};

/// A response whose refresh token could not be put in its place.
#[derive(Debug)]
pub(super) struct Kept {
    granted: Granted,
    next: SecretString,
    /// The refresh token that was sent for it.
    sent: SecretString,
    at: Instant,
}

impl TokenEndpoint {
    /// Takes the refresh token, where there is one. Then nobody else sends it, and whatever follows it
    /// can be stored.
    pub(super) async fn hold(&self) -> Result<Option<HeldRefreshToken>, FetchError> {
        let Some(file) = self.request.refresh_token() else {
            return Ok(None);
        };
        let held = file.hold(self.hold_timeout()).await;
        Ok(Some(held.map_err(|error| not_stored(&error))?))
    }

    /// Notes that a call begins, which nobody may drop where it sends the refresh token.
    ///
    /// # Errors
    /// When no call is to begin any more. Whoever stops this cancels first and looks for a commitment then;
    /// here it is the other way round, so that at least one of the two sees what the other does.
    pub(super) fn begin_call(
        &self,
        refresh_token: Option<&SecretString>,
    ) -> Result<(), FetchError> {
        if refresh_token.is_some() {
            self.is_committed.send_replace(true);
        }
        if self.stop.is_cancelled() {
            return Err(FetchError::new(Reason::Network, "no call is made any more"));
        }
        Ok(())
    }

    /// The longest time that another sidecar with this configuration keeps the token: as many calls as an
    /// attempt can take, and what its disk takes.
    fn hold_timeout(&self) -> Duration {
        self.settings.request_timeout * self.request.most_calls() + 2 * DISK_TIMEOUT
    }

    /// Stores the refresh token of a response, before the response is used.
    pub(super) async fn store(
        &mut self,
        held: HeldRefreshToken,
        granted: Granted,
    ) -> Result<TokenResponse, FetchError> {
        self.said_of_refresh_token = Some(Ok(()));
        let next = match &granted.refresh_token {
            NextRefreshToken::Given(next) if !is_same(next, held.token()) => next.clone(),
            NextRefreshToken::Given(_) | NextRefreshToken::Same => {
                held.release().await;
                return granted.response;
            }
            // The token that came with it may be good, and nothing gets better by losing that too.
            NextRefreshToken::Unusable(why) => {
                self.said_of_refresh_token = Some(Err(*why));
                held.release().await;
                return granted.response;
            }
        };
        let sent = held.token().clone();
        match held.replace(next.clone()).await {
            Ok(seen) => {
                // Our own replacement is no change that somebody made.
                self.seen_refresh_token = seen;
                tracing::debug!("the service has rotated the refresh token; the new one is stored");
                granted.response
            }
            Err(error) => {
                self.kept = Some(Kept {
                    granted,
                    next,
                    sent,
                    at: Instant::now(),
                });
                Err(not_stored(&error))
            }
        }
    }

    /// Stores the refresh token of a response that is kept, and gives what the response is still good
    /// for.
    pub(super) async fn resume(&mut self) -> Result<Option<TokenResponse>, FetchError> {
        let Some(kept) = &self.kept else {
            return Ok(None);
        };
        let Some(held) = self.hold().await? else {
            return Ok(None);
        };
        // Whoever has put another token there since meant that one.
        if is_same(held.token(), &kept.sent) {
            let stored = held.replace(kept.next.clone()).await;
            self.seen_refresh_token = stored.map_err(|error| not_stored(&error))?;
            tracing::info!("a refresh token that could not be stored at first is stored");
        } else {
            let is_there = is_same(held.token(), &kept.next);
            held.release().await;
            if !is_there {
                self.kept = None;
                return Ok(None);
            }
        }
        let Some(kept) = self.kept.take() else {
            return Ok(None);
        };
        let response = kept.granted.response?;
        Ok(match response.lifetime {
            Lifetime::Limited(lifetime) => {
                let left = lifetime.checked_sub(kept.at.elapsed());
                left.filter(|left| !left.is_zero())
                    .map(|left| TokenResponse {
                        lifetime: Lifetime::Limited(left),
                        ..response
                    })
            }
            Lifetime::Unknown | Lifetime::Unlimited => Some(response),
        })
    }
}

impl TokenEndpoint {
    /// Stores the refresh token of a response that is kept, if one is, however long that takes.
    pub(super) async fn store_kept(&mut self) {
        let mut pause = SETTLE_FLOOR;
        while self.kept.is_some() {
            match self.resume().await {
                // The access token that came with it has no use any more.
                Ok(_) => break,
                Err(error) if self.kept.is_some() => {
                    tracing::debug!(%error, "a refresh token that was received is still not stored");
                    sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                    pause = (2 * pause).min(SETTLE_CEILING);
                }
                Err(_) => {}
            }
        }
        self.is_committed.send_replace(false);
    }
}

/// The pauses between two attempts to store what is kept, at a time when nothing else is done.
const SETTLE_FLOOR: Duration = Duration::from_millis(100);
const SETTLE_CEILING: Duration = Duration::from_secs(2);

/// A refresh token that cannot be had, or not be replaced.
pub(super) fn not_stored(error: &RefreshTokenError) -> FetchError {
    unreadable(error, Which::Current, REFRESH_TOKEN)
}

#[expect(
    clippy::disallowed_methods,
    reason = "both are ours, and nobody learns how they compare"
)]
fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
