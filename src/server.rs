//! Listening: accepts connections within a bound, serves HTTP on each, and drains them when asked.
//!
//! The server knows nothing of tokens or upstreams: what to respond is a parameter, and so is the
//! moment to stop.

mod address;
mod exchange;
mod http1;
mod http2;
mod inherited;
mod listener;
mod pace;
mod peers;
mod roster;
mod shutdown;
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
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::exchange::{ask_for_body, respond, unless_gone};
pub use self::{
    address::{Address, FoundSocket, PassedAddress},
    exchange::Exchange,
    inherited::{InheritError, Inherited, Passed, Socket},
    listener::Listener,
    peers::Peers,
    roster::{AbortReason, AbortState, Pass, Seat},
    shutdown::Shutdown,
    stream::{Node, Peer, Stream},
    tls::{TlsFiles, TlsInUse, TlsSettings},
};
use self::{
    listener::{Arrival, Welcome},
    pace::Pace,
    roster::{Reviews, Roster},
};
use crate::{
    descriptors,
    message::{Flaw, RequestHead},
};

/// The bounds of the connections of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSettings {
    /// Connections at the same time, over all listeners.
    pub max_connections: usize,
    /// Time for a request's head, from its first byte.
    pub header_read_timeout: Duration,
    /// Time without a request, after which a connection is closed.
    pub keep_alive_timeout: Duration,
    /// Time without a byte of a request's body, or without room for a byte of the response.
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
    /// Clients that are refused because there are too many.
    refused: Arc<AtomicUsize>,
    warnings: Warnings,
    /// Notified of each change of the rules by which connections are let in.
    reviews: watch::Sender<()>,
    /// Whether a newcomer takes the place of the oldest when there are too many.
    gives_way: bool,
}

/// How often it is logged that somebody cannot be served, or may not be.
#[derive(Clone, Debug, Default)]
struct Warnings {
    accept: Pace,
    peers: Pace,
    certificates: Pace,
}

impl Connections {
    /// Connections of which the oldest gives way when there are too many: for a listener that serves
    /// each request at once, so that what is old is idle.
    #[must_use]
    pub fn giving_way() -> Self {
        Self {
            gives_way: true,
            ..Self::default()
        }
    }

    /// Has all connections reviewed: ends those that would not be let in any more. To be called
    /// when new rules are in use.
    pub fn review(&self) {
        self.reviews.send_replace(());
    }

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

    /// Enters in the place of one that is about to leave.
    fn replace(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is done with the connections of a listener.
pub trait Protocol: Clone + Send + Sync + 'static {
    /// Serves a connection to its end; once `shutdown` has begun, to the end of what has begun.
    fn serve(
        self,
        stream: Stream,
        peer: Peer,
        settings: Arc<ServerSettings>,
        shutdown: Shutdown,
        seat: Seat,
    ) -> impl Future<Output = ()> + Send;

    /// Whether a request that was let in by this would be let in now too.
    fn admits(&self, _pass: Pass) -> bool {
        true
    }

    /// The response to a client whose connection is refused, with the reason.
    fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes>;
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

    /// Whether a request that was let in by this would be let in now too.
    fn admits(&self, pass: Pass) -> bool;

    /// The response to a client whose request is not handled, with the reason.
    fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes>;
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
        shutdown: Shutdown,
        seat: Seat,
    ) {
        http1::serve(stream, peer, &settings, self.0, &shutdown, &seat).await;
    }

    fn admits(&self, pass: Pass) -> bool {
        self.0.admits(pass)
    }

    fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes> {
        self.0.refuse(refusal, peer)
    }
}

/// Why a connection ends before a request could be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are too many connections.
    #[error("too many connections")]
    NoRoom,
    /// There are too few file descriptors left.
    #[error("no file descriptors left")]
    NoDescriptors,
    /// There are too many requests that wait with the beginning of a body.
    #[error("no room for what may come of a body")]
    NoRoomForBody,
    /// The process at the other end of the unix socket may not use it.
    #[error("a user who may not use the socket")]
    Peer,
    /// The client sent plain HTTP to a port with TLS.
    #[error("plain HTTP at a port with TLS")]
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

