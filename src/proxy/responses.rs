//! The table of all responses of our own: what each says, whose fault it is and what to do about it.

use http::StatusCode;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The status.
    pub status: StatusCode,
    /// The same as the label of the metric.
    pub code: &'static str,
    /// The type of RFC 9209 §2.3.
    pub error: &'static str,
    /// Our own word for it: the `details` of `Proxy-Status`, the end of the problem's type, the
    /// heading in `docs/responses.md` and the label of the metrics.
    pub label: &'static str,
    /// Whose fault it is.
    pub fault: Fault,
    /// What happened, for people.
    pub title: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Whose fault a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client's: the request may not pass.
    Client,
    /// Nobody's: a bound was reached.
    Limit,
    /// The token service's, or that of the credential.
    Token,
    /// The network's, or the service is not there.
    Unreachable,
    /// That of the configuration: only a person can mend it.
    Operator,
    /// The service's, which is there.
    Upstream,
}

/// What every `type` of a problem document begins with.
pub const TYPE: &str = "urn:auth-sidecar:answer:";

pub(super) const LAST_HOP: Row = Row {
    status: StatusCode::OK,
    code: "200",
    error: "http_request_error",
    label: "last_hop",
    fault: Fault::Client,
    title: "The request goes no further",
    remedy: "Max-Forwards is 0, so the sidecar responds itself (RFC 9110 §7.6.2). Send a larger number, or leave the field out.",
};
pub(super) const MALFORMED: Row = Row {
    status: StatusCode::BAD_REQUEST,
    code: "400",
    error: "http_request_error",
    label: "malformed",
    fault: Fault::Client,
    title: "The request is malformed",
    remedy: "Send it as HTTP has it; what can be read in two ways is refused, and the connection is closed.",
};
pub(super) const NOT_TLS: Row = Row {
    status: StatusCode::BAD_REQUEST,
    code: "400",
    error: "http_request_error",
    label: "not_tls",
    fault: Fault::Client,
    title: "This port takes TLS: use https://",
    remedy: "Use https:// in the client's URL, or an address of listen.address without tls:.",
};
pub(super) const PEER: Row = Row {
    status: StatusCode::FORBIDDEN,
    code: "403",
    error: "http_request_denied",
    label: "peer",
    fault: Fault::Client,
    title: "This user may not use the socket",
    remedy: "Add the user of the client's process to listen.allow_users, or its group to listen.allow_groups (at the broker, broker.allow_users and broker.allow_groups).",
};
pub(super) const CROSS_SITE: Row = Row {
    status: StatusCode::FORBIDDEN,
    code: "403",
    error: "http_request_denied",
    label: "cross_site",
    fault: Fault::Client,
    title: "Cross-site requests are refused",
    remedy: "A browser sent this for a page of another site. If that page may use the sidecar, add its origin to listen.allow_origins.",
};
pub(super) const REQUIRED_FIELD: Row = Row {
    status: StatusCode::FORBIDDEN,
    code: "403",
    error: "http_request_denied",
    label: "required_field",
    fault: Fault::Client,
    title: "A field that is required here is missing",
    remedy: "Send the field that listen.require_field asks for.",
};
pub(super) const CLIENT_TOKEN: Row = Row {
    status: StatusCode::FORBIDDEN,
    code: "403",
    error: "http_request_denied",
    label: "client_token",
    fault: Fault::Client,
    title: "A valid local client token is needed",
    remedy: "Send a token of `auth-sidecar local-token` as Authorization: Bearer, X-AUTH-TOKEN or csp-auth-token. listen.client_tokens_file (at the broker, broker.client_tokens_file) lists who is let in.",
};
pub(super) const NOT_ALLOWED: Row = Row {
    status: StatusCode::FORBIDDEN,
    code: "403",
    error: "http_request_denied",
    label: "not_allowed",
    fault: Fault::Client,
    title: "This method and path are not allowed here",
    remedy: "No rule of listen.preset or listen.allow lets them through. `auth-sidecar check` lists the rules.",
};
pub(super) const METHOD: Row = Row {
    status: StatusCode::METHOD_NOT_ALLOWED,
    code: "405",
    error: "http_request_denied",
    label: "method",
    fault: Fault::Client,
    title: "The method is not allowed",
    remedy: "TRACE and TRACK would show the credential, CONNECT would lead past the checks. Use another method.",
};
pub(super) const TOO_SLOW: Row = Row {
    status: StatusCode::REQUEST_TIMEOUT,
    code: "408",
    error: "http_request_error",
    label: "too_slow",
    fault: Fault::Client,
    title: "The request did not arrive in time",
    remedy: "Send the head within listen.header_read_timeout, and the body without a pause of listen.body_idle_timeout.",
};
pub(super) const TARGET_TOO_LONG: Row = Row {
    status: StatusCode::URI_TOO_LONG,
    code: "414",
    error: "http_request_error",
    label: "target_too_long",
    fault: Fault::Client,
    title: "The target is too long",
    remedy: "A target may have 16 KiB. Put a long query into the body of a POST.",
};
pub(super) const HOST: Row = Row {
    status: StatusCode::MISDIRECTED_REQUEST,
    code: "421",
    error: "http_request_denied",
    label: "host",
    fault: Fault::Client,
    title: "This host is not served here",
    remedy: "Use localhost or 127.0.0.1 in the client's URL, or add the name to listen.allow_hosts (at the broker, broker.allow_hosts).",
};
pub(super) const HEAD_TOO_LARGE: Row = Row {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    code: "431",
    error: "http_request_error",
    label: "head_too_large",
    fault: Fault::Client,
    title: "The fields are too many or too large",
    remedy: "A head may have 100 fields, and listen.max_header_size bytes in all. Send fewer (often cookies), or raise that key.",
};
pub(super) const TRANSFER_CODING: Row = Row {
    status: StatusCode::NOT_IMPLEMENTED,
    code: "501",
    error: "http_request_error",
    label: "transfer_coding",
    fault: Fault::Client,
    title: "The transfer coding is not supported",
    remedy: "Send the body with Content-Length, or with Transfer-Encoding: chunked and nothing else.",
};
pub(super) const VERSION: Row = Row {
    status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
    code: "505",
    error: "http_request_error",
    label: "version",
    fault: Fault::Client,
    title: "This version of HTTP is not supported",
    remedy: "Use HTTP/1.1, HTTP/1.0 or HTTP/2.",
};
pub(super) const LOOP: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "proxy_loop_detected",
    label: "loop",
    fault: Fault::Client,
    title: "The request has passed through here before",
    remedy: "upstream.url leads back to this sidecar, by a proxy or a name server. Let it lead to the service.",
};
pub(super) const TOO_MANY_CONNECTIONS: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "503",
    error: "http_request_denied",
    label: "too_many_connections",
    fault: Fault::Limit,
    title: "Too many connections",
    remedy: "Send the request again. If it stays so, keep connections open for several requests, or raise listen.max_connections.",
};
pub(super) const NO_DESCRIPTORS: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "503",
    error: "http_request_denied",
    label: "no_descriptors",
    fault: Fault::Limit,
    title: "No file descriptors left",
    remedy: "Send the request again. If it stays so, raise the sidecar's limit of open files (LimitNOFILE, ulimit -n), or lower listen.max_connections: a connection takes two.",
};
pub(super) const TOO_MANY_REQUESTS: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "503",
    error: "http_request_denied",
    label: "too_many_requests",
    fault: Fault::Limit,
    title: "Too many requests at the same time",
    remedy: "Send the request again. If it stays so, send fewer at a time, or raise listen.max_in_flight.",
};
pub(super) const CREDENTIALS_REJECTED: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "503",
    error: "proxy_configuration_error",
    label: "credentials_rejected",
    fault: Fault::Token,
    title: "The configured credentials give no access token",
    remedy: "Check the credential in [auth] (or CSP_APP_ID and CSP_APP_SECRET, CSP_API_TOKEN): the token service does not accept it. `auth-sidecar doctor` says more.",
};
pub(super) const TOKEN_UNAVAILABLE: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "503",
    error: "proxy_internal_error",
    label: "token_unavailable",
    fault: Fault::Token,
    title: "There is no usable access token at the moment",
    remedy: "Send the request again after Retry-After. /status and the log of the sidecar say why the token service gives none.",
};
pub(super) const TOKEN_RENEWED: Row = Row {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "503",
    error: "proxy_internal_error",
    label: "token_renewed",
    fault: Fault::Token,
    title: "The access token was renewed; send the request again",
    remedy: "The service refused the last token, and the body was not kept to send it again. If it happens often, raise upstream.replay_body_limit.",
};
pub(super) const DNS: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "dns_error",
    label: "dns",
    fault: Fault::Unreachable,
    title: "The service cannot be found",
    remedy: "The host of upstream.url has no address. Check the name, and the resolver of this machine.",
};
pub(super) const CONNECT: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "connection_refused",
    label: "connect",
    fault: Fault::Unreachable,
    title: "The service cannot be reached",
    remedy: "Nothing takes connections at upstream.url. Check that the service runs, its port, and firewalls; upstream.proxy_url where the way leads through a proxy.",
};
pub(super) const OUTBOUND_PROXY: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "connection_refused",
    label: "outbound_proxy",
    fault: Fault::Operator,
    title: "The proxy on the way to the service fails",
    remedy: "Check upstream.proxy_url, and its user and password (upstream.proxy_password_file); or upstream.no_proxy, if no proxy is needed.",
};
pub(super) const CONNECT_TIMEOUT: Row = Row {
    status: StatusCode::GATEWAY_TIMEOUT,
    code: "504",
    error: "connection_timeout",
    label: "connect_timeout",
    fault: Fault::Unreachable,
    title: "The service cannot be reached in time",
    remedy: "No connection to the host of upstream.url within upstream.connect_timeout: often a firewall that drops packets, or a wrong port.",
};
pub(crate) const CERTIFICATE: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "tls_certificate_error",
    label: "certificate",
    fault: Fault::Operator,
    title: "The certificate of the service is not trusted",
    remedy: "Check upstream.ca_file and the clock, and that the host of upstream.url is the one that responds there.",
};
pub(super) const CLIENT_CERTIFICATE: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "tls_alert_received",
    label: "client_certificate",
    fault: Fault::Operator,
    title: "The service does not accept the client certificate",
    remedy: "Check upstream.client_cert_file and upstream.client_key_file: the certificate is missing, has ended, or is of an authority that the service does not know.",
};
pub(super) const TLS: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "tls_protocol_error",
    label: "tls",
    fault: Fault::Operator,
    title: "TLS with the service failed",
    remedy: "Check the scheme and the port of upstream.url, upstream.min_tls_version, and upstream.http_version.",
};
pub(super) const TERMINATED: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "connection_terminated",
    label: "terminated",
    fault: Fault::Upstream,
    title: "The service closed the connection",
    remedy: "The service gave no response, and may or may not have acted. If it may act twice, send the request again. Keep upstream.idle_timeout below the service's own.",
};
pub(super) const BAD_RESPONSE: Row = Row {
    status: StatusCode::BAD_GATEWAY,
    code: "502",
    error: "http_protocol_error",
    label: "bad_answer",
    fault: Fault::Upstream,
    title: "The response of the service is invalid",
    remedy: "What responds at upstream.url does not keep to HTTP. Check who that is, and upstream.http_version. The log names the flaw.",
};
pub(super) const RESPONSE_TIMEOUT: Row = Row {
    status: StatusCode::GATEWAY_TIMEOUT,
    code: "504",
    error: "http_response_timeout",
    label: "answer_timeout",
    fault: Fault::Upstream,
    title: "The service did not respond in time",
    remedy: "No response within upstream.response_timeout. Ask for less at a time, or raise that key.",
};

/// The row of that label.
#[must_use]
pub fn of(label: &str) -> Option<&'static Row> {
    ALL.into_iter().find(|row| row.label == label)
}

/// All of them.
pub const ALL: [&Row; 32] = [
    &LAST_HOP,
    &MALFORMED,
    &NOT_TLS,
    &PEER,
    &CROSS_SITE,
    &REQUIRED_FIELD,
    &CLIENT_TOKEN,
    &NOT_ALLOWED,
    &METHOD,
    &TOO_SLOW,
    &TARGET_TOO_LONG,
    &HOST,
    &HEAD_TOO_LARGE,
    &TRANSFER_CODING,
    &VERSION,
    &LOOP,
    &TOO_MANY_CONNECTIONS,
    &NO_DESCRIPTORS,
    &TOO_MANY_REQUESTS,
    &CREDENTIALS_REJECTED,
    &TOKEN_UNAVAILABLE,
    &TOKEN_RENEWED,
    &DNS,
    &CONNECT,
    &OUTBOUND_PROXY,
    &CONNECT_TIMEOUT,
    &CERTIFICATE,
    &CLIENT_CERTIFICATE,
    &TLS,
    &TERMINATED,
    &BAD_RESPONSE,
    &RESPONSE_TIMEOUT,
];
