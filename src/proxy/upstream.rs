//! The one origin behind us: its address, its connections, and one exchange with it.
//!
//! Each worker has its own: connections are never handed between cores.

mod answer;
mod connect;
mod detour;
pub(super) mod dialect;
mod lease;
mod line;
mod multiplexed;
mod pool;

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response};
use tokio::time::sleep;
use url::Url;

pub use self::{answer::Answer, connect::Connector};
use self::{lease::Lease, multiplexed::Multiplexed, pool::Pool};
use super::{
    error::ProxyError,
    upload::{RequestBody, UploadError},
};
use crate::{
    outbound::OutboundProxy,
    telemetry::Metrics,
    tls::{TlsError, TlsSettings, refuses_client},
};

/// Where the upstream is, and the bounds of talking to it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSettings {
    /// Scheme, host and port. Nothing else of it is used: a request's path goes on as it came.
    pub url: Url,
    /// Whom to trust, and who we are.
    pub tls: TlsSettings,
    /// The HTTP proxy on the way to it. The environment's is not used.
    pub proxy: Option<OutboundProxy>,
    /// The version of HTTP that is spoken with it.
    pub http_version: HttpVersion,
    /// Time for a connection; name lookup, proxy and TLS included.
    pub connect_timeout: Duration,
    /// Time that a connection is kept without use. It must be below the upstream's own, or
    /// requests meet connections that are just being closed.
    pub idle_timeout: Duration,
    /// Connections that are kept without use, a worker.
    pub max_idle_connections: usize,
}

/// The version of HTTP that is spoken with the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1, one request at a time on a connection.
    #[default]
    Http1,
    /// HTTP/2 (RFC 9113), without asking: by TLS, or in clear by prior knowledge.
    Http2,
    /// With TLS what the upstream prefers of the two, in clear HTTP/1.1.
    Auto,
}

/// The upstream, as one worker sees it.
#[derive(Debug)]
pub struct Upstream {
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    /// Unless only HTTP/1.1 is spoken.
    multiplexed: Option<Arc<Multiplexed>>,
    /// Whether HTTP/1.1 is never spoken.
    is_http2_only: bool,
    idle_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// Why the upstream cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The trust store, or the client certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("the upstream's address cannot be used: {0}")]
    Address(&'static str),
}

/// Why an exchange failed, and whether it may be tried again.
#[derive(Debug)]
pub struct ExchangeError {
    /// What the client is told.
    pub error: ProxyError,
    /// Whether a kept connection ended before it brought a whole head of an answer, as happens when
    /// the upstream closes it at the moment of its reuse.
    pub on_reused_connection: bool,
    /// Whether the upstream says that it has not looked at the request (RFC 9113 §8.7).
    pub is_unprocessed: bool,
}

impl From<ProxyError> for ExchangeError {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            on_reused_connection: false,
            is_unprocessed: false,
        }
    }
}

impl ExchangeError {
    /// Whether a second exchange would do nothing twice (RFC 9110 §9.2.2).
    #[must_use]
    pub fn may_send_again(&self, method: &Method) -> bool {
        self.is_unprocessed || (self.on_reused_connection && method.is_idempotent())
    }
}

impl Upstream {
    /// Sets it up; connects nowhere.
    #[must_use]
    pub fn new(
        settings: &UpstreamSettings,
        connector: Arc<Connector>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let pool = Pool::new(settings.max_idle_connections, settings.idle_timeout);
        let pool = Arc::new(pool);
        let speaks_http2 = match settings.http_version {
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
            HttpVersion::Auto => settings.url.scheme() == "https",
        };
        Self {
            multiplexed: speaks_http2.then(|| Arc::new(Multiplexed::new(Arc::clone(&pool)))),
            is_http2_only: settings.http_version == HttpVersion::Http2,
            idle_timeout: settings.idle_timeout,
            connector,
            pool,
            metrics,
        }
    }

    /// Whether requests may go by HTTP/2.
    #[must_use]
    pub fn speaks_http2(&self) -> bool {
        self.multiplexed.is_some()
    }

    /// Whether a connection can become a WebSocket.
    #[must_use]
    pub fn can_switch(&self) -> bool {
        !self.is_http2_only
    }

