//! Reads any response of a token service: pure functions of status, fields and body.
//!
//! Nothing of the body's free text goes into the detail of an error: services echo credentials there.
//! What `description` makes of it is kept beside it, for people who ask.

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use secrecy::{SecretString, zeroize::Zeroizing};
use serde::Deserialize;
use serde_json::Value;

use super::description;
use crate::{
    text::unmarked_bytes,
    token::{Bearer, FetchError, Lifetime, MAX_TOKEN_BYTES, Reason, Refusal, TokenResponse},
};

/// RFC 6749 §5.1. Any field may be missing or null, unknown ones are ignored.
#[derive(Deserialize)]
struct Fields {
    access_token: Option<String>,
    token_type: Option<String>,
    issued_token_type: Option<Value>,
    expires_in: Option<Value>,
    refresh_token: Option<Value>,
    error: Option<Value>,
    error_description: Option<Value>,
}

/// What a response may hold, as the request has asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// A `token_type` besides bearer whose tokens are used as bearer tokens.
    pub token_type: Option<String>,
    /// What an exchange may give (RFC 8693 §2.2.1); empty where the grant is none.
    pub issued_token_types: Vec<String>,
}

/// What a service granted.
#[derive(Debug)]
pub struct Granted {
    /// The access token, or why it cannot be used.
    pub response: Result<TokenResponse, FetchError>,
    /// What the response says of the refresh token.
    pub refresh_token: NextRefreshToken,
}

/// What a response says of the refresh token (RFC 6749 §6).
#[derive(Debug)]
pub enum NextRefreshToken {
    /// Nothing: the one that was sent stays in use.
    Same,
    /// The token to use from now on, which may be the one that was sent.
    Given(SecretString),
    /// A token that cannot be used, and why not. Whether the service still takes the one that was
    /// sent nobody knows.
    Unusable(&'static str),
}

/// RFC 6749 §5.2, and the fields of a CSP error that are safe to show.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Refused {
    error: Option<Value>,
    #[serde(rename = "error_description")]
    error_description: Option<Value>,
    message: Option<Value>,
    csp_error_code: Option<Value>,
    error_code: Option<Value>,
    module_code: Option<Value>,
    request_id: Option<Value>,
    trace_id: Option<Value>,
}

impl Refused {
    /// Whether it has codes that no other service has.
    fn is_csp(&self) -> bool {
        self.csp_error_code.is_some() || self.module_code.is_some()
    }
}

/// The codes of RFC 6749 §5.2 that only another configuration or another secret can mend.
const REJECTIONS: [&str; 9] = [
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
    // Of RFC 8707 and RFC 8693, and of RFC 9449, which the sidecar does not support.
    "invalid_target",
    "use_dpop_nonce",
    "invalid_dpop_proof",
];

/// Makes a token of a response, or the reason why it holds none.
///
/// # Errors
/// The class of the failure, and nothing of the response's free text.
pub fn read(
    status: StatusCode,
    fields: &HeaderMap,
    body: &[u8],
) -> Result<TokenResponse, FetchError> {
    read_expected(status, fields, body, &Expected::default())?.response
}

/// The same where it is known what was asked for.
///
/// # Errors
/// As [`read`].
pub fn read_expected(
    status: StatusCode,
    fields: &HeaderMap,
    body: &[u8],
    expected: &Expected,
) -> Result<Granted, FetchError> {
    if status.is_success() {
        granted(body, expected)
    } else {
        Err(refused(status, retry_after(fields), body))
    }
}

/// Reads a 2xx response.
fn granted(body: &[u8], expected: &Expected) -> Result<Granted, FetchError> {
    let bad = |detail: &str| FetchError::new(Reason::BadResponse, detail);
    let mut granted: Fields = serde_json::from_slice(unmarked_bytes(body))
        .map_err(|_| bad("the response is no JSON of a token"))?;
    let Some(token) = granted.access_token.take() else {
        return Err(match granted.error.as_ref().and_then(rejection) {
            Some(code) => FetchError {
                refusal: refusal(code, granted.error_description.as_ref()),
                ..FetchError::new(Reason::InvalidClient, format!("{code} (status 200)"))
            },
            None => bad("the response holds no access_token"),
        });
    };
    let refresh_token = next_refresh_token(granted.refresh_token.take());
    Ok(Granted {
        // The service has rotated the refresh token whether its access token can be used or not.
        response: response(&granted, &SecretString::from(token), expected),
        refresh_token,
    })
}

