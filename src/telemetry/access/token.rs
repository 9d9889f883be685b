//! What the access log says of tokens that leave the process.

use std::{path::Path, time::Duration};

use super::{Give, Value, shown};
use crate::clock::seconds;

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
    pub(super) fn each(self, give: &mut Give<'_>) {
        give("token.endpoint", Value::Text(self.endpoint));
        give("token.expires_in_seconds", Value::Number(self.expires_in));
    }
}

impl WrittenToken<'_> {
    pub(super) fn each(&self, give: &mut Give<'_>) {
        let path = shown(self.path.as_os_str().as_encoded_bytes());
        give("file.path", Value::Text(&path));
        give("token.generation", Value::Number(self.generation));
        if let Some(expires_in) = self.expires_in {
            let left = Value::Seconds(seconds(expires_in));
            give("token.expires_in_seconds", left);
        }
    }
}
