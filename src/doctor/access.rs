//! Gets a token as the sidecar would, and explains why there is none.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{advice::explain, finding::Finding};
use crate::{
    app::Source,
    config::{Config, Credentials},
    token::{Bearer, Lifetime, TokenSource},
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

/// For people: no fractions.
pub(super) fn whole_seconds(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}

/// The wall clock in seconds since 1970.
pub(super) fn now() -> Option<f64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs_f64())
}