/// Serves one listener until `shutdown` begins, then gives the open connections the drain time and ends those that
/// are left. A connection keeps the settings of its beginning.
///
/// # Cancel safety
/// Dropping it closes the listener and leaves the connections to their end.
pub async fn serve<P: Protocol>(
    listener: Listener,
    settings: Arc<ArcSwap<ServerSettings>>,
    connections: Connections,
    protocol: P,
    shutdown: Shutdown,
) {
    let shutdown = shutdown.child();
    let open = TaskTracker::new();
    let over = CancellationToken::new();
    let roster = Roster::default();
    let mut reviews = Reviews::new(&connections, &listener);
    loop {
        let accepted = tokio::select! {
            () = shutdown.begun() => break,
            () = reviews.due() => {
                reviews.review(&roster, &settings.load(), &protocol);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(arrival) => {
                let settings = settings.load_full();
                let room = Room {
                    connections: &connections,
                    roster: &roster,
                    open: &open,
                    over: &over,
                };
                accept(arrival, settings, &room, &protocol, &shutdown);
            }
            // Out of file descriptors, most often. Asking again at once would be a busy loop.
            Err(error) => {
                if let Some(unsaid) = connections.warnings.accept.due() {
                    let remedy = descriptors::are_exhausted(&error).then_some(
                        "raise the limit of open files (LimitNOFILE, ulimit -n), or lower \
                         listen.max_connections: a connection takes two",
                    );
                    tracing::warn!(%error, unsaid, remedy, "cannot accept a connection");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    open.close();
    let drained = async {
        loop {
            tokio::select! {
                () = open.wait() => return,
                () = reviews.due() => reviews.review(&roster, &settings.load(), &protocol),
            }
        }
    };
    let time_limit = settings.load().drain_timeout;
    if tokio::time::timeout(time_limit, drained).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "the drain time is over; closing what is still open"
        );
        roster.end_all();
        over.cancel();
        // Whoever gives a listener up relies on nobody being served behind it. What was ended is gone
        // as soon as its thread gets to it, which a file that hangs may keep it from.
        if tokio::time::timeout(END, open.wait()).await.is_err() {
            tracing::error!(connections = open.len(), "connections do not end");
        }
    }
}

/// The places of a listener, for a client that has arrived.
struct Room<'a> {
    connections: &'a Connections,
    roster: &'a Roster,
    open: &'a TaskTracker,
    /// Ends the connections of refused clients, once the drain time is over.
    over: &'a CancellationToken,
}

impl Room<'_> {
    /// A place among those that are served.
    fn enter(&self, limit: usize) -> Option<Entered> {
        let served = &self.connections.served;
        Entered::enter(served, limit).or_else(|| {
            let is_free = self.connections.gives_way && self.roster.end_oldest();
            is_free.then(|| Entered::replace(served))
        })
    }
}

/// How many clients may be refused at the same time, which takes a response.
const MAX_REFUSED: usize = 256;
/// The same while they take what is kept for operators.
const MAX_REFUSED_FOR_DESCRIPTORS: usize = 4;

/// How long it takes at most until connections that are ended are gone.
pub(crate) const END: Duration = Duration::from_secs(1);

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

fn accept<P: Protocol>(
    arrival: Arrival,
    settings: Arc<ServerSettings>,
    room: &Room<'_>,
    protocol: &P,
    shutdown: &Shutdown,
) {
    let time_limit = settings.header_read_timeout;
    let Room {
        connections,
        open,
        over,
        ..
    } = room;
    let warnings = &connections.warnings;
    // Looked at first: whoever may not be here must not take the room of those who may.
    let entered = if !arrival.is_admitted(&settings.peers, &warnings.peers) {
        Err(Refusal::Peer)
    } else if !connections.gives_way && !arrival.leaves_descriptors() {
        Err(Refusal::NoDescriptors)
    } else {
        room.enter(settings.max_connections).ok_or(Refusal::NoRoom)
    };
    let entered = match entered {
        Ok(entered) => entered,
        Err(refusal) => {
            let response = protocol.refuse(refusal, &arrival.peer());
            // A refusal takes a moment and a file descriptor, so there is a bound too.
            let most = match refusal {
                Refusal::NoDescriptors => MAX_REFUSED_FOR_DESCRIPTORS,
                _ => MAX_REFUSED,
            };
            if let Some(entered) = Entered::enter(&connections.refused, most) {
                let certificates = warnings.certificates.clone();
                let refused = async move {
                    if let Welcome::In(stream, _) | Welcome::Refused(stream, ..) =
                        arrival.welcome(time_limit, &certificates).await
                    {
                        http1::refuse(stream, &settings, response).await;
                    }
                    drop(entered);
                };
                let over = (*over).clone();
                open.spawn(async move { over.run_until_cancelled(refused).await });
            }
            return;
        }
    };
    let protocol = protocol.clone();
    let shutdown = shutdown.clone();
    let certificates = warnings.certificates.clone();
    let seat = room.roster.enter(arrival.user());
    let member = Arc::clone(seat.member());
    let served = open.spawn(async move {
        match arrival.welcome(time_limit, &certificates).await {
            Welcome::In(stream, peer) => {
                if peer.is_tls {
                    seat.member().set_certificates(stream.certificates());
                }
                protocol.serve(stream, peer, settings, shutdown, seat).await;
            }
            Welcome::Refused(stream, peer, refusal) => {
                http1::refuse(stream, &settings, protocol.refuse(refusal, &peer)).await;
            }
            Welcome::Gone => {}
        }
        drop(entered);
    });
    member.set_task(served.abort_handle());
}
