//! A token that needs no service: the API token of an original subscription, or one that another
//! agent writes into a file.

use super::{Bearer, FetchError, Lifetime, Reason, TokenResponse, TokenSource};
use crate::secret::SecretSource;

/// A token from the configuration or from a file.
#[derive(Debug)]
pub struct FixedToken(SecretSource);

impl FixedToken {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(source: SecretSource) -> Self {
        Self(source)
    }
}

impl TokenSource for FixedToken {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        let invalid = |detail: String| FetchError::new(Reason::InvalidClient, detail);
        let token = self.0.read().map_err(|error| invalid(error.to_string()))?;
        let bearer = Bearer::new(&token)
            .ok_or_else(|| invalid("the token is too long or no legal field value".to_owned()))?;
        Ok(TokenResponse {
            bearer,
            lifetime: Lifetime::Unlimited,
        })
    }
}
