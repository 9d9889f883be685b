//! Makes connections to the upstream: a stream of bytes (name lookup, TCP, maybe through a proxy),
//! then TLS, and with HTTP/2 its codec.

use std::{
    future::{Future, pending, poll_fn},
    io,
    pin::pin,
    time::Duration,
};

use http::{
    HeaderValue,
    uri::{Authority, Scheme},
};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    sync::watch,
    time::{interval, timeout},
};
use url::Url;

use super::{
    HttpVersion, UpstreamError, UpstreamSettings,
    detour::{Detour, of_proxy},
    http1::Connection,
    http2::RequestBody,
    stream::Stream,
};
use crate::{
    gather::Gather,
    proxy::error::ProxyError,
    tls::{TlsClient, mistrusts, refuses_client},
};

/// Knows the way to the upstream. Shared by all workers.
#[derive(Debug)]
pub struct Connector {
    /// The name or address, as the system's resolver takes it.
    host: String,
    port: u16,
    authority: Authority,
    /// The same, as a `Host` field.
    host_field: HeaderValue,
    proxy: Option<Detour>,
    tls: Option<TlsClient>,
    version: HttpVersion,
    timeout: Duration,
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
    pub fn new(settings: &UpstreamSettings) -> Result<Self, UpstreamError> {
        let url = &settings.url;
        let host = url
            .host_str()
            .ok_or(UpstreamError::Address("it has no host"))?;
        let port = url
            .port_or_known_default()
            .ok_or(UpstreamError::Address("it has no port"))?;
        // The resolver and TLS know no brackets around an IPv6 address.
        let bare = host.trim_matches(['[', ']']);
        let is_https = url.scheme() == "https";
        let tls = is_https.then(|| TlsClient::new("upstream", bare, &settings.tls));
        let authority = authority(url, host);
        let unusable = UpstreamError::Address("it is no valid Host");
        Ok(Self {
            host: bare.to_owned(),
            port,
            host_field: HeaderValue::try_from(&authority).map_err(|_| unusable)?,
            authority: Authority::try_from(authority)
                .map_err(|_| UpstreamError::Address("it is no valid Host"))?,
            proxy: Detour::of(settings)?,
            tls: tls.transpose()?,
            version: settings.http_version,
            timeout: settings.connect_timeout,
        })
    }

    /// How often the certificates of the way have changed. Taken before a connection is made, it
    /// tells later whether the connection was made with those of now.
    pub(super) fn generation(&self) -> usize {
        let of_proxy = self.proxy.as_ref().and_then(|proxy| proxy.tls.as_ref());
        let both = self.tls.iter().chain(of_proxy);
        both.map(TlsClient::generation).sum()
    }

