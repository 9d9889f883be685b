//! The access tokens that the demo's token service has issued and that have not expired.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::random;

/// More tokens than this at one time mean that a client asks in a loop.
const MAX_LIVE: usize = 1024;

/// As long as an RS256 signature, so that tokens have the length that real ones have.
const SIGNATURE_LENGTH: usize = 256;

/// What the service instance may know about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// How many tokens had been issued when this one was, itself included.
    pub number: u64,
    /// When it stops being accepted.
    pub expires_at: Instant,
    /// Whether it may send data.
    pub may_send: bool,
}

/// The table of live tokens.
#[derive(Default)]
pub(super) struct IssuedTokens {
    count: u64,
    live: HashMap<String, IssuedToken>,
}

impl IssuedTokens {
    /// Issues a token with these claims, or `None` when too many are live.
    pub(super) fn issue(
        &mut self,
        claims: &Value,
        lifetime: Duration,
        may_send: bool,
    ) -> Option<String> {
        let now = Instant::now();
        self.live.retain(|_, issued| issued.expires_at > now);
        if self.live.len() >= MAX_LIVE {
            return None;
        }
        self.count += 1;
        let token = jwt(claims);
        self.live.insert(
            token.clone(),
            IssuedToken {
                number: self.count,
                expires_at: now + lifetime,
                may_send,
            },
        );
        Some(token)
    }

    /// What is known about a token that was issued here and has not expired.
    pub(super) fn find(&self, token: &str) -> Option<IssuedToken> {
        let issued = *self.live.get(token)?;
        (issued.expires_at > Instant::now()).then_some(issued)
    }
}

/// Looks like a signed JWT (RFC 7519). The signature is noise: the instance asks the table and verifies nothing.
fn jwt(claims: &Value) -> String {
    let header = json!({ "alg": "RS256", "kid": "demo_signing_1", "typ": "JWT" });
    [
        header.to_string().into_bytes(),
        claims.to_string().into_bytes(),
        random::bytes(SIGNATURE_LENGTH),
    ]
    .map(|part| URL_SAFE_NO_PAD.encode(part))
    .join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_token_is_known_until_it_expires() {
        let mut tokens = IssuedTokens::default();
        let first = tokens.issue(&json!({}), LIFETIME, true).unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        let second = tokens.issue(&json!({}), LIFETIME, true).unwrap();
        assert_eq!(tokens.find(&first).unwrap().number, 1);
        assert_eq!(tokens.find(&second).unwrap().number, 2);

        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(tokens.find(&first), None);
        assert!(tokens.find(&second).is_some());
        assert_eq!(tokens.find("no such token"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_forgets_what_expired() {
        let mut tokens = IssuedTokens::default();
        for _ in 0..MAX_LIVE {
            assert!(tokens.issue(&json!({}), LIFETIME, true).is_some());
        }
        assert!(tokens.issue(&json!({}), LIFETIME, true).is_none());

        tokio::time::advance(LIFETIME).await;
        assert!(tokens.issue(&json!({}), LIFETIME, true).is_some());
        assert_eq!(tokens.live.len(), 1);
    }
}
