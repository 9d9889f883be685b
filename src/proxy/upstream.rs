//! The one origin behind us: its address, its connections, and one exchange with it.
//!
//! Each worker has its own: connections are never handed between cores.

mod connect;
mod pool;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use url::Url;

use self::pool::Pool;
pub use self::{connect::Connector, pool::Lease};
use super::{
    error::ProxyError,
    upload::{RequestBody, UploadError},
};
use crate::{telemetry::Metrics, tls::TlsError};

/// Where the upstream is, and the bounds of talking to it.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSettings {
    /// Scheme, host and port. Nothing else of it is used: a request's path goes on as it came.
    pub url: Url,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Time for a connection, name lookup and TLS included.
    pub connect_timeout: Duration,
    /// Time that a connection is kept without use. It must be below the upstream's own, or
    /// requests meet connections that are just being closed.
    pub idle_timeout: Duration,
    /// Connections that are kept without use, a worker.
    pub max_idle_connections: usize,
}

/// The upstream, as one worker sees it.
#[derive(Debug)]
pub struct Upstream {
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    metrics: Arc<Metrics>,
}

/// Why the upstream cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The trust store.
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
}

impl From<ProxyError> for ExchangeError {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            on_reused_connection: false,
        }
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
        Self {
            connector,
            pool: Arc::new(pool),
            metrics,
        }
    }

    /// The value of `Host` for it.
    #[must_use]
    pub fn host(&self) -> &HeaderValue {
        self.connector.host()
    }

    /// Closes connections that were idle for too long, for as long as it is used.
    pub fn close_idle(&self) -> impl Future<Output = ()> + use<> {
        Pool::close_idle(&self.pool)
    }

    /// Sends a request and gets the head of its answer. The answer's body keeps the lease until
    /// it is over, then gives the connection back.
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
    ) -> Result<(Response<Incoming>, Lease), ExchangeError> {
        // A kept connection that has ended gives the request back unsent; then the next one.
        while let Some(mut lease) = self.pool.take() {
            match lease.send(request).await {
                Ok(response) => return Ok((response, lease)),
                Err((Some(unsent), _)) => request = unsent,
                Err((None, error)) => {
                    let error = classify(&error);
                    let on_reused_connection = matches!(error, ProxyError::Terminated(_));
                    if on_reused_connection {
                        self.pool.clear();
                    }
                    return Err(ExchangeError {
                        error,
                        on_reused_connection,
                    });
                }
            }
        }
        let connection = match self.connector.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                self.metrics.connect_failed(error.label());
                return Err(error.into());
            }
        };
        let mut lease = Pool::lease(&self.pool, connection);
        match lease.send(request).await {
            Ok(response) => Ok((response, lease)),
            Err((_, error)) => Err(classify(&error).into()),
        }
    }
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
    if error.is_parse() {
        ProxyError::BadAnswer(error.to_string())
    } else {
        let kind = io_kind(error).map_or_else(String::new, |kind| format!(" ({kind})"));
        ProxyError::Terminated(format!("{error}{kind}"))
    }
}