    /// The value of `Host` for it.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host_field
    }

    /// The scheme and the authority of each request to it.
    pub(super) fn origin(&self) -> (Scheme, Authority) {
        let scheme = if self.tls.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        (scheme, self.authority.clone())
    }

    /// A new connection with HTTP/1.1, within the connect timeout.
    pub(super) async fn connect(&self) -> Result<Connection, ProxyError> {
        let generation = self.generation();
        let stream = self.in_time(async {
            let way = self.way().await?;
            self.secured(way, &[]).await
        });
        Ok(Connection::new(stream.await?, generation))
    }

    /// A new connection with HTTP/2, or with what the upstream prefers, within the connect timeout.
    pub(super) async fn connect_multiplexed(&self) -> Result<Connected, ProxyError> {
        self.in_time(async {
            let offered: &[&[u8]] = match self.version {
                HttpVersion::Http2 => &[H2],
                _ => &[H2, b"http/1.1"],
            };
            let way = self.way().await?;
            let stream = self.secured(way, offered).await?;
            let agreed = match &stream {
                _ if self.tls.is_none() => return http2(stream).await,
                Stream::Tcp(_) => None,
                Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
                Stream::TlsInTls(stream) => stream.get_ref().1.alpn_protocol(),
            };
            match (agreed, self.version) {
                (Some(H2), _) => http2(stream).await,
                (_, HttpVersion::Auto) => Ok(Connected::Http1(stream)),
                _ => Err(ProxyError::Tls("it does not speak HTTP/2".to_owned())),
            }
        })
        .await
    }

    /// TLS with the upstream, where it is spoken, over a way to it.
    async fn secured(&self, way: Stream, offered: &[&[u8]]) -> Result<Stream, ProxyError> {
        let Some(tls) = &self.tls else {
            return Ok(way);
        };
        let failed = |error: rustls::Error| tls_error(&error);
        Ok(match way {
            Stream::Tcp(stream) => {
                let stream = tls.connect(stream, offered).await.map_err(failed)?;
                Stream::Tls(Box::new(stream))
            }
            Stream::Tls(stream) => {
                let stream = tls.connect(stream, offered).await.map_err(failed)?;
                Stream::TlsInTls(Box::new(stream))
            }
            // There is no third one on any way.
            Stream::TlsInTls(_) => return Err(ProxyError::Tls("twice".to_owned())),
        })
    }

    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, ProxyError>>,
    ) -> Result<T, ProxyError> {
        timeout(self.timeout, connecting)
            .await
            .unwrap_or(Err(ProxyError::ConnectTimeout))
    }

    async fn way(&self) -> Result<Stream, ProxyError> {
        let Some(proxy) = &self.proxy else {
            return self.tcp(&self.host, self.port).await.map(Stream::Tcp);
        };
        let stream = self.tcp(&proxy.host, proxy.port).await.map_err(of_proxy)?;
        match &proxy.tls {
            None => proxy.tunnel(stream).await.map(Stream::Tcp),
            Some(tls) => {
                let stream = Box::new(Detour::secure(tls, stream).await?);
                proxy.tunnel(stream).await.map(Stream::Tls)
            }
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        let addresses: Vec<_> = lookup_host((host, port))
            .await
            .map_err(|error| ProxyError::Dns(error.to_string()))?
            .collect();
        // One that swallows what it is sent leaves the others their share of the time.
        let share = self.timeout / u32::try_from(addresses.len()).unwrap_or(1).max(1);
        let mut last = ProxyError::Dns("the name has no address".to_owned());
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let set = tune(&stream);
                    return set.map(|()| stream).map_err(|error| refused(&error));
                }
                Ok(Err(error)) => last = refused(&error),
                Err(_) => last = ProxyError::ConnectTimeout,
            }
        }
        Err(last)
    }

    /// Uses changed certificates for new connections; for ever. `renewed` is told of each change,
    /// and whether it could be used.
    pub async fn follow_files(&self, renewed: impl Fn(bool)) {
        let follow = async |tls: Option<&TlsClient>| match tls {
            Some(tls) => tls.follow_files(&renewed).await,
            None => pending().await,
        };
        let of_proxy = self.proxy.as_ref().and_then(|proxy| proxy.tls.as_ref());
        tokio::join!(follow(self.tls.as_ref()), follow(of_proxy));
    }
}

fn refused(error: &io::Error) -> ProxyError {
    ProxyError::Connect(error.kind().to_string())
}

/// Finds out connections whose other end has vanished without a word: answers may take minutes
/// and streams hours, so no deadline of ours would.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))
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
            // The codec tells nobody when the first settings arrive.
            while limit == 0 && look.poll_tick(cx).is_ready() {}
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection to the upstream ended");
        }
    });
    // Until its settings have come, nobody knows how many requests it takes, nor whether it speaks
    // HTTP/2 at all.
    match limit.wait_for(|limit| *limit > 0).await {
        Ok(_) => {}
        Err(_) => return Err(ProxyError::Connect("it does not speak HTTP/2".to_owned())),
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

fn tls_error(error: &rustls::Error) -> ProxyError {
    if let Some(why) = refuses_client(error) {
        return ProxyError::ClientCertificate(why);
    }
    match mistrusts(error) {
        Some(why) => ProxyError::Certificate(why),
        None => ProxyError::Tls(error.to_string()),
    }
}
