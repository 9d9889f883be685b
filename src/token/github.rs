//! GitHub Apps: a signed statement of the app buys a token of one of its installations. Data for the
//! generic token endpoint, and how the response is read.

use std::time::{Duration, SystemTime};

use http::{StatusCode, header::DATE};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::{
    Bearer, FetchError, Lifetime, Reason, Refusal, TokenResponse,
    csp::join,
    endpoint::{
        Assertion, Audience, CallResponse, ClientAuth, Location, Protocol, Signer, Subject,
        TokenRequest, Validity,
        response::{self, Granted, NextRefreshToken},
    },
};

/// Where the API is, but for servers of one's own.
pub const API: &str = "https://api.github.com";

static GITHUB: Protocol = Protocol {
    name: "GitHub App",
    fields: &[
        ("accept", "application/vnd.github+json"),
        ("accept-encoding", "identity"),
        ("x-github-api-version", "2022-11-28"),
    ],
    has_form: false,
    read: |response, _| read(response),
};

/// An app that asks for a token of one installation.
#[must_use]
pub fn app(base_url: &Url, app_id: &str, installation_id: &str, signer: Signer) -> TokenRequest {
    let assertion = Assertion {
        issuer: Some(app_id.to_owned()),
        subject: Subject::Unsaid,
        audience: Audience::Unsaid,
        scope: None,
        signer,
        // GitHub takes ten minutes at most, and advises to allow for clocks that differ.
        validity: Validity {
            backdated: 60,
            lifetime: 8 * 60,
        },
    };
    let path = format!("/app/installations/{installation_id}/access_tokens");
    let endpoint = Location::Url(join(base_url, &path));
    TokenRequest {
        protocol: &GITHUB,
        ..TokenRequest::new(endpoint, ClientAuth::Bearer(assertion), Vec::new())
    }
}

