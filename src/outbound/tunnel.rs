//! A way that leads through an HTTP proxy.
//!
//! It is always CONNECT and then a tunnel (RFC 9110 §9.3.6), for `http://` too. So the proxy carries
//! bytes and is never asked to read, and maybe to keep, our requests.

use std::{future::poll_fn, io};

use http::{HeaderValue, StatusCode};
use secrecy::zeroize::Zeroizing;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::{OutboundProxy, RouteError, Stream, USER_AGENT, UnusableRoute, dial::Dialer, place};
use crate::{
    http1::{Input, Limits, Reader, StatusLine},
    message::ResponseHead,
    tls::{HandshakeError, Leg, TlsClient, TlsSettings},
};

/// The bounds of the head of its response.
const LIMITS: Limits = Limits {
    bytes: 8 * 1024,
    fields: 100,
};

/// A proxy that is on the way.
#[derive(Debug)]
pub(super) struct Detour {
    host: String,
    port: u16,
    /// The other side as a target: name and port, also where the port is the scheme's own.
    target: String,
    /// For its credentials, whose password may change.
    proxy: OutboundProxy,
    tls: Option<TlsClient>,
}

impl Detour {
    /// Leads through that proxy, whose TLS, where it has any, trusts whom the leg trusts.
    pub(super) fn new(
        leg: Leg,
        target: &Url,
        proxy: &OutboundProxy,
        tls: &TlsSettings,
    ) -> Result<Self, UnusableRoute> {
        let (host, port) = place(&proxy.url)?;
        let (_, target_port) = place(target)?;
        let target_host = target.host_str().unwrap_or_default();
        // Who we are is the other side's business alone.
        let tls = TlsSettings {
            identity: None,
            ..tls.clone()
        };
        let is_https = proxy.url.scheme() == "https";
        let tls = is_https.then(|| TlsClient::new(leg.proxy(), &host, &tls));
        Ok(Self {
            tls: tls.transpose()?,
            host,
            port,
            target: format!("{target_host}:{target_port}"),
            proxy: proxy.clone(),
        })
    }

    pub(super) fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    /// A stream to the other side.
    pub(super) async fn connect(&self, dialer: &Dialer) -> Result<Stream, RouteError> {
        let stream = dialer.connect(&self.host, self.port).await;
        let stream = stream.map_err(|error| match error {
            RouteError::NoDescriptors => error,
            _ => failed(error.to_string()),
        })?;
        let stream = match &self.tls {
            None => Stream::Tcp(stream),
            Some(tls) => {
                let stream = tls.connect(stream, &[]).await.map_err(of_proxy)?;
                Stream::Tls(Box::new(stream))
            }
        };
        self.tunnel(stream).await
    }

    /// Has the proxy at the other end of a stream connect us.
    async fn tunnel(&self, mut stream: Stream) -> Result<Stream, RouteError> {
        // May read a small local file with a blocking call: once a connection, and there alone where
        // the password is in one.
        let authorization = self.proxy.authorization();
        let authorization = authorization.map_err(|error| failed(error.to_string()))?;
        let request = self.request(authorization.as_ref());
        let sent = async {
            stream.write_all(&request).await?;
            stream.flush().await
        };
        sent.await.map_err(|error| broken(&error))?;
        let mut input = Input::default();
        let status = loop {
            let head = head(&mut stream, &mut input).await?;
            if !head.status.is_informational() {
                break head.status;
            }
        };
        self.accept(status)?;
        // The client sends first, so whatever came already is not the other side's.
        if input.is_empty() {
            Ok(stream)
        } else {
            Err(failed("it sent more than a response"))
        }
    }

    /// With room for all of it: what outgrows its room leaves a copy behind that nobody wipes.
    fn request(&self, authorization: Option<&HeaderValue>) -> Zeroizing<Vec<u8>> {
        let target = self.target.as_bytes();
        let credentials = authorization.map_or(&b""[..], HeaderValue::as_bytes);
        let room = 2 * target.len() + credentials.len() + 128;
        let mut request = Zeroizing::new(Vec::with_capacity(room));
        for part in [
            b"CONNECT ",
            target,
            b" HTTP/1.1\r\nHost: ",
            target,
            b"\r\nUser-Agent: ",
            USER_AGENT.as_bytes(),
        ] {
            request.extend_from_slice(part);
        }
        if authorization.is_some() {
            request.extend_from_slice(b"\r\nProxy-Authorization: ");
            request.extend_from_slice(credentials);
        }
        request.extend_from_slice(b"\r\n\r\n");
        request
    }

    /// Any 2xx is a tunnel, whatever its fields say of a body (RFC 9110 §9.3.6).
    fn accept(&self, status: StatusCode) -> Result<(), RouteError> {
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(RouteError::ProxyCredentials(
                if self.proxy.has_credentials() {
                    "it does not accept our credentials"
                } else {
                    "it wants credentials"
                },
            )),
            status => {
                let status = status.as_u16();
                Err(failed(format!("it responded to CONNECT with {status}")))
            }
        }
    }
}

/// The next head of a response.
async fn head(stream: &mut Stream, input: &mut Input) -> Result<ResponseHead, RouteError> {
    let mut reader = Reader::<StatusLine>::default();
    loop {
        if !input.is_empty() {
            match reader.read(input.bytes(), LIMITS) {
                Ok(None) => {}
                Ok(Some((head, _, length))) => {
                    input.consume(length);
                    return Ok(head);
                }
                Err(error) => return Err(failed(format!("{NO_GOOD}: {error}"))),
            }
        }
        match poll_fn(|cx| input.poll_fill(stream, cx)).await {
            Ok(1..) => {}
            Ok(0) => return Err(failed(format!("{NO_GOOD}: it closed the connection"))),
            Err(error) => return Err(broken(&error)),
        }
    }
}

const NO_GOOD: &str = "its response to CONNECT is no good";

fn of_proxy(error: HandshakeError) -> RouteError {
    failed(match error {
        HandshakeError::Certificate(why) => format!("its certificate is not trusted: {why}"),
        other => format!("TLS with it failed: {other}"),
    })
}

fn broken(error: &io::Error) -> RouteError {
    failed(format!("{NO_GOOD}: {}", error.kind()))
}

fn failed(why: impl Into<String>) -> RouteError {
    RouteError::Proxy(why.into())
}
