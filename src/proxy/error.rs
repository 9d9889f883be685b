//! Everything that the sidecar itself may answer on the data path, in one table.
//!
//! Each answer carries `Proxy-Status` (RFC 9209), so that an operator can tell our failure from
//! the service's, and a fixed text: nothing of the request, of the upstream or of the cause is
//! reflected. The cause goes to the log.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::{
    server::Refusal,
    token::{Reason, Unavailable},
};

/// Why the sidecar answers itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The server refused the connection, or what came on it.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// It is meant for another host.
    #[error("the request names a host that is not served here")]
    Misdirected,
    /// A browser sent it on behalf of another site.
    #[error("a browser's cross-site request")]
    CrossSite,
    /// The field that every request must have is missing, or has another value.
    #[error("the required field is missing or wrong")]
    FieldMissing,
    /// It shows no token of a client that is let in.
    #[error("no valid local token of a client")]
    UnknownClient,
    /// The rules allow other methods and paths.
    #[error("no rule allows this method and path")]
    NotAllowed,
    /// TRACE would show the credential, CONNECT would tunnel past it.
    #[error("method not allowed")]
    Method,
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
    /// It wants to know who we are, and our certificate does not tell it.
    #[error("the upstream refuses us: {0}")]
    ClientCertificate(&'static str),
    /// TLS with it failed otherwise.
    #[error("TLS with the upstream failed: {0}")]
    Tls(String),
    /// It closed the connection without an answer.
    #[error("the upstream closed the connection: {0}")]
    Terminated(String),
    /// Its answer is no valid HTTP.
    #[error("the upstream's answer is invalid: {0}")]
    BadAnswer(String),
    /// It did not answer in time.
    #[error("the upstream takes too long to answer")]
    AnswerTimeout,
}

/// One row of the table: the status, the type of RFC 9209 §2.3, our own word for it (the `details`
/// of `Proxy-Status` and the label of the metric), the title for people.
type Row = (u16, &'static str, &'static str, &'static str);

impl ProxyError {
    #[rustfmt::skip]
    fn row(&self) -> Row {
        match self {
            Self::LastHop => (200, "http_request_error", "last_hop", "The request goes no further"),
            Self::Refused(Refusal::Malformed(_)) => (400, "http_request_error", "malformed", "The request is malformed"),
            Self::Refused(Refusal::NotTls) => (400, "http_request_error", "not_tls", "This port speaks TLS: use https://"),
            Self::Refused(Refusal::Peer) => (403, "http_request_denied", "peer", "This user may not use the socket"),
            Self::CrossSite => (403, "http_request_denied", "cross_site", "Cross-site requests are refused"),
            Self::FieldMissing => (403, "http_request_denied", "required_field", "A field that is required here is missing"),
            Self::UnknownClient => (403, "http_request_denied", "client_token", "A valid local client token is needed"),
            Self::NotAllowed => (403, "http_request_denied", "not_allowed", "This method and path are not allowed here"),
            Self::Method => (405, "http_request_denied", "method", "The method is not allowed"),
            Self::Refused(Refusal::TooSlow) => (408, "http_request_error", "too_slow", "The request did not arrive in time"),
            Self::Refused(Refusal::TargetTooLong) => (414, "http_request_error", "target_too_long", "The target is too long"),
            Self::Misdirected => (421, "http_request_denied", "host", "This host is not served here"),
            Self::Refused(Refusal::HeadTooLarge) => (431, "http_request_error", "head_too_large", "The fields are too many or too large"),
            Self::Refused(Refusal::TransferCoding) => (501, "http_request_error", "transfer_coding", "The transfer coding is not supported"),
            Self::Refused(Refusal::Version) => (505, "http_request_error", "version", "This version of HTTP is not supported"),
            Self::Loop => (502, "proxy_loop_detected", "loop", "The request has passed through here before"),
            Self::Refused(Refusal::NoRoom) => (503, "http_request_denied", "too_many_connections", "Too many connections"),
            Self::Overloaded | Self::Refused(Refusal::NoRoomForBody) => (503, "http_request_denied", "too_many_requests", "Too many requests at the same time"),
            Self::NoToken(Unavailable { reason: Some(Reason::InvalidClient | Reason::SecretUnreadable), .. }) =>
                (503, "proxy_configuration_error", "credentials_rejected", "The configured credentials give no access token"),
            Self::NoToken(_) => (503, "proxy_internal_error", "token_unavailable", "There is no usable access token at the moment"),
            Self::NotReplayed => (503, "proxy_internal_error", "token_renewed", "The access token was renewed; send the request again"),
            Self::Dns(_) => (502, "dns_error", "dns", "The service cannot be found"),
            Self::Connect(_) => (502, "connection_refused", "connect", "The service cannot be reached"),
            Self::OutboundProxy(_) | Self::OutboundProxyCredentials(_) => (502, "connection_refused", "outbound_proxy", "The proxy on the way to the service fails"),
            Self::ConnectTimeout => (504, "connection_timeout", "connect_timeout", "The service cannot be reached in time"),
            Self::Certificate(_) => (502, "tls_certificate_error", "certificate", "The certificate of the service is not trusted"),
            Self::ClientCertificate(_) => (502, "tls_alert_received", "client_certificate", "The service does not accept the client certificate"),
            Self::Tls(_) => (502, "tls_protocol_error", "tls", "TLS with the service failed"),
            Self::Terminated(_) => (502, "connection_terminated", "terminated", "The service closed the connection"),
            Self::BadAnswer(_) => (502, "http_protocol_error", "bad_answer", "The answer of the service is invalid"),
            Self::AnswerTimeout => (504, "http_response_timeout", "answer_timeout", "The service did not answer in time"),
        }
    }

    /// When to come back: the other column of every 503.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoToken(unavailable) => Some(unavailable.retry_after),
            Self::Refused(Refusal::NoRoom | Refusal::NoRoomForBody)
            | Self::Overloaded
            | Self::NotReplayed => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Whether the connection ends behind it: where it is not known where the next request would
    /// begin, or where a connection is what there is too much of.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Overloaded)
    }

    /// The label of the metric that counts it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.row().2
    }

    /// Whether the request never got as far as to the upstream because we refused it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Misdirected
                | Self::CrossSite
                | Self::FieldMissing
                | Self::UnknownClient
                | Self::NotAllowed
                | Self::Method
                | Self::LastHop
                | Self::Loop
                | Self::Overloaded
        )
    }

    /// What is wrong, and where, for whoever can mend it; nothing that could be a secret.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Refused(Refusal::Malformed(flaw)) => Some(flaw.to_string()),
            _ => None,
        }
    }

    /// The response.
    #[must_use]
    pub fn response(&self) -> Response<Bytes> {
        let (status, error, details, title) = self.row();
        let problem = Problem {
            kind: "about:blank",
            title,
            status,
            detail: self.detail(),
        };
        // A structure of texts and a number can always be written.
        let body = Bytes::from(serde_json::to_vec(&problem).unwrap_or_default());
        let mut response = Response::new(body);
        let length = response.body().len();
        // The table holds valid statuses only; a test goes through all of them.
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let proxy_status = format!("auth-sidecar; error={error}; details=\"{details}\"");
        if let Ok(value) = HeaderValue::try_from(proxy_status) {
            headers.insert(PROXY_STATUS, value);
        }
        if let Some(after) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if matches!(self, Self::Method | Self::LastHop) {
            headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
        }
        response
    }
}

