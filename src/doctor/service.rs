//! Calls the service behind the sidecar with the token, and explains what comes back.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use tokio::time::timeout;

use super::{access::now, finding::Finding};
use crate::{
    config::{Config, Loaded},
    message::{Name, RequestHead},
    proxy::{
        ProxyError,
        upstream::{Connector, Upstream},
    },
    remedy,
    telemetry::Metrics,
    text::sentence,
    token::Bearer,
};

const SUBJECT: &str = "service";

/// A doctor's visit is no query over a year of data.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What came of it.
pub(super) struct Visit {
    pub(super) findings: Vec<Finding>,
    /// Whether the service responded at all.
    pub(super) is_reached: bool,
    /// By how many seconds our clock is ahead of its.
    pub(super) clock: Option<(&'static str, f64)>,
}

/// Something small to read: of Wavefront one source, of another service its root.
pub(super) fn harmless_path(loaded: &Loaded) -> &'static str {
    let of_wavefront = ["csp-oauth-app", "csp-api-token", "static-token"];
    if of_wavefront.contains(&loaded.config.auth.kind) {
        "/api/v2/source?limit=1"
    } else {
        "/"
    }
}

pub(super) async fn visit(config: &Config, bearer: &Bearer, path: &str) -> Visit {
    match try_visit(config, bearer, path).await {
        Ok(visit) => visit,
        Err(text) => Visit {
            findings: vec![Finding::failed(SUBJECT, text)],
            is_reached: false,
            clock: None,
        },
    }
}

async fn try_visit(config: &Config, bearer: &Bearer, path: &str) -> Result<Visit, String> {
    let settings = &config.upstream;
    let connector = Connector::new(settings).map_err(|error| format!("upstream: {error}"))?;
    let upstream = Upstream::new(settings, Arc::new(connector), Arc::new(Metrics::default()));
    let host = String::from_utf8_lossy(upstream.host()).into_owned();
    let mut request = RequestHead::to(Method::GET, path.as_bytes());
    request.fields.push(b"Accept", b"*/*");
    let agent = concat!("auth-sidecar/", env!("CARGO_PKG_VERSION"));
    request.fields.push(b"User-Agent", agent.as_bytes());
    let time_limit = config.proxy.response_timeout.min(TIMEOUT) + settings.connect_timeout;
    let response = timeout(time_limit, upstream.ask(&request, bearer))
        .await
        .unwrap_or(Err(ProxyError::ResponseTimeout));
    let response = response.map_err(|error| {
        let advice = sentence(&explain(&error));
        format!("{host}: {error}. {advice}")
    })?;
    let date = response.fields.first(Name::Date).and_then(seconds);
    Ok(Visit {
        findings: vec![finding_of(response.status, path, &host)],
        is_reached: true,
        clock: date
            .zip(now())
            .map(|(theirs, ours)| (SUBJECT, ours - theirs)),
    })
}

fn seconds(date: &[u8]) -> Option<f64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok()?;
    let since = date.duration_since(std::time::SystemTime::UNIX_EPOCH);
    since.ok().map(|since| since.as_secs_f64())
}

/// What a response means, and what to do.
fn finding_of(status: StatusCode, path: &str, host: &str) -> Finding {
    let said = format!("{host} responds to GET {path} with {}", status.as_u16());
    let warning = |advice: &str| Finding::warning(SUBJECT, format!("{said}. {advice}"));
    let failed = |advice: &str| Finding::failed(SUBJECT, format!("{said}. {advice}"));
    match status.as_u16() {
        200..=299 => Finding::ok(SUBJECT, format!("{said}: it accepts the token")),
        300..=399 => warning(
            "A redirect, which the sidecar hands to its clients: probably upstream.url is not \
             the address of the service itself",
        ),
        401 => failed(
            "It does not accept this token: check that upstream.url is the instance that these \
             credentials belong to, that it was moved to this cloud's sign-in (an original \
             subscription takes WAVEFRONT_TOKEN instead), and that org_id is that of its \
             organisation",
        ),
        403 => warning(
            "It knows the token, which may not do this: give the app, user or service account the \
             role for it. Where it is only to send data, this is as it should be",
        ),
        404 => warning(
            "It knows no such path: check upstream.url, or name a path that it has with --path",
        ),
        406 | 429 => warning("It has too much to do at the moment; the token is not to blame"),
        500..=599 => {
            failed("It has trouble of its own: the token was not checked. Try again later")
        }
        _ => warning("The way to it works; what the response means only the service knows"),
    }
}

/// What to do about an exchange that failed.
fn explain(error: &ProxyError) -> String {
    let advice = match error {
        ProxyError::Dns(_) => {
            "check the host in upstream.url, and that this machine can look up names"
        }
        ProxyError::Connect(_) => {
            "nothing takes connections there: check host and port of upstream.url, and the firewall"
        }
        ProxyError::ConnectTimeout => {
            "a firewall may swallow the connection: check the way to the host in upstream.url"
        }
        ProxyError::Certificate(why) => {
            return remedy::of_certificate(why, "upstream.ca_file")
                .unwrap_or_else(|| "its certificate is not trusted; see upstream.ca_file".into());
        }
        ProxyError::ClientCertificate(_) => {
            "check upstream.client_cert_file and upstream.client_key_file"
        }
        ProxyError::OutboundProxy(_) => {
            "check upstream.proxy_url, and whether upstream.no_proxy should name the service"
        }
        ProxyError::OutboundProxyCredentials(_) => {
            "the credentials of the proxy are missing or wrong: set the user in upstream.proxy_url, \
             like http://user@host:port, and upstream.proxy_password_file with its password"
        }
        ProxyError::Tls(_) => {
            "it may have no TLS at this port, or only versions before 1.2: check scheme and \
             port of upstream.url"
        }
        ProxyError::Terminated(_) | ProxyError::BadResponse(_) => {
            "what responds there may not use HTTP, or wants TLS: check scheme and port of \
             upstream.url"
        }
        ProxyError::ResponseTimeout => "it is connected but silent: it may be overloaded",
        _ => "see the documentation of upstream.url",
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn every_status_has_a_verdict_and_advice() {
        for (status, verdict, word) in [
            (200, Verdict::Ok, "accepts the token"),
            (302, Verdict::Warning, "upstream.url"),
            (401, Verdict::Failed, "WAVEFRONT_TOKEN"),
            (403, Verdict::Warning, "role"),
            (404, Verdict::Warning, "--path"),
            (418, Verdict::Warning, "only the service knows"),
            (429, Verdict::Warning, "too much"),
            (503, Verdict::Failed, "not checked"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let finding = finding_of(status, "/x", "h.example");
            assert_eq!(finding.verdict, verdict, "{status}");
            assert!(finding.text.contains(word), "{}", finding.text);
        }
    }
}