    /// The value of `Host` for it.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        self.connector.host()
    }

    /// Closes connections that were idle for too long, for as long as it is used.
    pub fn close_idle(&self) -> impl Future<Output = ()> + use<> {
        let idle_timeout = self.idle_timeout;
        let pool = Arc::downgrade(&self.pool);
        let multiplexed = self.multiplexed.as_ref().map(Arc::downgrade);
        async move {
            loop {
                sleep(PAUSE).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.close_idle(idle_timeout);
                if let Some(multiplexed) = multiplexed.as_ref().and_then(Weak::upgrade) {
                    multiplexed.close_idle(idle_timeout);
                }
            }
        }
    }

    /// Sends a request and gets the head of its answer, whose body keeps the connection until it is
    /// over. `switches` asks for a connection that can become
    /// a WebSocket.
    ///
    /// # Errors
    /// What the client is told, and whether a kept connection was to blame. Then the other kept
    /// ones are closed too: what has ended one (a restart, a forgotten flow) has ended all, so who
    /// tries again gets a new one.
    ///
    /// # Cancel safety
    /// Dropping it aborts the exchange and closes its connection.
    pub async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        switches: bool,
    ) -> Result<Response<Answer>, ExchangeError> {
        for _ in 0..MAX_CONNECTS {
            let (mut lease, is_kept) = match self.kept(switches) {
                Some(lease) => {
                    let is_kept = lease.is_proven();
                    (lease, is_kept)
                }
                None => match Box::pin(self.connect(switches)).await? {
                    Some(lease) => (lease, false),
                    // There is one for all who wait.
                    None => continue,
                },
            };
            if self.multiplexed.is_some() {
                lease.dialect().apply(&mut request, &self.connector);
            }
            match lease.send(request).await {
                Ok(response) => return Ok(response.map(|body| Answer::new(body, lease))),
                // A kept connection that has ended gives the request back unsent; then the next one.
                Err((Some(unsent), _)) if is_kept || self.multiplexed.is_some() => request = unsent,
                Err((_, error)) => return Err(self.failed(&error, is_kept)),
            }
        }
        let why = "it ends each connection before a request";
        Err(ProxyError::Terminated(why.to_owned()).into())
    }

    /// A connection that is open already.
    fn kept(&self, switches: bool) -> Option<Lease> {
        let generation = self.connector.generation();
        if let Some(multiplexed) = self.multiplexed.as_ref().filter(|_| !switches)
            && let Some(stream) = multiplexed.take(generation)
        {
            return Some(Lease::Http2(stream));
        }
        let line = self.pool.take(generation)?;
        Some(Lease::whole(line, &self.pool))
    }

    /// A new connection; `None` for one that is shared, and kept by now.
    async fn connect(&self, switches: bool) -> Result<Option<Lease>, ProxyError> {
        let multiplexed = self.multiplexed.as_ref();
        let connected = match multiplexed.filter(|shared| !switches && !shared.is_declined()) {
            Some(multiplexed) => multiplexed.connect(&self.connector).await.map(|()| None),
            None => self
                .connector
                .connect()
                .await
                .map(|line| Some(Lease::whole(line, &self.pool))),
        };
        connected.inspect_err(|error| self.metrics.connect_failed(error.label()))
    }

    fn failed(&self, error: &hyper::Error, is_kept: bool) -> ExchangeError {
        let stream_error = h2_error(error).filter(|error| error.is_reset());
        let is_unprocessed = h2_error(error).is_some_and(is_unprocessed);
        let error = classify(error);
        let on_reused_connection = is_kept
            && !is_unprocessed
            && stream_error.is_none()
            && matches!(error, ProxyError::Terminated(_));
        if on_reused_connection {
            self.pool.clear();
            if let Some(multiplexed) = &self.multiplexed {
                multiplexed.clear();
            }
        }
        ExchangeError {
            error,
            on_reused_connection,
            is_unprocessed,
        }
    }
}

/// How long a connection that the upstream has closed may wait to be noticed: nobody listens to one
/// that is idle.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections one request may see end before it was sent, or filled by others.
const MAX_CONNECTS: usize = 64;

/// Whether the upstream has refused a stream, or ended the connection before it (RFC 9113 §8.7).
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let gone = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (refused || gone)
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error).and_then(<dyn std::error::Error>::downcast_ref)
}

/// What the operating system said, if it was the connection that failed.
fn io_kind(error: &hyper::Error) -> Option<std::io::ErrorKind> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        source = inner.source();
    }
    None
}

fn classify(error: &hyper::Error) -> ProxyError {
    let cause = std::error::Error::source(error);
    if cause.is_some_and(<dyn std::error::Error>::is::<UploadError>) {
        return ProxyError::Malformed("body");
    }
    // With TLS 1.3 it is said only after the handshake, when we read.
    if let Some(why) = refuses_client(error) {
        return ProxyError::ClientCertificate(why);
    }
    if error.is_parse() {
        ProxyError::BadAnswer(error.to_string())
    } else {
        let kind = io_kind(error).map_or_else(String::new, |kind| format!(" ({kind})"));
        ProxyError::Terminated(format!("{error}{kind}"))
    }
}
