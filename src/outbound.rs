//! The ways out: a stream of bytes to one other side, the same on the token leg and on the upstream leg.
//!
//! ```text
//!   name lookup ─► TCP to whichever address accepts first ─► TLS with the other side
//!                   └► where a proxy is on the way: TLS with it, CONNECT ─┘
//! ```
//!
//! Both legs differ only in what they say over the stream, so whatever is decided here (which proxy,
//! which address, whom to trust) is decided alike for both.

mod dial;
mod lookup;
mod no_proxy;
mod proxy;
mod stream;
mod tunnel;

use std::{
    future::{Future, pending},
    path::PathBuf,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;
use url::Url;

use self::{dial::Dialer, tunnel::Detour};
pub use self::{no_proxy::NoProxy, proxy::OutboundProxy, stream::Stream};
use crate::{
    secret::{Fingerprint, changed, warn_of_quotes},
    tls::{HandshakeError, Leg, TlsClient, TlsError, TlsSettings},
};

/// Who we say we are, to the token service and to proxies.
pub const USER_AGENT: &str = concat!("auth-sidecar/", env!("CARGO_PKG_VERSION"));

/// The way to one other side. It goes nowhere until it is asked to.
#[derive(Debug)]
pub struct Route {
    /// The name or address, as the system's resolver takes it.
    host: String,
    port: u16,
    dialer: Dialer,
    detour: Option<Detour>,
    tls: Option<TlsClient>,
    timeout: Duration,
    password: Password,
}

/// The file of the proxy's password, where it has one, and how it looked when it was read last.
#[derive(Debug)]
struct Password {
    files: Vec<PathBuf>,
    seen: Mutex<Fingerprint>,
}

/// Why there is no stream. Names hosts and files; quotes no address, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The name has no address.
    #[error("cannot resolve it: {0}")]
    Dns(String),
    /// Nothing takes connections there.
    #[error("cannot connect to it: {0}")]
    Connect(String),
    /// There is no file descriptor for it.
    #[error("the sidecar has no file descriptor left for it")]
    NoDescriptors,
    /// Connecting takes longer than it may.
    #[error("connecting to it takes too long")]
    Timeout,
    /// The proxy on the way does not lead there.
    #[error("the proxy on the way fails: {0}")]
    Proxy(String),
    /// The proxy on the way wants credentials, or others.
    #[error("the proxy on the way fails: {0} (407 to CONNECT)")]
    ProxyCredentials(&'static str),
    /// TLS with the other side failed.
    #[error(transparent)]
    Tls(#[from] HandshakeError),
}

/// Why there is no way at all.
#[derive(Debug, thiserror::Error)]
pub enum UnusableRoute {
    /// The trust store, or the client certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("its address cannot be used: {0}")]
    Address(&'static str),
}

impl Route {
    /// Finds out the way to the scheme, host and port of `target`.
    ///
    /// # Errors
    /// When the address or a file cannot be used.
    pub fn new(
        leg: Leg,
        target: &Url,
        proxy: Option<&OutboundProxy>,
        tls: &TlsSettings,
        timeout: Duration,
    ) -> Result<Self, UnusableRoute> {
        let (host, port) = place(target)?;
        let proxy = proxy.filter(|proxy| proxy.is_for(target));
        let detour = proxy.map(|proxy| Detour::new(leg, target, proxy, tls));
        let is_https = target.scheme() == "https";
        let tls = is_https.then(|| TlsClient::new(leg, &host, tls));
        let files: Vec<_> = proxy
            .and_then(|proxy| proxy.password_file.clone())
            .into_iter()
            .collect();
        Ok(Self {
            host,
            port,
            dialer: match leg {
                Leg::Upstream | Leg::UpstreamProxy => Dialer::of_requests(),
                Leg::TokenService | Leg::TokenServiceProxy | Leg::Collector => Dialer::of_the_few(),
            },
            detour: detour.transpose()?,
            tls: tls.transpose()?,
            timeout,
            password: Password {
                seen: Mutex::new(Fingerprint::of(&files)),
                files,
            },
        })
    }

    /// Whether the connection to the other side is by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// How often the certificates of the way have changed. Taken before a connection is made, the
    /// number shows later whether the connection was made with those of now.
    #[must_use]
    pub fn generation(&self) -> usize {
        self.certificates().map(TlsClient::generation).sum()
    }

    /// A new stream to the other side. `offered` are the protocols that it may choose from
    /// (RFC 7301), where the connection is by TLS.
    ///
    /// # Errors
    /// There is none within the time for a connection.
    ///
    /// # Cancel safety
    /// Dropping it closes whatever was begun.
    pub async fn connect(&self, offered: &[&[u8]]) -> Result<Stream, RouteError> {
        self.connect_and(offered, async |stream| Ok(stream)).await
    }

    /// The same, with more to be done in the same time.
    ///
    /// # Errors
    /// As [`Route::connect`], and as what is done.
    ///
    /// # Cancel safety
    /// Dropping it closes whatever was begun.
    pub async fn connect_and<T, E: From<RouteError>>(
        &self,
        offered: &[&[u8]],
        then: impl AsyncFnOnce(Stream) -> Result<T, E>,
    ) -> Result<T, E> {
        let connected = timeout(self.timeout, async {
            then(self.secured(offered).await?).await
        });
        connected
            .await
            .unwrap_or_else(|_| Err(RouteError::Timeout.into()))
    }

    async fn secured(&self, offered: &[&[u8]]) -> Result<Stream, RouteError> {
        let stream = match &self.detour {
            None => Stream::Tcp(self.dialer.connect(&self.host, self.port).await?),
            Some(detour) => detour.connect(&self.dialer).await?,
        };
        let Some(tls) = &self.tls else {
            return Ok(stream);
        };
        Ok(match stream {
            Stream::Tcp(stream) => Stream::Tls(Box::new(tls.connect(stream, offered).await?)),
            Stream::Tls(stream) => Stream::TlsInTls(Box::new(tls.connect(stream, offered).await?)),
            // There is no third one on any way.
            Stream::TlsInTls(_) => {
                return Err(RouteError::Proxy(
                    "TLS through it has two layers already".to_owned(),
                ));
            }
        })
    }

    /// Waits until a file of the way looks other than when it was read; for ever where there are none.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn changed(&self) {
        let follow = async |tls: Option<&TlsClient>| match tls {
            Some(tls) => tls.changed().await,
            None => pending().await,
        };
        let seen = self.password.seen().clone();
        tokio::select! {
            () = follow(self.tls.as_ref()) => {}
            () = follow(self.detour.as_ref().and_then(Detour::tls)) => {}
            () = changed(&self.password.files, &seen) => {}
        }
    }

    /// Uses the files of the way as they are now: `None` where none has changed, otherwise whether
    /// all that have can be used. What cannot be used is reported, and the old content stays.
    pub fn renew(&self) -> Option<bool> {
        let of_certificates = self.certificates().filter_map(TlsClient::renew);
        let changed = of_certificates.chain(self.password.renew());
        changed.reduce(|all, one| all && one)
    }

    /// Uses changed files for new connections; for ever. `renewed` is called at each change,
    /// with whether it could be used.
    pub async fn follow_files(&self, renewed: impl Fn(bool)) {
        loop {
            self.changed().await;
            if let Some(is_good) = self.renew() {
                renewed(is_good);
            }
        }
    }

    fn certificates(&self) -> impl Iterator<Item = &TlsClient> {
        let of_proxy = self.detour.as_ref().and_then(Detour::tls);
        self.tls.iter().chain(of_proxy)
    }
}

impl Password {
    fn seen(&self) -> std::sync::MutexGuard<'_, Fingerprint> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file is read for each tunnel; what is to be done here is to see how it looks now.
    fn renew(&self) -> Option<bool> {
        let now = Fingerprint::of(&self.files);
        let mut seen = self.seen();
        if *seen == now {
            return None;
        }
        *seen = now;
        warn_of_quotes(&self.files);
        Some(true)
    }
}

/// Host and port of an address. The resolver and TLS know no brackets around an IPv6 address.
fn place(url: &Url) -> Result<(String, u16), UnusableRoute> {
    let host = url
        .host_str()
        .ok_or(UnusableRoute::Address("it has no host"))?;
    let port = url.port_or_known_default();
    let port = port.ok_or(UnusableRoute::Address("it has no port"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

/// Carries out one exchange over a connection of a library, which works only while it is polled. A response
/// that ends its connection is a response: the exchange gets what the connection has read. `connection` drops
/// what it has of the library when it is over, as an async block does.
///
/// # Cancel safety
/// Dropped, it drops both.
pub(crate) async fn over<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        exchanged = &mut exchange => exchanged,
        // What has ended the connection, the exchange gets too.
        _ = connection => exchange.await,
    }
}
