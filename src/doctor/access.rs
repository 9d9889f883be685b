//! Gets a token as the sidecar would, and explains why there is none.

use std::{
    future::pending,
    pin::pin,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{advice::explain, finding::Finding};
use crate::{
    app::{Source, shutdown_signal},
    config::{Config, Credentials},
    text::for_terminal,
    token::{
        Bearer, FetchError, Lifetime, TokenResponse, TokenSource, endpoint::Metadata,
        may_be_dropped,
    },
};

/// What came of it.
pub(super) struct Access {
    pub(super) findings: Vec<Finding>,
    pub(super) bearer: Option<Bearer>,
    /// By how many seconds our clock is ahead of that of the service, where that was seen.
    pub(super) clock: Option<(&'static str, f64)>,
    /// When it ends by our clock, in seconds since 1970, if its service named its lifetime.
    pub(super) ends_at: Option<f64>,
}

const SUBJECT: &str = "token";

pub(super) async fn get(config: &Config) -> Access {
    let failed = |text| Access {
        findings: vec![Finding::failed(SUBJECT, text)],
        bearer: None,
        clock: None,
        ends_at: None,
    };
    let mut source = match Source::new(config) {
        Ok(source) => source,
        Err(error) => return failed(format!("{error:#}")),
    };
    let access = try_get(config, &mut source).await;
    let mut access = access.unwrap_or_else(failed);
    let ahead = i32::try_from(source.clock_ahead()).unwrap_or_default();
    access.clock = (ahead != 0).then(|| ("token service", -f64::from(ahead)));
    let discovery = source
        .metadata()
        .map(|metadata| discovery(metadata, config));
    access.findings.splice(0..0, discovery);
    access
}

/// What the issuer said of itself, and whether it goes together with the configuration.
fn discovery(metadata: &Metadata, config: &Config) -> Finding {
    const SUBJECT: &str = "discovery";
    let (place, endpoint) = (&metadata.read_from, &metadata.token_endpoint);
    let said = format!("{place} names the token endpoint {endpoint}");
    let Credentials::Endpoint(request) = &config.auth.credentials else {
        return Finding::ok(SUBJECT, said);
    };
    let method = request.client_auth.registered_name();
    if let Some(method) = method.filter(|method| !metadata.methods.iter().any(|one| one == method))
    {
        let methods = for_terminal(&metadata.methods.join(", "), LONGEST);
        return Finding::warning(
            SUBJECT,
            format!("{said}, which takes {methods}, and auth.client_auth is {method}"),
        );
    }
    let grant = request.grant_type();
    let has =
        |grants: &Vec<String>| grant.is_none_or(|grant| grants.iter().any(|one| one == grant));
    if let Some(grants) = metadata.grants.as_ref().filter(|grants| !has(grants)) {
        let grants = for_terminal(&grants.join(", "), LONGEST);
        let grant = grant.unwrap_or_default();
        return Finding::warning(
            SUBJECT,
            format!("{said}, which has {grants}, and auth.type means {grant}"),
        );
    }
    Finding::ok(SUBJECT, said)
}

/// Lists of others are cut.
const LONGEST: usize = 300;

async fn try_get(config: &Config, source: &mut Source) -> Result<Access, String> {
    let started = Instant::now();
    let settling = config.listen.server.drain_timeout;
    let response = fetch(source, settling).await?;
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
        clock: None,
        ends_at,
    })
}

/// Makes the call. A call whose response may bring a refresh token is finished whatever signal comes, and
/// storing that token is tried for `settling`; a second signal ends the process all the same.
async fn fetch(
    source: &mut Source,
    settling: Duration,
) -> Result<Result<TokenResponse, FetchError>, String> {
    let Some(commitment) = source.commitment() else {
        return Ok(source.fetch().await);
    };
    let signal = shutdown_signal().map_err(|error| error.to_string())?;
    let stop = CancellationToken::new();
    source.stop_with(&stop);
    let mut stopping = pin!(async {
        signal.await;
        stop.cancel();
        pending::<()>().await;
    });
    let result = tokio::select! {
        biased;
        result = source.fetch() => Some(result),
        () = may_be_dropped(Some(commitment.clone()), &stop) => None,
        () = &mut stopping => None,
    };
    let settled = timeout(settling, async {
        tokio::select! {
            biased;
            () = &mut stopping => {}
            () = source.settle() => {}
        }
    });
    match (settled.await, result) {
        (Err(_), Some(Err(error))) if *commitment.borrow() => Err(format!(
            "the service has rotated the refresh token, and the new one is lost: {error}"
        )),
        (Ok(()), Some(result)) if !stop.is_cancelled() => Ok(result),
        _ => Err("stopped by a signal".to_owned()),
    }
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
