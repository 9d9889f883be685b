//! Listening: accepts connections within a bound, serves HTTP on each, and drains them when asked.
//!
//! It knows nothing of tokens or upstreams: what to answer is a parameter, and so is the moment
//! to stop.

mod address;
mod exchange;
mod http1;
mod http2;
mod inherited;
mod listener;
mod pace;
mod peers;
mod stream;
mod tls;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::exchange::{respond, unless_gone};
pub use self::{
    address::{Address, FoundSocket, PassedAddress},
    exchange::Exchange,
    inherited::{InheritError, Inherited, Passed, Socket},
    listener::Listener,
    peers::Peers,
    stream::{Node, Peer, Stream},
    tls::{TlsFiles, TlsInUse, TlsSettings},
};
use self::{
    listener::{Arrival, Welcome},
    pace::Pace,
};
use crate::message::{Flaw, RequestHead};

/// The bounds of the connections of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// Connections at the same time, over all listeners.
    pub max_connections: usize,
    /// Time for a request's head, from its first byte.
    pub header_read_timeout: Duration,
    /// Time without a request, after which a connection is closed.
    pub keep_alive_timeout: Duration,
    /// Time without a byte of a request's body, or without room for a byte of the answer.
    pub body_idle_timeout: Duration,
    /// The largest head, in bytes.
    pub max_header_size: usize,
    /// Requests at the same time on one connection with HTTP/2.
    pub max_concurrent_streams: usize,
    /// Time for the requests in flight when the program is asked to stop.
    pub drain_timeout: Duration,
    /// Who may use unix sockets.
    pub peers: Peers,
}

/// How many connections there are, counted over all workers.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    served: Arc<AtomicUsize>,
    /// Those that are told that there are too many.
    told: Arc<AtomicUsize>,
    warnings: Warnings,
}

/// How often it is logged that somebody cannot be served, or may not be.
#[derive(Clone, Debug, Default)]
struct Warnings {
    accept: Pace,
    peers: Pace,
    certificates: Pace,
}

impl Connections {
    /// The number of open connections that are served.
    #[must_use]
    pub fn count(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

/// One of what is counted; leaves when dropped.
#[derive(Debug)]
struct Entered(Arc<AtomicUsize>);

impl Entered {
    fn enter(counter: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let entered = Self(Arc::clone(counter));
        (counter.fetch_add(1, Ordering::Relaxed) < limit).then_some(entered)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is done with the connections of a listener.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// Serves a connection to its end; once `stop` is set, to the end of what has begun.
    fn serve(
        self,
        stream: Stream,
        peer: Peer,
        settings: Arc<ServerSettings>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send;

    /// The response that tells a client why its connection ends.
    fn refuse(&self, refusal: Refusal) -> Response<Bytes>;
}

/// What is done with the requests of a connection, whatever version of HTTP they come in.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Handles one request: reads its body and responds by the exchange.
    fn handle(
        &self,
        request: RequestHead,
        peer: Peer,
        exchange: &mut impl Exchange,
    ) -> impl Future<Output = ()> + Send;

    /// The response that tells a client why its request is not handled.
    fn refuse(&self, refusal: Refusal) -> Response<Bytes>;
}

/// HTTP of both versions, read by layers of our own: that of the data listeners.
#[derive(Debug, Clone)]
pub struct Http<H>(pub H);

impl<H: Handler> Protocol for Http<H> {
    async fn serve(
        self,
        stream: Stream,
        peer: Peer,
        settings: Arc<ServerSettings>,
        stop: CancellationToken,
    ) {
        http1::serve(stream, peer, &settings, self.0, &stop).await;
    }

    fn refuse(&self, refusal: Refusal) -> Response<Bytes> {
        self.0.refuse(refusal)
    }
}

/// Why a connection ends before a request could be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are too many connections.
    #[error("too many connections")]
    NoRoom,
    /// There are too many requests that wait with the beginning of a body.
    #[error("no room for what may come of a body")]
    NoRoomForBody,
    /// The process at the other end of the unix socket may not use it.
    #[error("a user who may not use the socket")]
    Peer,
    /// The client speaks plain HTTP where TLS is spoken.
    #[error("plain HTTP where TLS is spoken")]
    NotTls,
    /// The request did not arrive in time.
    #[error("a request that does not arrive in time")]
    TooSlow,
    /// The request is malformed or can be read in two ways.
    #[error("a malformed request: {0}")]
    Malformed(Flaw),
    /// The request is of another major version of HTTP.
    #[error("another version of HTTP")]
    Version,
    /// The transfer coding is not one plain `chunked`.
    #[error("a transfer coding that is not plain chunked")]
    TransferCoding,
    /// The fields are too many or too large.
    #[error("fields that are too many or too large")]
    HeadTooLarge,
    /// The target is too long.
    #[error("a target that is too long")]
    TargetTooLong,
}

/// Serves one listener until `stop`, then gives the open connections the drain time. A connection
/// keeps the settings of its beginning.
///
/// # Cancel safety
/// Dropping it closes the listener and leaves the connections to their end.
pub async fn serve<P: Protocol>(
    listener: Listener,
    settings: Arc<ArcSwap<ServerSettings>>,
    connections: Connections,
    protocol: P,
    stop: CancellationToken,
) {
    // A token of our own, so that a worker's connections share no lock with those of others.
    let stop = stop.child_token();
    let open = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok(arrival) => {
                let settings = settings.load_full();
                accept(arrival, settings, &connections, &protocol, &stop, &open);
            }
            // Out of file descriptors, most often. Asking again at once would be a busy loop.
            Err(error) => {
                if let Some(unsaid) = connections.warnings.accept.due() {
                    tracing::warn!(%error, unsaid, "cannot accept a connection");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    open.close();
    if tokio::time::timeout(settings.load().drain_timeout, open.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = open.len(),
            "the drain time is over; closing what is still open"
        );
    }
}

/// How many clients may be told at the same time that there are too many.
const MAX_TOLD: usize = 256;

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

fn accept<P: Protocol>(
    arrival: Arrival,
    settings: Arc<ServerSettings>,
    connections: &Connections,
    protocol: &P,
    stop: &CancellationToken,
    open: &TaskTracker,
) {
    let patience = settings.header_read_timeout;
    let warnings = &connections.warnings;
    // Judged first: whoever may not be here must not take the room of those who may.
    let entered = if arrival.is_admitted(&settings.peers, &warnings.peers) {
        Entered::enter(&connections.served, settings.max_connections).ok_or(Refusal::NoRoom)
    } else {
        Err(Refusal::Peer)
    };
    let entered = match entered {
        Ok(entered) => entered,
        Err(refusal) => {
            let response = protocol.refuse(refusal);
            // Telling takes a moment and a file, so it has a bound too.
            if let Some(entered) = Entered::enter(&connections.told, MAX_TOLD) {
                let certificates = warnings.certificates.clone();
                open.spawn(async move {
                    if let Welcome::In(stream, _) | Welcome::Refused(stream, _) =
                        arrival.welcome(patience, &certificates).await
                    {
                        http1::refuse(stream, &settings, response).await;
                    }
                    drop(entered);
                });
            }
            return;
        }
    };
    let protocol = protocol.clone();
    let stop = stop.clone();
    let certificates = warnings.certificates.clone();
    open.spawn(async move {
        match arrival.welcome(patience, &certificates).await {
            Welcome::In(stream, peer) => protocol.serve(stream, peer, settings, stop).await,
            Welcome::Refused(stream, refusal) => {
                http1::refuse(stream, &settings, protocol.refuse(refusal)).await;
            }
            Welcome::Gone => {}
        }
        drop(entered);
    });
}
