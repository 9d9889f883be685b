//! The HTTP client of a collector: one connection that is kept between batches. It goes out as the other
//! legs do, so trust and client certificates are the program's own.

use std::{fmt, future::Future, path::PathBuf, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use tokio::time::timeout;
use url::Url;

use super::{SampleRatio, batch::rejected};
use crate::{
    outbound::{self, Route, RouteError, UnusableRoute},
    secret::SecretSource,
    tls::{HandshakeError, Leg, TlsSettings},
};

/// Which collector, and what is sent to it.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpSettings {
    /// Where spans are sent, the path included.
    pub endpoint: Url,
    /// A file of header fields for the collector: lines `Name: value`.
    pub headers_file: Option<PathBuf>,
    /// Whom to trust, and who we are.
    pub tls: TlsSettings,
    /// The part of the traces that begin here which is recorded.
    pub sample_ratio: SampleRatio,
    /// Who we say has made the spans.
    pub service_name: String,
}

/// A collector that can be sent spans again and again.
#[derive(Debug)]
pub struct Collector {
    route: Route,
    /// Path and query.
    target: String,
    host: HeaderValue,
    headers: Option<SecretSource>,
    kept: Option<Kept>,
}

/// A connection between two batches.
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    /// What moves its bytes, and ends with it.
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Why the collector has not taken a batch. Says nothing of the collector's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExportError {
    pub(super) reason: &'static str,
    pub(super) detail: String,
    /// Whether the same batch may be taken later.
    pub(super) may_retry: bool,
    /// How long the collector asked to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// Whether only a person can mend it.
    pub(super) needs_operator: bool,
}

/// The time for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// The time for a batch, from the name lookup to the end of the response.
const EXPORT: Duration = Duration::from_secs(10);
/// A longer response is none of a collector.
const MAX_RESPONSE: usize = 64 * 1024;
/// The media type of OTLP's messages.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

impl Collector {
    /// Reads the files of the way to a collector; sends nothing.
    ///
    /// # Errors
    /// When the trust store or the client certificate cannot be loaded.
    pub fn new(settings: &OtlpSettings) -> Result<Self, UnusableRoute> {
        let OtlpSettings {
            endpoint,
            headers_file,
            tls,
            ..
        } = settings;
        let host = endpoint.host_str().unwrap_or_default();
        let host = match endpoint.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            route: Route::new(Leg::Collector, endpoint, None, tls, CONNECT)?,
            target: endpoint.path().to_owned(),
            host: HeaderValue::try_from(host)
                .map_err(|_| UnusableRoute::Address("it is no valid Host"))?,
            headers: headers_file.clone().map(SecretSource::File),
            kept: None,
        })
    }

    /// The host and port of the collector, for the log.
    pub(super) fn name(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    /// Sends a batch. Says how many of its spans were rejected.
    ///
    /// # Cancel safety
    /// Dropped, the batch may or may not have been taken, and the connection is closed.
    pub(super) async fn export(&mut self, batch: Bytes) -> Result<u64, ExportError> {
        let late = |_| Err(ExportError::passing("timeout", "no response in time"));
        let exchanged = timeout(EXPORT, self.exchange(batch)).await;
        exchanged.unwrap_or_else(late)
    }

    async fn exchange(&mut self, batch: Bytes) -> Result<u64, ExportError> {
        let request = self.request(batch)?;
        // Of a connection that the collector has closed meanwhile, nothing is to be said.
        if let Some(kept) = self.kept.take()
            && let Ok(result) = self.over(kept, request.clone()).await
        {
            return result;
        }
        // The files as they are now: what cannot be used is reported, and the old content stays.
        self.route.renew();
        let stream = self.route.connect(&[]).await.map_err(unreachable)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| broken(&error))?;
        let connection = Box::pin(async { drop(connection.await) });
        let kept = Kept { sender, connection };
        let result = self.over(kept, request).await;
        result.unwrap_or_else(|error| Err(broken(&error)))
    }

    /// Sends a request over a connection, which is kept if it can be used again, and reads the response.
    ///
    /// # Errors
    /// The connection has given none.
    async fn over(
        &mut self,
        kept: Kept,
        request: Request<Full<Bytes>>,
    ) -> Result<Result<u64, ExportError>, hyper::Error> {
        let Kept {
            mut sender,
            mut connection,
        } = kept;
        let exchange = async move {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE).collect().await;
            Ok::<_, hyper::Error>((sender, head, body))
        };
        let (sender, head, body) = outbound::over(&mut connection, exchange).await?;
        let Ok(body) = body else {
            let text = "its response breaks off, or is larger than 64 KiB";
            return Ok(Err(ExportError::passing("bad_response", text)));
        };
        if !sender.is_closed() {
            self.kept = Some(Kept { sender, connection });
        }
        Ok(outcome(head.status, &head.headers, &body.to_bytes()))
    }

    fn request(&self, batch: Bytes) -> Result<Request<Full<Bytes>>, ExportError> {
        let mut request = Request::post(self.target.as_str())
            .header(HOST, &self.host)
            .header(USER_AGENT, outbound::USER_AGENT)
            .body(Full::new(batch))
            .map_err(|_| ExportError::lasting("network", "the address is no target"))?;
        if let Some(headers) = &self.headers {
            let unreadable = |detail| ExportError::lasting("secret_unreadable", detail);
            let text = headers.read();
            let text = text.map_err(|error| unreadable(error.to_string()))?;
            let fields = header_fields(&text).ok_or_else(|| unreadable(NO_FIELDS.to_owned()))?;
            request.headers_mut().extend(fields);
        }
        request.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
        Ok(request)
    }
}

const NO_FIELDS: &str = "telemetry.otlp_headers_file holds no lines \"Name: value\"";

