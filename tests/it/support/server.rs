//! What the fakes stand on: a server on its own thread that can do anything to a connection, and fails its test when dropped.

use std::{
    fmt,
    future::Future,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::server::WebPkiClientVerifier;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Body, lock,
    pki::{Authority, Leaf},
};

/// A TCP server on a thread and a runtime of its own, so that neither a busy nor a paused test touches it.
///
/// Dropping it closes every connection, and fails the test when a handler panicked or recorded a failure.
pub struct RawServer {
    address: SocketAddr,
    connections: Connections,
    failures: Failures,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RawServer {
    /// `handler` gets the number of the connection, from 0, and its stream.
    pub fn start<F, H>(handler: H) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        H: FnMut(usize, TcpStream) -> F + Send + 'static,
    {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Failures::default(), handler)
    }

    /// Also gets the address, for a server that comes back, and where its failures go.
    pub fn start_at<F, H>(address: SocketAddr, failures: Failures, handler: H) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        H: FnMut(usize, TcpStream) -> F + Send + 'static,
    {
        // The standard library sets SO_REUSEADDR, so the address of a stopped server can be taken again.
        let listener = StdListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections::default();
        let (stop, stopped) = oneshot::channel();
        let accepting = accept(
            listener,
            handler,
            connections.clone(),
            failures.clone(),
            stopped,
        );
        let thread = std::thread::Builder::new()
            .name(format!("fake-{}", address.port()))
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(accepting);
            })
            .unwrap();
        Self {
            address,
            connections,
            failures,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.accepted.load(Ordering::SeqCst)
    }

    /// How many of them are still open.
    pub fn open_connections(&self) -> usize {
        self.connections.open.get()
    }

    /// Closes the listener and every connection; from then on the address refuses.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            self.failures.record("the server itself panicked");
        }
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.stop();
        let failures = std::mem::take(&mut *lock(&self.failures.0));
        if !std::thread::panicking() {
            assert!(failures.is_empty(), "{}", failures.join("\n"));
        }
    }
}

impl fmt::Debug for RawServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawServer").field(&self.address).finish()
    }
}

async fn accept<F, H>(
    listener: StdListener,
    mut handler: H,
    connections: Connections,
    failures: Failures,
    mut stopped: oneshot::Receiver<()>,
) where
    F: Future<Output = ()> + Send + 'static,
    H: FnMut(usize, TcpStream) -> F,
{
    let listener = TcpListener::from_std(listener).unwrap();
    let mut handlers = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(done) = handlers.join_next() => failures.take_panic(done),
            _ = &mut stopped => break,
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                let index = connections.accepted.fetch_add(1, Ordering::SeqCst);
                let open = connections.open.enter();
                let handling = handler(index, stream);
                handlers.spawn(async move {
                    handling.await;
                    drop(open);
                });
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Connections {
    accepted: Arc<AtomicUsize>,
    open: Gauge,
}

/// How many of something there are now, and were at most at once.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    pub fn enter(&self) -> Entered {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Entered(self.clone())
    }

    pub fn get(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub fn max(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// Counts in a [`Gauge`] until dropped.
#[derive(Debug)]
pub struct Entered(Gauge);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returned by the handler of a fake to close the connection instead of answering.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

/// Speaks HTTP/1.1, or HTTP/2 to who begins with that, on a connection of a [`RawServer`] until it
/// ends.
pub async fn serve_http<F>(
    stream: TcpStream,
    tls: Option<Tls>,
    handler: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Result<Response<Body>, Closed>> + Send + 'static,
{
    let http = auto::Builder::new(TokioExecutor::new());
    let service = service_fn(handler);
    // How a connection ends is the business of the test, which sees the other end of it.
    if let Some(tls) = tls {
        if let Ok(stream) = tls.acceptor.accept(stream).await {
            drop(http.serve_connection(TokioIo::new(stream), service).await);
        }
    } else {
        drop(http.serve_connection(TokioIo::new(stream), service).await);
    }
}

/// What a fake saw that must fail the test when the fake is dropped.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Mutex<Vec<String>>>);

impl Failures {
    pub fn record(&self, failure: impl Into<String>) {
        lock(&self.0).push(failure.into());
    }

    fn take_panic(&self, done: Result<(), tokio::task::JoinError>) {
        let Err(error) = done else { return };
        if let Ok(panic) = error.try_into_panic() {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            self.record(format!("a fake panicked: {}", message.unwrap_or("?")));
        }
    }
}

/// The TLS of a fake.
#[derive(Clone)]
pub struct Tls {
    pub acceptor: TlsAcceptor,
    pub ca_pem: String,
}

impl Tls {
    /// A certificate for `localhost` and 127.0.0.1, from an authority that exists for one test. It
    /// chooses the first of both versions of HTTP that the client offers.
    pub fn new() -> Self {
        Self::speaking(&["h2", "http/1.1"])
    }

    /// The same with these protocols.
    pub fn speaking(protocols: &[&str]) -> Self {
        let authority = Authority::new();
        Self::of(&authority, &authority.leaf(), |builder| {
            (builder.with_no_client_auth(), protocols)
        })
    }

    /// The same, by somebody who speaks TLS 1.2 and nothing newer.
    pub fn only_1_2() -> Self {
        let authority = Authority::new();
        Self::of(&authority, &authority.leaf(), |_| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS12])
                .unwrap();
            (config.with_no_client_auth(), &[])
        })
    }

    /// With this certificate of an authority, and for clients that have one of the other.
    pub fn with(authority: &Authority, leaf: &Leaf, clients: Option<&Authority>) -> Self {
        Self::of(authority, leaf, |config| {
            let config = match clients {
                None => config.with_no_client_auth(),
                Some(clients) => {
                    let provider = Arc::clone(config.crypto_provider());
                    let roots = Arc::new(clients.roots());
                    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                    config.with_client_cert_verifier(verifier.build().unwrap())
                }
            };
            (config, &["h2", "http/1.1"])
        })
    }

    /// Showing this certificate, for whose clients that file of authorities is good. The key need not
    /// be the certificate's.
    pub fn showing(certificate: &Leaf, key: &Leaf, ca_pem: &str) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let ((chain, _), (_, key)) = (certificate.der(), key.der());
        let key = provider.key_provider.load_private_key(key).unwrap();
        let pair = rustls::sign::CertifiedKey::new(chain, key);
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
        Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            ca_pem: ca_pem.to_owned(),
        }
    }

    fn of<'a>(
        authority: &Authority,
        leaf: &Leaf,
        decide: impl FnOnce(Verifying) -> (Certified, &'a [&'a str]),
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let (config, protocols) = decide(config);
        let (chain, key) = leaf.der();
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            ca_pem: authority.ca_pem.clone(),
        }
    }
}

/// A configuration that knows its versions, and one that also knows its clients.
type Verifying = rustls::ConfigBuilder<rustls::ServerConfig, rustls::WantsVerifier>;
type Certified = rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
