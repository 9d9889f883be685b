//! The HTTP client of everything that is asked of the token service: one connection for each call,
//! which goes the same way as those of the upstream.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use secrecy::zeroize::Zeroizing;
use tokio::time::timeout;
use url::Url;

use super::encoding::decoded;
use crate::{
    outbound::{self, OutboundProxy, Route, RouteError, UnusableRoute},
    tls::{HandshakeError, Leg, TlsSettings, refuses_client},
    token::{FetchError, Reason},
};

/// The bounds of a token call, and the way to the service.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSettings {
    /// The time for everything, from the name lookup to the end of the body.
    pub request_timeout: Duration,
    /// The time for the connection, TLS included.
    pub connect_timeout: Duration,
    /// Whom to trust, and who we are.
    pub tls: TlsSettings,
    /// The HTTP proxy on the way to the token service. The environment's is not used.
    pub proxy: Option<OutboundProxy>,
}

/// A client of one address that follows its files.
#[derive(Debug)]
pub(in crate::token) struct TokenClient {
    route: Route,
    /// Path and query.
    target: String,
    host: HeaderValue,
    request_timeout: Duration,
}

/// A whole response.
#[derive(Debug)]
pub(in crate::token) struct CallResponse {
    pub(in crate::token) status: StatusCode,
    pub(in crate::token) fields: HeaderMap,
    pub(in crate::token) body: Zeroizing<Vec<u8>>,
}

impl TokenClient {
    /// Reads the files; sends nothing.
    pub(in crate::token) fn new(
        url: &Url,
        settings: &EndpointSettings,
    ) -> Result<Self, UnusableRoute> {
        let route = Route::new(
            Leg::TokenService,
            url,
            settings.proxy.as_ref(),
            &settings.tls,
            settings.connect_timeout,
        )?;
        let host = url.host_str().unwrap_or_default();
        let host = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            route,
            target,
            host: HeaderValue::try_from(host)
                .map_err(|_| UnusableRoute::Address("it is no valid Host"))?,
            request_timeout: settings.request_timeout,
        })
    }

    /// Waits until its files have changed, and their new content is in use; broken files are
    /// reported, and the old content stays.
    ///
    /// # Cancel safety
    /// Safe: it changes whole or not at all.
    pub(in crate::token) async fn renewed(&self) {
        loop {
            self.route.changed().await;
            if self.renew() {
                return;
            }
        }
    }

    /// Uses its files as they are now. Says whether they have changed, and are good.
    pub(in crate::token) fn renew(&self) -> bool {
        self.route.renew() == Some(true)
    }

    /// Sends a request and reads its response. A redirect is a response like any other: to follow it
    /// would carry the credential to a host that nobody configured.
    pub(in crate::token) async fn post(
        &self,
        fields: HeaderMap,
        body: Bytes,
    ) -> Result<CallResponse, FetchError> {
        self.call(Method::POST, fields, body).await
    }

    /// The same for what anybody may read.
    pub(in crate::token) async fn get(
        &self,
        fields: HeaderMap,
    ) -> Result<CallResponse, FetchError> {
        self.call(Method::GET, fields, Bytes::new()).await
    }

    async fn call(
        &self,
        method: Method,
        fields: HeaderMap,
        body: Bytes,
    ) -> Result<CallResponse, FetchError> {
        let late = |_| Err(FetchError::new(Reason::Timeout, "no response in time"));
        timeout(self.request_timeout, self.exchange(method, fields, body))
            .await
            .unwrap_or_else(late)
    }

    async fn exchange(
        &self,
        method: Method,
        fields: HeaderMap,
        body: Bytes,
    ) -> Result<CallResponse, FetchError> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.target.as_str())
            .header(HOST, &self.host)
            .header(USER_AGENT, outbound::USER_AGENT)
            .body(Full::new(body))
            .map_err(|_| FetchError::new(Reason::Network, "the address is no target"))?;
        request.headers_mut().extend(fields);
        let stream = self.route.connect(&[]).await.map_err(unreachable)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await;
            let (head, body) = response.map_err(|error| broken(&error))?.into_parts();
            let body = decoded(&head.headers, read(body).await?, MAX_RESPONSE_BYTES)?;
            Ok(CallResponse {
                status: head.status,
                fields: head.headers,
                body,
            })
        };
        outbound::over(connection, exchange).await
    }
}

/// A larger response holds no token.
const MAX_RESPONSE_BYTES: usize = 256 * 1024;

async fn read(mut from: Incoming) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(frame) = from.frame().await {
        let frame = frame.map_err(|error| {
            let what = || format!("the response broke off{}", root_cause(&error));
            refuses_client(&error)
                .map_or_else(|| FetchError::new(Reason::BadResponse, what()), refused)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if body.len() + data.len() > MAX_RESPONSE_BYTES {
            return Err(FetchError::new(
                Reason::BadResponse,
                "the response is larger than 256 KiB",
            ));
        }
        body.extend_from_slice(&data);
    }
    Ok(body)
}

fn unreachable(error: RouteError) -> FetchError {
    let network = |detail| FetchError::new(Reason::Network, detail);
    match error {
        RouteError::Timeout => FetchError::new(
            Reason::Timeout,
            "no response in time (connecting takes too long)",
        ),
        RouteError::Tls(HandshakeError::Client(why)) => refused(why),
        RouteError::Tls(HandshakeError::Certificate(why)) => network(format!(
            "cannot connect (the certificate is not trusted: {why})"
        )),
        RouteError::ProxyCredentials(why) => network(format!("{PROXY_REFUSES} ({why})")),
        RouteError::Connect(why) => network(format!("cannot connect ({why})")),
        other => network(format!("cannot connect ({other})")),
    }
}

/// What is said of a proxy that does not accept our credentials, or has got none.
pub(crate) const PROXY_REFUSES: &str = "the proxy on the way responds with 407";

fn refused(why: &str) -> FetchError {
    FetchError::new(Reason::InvalidClient, format!("cannot connect ({why})"))
}

/// An exchange that ended before its response. With TLS 1.3 a refusal of our certificate arrives only
/// after the handshake, when the response is read.
fn broken(error: &hyper::Error) -> FetchError {
    let failed = || {
        let what = format!("the exchange failed{}", root_cause(error));
        FetchError::new(Reason::Network, what)
    };
    refuses_client(error).map_or_else(failed, refused)
}

/// The innermost cause: what the operating system or the TLS library said.
fn root_cause(error: &hyper::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    format!(" ({cause})")
}
