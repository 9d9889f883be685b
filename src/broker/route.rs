//! Where the broker is asked: its paths, and what is asked for at each.

use super::response::Shape;
use crate::message::RequestHead;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// A token endpoint that takes client credentials.
    Client(Shape),
    /// The exchange of a user's API token.
    ApiToken,
    /// The question that a proxy asks before it forwards a request.
    Auth,
}

/// The endpoints as the metric and the access log name them.
pub(super) const ENDPOINTS: [&str; 3] = ["oauth2", "csp", "auth"];

impl Route {
    /// The route of a request. Clients whose base URL ends in a slash send two.
    pub(super) fn of(head: &RequestHead) -> Option<Self> {
        let path = head.path();
        let slashes = path.iter().take_while(|byte| **byte == b'/').count();
        match path.get(slashes.saturating_sub(1)..)? {
            b"/oauth2/token" => Some(Self::Client(Shape::OAuth2)),
            b"/csp/gateway/am/api/auth/authorize" => Some(Self::Client(Shape::Csp)),
            b"/csp/gateway/am/api/auth/api-tokens/authorize" => Some(Self::ApiToken),
            // Envoy asks for the path of the request, behind a prefix.
            path if path == b"/auth" || path.starts_with(b"/auth/") => Some(Self::Auth),
            _ => None,
        }
    }

    /// The words in which a token request is responded to.
    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Client(shape) => shape,
            Self::ApiToken => Shape::Csp,
            Self::Auth => Shape::OAuth2,
        }
    }

    /// The name of the endpoint, which is one of [`ENDPOINTS`].
    pub(super) fn endpoint(self) -> &'static str {
        match self {
            Self::Client(Shape::OAuth2) => "oauth2",
            Self::Client(Shape::Csp) | Self::ApiToken => "csp",
            Self::Auth => "auth",
        }
    }
}
