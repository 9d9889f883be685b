//! Responses of the broker, in the words of RFC 6749 §5 or in those of VMware Cloud Services.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{
        ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, PRAGMA, RETRY_AFTER,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use secrecy::zeroize::Zeroizing;
use serde::Serialize;
use serde_json::{Value, json};

use super::grant::Grant;
use crate::{clock::whole_seconds, secret::wiped, token::Unavailable};

/// The words of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// RFC 6749.
    OAuth2,
    /// VMware Cloud Services.
    Csp,
}

/// Why a token request gets no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenError {
    /// The method is not POST.
    Method,
    /// The request is not what it should be.
    Request(&'static str),
    /// The body does not arrive in time.
    TooSlow,
    /// The credentials are nobody's.
    Client,
    /// The API token is nobody's.
    Grant,
    /// Another grant than client credentials.
    GrantType,
    /// There is no token that could be handed out.
    Unavailable(Unavailable),
}

impl TokenError {
    fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Client => StatusCode::UNAUTHORIZED,
            Self::Request(_) | Self::Grant | Self::GrantType => StatusCode::BAD_REQUEST,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The code of RFC 6749 §5.2; that of an unavailable token is of §4.1.2.1, for want of another.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Method | Self::Request(_) | Self::TooSlow => "invalid_request",
            Self::Client => "invalid_client",
            Self::Grant => "invalid_grant",
            Self::GrantType => "unsupported_grant_type",
            Self::Unavailable(_) => "temporarily_unavailable",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Method => "a token request is a POST",
            Self::Request(what) => what,
            Self::TooSlow => "the body did not arrive in time",
            Self::Client => "the client secret must be the local token of a client",
            Self::Grant => "invalid_grant: the API token must be the local token of a client",
            Self::GrantType => "grant_type must be client_credentials",
            Self::Unavailable(_) => "there is no access token at the moment; try again later",
        }
    }
}

/// RFC 6749 §5.1.
#[derive(Serialize)]
struct Granted<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: u64,
}

/// The least `expires_in` for clients of VMware Cloud Services. Such a client asks again 30 s before
/// the end that it was given (180 s from ten minutes on), and at 30 s or less it asks without a pause,
/// waits a minute with a token that has ended, or crashes. With 31 s it asks again after one second,
/// for which each token that is handed out is good.
const LEAST_OF_CSP: u64 = 31;

/// Gives a token with the time for which it may be kept.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where a token leaves the process, for a client that was let in"
)]
pub(super) fn granted(shape: Shape, grant: &Grant) -> Response<Bytes> {
    let access_token = grant.token.bearer.expose_token();
    let (token_type, expires_in) = match shape {
        Shape::OAuth2 => ("Bearer", grant.expires_in),
        // No further field, though the service has some: one of its clients fails at those that it
        // does not know.
        Shape::Csp => ("bearer", grant.expires_in.max(LEAST_OF_CSP)),
    };
    // Room for all of it at once, escaped: what outgrows its room leaves a copy that nobody wipes.
    let mut body = Zeroizing::new(Vec::with_capacity(2 * access_token.len() + 128));
    let granted = Granted {
        access_token,
        token_type,
        expires_in,
    };
    // A structure of texts and a number can always be written.
    drop(serde_json::to_writer(&mut *body, &granted));
    whole(StatusCode::OK, "application/json", wiped(body))
}

/// Gives the error in place of a token.
pub(super) fn refused(shape: Shape, error: &TokenError) -> Response<Bytes> {
    tracing::debug!(
        code = error.code(),
        "the broker refused a token request: {}",
        error.text()
    );
    let status = error.status();
    let body = match shape {
        Shape::OAuth2 => json!({ "error": error.code(), "error_description": error.text() }),
        Shape::Csp => csp(status, error.text()),
    };
    let body = Bytes::from(body.to_string());
    let mut response = whole(status, "application/json", body);
    let fields = response.headers_mut();
    match error {
        TokenError::Method => {
            fields.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        TokenError::Client => {
            let challenge = HeaderValue::from_static("Basic realm=\"auth-sidecar\"");
            fields.insert(WWW_AUTHENTICATE, challenge);
        }
        TokenError::Unavailable(unavailable) => {
            let after = whole_seconds(unavailable.retry_after);
            fields.insert(RETRY_AFTER, HeaderValue::from(after));
        }
        _ => {}
    }
    response
}

/// The body of an error as VMware Cloud Services write it.
fn csp(status: StatusCode, message: &str) -> Value {
    let status = status.as_u16();
    let id = format!("{:016x}", fastrand::u64(..));
    json!({
        "metadata": null,
        "traceId": id,
        "cspErrorCode": format!("340.100-{status}.000"),
        "moduleCode": 340,
        "statusCode": status,
        "message": message,
        "requestId": id,
    })
}

/// Gives the field for one request.
pub(super) fn authorization(grant: &Grant) -> Response<Bytes> {
    let mut response = whole(StatusCode::OK, "text/plain", Bytes::new());
    let value = grant.token.bearer.as_header_value().clone();
    response.headers_mut().insert(AUTHORIZATION, value);
    response
}

/// Responds to another path.
pub(super) fn nothing_here() -> Response<Bytes> {
    let body = json!({
        "type": "about:blank",
        "title": "There is nothing here; see /oauth2/token and /auth",
        "status": 404,
    });
    let body = Bytes::from(body.to_string());
    whole(StatusCode::NOT_FOUND, "application/problem+json", body)
}

fn whole(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Bytes> {
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(CONTENT_LENGTH, length);
    // RFC 6749 §5.1 asks for both.
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