#[derive(Deserialize)]
struct Installation {
    token: Option<String>,
    expires_at: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refused {
    message: Option<String>,
}

fn read(response: &CallResponse) -> Result<Granted, FetchError> {
    if !response.status.is_success() {
        return Err(refused(response));
    }
    let bad = |detail: &str| FetchError::new(Reason::BadResponse, detail);
    let said: Installation = serde_json::from_slice(&response.body)
        .map_err(|_| bad("the response is no JSON of an installation token"))?;
    let token = said.token.map(SecretString::from);
    let token = token.ok_or_else(|| bad("the response holds no token"))?;
    let bearer = Bearer::new(&token);
    let bearer =
        bearer.ok_or_else(|| bad("the token is empty, too long or no legal field value"))?;
    let ends = said.expires_at.as_deref().map(humantime::parse_rfc3339);
    let lifetime = match ends {
        Some(Ok(ends)) => match ends.duration_since(now(response)) {
            Ok(left) if left > Duration::ZERO => Lifetime::Limited(left),
            _ => return Err(bad("expires_at is over")),
        },
        Some(Err(_)) | None => Lifetime::Unknown,
    };
    Ok(Granted {
        response: Ok(TokenResponse::new(bearer, lifetime)),
        refresh_token: NextRefreshToken::Same,
    })
}

/// The time by the clock that `expires_at` goes by, or else by ours.
fn now(response: &CallResponse) -> SystemTime {
    let date = response
        .fields
        .get(DATE)
        .and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    date.unwrap_or_else(SystemTime::now)
}

/// How long GitHub asks to be left alone where it says nothing of the time.
const MINUTE: Duration = Duration::from_secs(60);

/// The time until there are calls again, by the clock of the service.
fn until_reset(response: &CallResponse) -> Option<Duration> {
    let reset = response.fields.get("x-ratelimit-reset")?.to_str().ok()?;
    let reset = Duration::from_secs(reset.trim().parse().ok()?);
    let reset = SystemTime::UNIX_EPOCH.checked_add(reset)?;
    let left = reset.duration_since(now(response)).ok()?;
    // At the very second there may be none yet.
    Some(left + Duration::from_secs(1))
}

/// Classifies a refusal. Nothing of the message itself goes into the error.
fn refused(response: &CallResponse) -> FetchError {
    let said: Refused = serde_json::from_slice(&response.body).unwrap_or_default();
    let is_github = said.message.is_some();
    let message = said.message.unwrap_or_default().to_ascii_lowercase();
    let is_out_of_calls = response
        .fields
        .get("x-ratelimit-remaining")
        .is_some_and(|left| left == "0");
    let status = response.status;
    let (reason, code) = match status {
        StatusCode::TOO_MANY_REQUESTS => (Reason::RateLimited, None),
        StatusCode::FORBIDDEN if is_out_of_calls || message.contains("rate limit") => {
            (Reason::RateLimited, None)
        }
        StatusCode::FORBIDDEN if message.contains("suspended") => {
            (Reason::InvalidClient, Some("github_suspended"))
        }
        StatusCode::UNAUTHORIZED if is_github => (Reason::InvalidClient, Some("github_app")),
        StatusCode::NOT_FOUND if is_github => (Reason::InvalidClient, Some("github_installation")),
        StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY if is_github => {
            (Reason::InvalidClient, Some("access_denied"))
        }
        _ => (Reason::BadStatus, None),
    };
    let retry_after = response::retry_after(&response.fields).or_else(|| match reason {
        Reason::RateLimited if is_out_of_calls => until_reset(response).or(Some(MINUTE)),
        Reason::RateLimited => Some(MINUTE),
        _ => None,
    });
    let mut detail = format!("status {}", status.as_u16());
    if let Some(code) = code {
        detail = format!("{detail}, {code}");
    }
    FetchError {
        reason,
        detail,
        retry_after,
        refusal: code.map(|code| {
            Box::new(Refusal {
                code: code.to_owned(),
                description: None,
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};
    use secrecy::zeroize::Zeroizing;

    use super::*;

    fn response(status: u16, fields: &[(&'static str, &str)], body: &str) -> CallResponse {
        let fields = fields.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, value.parse().unwrap())
        });
        CallResponse {
            status: StatusCode::from_u16(status).unwrap(),
            fields: fields.collect::<HeaderMap>(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    #[test]
    fn a_token_ends_by_the_clock_of_the_service() {
        let body = r#"{"token":"ghs_x","expires_at":"2016-07-11T22:14:10Z","permissions":{}}"#;
        let date = ("date", "Mon, 11 Jul 2016 21:14:10 GMT");
        let granted = read(&response(201, &[date], body)).unwrap();
        let hour = Lifetime::Limited(Duration::from_secs(3600));
        assert_eq!(granted.response.unwrap().lifetime, hour);
        // By our own clock it is over.
        let error = read(&response(201, &[], body)).unwrap_err();
        assert_eq!(error.reason, Reason::BadResponse);
        let unsaid = read(&response(201, &[], r#"{"token":"ghs_x"}"#)).unwrap();
        assert_eq!(unsaid.response.unwrap().lifetime, Lifetime::Unknown);
    }

    #[test]
    fn whoever_is_out_of_calls_waits_until_there_are_some_again() {
        let date = ("date", "Mon, 11 Jul 2016 21:14:10 GMT");
        let none = ("x-ratelimit-remaining", "0");
        let reset = ("x-ratelimit-reset", "1468274050");
        let wait = |status, fields: &[_]| {
            let error = read(&response(status, fields, r#"{"message":"rate limit"}"#)).unwrap_err();
            assert_eq!(error.reason, Reason::RateLimited);
            error.retry_after.map(|time| time.as_secs())
        };
        // 40 minutes and the second in which the time is reached.
        assert_eq!(wait(403, &[date, none, reset]), Some(2401));
        assert_eq!(wait(429, &[date, none, reset]), Some(2401));
        // What it says in so many words goes before.
        let asked = ("retry-after", "7");
        assert_eq!(wait(403, &[date, none, reset, asked]), Some(7));
        // A time that is over, or nothing that is a time, or calls that are left.
        for fields in [
            vec![date, none, ("x-ratelimit-reset", "1468270000")],
            vec![date, none, ("x-ratelimit-reset", "soon")],
            vec![date, none, ("x-ratelimit-reset", "18446744073709551615")],
            vec![date, reset],
            vec![],
        ] {
            assert_eq!(wait(403, &fields), Some(60), "{fields:?}");
        }
    }

    #[test]
    fn refusals_are_classified_and_quote_nothing_of_the_message() {
        let canary = r#"{"message":"canary"}"#;
        for (status, fields, body, reason, code) in [
            (401, None, canary, Reason::InvalidClient, Some("github_app")),
            (
                404,
                None,
                canary,
                Reason::InvalidClient,
                Some("github_installation"),
            ),
            (404, None, "<html>", Reason::BadStatus, None),
            (
                403,
                None,
                r#"{"message":"This installation has been suspended"}"#,
                Reason::InvalidClient,
                Some("github_suspended"),
            ),
            (
                403,
                Some(("x-ratelimit-remaining", "0")),
                canary,
                Reason::RateLimited,
                None,
            ),
            (
                403,
                None,
                r#"{"message":"You have exceeded a secondary rate limit"}"#,
                Reason::RateLimited,
                None,
            ),
            (
                422,
                None,
                canary,
                Reason::InvalidClient,
                Some("access_denied"),
            ),
            (429, None, "", Reason::RateLimited, None),
            (502, None, "<html>", Reason::BadStatus, None),
        ] {
            let error = read(&response(status, fields.as_slice(), body)).unwrap_err();
            assert_eq!(error.reason, reason, "{status} {body}");
            assert_eq!(error.refusal.map(|refusal| refusal.code).as_deref(), code);
            assert!(!error.detail.contains("canary"));
        }
    }
}
