//! Everything that the sidecar itself may respond on the data path, in one table.
//!
//! Each response carries `Proxy-Status` (RFC 9209), so that an operator can distinguish our failure
//! from the service's, and a problem document (RFC 9457) with what to do and which key it is about.
//! A response shows of the request a refused host and the place of a flaw, and of the upstream and the cause
//! nothing: that goes to the log. `docs/responses.md` has the same table for people.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::responses::{self, Fault, Row};
use crate::{
    admission::Denied,
    clock::whole_seconds,
    message::RequestId,
    server::Refusal,
    token::{Reason, Unavailable},
};

/// Why the sidecar responds itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The server refused the connection, or what came on it.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The request is not let in.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// An OPTIONS that may go no further: we are who it asks (RFC 9110 §7.6.2).
    #[error("the last hop of an OPTIONS")]
    LastHop,
    /// It has passed through here before.
    #[error("the request has passed through this proxy before")]
    Loop,
    /// Too many requests at the same time.
    #[error("too many requests in flight")]
    Overloaded,
    /// There is no usable token.
    #[error("no usable token")]
    NoToken(Unavailable),
    /// The token was refused and renewed, but the request could not be sent again.
    #[error("the token was renewed, and the body is no longer held")]
    NotReplayed,
    /// The upstream's name has no address.
    #[error("cannot resolve the upstream: {0}")]
    Dns(String),
    /// No connection to the upstream.
    #[error("cannot connect to the upstream: {0}")]
    Connect(String),
    /// The proxy on the way to it does not lead there.
    #[error("the proxy on the way to the upstream fails: {0}")]
    OutboundProxy(String),
    /// It wants credentials, or others.
    #[error("the proxy on the way to the upstream fails: {0} (407 to CONNECT)")]
    OutboundProxyCredentials(&'static str),
    /// No connection to it within the connect timeout.
    #[error("connecting to the upstream takes too long")]
    ConnectTimeout,
    /// Its certificate is not trusted.
    #[error("the upstream's certificate is not trusted: {0}")]
    Certificate(String),
    /// The upstream wants a client certificate, and ours, if any, is not accepted.
    #[error("the upstream refuses us: {0}")]
    ClientCertificate(&'static str),
    /// TLS with it failed otherwise.
    #[error("TLS with the upstream failed: {0}")]
    Tls(String),
    /// The upstream closed the connection without a response.
    #[error("the upstream closed the connection: {0}")]
    Terminated(String),
    /// The response of the upstream is no valid HTTP.
    #[error("the upstream's response is invalid: {0}")]
    BadResponse(String),
    /// The upstream did not respond in time.
    #[error("the upstream takes too long to respond")]
    ResponseTimeout,
}

impl ProxyError {
    /// The row of the table.
    #[must_use]
    pub fn row(&self) -> &'static Row {
        match self {
            Self::LastHop => &responses::LAST_HOP,
            Self::Refused(refusal) => match refusal {
                Refusal::Malformed(_) => &responses::MALFORMED,
                Refusal::NotTls => &responses::NOT_TLS,
                Refusal::Peer => &responses::PEER,
                Refusal::TooSlow => &responses::TOO_SLOW,
                Refusal::TargetTooLong => &responses::TARGET_TOO_LONG,
                Refusal::HeadTooLarge => &responses::HEAD_TOO_LARGE,
                Refusal::TransferCoding => &responses::TRANSFER_CODING,
                Refusal::Version => &responses::VERSION,
                Refusal::NoRoom => &responses::TOO_MANY_CONNECTIONS,
                Refusal::NoDescriptors => &responses::NO_DESCRIPTORS,
                Refusal::NoRoomForBody => &responses::TOO_MANY_REQUESTS,
            },
            Self::Denied(denied) => match denied {
                Denied::Malformed(_) => &responses::MALFORMED,
                Denied::Misdirected(_) => &responses::HOST,
                Denied::CrossSite => &responses::CROSS_SITE,
                Denied::FieldMissing => &responses::REQUIRED_FIELD,
                Denied::UnknownClient => &responses::CLIENT_TOKEN,
                Denied::NotAllowed => &responses::NOT_ALLOWED,
                Denied::Method => &responses::METHOD,
            },
            Self::Loop => &responses::LOOP,
            Self::Overloaded => &responses::TOO_MANY_REQUESTS,
            Self::NoToken(Unavailable {
                reason: Some(Reason::InvalidClient | Reason::SecretUnreadable),
                ..
            }) => &responses::CREDENTIALS_REJECTED,
            Self::NoToken(_) => &responses::TOKEN_UNAVAILABLE,
            Self::NotReplayed => &responses::TOKEN_RENEWED,
            Self::Dns(_) => &responses::DNS,
            Self::Connect(_) => &responses::CONNECT,
            Self::OutboundProxy(_) | Self::OutboundProxyCredentials(_) => {
                &responses::OUTBOUND_PROXY
            }
            Self::ConnectTimeout => &responses::CONNECT_TIMEOUT,
            Self::Certificate(_) => &responses::CERTIFICATE,
            Self::ClientCertificate(_) => &responses::CLIENT_CERTIFICATE,
            Self::Tls(_) => &responses::TLS,
            Self::Terminated(_) => &responses::TERMINATED,
            Self::BadResponse(_) => &responses::BAD_RESPONSE,
            Self::ResponseTimeout => &responses::RESPONSE_TIMEOUT,
        }
    }

    /// When to come back: the other column of every 503.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoToken(unavailable) => Some(unavailable.retry_after),
            Self::Refused(Refusal::NoRoom | Refusal::NoDescriptors | Refusal::NoRoomForBody)
            | Self::Overloaded
            | Self::NotReplayed => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Whether the connection ends behind it: where it is not known where the next request would
    /// begin, or where a connection is what there is too much of.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::Denied(Denied::Malformed(_)) | Self::Overloaded
        )
    }

    /// The label of the metric that counts it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.row().label
    }

    /// Whether the request never got as far as to the upstream because we refused it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self.row().fault, Fault::Client | Fault::Limit)
    }

    /// What is wrong, where, and what to do; nothing that could be a secret.
    fn detail(&self) -> String {
        let remedy = self.row().remedy;
        match self {
            Self::Refused(Refusal::Malformed(flaw)) | Self::Denied(Denied::Malformed(flaw)) => {
                format!("{flaw}. {remedy}")
            }
            Self::Denied(Denied::Misdirected(host)) => {
                format!("This sidecar is not called {host}. {remedy}")
            }
            _ => remedy.to_owned(),
        }
    }

    /// The response to the request of that id.
    #[must_use]
    pub fn response(&self, id: RequestId) -> Response<Bytes> {
        let Row {
            status,
            error,
            label,
            title,
            ..
        } = *self.row();
        let problem = Problem {
            kind: format!("{}{label}", responses::TYPE),
            title,
            status: status.as_u16(),
            detail: self.detail(),
            instance: id.to_string(),
            server: "auth-sidecar",
        };
        // A structure of texts and a number can always be written.
        let body = Bytes::from(serde_json::to_vec(&problem).unwrap_or_default());
        let mut response = Response::new(body);
        let length = response.body().len();
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let proxy_status = format!("auth-sidecar; error={error}; details=\"{label}\"");
        if let Ok(value) = HeaderValue::try_from(proxy_status) {
            headers.insert(PROXY_STATUS, value);
        }
        if let Some(after) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if matches!(self, Self::Denied(Denied::Method) | Self::LastHop) {
            headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
        }
        response
    }
}