/// The token of a 2xx response, if it is one that requests can be sent with.
fn response(
    granted: &Fields,
    token: &SecretString,
    expected: &Expected,
) -> Result<TokenResponse, FetchError> {
    let bad = |detail: &str| FetchError::new(Reason::BadResponse, detail);
    // RFC 6749 §7.1: a client must not use a token of a type that it does not understand.
    let accepted = expected.token_type.as_deref();
    let is_accepted = |kind: &String| {
        is_bearer(kind) || accepted.is_some_and(|other| kind.trim().eq_ignore_ascii_case(other))
    };
    let is_bound = |kind: &String| kind.trim().eq_ignore_ascii_case("dpop");
    if accepted.is_none() && granted.token_type.as_ref().is_some_and(is_bound) {
        return Err(bad(DPOP));
    }
    if !granted.token_type.as_ref().is_none_or(is_accepted) {
        return Err(bad(
            "the token_type is not bearer; if its tokens are used as such, name it in auth.token_type",
        ));
    }
    let issued = granted.issued_token_type.as_ref().and_then(Value::as_str);
    let mut types = expected.issued_token_types.iter();
    if let Some(issued) = issued.filter(|_| !expected.issued_token_types.is_empty())
        && !types.any(|one| one == issued)
    {
        return Err(bad(
            "the issued_token_type is not what auth.requested_token_type asks for, or none that \
             requests can be sent with",
        ));
    }
    let bearer = Bearer::new(token)
        .ok_or_else(|| bad("the access_token is empty, too long or no legal field value"))?;
    let lifetime = match granted.expires_in.as_ref().and_then(number) {
        Some(seconds) if seconds > 0.0 => Lifetime::Limited(saturating_seconds(seconds)),
        Some(_) => return Err(bad("expires_in is not positive")),
        None => lifetime_of_jwt(token).map_or(Lifetime::Unknown, Lifetime::Limited),
    };
    Ok(TokenResponse::new(bearer, lifetime))
}

/// Reads a refresh token, which has to come back from a file as it was (RFC 6749 appendix A.17).
fn next_refresh_token(given: Option<Value>) -> NextRefreshToken {
    let token = match given {
        // Some services write what is not there as null.
        None | Some(Value::Null) => return NextRefreshToken::Same,
        Some(Value::String(token)) => SecretString::from(token),
        Some(_) => return NextRefreshToken::Unusable("it is no string"),
    };
    match unfit(&token) {
        Some(why) => NextRefreshToken::Unusable(why),
        None => NextRefreshToken::Given(token),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "only the length and the kinds of characters are looked at"
)]
fn unfit(token: &SecretString) -> Option<&'static str> {
    use secrecy::ExposeSecret;

    let token = token.expose_secret();
    if token.is_empty() {
        Some("it is empty")
    } else if token.len() >= MAX_TOKEN_BYTES {
        Some("it is longer than 64 KiB")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("it has characters that no refresh token has")
    } else {
        None
    }
}

/// What is said of tokens that are bound to a key (RFC 9449).
const DPOP: &str = "the token_type is DPoP: its tokens are bound to a key, which the sidecar does not \
                    support; register the client for bearer tokens";

/// Whether a `token_type` means bearer (RFC 6750), as providers spell it. Nothing at all does too.
fn is_bearer(kind: &str) -> bool {
    let is_letter = |c: &char| !matches!(c, ' ' | '_' | '-');
    let plain: String = kind.chars().filter(is_letter).collect();
    ["", "bearer", "bearertoken"].contains(&plain.to_ascii_lowercase().as_str())
}

