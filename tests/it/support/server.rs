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
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{Body, lock};

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

/// A certificate for `localhost` and 127.0.0.1, from an authority that exists for one test.
#[derive(Clone)]
pub struct Tls {
    pub acceptor: TlsAcceptor,
    pub ca_pem: String,
}

impl Tls {
    /// One that chooses the first of both versions of HTTP that the client offers.
    pub fn new() -> Self {
        Self::speaking(&["h2", "http/1.1"])
    }

    pub fn speaking(protocols: &[&str]) -> Self {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);

        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            ca_pem,
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
