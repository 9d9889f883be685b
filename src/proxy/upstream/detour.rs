//! The way to the upstream through an HTTP proxy: a tunnel (RFC 9110 §9.3.6), for `http://` too. So
//! the proxy carries bytes and is never asked to read, and maybe to keep, our requests.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use url::Url;

use super::{UpstreamError, UpstreamSettings};
use crate::{
    outbound::OutboundProxy,
    proxy::error::ProxyError,
    tls::{TlsClient, TlsSettings, mistrusts},
};

/// The largest head of its answer.
const MAX_HEAD: usize = 8 * 1024;

/// A proxy that is on the way.
#[derive(Debug)]
pub(super) struct Detour {
    pub(super) host: String,
    pub(super) port: u16,
    /// The upstream as a target: name and port, also where the port is the scheme's own.
    target: String,
    /// For its credentials, whose password may change.
    proxy: OutboundProxy,
    upstream: Url,
    pub(super) tls: Option<TlsClient>,
}

impl Detour {
    /// Finds out whether there is one.
    pub(super) fn of(settings: &UpstreamSettings) -> Result<Option<Self>, UpstreamError> {
        let on_the_way = |proxy: &&OutboundProxy| proxy.is_for(&settings.url);
        let Some(proxy) = settings.proxy.as_ref().filter(on_the_way) else {
            return Ok(None);
        };
        let address = |url: &Url| {
            let host = url.host_str()?.to_owned();
            Some((host, url.port_or_known_default()?))
        };
        let unusable = UpstreamError::Address("it or its proxy has no host or port");
        let (Some((host, port)), Some(target)) = (address(&proxy.url), address(&settings.url))
        else {
            return Err(unusable);
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        // Who we are is the upstream's business alone.
        let tls = TlsSettings {
            identity: None,
            ..settings.tls.clone()
        };
        let is_https = proxy.url.scheme() == "https";
        let tls = is_https.then(|| TlsClient::new("upstream proxy", &host, &tls));
        Ok(Some(Self {
            tls: tls.transpose()?,
            host,
            port,
            target: format!("{}:{}", target.0, target.1),
            proxy: proxy.clone(),
            upstream: settings.url.clone(),
        }))
    }

    /// TLS with the proxy itself.
    pub(super) async fn secure(
        tls: &TlsClient,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ProxyError> {
        let secured = tls.connect(stream, &[]).await;
        secured.map_err(|error| match mistrusts(&error) {
            Some(why) => failed(format!("its certificate is not trusted: {why}")),
            None => failed(format!("TLS with it failed: {error}")),
        })
    }

    /// Has it connect us to the upstream, over a connection to it.
    pub(super) async fn tunnel<T>(&self, stream: T) -> Result<T, ProxyError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        // It ends with the exchange: as a tunnel, or because its sender is dropped.
        tokio::spawn(connection.with_upgrades());
        let request = self.request()?;
        let answer = sender.send_request(request).await;
        let answer = self.accepted(answer.map_err(|error| broken(&error))?)?;
        let tunnel = hyper::upgrade::on(answer).await;
        let tunnel = tunnel.map_err(|error| broken(&error))?;
        match tunnel.downcast::<TokioIo<T>>() {
            // We speak first, so whatever came already is not the upstream's.
            Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io.into_inner()),
            _ => Err(failed("it sent more than an answer")),
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, ProxyError> {
        let mut request = Request::connect(&self.target).header(header::HOST, &self.target);
        // May read a small local file with a blocking call: once a connection, and there alone where
        // the password is in one.
        let authorization = self.proxy.authorization(&self.upstream);
        if let Some(value) = authorization.map_err(|error| failed(error.to_string()))? {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::new());
        request.map_err(|_| failed("the upstream's address is no target for it"))
    }

    fn accepted(&self, answer: Response<Incoming>) -> Result<Response<Incoming>, ProxyError> {
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                let has_some = !self.proxy.url.username().is_empty();
                Err(ProxyError::OutboundProxyCredentials(if has_some {
                    "it does not accept our credentials"
                } else {
                    "it wants credentials"
                }))
            }
            status => {
                let status = status.as_u16();
                Err(failed(format!("it answered CONNECT with {status}")))
            }
        }
    }
}

/// What is said of the upstream, as said of the proxy.
pub(super) fn of_proxy(error: ProxyError) -> ProxyError {
    match error {
        ProxyError::Dns(why) => failed(format!("cannot resolve it: {why}")),
        ProxyError::Connect(why) => failed(format!("cannot connect to it: {why}")),
        other => other,
    }
}

fn broken(error: &hyper::Error) -> ProxyError {
    failed(format!("its answer to CONNECT is no good: {error}"))
}

fn failed(why: impl Into<String>) -> ProxyError {
    ProxyError::OutboundProxy(why.into())
}
