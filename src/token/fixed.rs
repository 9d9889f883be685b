//! A token that needs no service: the API token of an original subscription, or one that another
//! agent writes into a file.

use std::path::PathBuf;

use super::{Bearer, FetchError, Lifetime, Reason, TokenResponse, TokenSource};
use crate::secret::{Fingerprint, SecretSource, changed, warn_of_quotes};

/// A token from the configuration or from a file.
#[derive(Debug)]
pub struct FixedToken {
    source: SecretSource,
    files: Vec<PathBuf>,
    seen: Fingerprint,
    /// Whether that was ever.
    has_read: bool,
}

impl FixedToken {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(source: SecretSource) -> Self {
        Self {
            files: source.file().into_iter().cloned().collect(),
            seen: Fingerprint::default(),
            has_read: false,
            source,
        }
    }
}

impl TokenSource for FixedToken {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        let now = Fingerprint::of(&self.files);
        if self.has_read && now != self.seen {
            warn_of_quotes(&self.files);
        }
        self.has_read = true;
        self.seen = now;
        let token = self.source.read().map_err(|error| {
            FetchError::new(
                Reason::SecretUnreadable,
                format!("auth.token_file: {error}"),
            )
        })?;
        let bearer = Bearer::new(&token).ok_or_else(|| {
            let what = "the token is too long or no legal field value";
            FetchError::new(Reason::InvalidClient, what)
        })?;
        Ok(TokenResponse::new(bearer, Lifetime::Unlimited))
    }

    async fn changed(&mut self) {
        changed(&self.files, &self.seen).await;
    }
}
