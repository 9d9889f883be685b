//! The one origin behind us: its address, and its connections.
//!
//! Each worker has its own: connections are never handed between cores.

mod connect;
mod http1;
mod http2;
mod lease;
mod multiplexed;
mod pool;

use std::{
    future::{Future, poll_fn},
    sync::{Arc, Weak},
    task::{Poll, ready},
    time::Duration,
};

use http::Method;
use tokio::time::sleep;
use url::Url;

pub use self::connect::Connector;
pub(super) use self::lease::Lease;
use self::{multiplexed::Multiplexed, pool::Pool};
use super::error::ProxyError;
use crate::{
    message::{BodyLength, RequestHead, ResponseHead},
    outbound::OutboundProxy,
    telemetry::Metrics,
    tls::TlsSettings,
    token::Bearer,
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
    /// The version of HTTP that is used with it.
    pub http_version: HttpVersion,
    /// Time for a connection; name lookup, proxy and TLS included.
    pub connect_timeout: Duration,
    /// Time that a connection is kept without use. It must be below the upstream's own, or
    /// requests meet connections that are just being closed; where the upstream says its own in
    /// `Keep-Alive`, a shorter one counts.
    pub idle_timeout: Duration,
    /// Connections that are kept without use, a worker.
    pub max_idle_connections: usize,
}

/// The version of HTTP that is used with the upstream.
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
    /// Unless only HTTP/1.1 is used.
    multiplexed: Option<Arc<Multiplexed>>,
    /// Whether HTTP/1.1 is never used.
    is_http2_only: bool,
    idle_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// A request as it goes to the upstream: the only thing that holds a credential on its way there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outbound<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) host: &'a [u8],
    pub(super) body: BodyLength,
    pub(super) bearer: &'a Bearer,
}

/// Why there is no response, and whether the request may be sent again.
#[derive(Debug)]
pub(super) struct Failure {
    /// The error that the client gets.
    pub(super) error: ProxyError,
    /// Whether a kept connection ended before it brought a whole head of a response, as happens when
    /// the upstream closes it at the moment of its reuse.
    pub(super) on_kept_connection: bool,
    /// Whether no byte of the request was sent.
    pub(super) is_unsent: bool,
    /// Whether the upstream says that it has not looked at the request (RFC 9113 §8.7).
    pub(super) is_unprocessed: bool,
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self {
            error,
            on_kept_connection: false,
            is_unsent: false,
            is_unprocessed: false,
        }
    }
}

impl Failure {
    /// Whether a second exchange would do nothing twice (RFC 9110 §9.2.2).
    pub(super) fn may_send_again(&self, method: &Method) -> bool {
        self.is_unprocessed || (self.on_kept_connection && method.is_idempotent())
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
    pub fn host(&self) -> &[u8] {
        self.connector.host().as_bytes()
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
                pool.close_idle();
                if let Some(multiplexed) = multiplexed.as_ref().and_then(Weak::upgrade) {
                    multiplexed.close_idle(idle_timeout);
                } else if let Some(bell) = pool.next_put() {
                    // A worker without work sleeps.
                    drop(pool);
                    bell.notified().await;
                }
            }
        }
    }

    /// A connection for one exchange: one that is open already, or a new one. `switches` asks for
    /// one that can become a WebSocket.
    ///
    /// # Errors
    /// Why there is none, as the client gets it.
    ///
    /// # Cancel safety
    /// Safe: what was begun for others goes on.
    pub(super) async fn connection(&self, switches: bool) -> Result<Lease, ProxyError> {
        if let Some(lease) = self.kept(switches) {
            return Ok(lease);
        }
        // What is rare is on the heap.
        Box::pin(self.connect(switches)).await
    }

    /// Sends a request of our own, without a body, and gets the head of its response.
    ///
    /// # Errors
    /// There is none.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn ask(
        &self,
        head: &RequestHead,
        bearer: &Bearer,
    ) -> Result<ResponseHead, ProxyError> {
        let mut lease = self.connection(false).await?;
        let begun = lease.begin(&Outbound {
            head,
            host: self.host(),
            body: BodyLength::EMPTY,
            bearer,
        });
        begun.map_err(|failure| failure.error)?;
        lease.finish();
        poll_fn(|cx| {
            // Whether it is taken or not: a response may be there.
            if lease.poll_flush(cx).is_pending() {
                return Poll::Pending;
            }
            loop {
                match ready!(lease.poll_head(cx)) {
                    Ok(head) if head.status.is_informational() => {}
                    ended => return Poll::Ready(ended.map_err(|failure| failure.error)),
                }
            }
        })
        .await
    }

    /// Takes a connection back whose exchange is over.
    pub(super) fn give_back(&self, lease: Lease) {
        if let Lease::Http1(connection) = lease
            && let Some(connection) = connection.kept()
        {
            self.pool.put(connection);
        }
    }

    /// Uses none of the present connections again: what has ended one (a restart, a forgotten flow)
    /// has ended all, so who tries again gets a new one.
    pub(super) fn forget_connections(&self) {
        self.pool.clear();
        if let Some(multiplexed) = &self.multiplexed {
            multiplexed.clear();
        }
    }

    /// A connection that is open already.
    fn kept(&self, switches: bool) -> Option<Lease> {
        let generation = self.connector.generation();
        if let Some(multiplexed) = self.multiplexed.as_ref().filter(|_| !switches)
            && let Some(place) = multiplexed.take(generation)
        {
            let exchange = http2::Exchange::new(place, self.connector.origin());
            return Some(Lease::Http2(Box::new(exchange)));
        }
        self.pool.take(generation).map(Lease::Http1)
    }

    async fn connect(&self, switches: bool) -> Result<Lease, ProxyError> {
        for _ in 0..MAX_CONNECTS {
            let multiplexed = self.multiplexed.as_ref();
            let connected = match multiplexed.filter(|shared| !switches && !shared.is_declined()) {
                // There is one for all who wait, and kept by now.
                Some(multiplexed) => multiplexed.connect(&self.connector).await.map(|()| None),
                None => self.connector.connect().await.map(Some),
            };
            let connected = connected.inspect_err(|error| {
                // That we have no room for a connection says nothing of the upstream.
                if !error.is_refusal() {
                    self.metrics.connect_failed(error.label());
                }
            })?;
            let lease = match connected {
                Some(connection) => Some(Lease::Http1(Box::new(connection))),
                None => self.kept(switches),
            };
            if let Some(lease) = lease {
                return Ok(lease);
            }
        }
        let why = "each connection is taken by others before a request";
        Err(ProxyError::Terminated(why.to_owned()))
    }
}

/// How long a connection that the upstream has closed may wait to be noticed: nobody listens to one
/// that is idle.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections one request may see end before it was sent, or filled by others.
pub(super) const MAX_CONNECTS: usize = 64;
