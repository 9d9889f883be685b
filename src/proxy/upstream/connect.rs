//! Makes connections to the upstream: name lookup, TCP, TLS, the HTTP/1 codec.

use std::{io, sync::Arc, time::Duration};

use http::HeaderValue;
use hyper::client::conn::http1::{self, SendRequest};
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{UpstreamError, UpstreamSettings};
use crate::{
    gather::Gather,
    proxy::{error::ProxyError, upload::RequestBody},
    tls,
};

/// Knows the way to the upstream. Shared by all workers.
#[derive(Debug)]
pub struct Connector {
    /// The name or address, as the system's resolver takes it.
    host: String,
    port: u16,
    authority: HeaderValue,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
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
        let tls = if url.scheme() == "https" {
            let name = ServerName::try_from(bare.to_owned())
                .map_err(|_| UpstreamError::Address("its host is no name for a certificate"))?;
            Some((
                Arc::new(tls::client_config(settings.ca_file.as_deref())?),
                name,
            ))
        } else {
            None
        };
        Ok(Self {
            host: bare.to_owned(),
            port,
            authority: HeaderValue::try_from(authority(url, host))
                .map_err(|_| UpstreamError::Address("it is no valid Host"))?,
            tls,
            timeout: settings.connect_timeout,
        })
    }

    /// The value of `Host` for it.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.authority
    }

    /// A new connection, within the connect timeout.
    pub(super) async fn connect(&self) -> Result<SendRequest<RequestBody>, ProxyError> {
        timeout(self.timeout, self.try_connect())
            .await
            .unwrap_or(Err(ProxyError::ConnectTimeout))
    }

    async fn try_connect(&self) -> Result<SendRequest<RequestBody>, ProxyError> {
        let stream = self.tcp().await?;
        match &self.tls {
            None => handshake(stream).await,
            Some((config, name)) => {
                let stream = TlsConnector::from(Arc::clone(config))
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|error| tls_error(&error))?;
                handshake(stream).await
            }
        }
    }

    async fn tcp(&self) -> Result<TcpStream, ProxyError> {
        let addresses: Vec<_> = lookup_host((self.host.as_str(), self.port))
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

async fn handshake<T>(stream: T) -> Result<SendRequest<RequestBody>, ProxyError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(Gather(stream))
        .await
        .map_err(|error| ProxyError::Terminated(error.to_string()))?;
    // It ends with its exchange once its sender is dropped, with the lease or with the pool.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the upstream ended");
        }
    });
    Ok(sender)
}

fn tls_error(error: &io::Error) -> ProxyError {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => ProxyError::Certificate(why.to_string()),
        Some(other) => ProxyError::Tls(other.to_string()),
        None => ProxyError::Tls(error.kind().to_string()),
    }
}
