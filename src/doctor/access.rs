//! Gets a token as the sidecar would, and explains why there is none.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::finding::{Finding, certificate_advice};
use crate::{
    app::Source,
    config::{Config, Credentials},
    token::{Bearer, FetchError, Lifetime, Reason, TokenSource, endpoint::PROXY_REFUSES},
};

/// What came of it.
pub(super) struct Access {
    pub(super) findings: Vec<Finding>,
    pub(super) bearer: Option<Bearer>,
    /// When it ends by our clock, in seconds since 1970, if its service told its lifetime.
    pub(super) ends_at: Option<f64>,
}

const SUBJECT: &str = "token";

pub(super) async fn get(config: &Config) -> Access {
    match try_get(config).await {
        Ok(access) => access,
        Err(text) => Access {
            findings: vec![Finding::failed(SUBJECT, text)],
            bearer: None,
            ends_at: None,
        },
    }
}

async fn try_get(config: &Config) -> Result<Access, String> {
    let mut source = Source::new(config).map_err(|error| format!("{error:#}"))?;
    let started = Instant::now();
    let response = source.fetch().await;
    let response = response.map_err(|error| explain(&error, config))?;
    let took = humantime::format_duration(Duration::from_millis(
        u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    ));
    let (lives, ends_at) = match response.lifetime {
        Lifetime::Limited(lifetime) => (
            format!("it lives for {}", whole_seconds(lifetime)),
            now().map(|now| now + lifetime.as_secs_f64()),
        ),
        Lifetime::Unknown => {
            let assumed = whole_seconds(config.auth.policy.default_lifetime);
            let text = format!("its service names no lifetime: {assumed} are assumed");
            (text, None)
        }
        Lifetime::Unlimited => ("it does not end by itself".to_owned(), None),
    };
    let got = match &config.auth.credentials {
        Credentials::Endpoint(_) => format!("got one in {took}; {lives}"),
        Credentials::Static(_) => format!("configured; {lives}"),
    };
    Ok(Access {
        findings: vec![Finding::ok(SUBJECT, got)],
        bearer: Some(response.bearer),
        ends_at,
    })
}

fn explain(error: &FetchError, config: &Config) -> String {
    let detail = &error.detail;
    let Credentials::Endpoint(request) = &config.auth.credentials else {
        return format!("{detail}. Put the API token into auth.token_file or WAVEFRONT_TOKEN");
    };
    let service = request.url.host_str().unwrap_or("the token service");
    let advice = match error.reason {
        _ if detail.contains(PROXY_REFUSES) || detail.starts_with("status 407") => {
            "the credentials of the proxy are missing or wrong: set the user in auth.proxy_url, \
             like http://user@host:port, and auth.proxy_password_file with its password"
                .to_owned()
        }
        // The service was never asked.
        Reason::InvalidClient if !detail.starts_with("status") && !detail.contains("(status") => {
            "check the file of the secret, and that this user may read it".to_owned()
        }
        Reason::InvalidClient => {
            "it does not accept these credentials: check that the secret or API token is the \
             present one and has not ended, that it was copied whole, that it belongs to this \
             client_id and org_id (the long identifier), and that auth.preset or auth.base_url \
             names the cloud where it was made"
                .to_owned()
        }
        Reason::RateLimited => match error.retry_after {
            Some(after) => format!(
                "too many token calls; it asks to wait {}",
                whole_seconds(after)
            ),
            None => "too many token calls; wait a minute, and see what else uses these \
                     credentials"
                .to_owned(),
        },
        Reason::BadStatus if detail.starts_with("status 40") => {
            "this is no answer of a token endpoint about the credentials: a firewall or proxy may \
             stand in between, or the address is wrong. Check the way to it, auth.base_url, \
             auth.token_path or auth.token_url, and whether it needs auth.proxy_url"
                .to_owned()
        }
        Reason::BadStatus => {
            "it has trouble, or something else answers in its place: try again later, and check \
             auth.base_url, auth.token_path or auth.token_url"
                .to_owned()
        }
        Reason::BadResponse => {
            "this is no answer of a token endpoint: check auth.base_url, auth.token_path or \
             auth.token_url, and whether a sign-in page or proxy stands in between"
                .to_owned()
        }
        Reason::Timeout => {
            "a firewall may swallow the connection: check the way to it, and whether it needs \
             auth.proxy_url"
                .to_owned()
        }
        Reason::Network => certificate_advice(detail, "auth.ca_file").unwrap_or_else(|| {
            "nothing answers there: check auth.base_url or auth.token_url, the network, and \
             whether it needs auth.proxy_url"
                .to_owned()
        }),
    };
    format!("{service}: {detail}. {}", sentence(&advice))
}

/// Begins with a capital letter.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

/// For people: no fractions.
pub(super) fn whole_seconds(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}

/// The wall clock in seconds since 1970.
pub(super) fn now() -> Option<f64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs_f64())
}
