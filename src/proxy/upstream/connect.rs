//! Makes connections to the upstream: a stream of bytes, and with HTTP/2 its codec.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use http::{
    HeaderValue,
    uri::{Authority, Scheme},
};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{sync::watch, time::interval};
use url::Url;

use super::{HttpVersion, UpstreamSettings, http1::Connection, http2::RequestBody};
use crate::{
    gather::Gather,
    outbound::{Route, RouteError, Stream, UnusableRoute},
    proxy::error::ProxyError,
    server::Refusal,
    tls::{HandshakeError, Leg},
};

/// Knows the way to the upstream. Shared by all workers.
#[derive(Debug)]
pub struct Connector {
    route: Route,
    authority: Authority,
    /// The same, as a `Host` field.
    host_field: HeaderValue,
    version: HttpVersion,
}

/// A connection, by what was agreed on it.
#[derive(Debug)]
pub(super) enum Connected {
    Http1(Stream),
    Http2 {
        sender: http2::SendRequest<RequestBody>,
        /// How many requests the upstream takes at a time.
        limit: watch::Receiver<usize>,
    },
}

impl Connector {
    /// Finds out the way; goes nowhere yet.
    ///
    /// # Errors
    /// When the address or the trust store cannot be used.
    pub fn new(settings: &UpstreamSettings) -> Result<Self, UnusableRoute> {
        let url = &settings.url;
        let route = Route::new(
            Leg::Upstream,
            url,
            settings.proxy.as_ref(),
            &settings.tls,
            settings.connect_timeout,
        )?;
        let authority = authority(url, url.host_str().unwrap_or_default());
        let unusable = || UnusableRoute::Address("it is no valid Host");
        Ok(Self {
            route,
            host_field: HeaderValue::try_from(&authority).map_err(|_| unusable())?,
            authority: Authority::try_from(authority).map_err(|_| unusable())?,
            version: settings.http_version,
        })
    }

    /// How often the certificates of the way have changed. Taken before a connection is made, it
    /// shows later whether the connection was made with those of now.
    pub(super) fn generation(&self) -> usize {
        self.route.generation()
    }

    /// The value of `Host` for it.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host_field
    }

    /// The scheme and the authority of each request to it.
    pub(super) fn origin(&self) -> (Scheme, Authority) {
        let scheme = if self.route.is_secure() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        (scheme, self.authority.clone())
    }

    /// A new connection with HTTP/1.1, within the connect timeout.
    pub(super) async fn connect(&self) -> Result<Connection, ProxyError> {
        let generation = self.generation();
        let stream = self.route.connect(&[]).await?;
        Ok(Connection::new(stream, generation))
    }

    /// A new connection with HTTP/2, or with what the upstream prefers, within the connect timeout.
    pub(super) async fn connect_multiplexed(&self) -> Result<Connected, ProxyError> {
        let offered: &[&[u8]] = match self.version {
            HttpVersion::Http2 => &[H2],
            _ => &[H2, b"http/1.1"],
        };
        let agree = async |stream: Stream| {
            if !self.route.is_secure() {
                return http2(stream).await;
            }
            match (stream.alpn_protocol(), self.version) {
                (Some(H2), _) => http2(stream).await,
                (_, HttpVersion::Auto) => Ok(Connected::Http1(stream)),
                _ => Err(ProxyError::Tls("it does not support HTTP/2".to_owned())),
            }
        };
        self.route.connect_and(offered, agree).await
    }

    /// Uses changed certificates for new connections; for ever. `renewed` is called at each
    /// change, with whether it could be used.
    pub async fn follow_files(&self, renewed: impl Fn(bool)) {
        self.route.follow_files(renewed).await;
    }
}

impl From<RouteError> for ProxyError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Dns(why) => Self::Dns(why),
            RouteError::Connect(why) => Self::Connect(why),
            RouteError::NoDescriptors => Self::Refused(Refusal::NoDescriptors),
            RouteError::Timeout => Self::ConnectTimeout,
            RouteError::Proxy(why) => Self::OutboundProxy(why),
            RouteError::ProxyCredentials(why) => Self::OutboundProxyCredentials(why),
            RouteError::Tls(HandshakeError::Certificate(why)) => Self::Certificate(why),
            RouteError::Tls(HandshakeError::Client(why)) => Self::ClientCertificate(why),
            RouteError::Tls(HandshakeError::Other(why)) => Self::Tls(why),
        }
    }
}

/// The authority without a port that is the scheme's own: what a browser would send as Host.
fn authority(url: &Url, host: &str) -> String {
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The name of HTTP/2 in the choice of protocols of TLS.
const H2: &[u8] = b"h2";

async fn http2(stream: Stream) -> Result<Connected, ProxyError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_max_send_streams(0)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(SEND_BUFFER)
        .handshake(Gather(stream))
        .await
        .map_err(|error| ProxyError::Terminated(error.to_string()))?;
    let (published, mut limit) = watch::channel(0);
    // It ends once the pool and all requests have let go of its sender.
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        let mut look = interval(LOOK);
        let ended = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            let limit = connection.current_max_send_streams();
            published.send_if_modified(|known| std::mem::replace(known, limit) != limit);
            // The codec gives no notice when the first settings arrive.
            while limit == 0 && look.poll_tick(cx).is_ready() {}
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection to the upstream ended");
        }
    });
    // Until its settings have come, nobody knows how many requests it takes, nor whether it supports
    // HTTP/2 at all.
    match limit.wait_for(|limit| *limit > 0).await {
        Ok(_) => {}
        Err(_) => return Err(ProxyError::Connect("it does not support HTTP/2".to_owned())),
    }
    Ok(Connected::Http2 { sender, limit })
}

/// How often a new connection is looked at until the upstream's settings are known.
const LOOK: Duration = Duration::from_millis(1);

/// How much of one response may wait for a slow client. All of them together have no bound but that of
/// their number, or a few slow clients would stop the responses of all others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 30;

/// The largest head of a response, as with HTTP/1.
const MAX_HEADER_LIST: u32 = 256 * 1024;

const SEND_BUFFER: usize = 256 * 1024;