/// Reads any other response.
///
/// Only who knows the credential can reject it, and such a response has an error code. Whatever else
/// responds with 401 or 403 stands in between: a firewall, a sign-in page.
pub(in crate::token) fn refused(
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
) -> FetchError {
    let refused: Refused = serde_json::from_slice(unmarked_bytes(body)).unwrap_or_default();
    let code = refused.error.as_ref().and_then(rejection);
    // CSP says it in the text of the message; the code is all that is taken from there.
    let code = code.or_else(|| refused.message.as_ref().and_then(mentioned_rejection));
    // An API token that CSP does not know: status 404 and module 540, as a number or a string.
    let is_unknown_token = status == StatusCode::NOT_FOUND
        && refused.module_code.as_ref().and_then(number) == Some(540.0);
    // An organisation that CSP does not know: no other secret or time will change that.
    let is_unknown_org =
        status.is_client_error() && refused.message.as_ref().is_some_and(mentions_unknown_org);
    let is_rejection = match status {
        StatusCode::UNAUTHORIZED => code.is_some() || refused.error.is_some() || refused.is_csp(),
        StatusCode::FORBIDDEN => {
            code.is_some() || refused.error.as_ref().is_some_and(is_code) || refused.is_csp()
        }
        _ => status.is_client_error() && (code.is_some() || is_unknown_token || is_unknown_org),
    };
    let reason = if status == StatusCode::TOO_MANY_REQUESTS {
        Reason::RateLimited
    } else if is_rejection {
        Reason::InvalidClient
    } else {
        Reason::BadStatus
    };
    let description = refused.error_description.as_ref().and_then(Value::as_str);
    let given = code.or_else(|| {
        let error = refused.error.as_ref().filter(|error| is_code(error));
        error.and_then(Value::as_str)
    });
    let refusal_code = match given {
        _ if is_unknown_org => Some("organization_not_found"),
        _ if is_unknown_token => Some("unknown_api_token"),
        given => given,
    };
    let mut detail = format!("status {}", status.as_u16());
    if status.is_redirection() {
        detail.push_str(", a redirect, which is not followed");
    }
    for (name, value) in [
        // Of other codes only their form is known.
        (
            "error",
            given.filter(|code| is_known(code)).map(ToOwned::to_owned),
        ),
        ("code", description.and_then(description::aadsts)),
        (
            "cspErrorCode",
            refused.csp_error_code.as_ref().and_then(identifier),
        ),
        (
            "errorCode",
            refused.error_code.as_ref().and_then(identifier),
        ),
        (
            "moduleCode",
            refused.module_code.as_ref().and_then(identifier),
        ),
        (
            "requestId",
            refused.request_id.as_ref().and_then(identifier),
        ),
        ("traceId", refused.trace_id.as_ref().and_then(identifier)),
    ] {
        if let Some(value) = value {
            detail.push_str(", ");
            detail.push_str(name);
            detail.push(' ');
            detail.push_str(&value);
        }
    }
    FetchError {
        reason,
        detail,
        retry_after,
        refusal: refusal_code.and_then(|code| refusal(code, refused.error_description.as_ref())),
    }
}

/// What the service gave as its reason. Without a code it is none of a token service.
fn refusal(code: &str, description: Option<&Value>) -> Option<Box<Refusal>> {
    let description = description.and_then(Value::as_str);
    Some(Box::new(Refusal {
        code: identifier(&code.into())?,
        description: description.and_then(description::shown),
    }))
}

/// `Retry-After` in seconds or as a date (RFC 9110 §10.2.3); nonsense and the past count as none.
pub(in crate::token) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return (seconds > 0).then(|| Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text)
        .ok()?
        .duration_since(SystemTime::now())
        .ok()
}

fn rejection(error: &Value) -> Option<&'static str> {
    let error = error.as_str()?;
    REJECTIONS.into_iter().find(|code| *code == error)
}

/// Whether it has the form of an error code, and not of a sentence.
fn is_code(error: &Value) -> bool {
    let is_of_code = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    error
        .as_str()
        .is_some_and(|error| !error.is_empty() && error.bytes().all(is_of_code))
}

/// Whether it is a code that services of this kind are known to have.
fn is_known(code: &str) -> bool {
    const OTHERS: [&str; 3] = ["invalid_request", "server_error", "temporarily_unavailable"];
    REJECTIONS.contains(&code) || OTHERS.contains(&code)
}

fn mentions_unknown_org(message: &Value) -> bool {
    let message = message.as_str().unwrap_or_default().to_ascii_lowercase();
    let is_about = ["organization", "organisation", "org "];
    let is_unknown = ["not found", "does not exist", "unknown", "invalid org"];
    is_about.iter().any(|word| message.contains(word))
        && is_unknown.iter().any(|word| message.contains(word))
}

fn mentioned_rejection(message: &Value) -> Option<&'static str> {
    let message = message.as_str()?;
    REJECTIONS.into_iter().find(|code| message.contains(code))
}

/// A number, also one that is written as a string. `null`, text and structures are none.
pub(in crate::token) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| !number.is_nan())
}

fn saturating_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A short code that can't be a credential (API tokens have 65 characters).
fn identifier(value: &Value) -> Option<String> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!text.is_empty() && text.len() <= 40 && text.chars().all(is_plain)).then_some(text)
}

/// The lifetime in the claims of a JWT (RFC 7519 §4.1): only a hint, since the token is
/// opaque to its client, and only used when the service names no lifetime. Issue and end come
/// from the same clock where both are there, so ours need not agree with it.
#[expect(
    clippy::disallowed_methods,
    reason = "the claims are inside of the token; nothing of them but two numbers leaves this function"
)]
fn lifetime_of_jwt(token: &SecretString) -> Option<Duration> {
    use secrecy::ExposeSecret;

    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
        iat: Option<f64>,
    }
    let mut parts = token.expose_secret().split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?);
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let issued = match claims.iat {
        Some(iat) => iat,
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?
            .as_secs_f64(),
    };
    let lifetime = claims.exp - issued;
    (lifetime > 0.0).then(|| saturating_seconds(lifetime))
}

#[cfg(test)]
mod tests;