/// A problem document (RFC 9457).
#[derive(serde::Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// RFC 9209 §2.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

const ALLOWED: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// Rounded up: whoever comes back then finds the attempt made. Never 0, which some clients take
/// for an invitation to a hot loop.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    (duration.as_secs() + up).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Flaw;

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
            ProxyError::Refused(Refusal::NoRoomForBody),
            ProxyError::Refused(Refusal::Peer),
            ProxyError::Refused(Refusal::NotTls),
            ProxyError::Refused(Refusal::TooSlow),
            ProxyError::Refused(Refusal::HeadTooLarge),
            ProxyError::Refused(Refusal::TargetTooLong),
            ProxyError::Misdirected,
            ProxyError::CrossSite,
            ProxyError::FieldMissing,
            ProxyError::UnknownClient,
            ProxyError::NotAllowed,
            ProxyError::Method,
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
            ProxyError::BadAnswer("canary".into()),
            ProxyError::AnswerTimeout,
        ]
    }

    #[test]
    fn every_answer_says_that_it_is_ours_and_nothing_of_the_cause() {
        for error in all() {
            let response = error.response();
            let status = response.headers()[PROXY_STATUS].to_str().unwrap();
            assert!(status.starts_with("auth-sidecar; error="), "{status}");
            let body = std::str::from_utf8(response.body()).unwrap();
            assert!(!body.contains("canary"), "{body}");
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(json["status"], response.status().as_u16());
            let length = response.headers()[CONTENT_LENGTH].to_str().unwrap();
            assert_eq!(length, body.len().to_string());
        }
    }

    #[test]
    fn no_failure_of_ours_looks_like_a_refusal_of_the_service() {
        for error in all().iter().filter(|error| !error.is_refusal()) {
            let status = error.response().status().as_u16();
            assert!((502..=504).contains(&status), "{error:?}");
        }
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        for error in all() {
            let response = error.response();
            let retry_after = response.headers().get(RETRY_AFTER);
            assert_eq!(response.status() == 503, retry_after.is_some(), "{error:?}");
        }
        for (millis, seconds) in [(0, "1"), (200, "1"), (1000, "1"), (1001, "2")] {
            let response = unavailable(millis, None).response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
    }
}