/// A problem document (RFC 9457).
#[derive(serde::Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    instance: String,
    server: &'static str,
}

/// RFC 9209 §2.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

const ALLOWED: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admission::RefusedHost, message::Flaw};

    const ID: RequestId = RequestId::new(7);
    const PAGE: &str = include_str!("../../docs/responses.md");

    fn unavailable(millis: u64, reason: Option<Reason>) -> ProxyError {
        ProxyError::NoToken(Unavailable {
            retry_after: Duration::from_millis(millis),
            reason,
        })
    }

    fn all() -> Vec<ProxyError> {
        vec![
            ProxyError::Refused(Refusal::Malformed(Flaw::at("part", 3, b'#'))),
            ProxyError::Refused(Refusal::TransferCoding),
            ProxyError::Refused(Refusal::Version),
            ProxyError::Refused(Refusal::NoRoom),
            ProxyError::Refused(Refusal::NoDescriptors),
            ProxyError::Refused(Refusal::NoRoomForBody),
            ProxyError::Refused(Refusal::Peer),
            ProxyError::Refused(Refusal::NotTls),
            ProxyError::Refused(Refusal::TooSlow),
            ProxyError::Refused(Refusal::HeadTooLarge),
            ProxyError::Refused(Refusal::TargetTooLong),
            Denied::Malformed(Flaw::of("Host")).into(),
            Denied::Misdirected(RefusedHost::new("evil.example")).into(),
            Denied::CrossSite.into(),
            Denied::FieldMissing.into(),
            Denied::UnknownClient.into(),
            Denied::NotAllowed.into(),
            Denied::Method.into(),
            ProxyError::LastHop,
            ProxyError::Loop,
            ProxyError::Overloaded,
            unavailable(0, None),
            unavailable(1500, Some(Reason::InvalidClient)),
            ProxyError::NotReplayed,
            ProxyError::Dns("canary".into()),
            ProxyError::Connect("canary".into()),
            ProxyError::ConnectTimeout,
            ProxyError::Certificate("canary".into()),
            ProxyError::ClientCertificate("canary"),
            ProxyError::OutboundProxy("canary".into()),
            ProxyError::OutboundProxyCredentials("canary"),
            ProxyError::Tls("canary".into()),
            ProxyError::Terminated("canary".into()),
            ProxyError::BadResponse("canary".into()),
            ProxyError::ResponseTimeout,
        ]
    }

    #[test]
    fn every_response_says_that_it_is_ours_and_nothing_of_the_cause() {
        for error in all() {
            let response = error.response(ID);
            let status = response.headers()[PROXY_STATUS].to_str().unwrap();
            assert!(status.starts_with("auth-sidecar; error="), "{status}");
            let body = std::str::from_utf8(response.body()).unwrap();
            assert!(!body.contains("canary"), "{body}");
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(json["status"], response.status().as_u16());
            assert_eq!(
                json["type"],
                format!("{}{}", responses::TYPE, error.label())
            );
            assert_eq!(json["instance"], ID.to_string());
            assert_eq!(json["server"], "auth-sidecar");
            let detail = json["detail"].as_str().unwrap();
            assert!((20..400).contains(&detail.len()), "{detail}");
            let length = response.headers()[CONTENT_LENGTH].to_str().unwrap();
            assert_eq!(length, body.len().to_string());
        }
    }

    #[test]
    fn no_failure_of_ours_looks_like_a_refusal_of_the_service() {
        for error in all().iter().filter(|error| !error.is_refusal()) {
            let status = error.response(ID).status().as_u16();
            assert!((502..=504).contains(&status), "{error:?}");
        }
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        for error in all() {
            let response = error.response(ID);
            let retry_after = response.headers().get(RETRY_AFTER);
            assert_eq!(response.status() == 503, retry_after.is_some(), "{error:?}");
        }
        for (millis, seconds) in [(0, "1"), (200, "1"), (1000, "1"), (1001, "2")] {
            let response = unavailable(millis, None).response(ID);
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
    }

    #[test]
    fn a_refused_host_is_named_as_far_as_it_can_be_printed() {
        for (host, shown) in [
            ("evil.example", "evil.example"),
            ("sidecar", "sidecar"),
            ("a\u{1b}[2J\u{e9}b", "a?[2J?b"),
            (
                "a-credential-in-the-wrong-place.example",
                "a-creden….example",
            ),
            (
                &"abcdefghi.".repeat(9),
                &format!("{}abcd…", "abcdefghi.".repeat(6)),
            ),
        ] {
            let error = ProxyError::from(Denied::Misdirected(RefusedHost::new(host)));
            let response = error.response(ID);
            let json: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            let detail = json["detail"].as_str().unwrap();
            assert!(detail.contains(&format!("called {shown}. ")), "{detail}");
            assert!(detail.contains("listen.allow_hosts"), "{detail}");
        }
    }

    #[test]
    fn the_page_of_responses_has_exactly_the_rows_of_the_table() {
        let earned: Vec<&str> = all().iter().map(ProxyError::label).collect();
        for row in responses::ALL {
            assert!(earned.contains(&row.label), "nobody earns {}", row.label);
        }
        let headings: Vec<&str> = PAGE
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .collect();
        let labels: Vec<&str> = responses::ALL.iter().map(|row| row.label).collect();
        assert_eq!(headings, labels);
        let sections = PAGE.split("\n### ").skip(1);
        for (row, section) in responses::ALL.iter().zip(sections) {
            let lines: Vec<&str> = section.lines().collect();
            let Row {
                status,
                error,
                title,
                remedy,
                ..
            } = row;
            let first = format!("{}, `{error}`: {title}.", status.as_u16());
            assert!(
                lines.contains(&first.as_str()),
                "no line {first:?} in {section}"
            );
            assert!(lines.contains(remedy), "no line {remedy:?} in {section}");
        }
    }
}