/// The fields of a file for the collector: a line `Name: value` each, none of which frames the message.
/// The values are marked sensitive, so they never print.
#[expect(
    clippy::disallowed_methods,
    reason = "the key of the collector is put into the request that it is for"
)]
pub(crate) fn header_fields(text: &SecretString) -> Option<HeaderMap> {
    use secrecy::ExposeSecret;

    const FRAMING: [&str; 7] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "upgrade",
    ];
    let mut fields = HeaderMap::new();
    let lines = text.expose_secret().lines().map(str::trim);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::try_from(name).ok()?;
        let mut value = HeaderValue::try_from(value.trim()).ok()?;
        if FRAMING.contains(&name.as_str()) || value.is_empty() {
            return None;
        }
        value.set_sensitive(true);
        fields.append(name, value);
    }
    (!fields.is_empty()).then_some(fields)
}

/// What a response means (OTLP 1.x, "OTLP/HTTP Response").
fn outcome(status: StatusCode, fields: &HeaderMap, body: &[u8]) -> Result<u64, ExportError> {
    if !status.is_success() {
        let may_retry = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let seconds = fields
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let seconds = seconds.and_then(|value| value.trim().parse().ok());
        let redirects = if status.is_redirection() {
            ", a redirect, which is not followed"
        } else {
            ""
        };
        return Err(ExportError {
            reason: "bad_status",
            detail: format!("status {}{redirects}", status.as_u16()),
            may_retry,
            retry_after: seconds.map(Duration::from_secs).filter(|_| may_retry),
            needs_operator: !status.is_server_error() && !may_retry,
        });
    }
    let kind = fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is = |media: &[u8]| kind.is_some_and(|kind| kind.starts_with(media));
    // Some say nothing, or something in JSON: a success is one all the same. A page for people is none.
    let rejected = if is(b"application/x-protobuf") {
        rejected(body)
    } else {
        (!is(b"text/html")).then_some(0)
    };
    let text = "its response is none of OTLP";
    rejected.ok_or_else(|| ExportError::lasting("bad_response", text))
}

impl ExportError {
    fn passing(reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            may_retry: true,
            retry_after: None,
            needs_operator: false,
        }
    }

    fn lasting(reason: &'static str, detail: impl Into<String>) -> Self {
        Self {
            may_retry: false,
            needs_operator: true,
            ..Self::passing(reason, detail)
        }
    }
}

fn unreachable(error: RouteError) -> ExportError {
    let is_lasting = matches!(
        error,
        RouteError::Tls(HandshakeError::Certificate(_) | HandshakeError::Client(_))
    );
    ExportError {
        // The collector can be given another certificate at any time.
        needs_operator: is_lasting,
        ..match error {
            RouteError::Timeout => ExportError::passing("timeout", error.to_string()),
            error => ExportError::passing("network", error.to_string()),
        }
    }
}

fn broken(error: &hyper::Error) -> ExportError {
    let detail = if error.is_incomplete_message() || error.is_canceled() {
        "the connection ended before a response"
    } else if error.is_parse() {
        "its response is no HTTP"
    } else {
        "the exchange failed"
    };
    ExportError::passing("network", detail)
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_for_a_collector_are_lines_that_frame_nothing() {
        let read = |text: &str| header_fields(&SecretString::from(text));
        let fields = read("# a key\nAuthorization: Bearer canary\r\n\nX-Scope-OrgID:  tenant \n");
        let fields = fields.unwrap();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields["x-scope-orgid"], "tenant");
        assert!(fields["authorization"].is_sensitive());
        for wrong in [
            "",
            "# nothing\n",
            "canary",
            "Authorization=Bearer canary",
            "Host: h.example",
            "Content-Length: 5",
            "transfer-encoding: chunked",
            "Bad Name: x",
            "X-Empty:",
            "X-Key: a\u{7}b",
        ] {
            assert!(read(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_response_says_what_was_taken_and_whether_to_try_again() {
        let result = |status: u16, kind: Option<&str>, body: &[u8]| {
            let kind = kind.map(|kind| (CONTENT_TYPE, HeaderValue::try_from(kind).unwrap()));
            let mut fields: HeaderMap = kind.into_iter().collect();
            fields.insert(RETRY_AFTER, HeaderValue::from_static("7"));
            outcome(StatusCode::from_u16(status).unwrap(), &fields, body)
        };
        let protobuf = Some("application/x-protobuf");
        assert_eq!(result(200, protobuf, b""), Ok(0));
        // partial_success { rejected_spans: 3 }
        assert_eq!(result(200, protobuf, &[0x0a, 2, 0x08, 3]), Ok(3));
        assert_eq!(result(202, None, b""), Ok(0));
        assert_eq!(result(200, Some("application/json"), b"{}"), Ok(0));
        for (kind, body) in [
            (protobuf, &b"\xff\xff\xff"[..]),
            (Some("text/html; charset=utf-8"), b"<html>"),
        ] {
            let error = result(200, kind, body).unwrap_err();
            assert_eq!(error.reason, "bad_response");
            assert!(!error.may_retry && error.needs_operator);
        }
        for (status, may_retry, needs_operator) in [
            (503, true, false),
            (429, true, false),
            (500, false, false),
            (401, false, true),
            (404, false, true),
            (302, false, true),
        ] {
            let error = result(status, None, b"canary").unwrap_err();
            assert_eq!(error.may_retry, may_retry, "{status}");
            assert_eq!(error.needs_operator, needs_operator, "{status}");
            let retry_after = may_retry.then_some(Duration::from_secs(7));
            assert_eq!(error.retry_after, retry_after, "{status}");
            assert!(!error.detail.contains("canary"));
        }
    }
}
