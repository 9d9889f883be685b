//! What the access log says of tokens that leave the process.

use std::{path::Path, time::Duration};

use super::Line;

/// A token that the broker gave a client, by a request of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOut {
    /// The endpoint, as the metric names it.
    pub endpoint: &'static str,
    /// The seconds for which the client may keep it.
    pub expires_in: u64,
}

/// A token that was written to a file.
#[derive(Clone, Copy, Debug)]
pub struct WrittenToken<'a> {
    /// The file.
    pub path: &'a Path,
    /// The token, as `got a token` counts them.
    pub generation: u64,
    /// How long the token lasts; `None` for one that does not end.
    pub expires_in: Option<Duration>,
}

impl HandedOut {
    pub(super) fn put(self, line: &mut Line<'_>) {
        line.text("token.endpoint", self.endpoint);
        line.value("token.expires_in_seconds", self.expires_in);
    }
}

impl WrittenToken<'_> {
    pub(super) fn put(&self, line: &mut Line<'_>) {
        line.text("file.path", self.path.as_os_str().as_encoded_bytes());
        line.value("token.generation", self.generation);
        if let Some(expires_in) = self.expires_in {
            line.seconds("token.expires_in_seconds", expires_in);
        }
    }
}
