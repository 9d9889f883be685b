//! Why a request is not let in.

use super::RefusedHost;
use crate::message::Flaw;

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The host that the request names can be read in two ways, or not at all.
    #[error("a malformed request: {0}")]
    Malformed(Flaw),
    /// The request is meant for another host.
    #[error("the request names {0}, which is not served here")]
    Misdirected(RefusedHost),
    /// A browser sent it on behalf of another site.
    #[error("a browser's cross-site request")]
    CrossSite,
    /// The field that every request must have is missing, or has another value.
    #[error("the required field is missing or wrong")]
    FieldMissing,
    /// The request shows no token of a client that is let in.
    #[error("no valid local token of a client")]
    UnknownClient,
    /// The rules allow other methods and paths.
    #[error("no rule allows this method and path")]
    NotAllowed,
    /// The method would show the credential, or lead past the checks.
    #[error("a method that is not allowed")]
    Method,
}
