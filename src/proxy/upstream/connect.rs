//! Makes connections to the upstream: name lookup, TCP, TLS, the HTTP/1 codec.

use std::{io, sync::Arc, time::Duration};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{UpstreamError, UpstreamSettings};
use crate::{
    proxy::{error::ProxyError, upload::RequestBody},
    tls,
};

/// Knows the way to the upstream.
#[derive(Debug)]
pub(super) struct Connector {
    /// The name or address, as the system's resolver takes it.
    host: String,
    port: u16,
    authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(settings: &UpstreamSettings) -> Result<Self, UpstreamError> {
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
            authority: authority(url, host),
            tls,
            timeout: settings.connect_timeout,
        })
    }

    pub(super) fn authority(&self) -> &str {
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
        let addresses = lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| ProxyError::Dns(error.to_string()))?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream
                        .set_nodelay(true)
                        .map_err(|error| ProxyError::Connect(error.to_string()))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || ProxyError::Dns("the name has no address".to_owned()),
            |error| ProxyError::Connect(error.kind().to_string()),
        ))
    }
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
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ProxyError::Terminated(error.to_string()))?;
    // It ends when its last sender is dropped, with the lease or with the pool.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
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
