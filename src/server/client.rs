//! What is known of one client: what is waited for, since when, and what is to become of its
//! connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Peer, Refusal, ServerSettings};

/// What a connection waits for, and since when; with HTTP/2, what one of its streams does.
///
/// One timer a connection looks at it when it fires, and not at each request: a request costs
/// a store or two here, and no timer.
pub struct ClientState {
    peer: Peer,
    epoch: Instant,
    /// The phase in the two lowest bits, above them the milliseconds since `epoch`.
    phase: AtomicU64,
    /// Whether the client has yet to take a part of an answer.
    pub(super) unsent: AtomicBool,
    /// Whether the answer to the request that is handled has begun.
    pub(super) answering: AtomicBool,
    /// Whether that answer is the last one, so that no refusal may follow it.
    pub(super) is_last: AtomicBool,
    /// What of an exchange is still open: the request's body, the answer.
    parts: AtomicU8,
    /// Whether a part of the next head is here already.
    pub(super) has_partial_head: AtomicBool,
    /// Whether nothing of a message is here whose end is not.
    pub(super) is_between_messages: AtomicBool,
    /// How many heads have arrived, and how many requests were begun.
    pub(super) heads: AtomicU32,
    requests: AtomicU32,
    /// The answer that the message earns at which reading has stopped.
    pub(super) refusal: OnceLock<Refusal>,
    /// Whether it is one stream of several: its two directions do not wait for each other.
    is_stream: bool,
    /// Whether the connection began with the preface of HTTP/2.
    is_http2: AtomicBool,
    /// What the connection is for once its codec has let go of it.
    tunnel: Mutex<Option<Tunnel>>,
    /// Whether it is for that: what arrives is no request then.
    is_tunnel: AtomicBool,
}

impl fmt::Debug for ClientState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientState")
            .field("phase", &self.load().0)
            .finish_non_exhaustive()
    }
}

/// Work on a connection that is no longer HTTP.
pub type Tunnel = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What we wait for the client to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// To begin a request.
    Idle = 0,
    /// To end the head of its request.
    Head = 1,
    /// Nothing: its request is being handled.
    Busy = 2,
    /// To send or to take a part of a body.
    Body = 3,
}

impl ClientState {
    /// A connection, before its first byte.
    pub(super) fn new(peer: Peer) -> Self {
        Self::with(peer, false)
    }

    /// A stream of this connection.
    pub(super) fn stream(&self) -> Self {
        Self::with(self.peer, true)
    }

    fn with(peer: Peer, is_stream: bool) -> Self {
        Self {
            peer,
            epoch: Instant::now(),
            phase: AtomicU64::new(0),
            unsent: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            is_last: AtomicBool::new(false),
            parts: AtomicU8::new(0),
            has_partial_head: AtomicBool::new(false),
            is_between_messages: AtomicBool::new(true),
            heads: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            refusal: OnceLock::new(),
            is_stream,
            is_http2: AtomicBool::new(false),
            tunnel: Mutex::default(),
            is_tunnel: AtomicBool::new(false),
        }
    }

    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// A request's head is complete: it is our turn.
    pub(super) fn begin(&self, has_body: bool) {
        self.answering.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.parts.store(1 + u8::from(has_body), Ordering::Relaxed);
        self.busy();
    }

    pub(super) fn busy(&self) {
        // No time is needed: nothing is due while we are busy ourselves.
        self.phase.store(Phase::Busy as u64, Ordering::Relaxed);
    }

    /// Gives the connection to something else once the answer is sent.
    pub fn tunnel(&self, tunnel: Tunnel) {
        self.is_tunnel.store(true, Ordering::Relaxed);
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// Whether something has arrived behind the request that is handled.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        self.is_refused()
            || self.has_partial_head.load(Ordering::Relaxed)
            || self.has_requests_waiting()
    }

    /// Whether there are heads whose requests are yet to be begun.
    fn has_requests_waiting(&self) -> bool {
        self.heads.load(Ordering::Relaxed) != self.requests.load(Ordering::Relaxed)
    }

    /// Whether reading has stopped at something that is no request.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.get().is_some()
    }

    /// The codec of HTTP/1 is done with the connection: it is one with HTTP/2.
    pub(super) fn greet(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Ordering::Relaxed)
    }

    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The request's body or the answer is over; with the second of the two, the exchange is.
    pub fn part_over(&self) {
        let before = self.parts.fetch_sub(1, Ordering::Relaxed);
        if before > 1 {
            return;
        }
        self.enter(if self.has_partial_head.load(Ordering::Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        });
    }

    /// Whether a client that is given up has a request that was not answered at all.
    pub(super) fn is_owed_an_answer(&self, phase: Phase) -> bool {
        match phase {
            Phase::Head => true,
            Phase::Body => !self.answering.load(Ordering::Relaxed),
            Phase::Idle | Phase::Busy => false,
        }
    }

    /// Whether it is one stream of several.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// The client has to send a part of its request's body.
    ///
    /// Not so on a stream of HTTP/2: a call with two directions (gRPC) may be silent in the one for
    /// as long as it pleases. What it may cost is bound by the time for the answer.
    pub fn waits_for_upload(&self) {
        if !self.is_stream {
            self.waits_for_body();
        }
    }

    /// It did.
    pub fn upload_moved(&self) {
        if !self.is_stream {
            self.body_moved();
        }
    }

    /// Whether the answer to its request has begun.
    pub(super) fn is_answered(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// The client has to send or to take a part of a body.
    pub(super) fn waits_for_body(&self) {
        if self.load().0 == Phase::Busy {
            self.enter(Phase::Body);
        }
    }

    /// It did.
    pub(super) fn body_moved(&self) {
        if self.load().0 == Phase::Body {
            self.busy();
        }
    }

    /// Whether all is answered that came before reading stopped.
    pub(super) fn is_refusal_due(&self) -> bool {
        let (phase, _) = self.load();
        let is_between_requests = matches!(phase, Phase::Idle | Phase::Head);
        let is_over = self.is_last.load(Ordering::Relaxed) || !self.has_requests_waiting();
        self.is_refused() && is_between_requests && is_over && !self.unsent.load(Ordering::Relaxed)
    }

    /// Whether the codec has nothing left to do, nor to remember.
    pub(super) fn is_at_rest(&self) -> bool {
        self.load().0 == Phase::Idle
            // The rest of a body that nobody wants belongs to the codec.
            && self.is_between_messages.load(Ordering::Relaxed)
            && !self.has_requests_waiting()
            && !self.unsent.load(Ordering::Relaxed)
            && !self.is_last.load(Ordering::Relaxed)
            && !self.is_refused()
    }

    /// The refusal, unless the last answer is given.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let refusal = self.refusal.get().copied();
        refusal.filter(|_| !self.is_last.load(Ordering::Relaxed))
    }

    pub(super) fn received(&self) {
        if self.load().0 == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.phase
            .store((now << 2) | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> (Phase, Instant) {
        let word = self.phase.load(Ordering::Relaxed);
        let phase = match word & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Body,
        };
        (phase, self.epoch + Duration::from_millis(word >> 2))
    }

    /// When the patience ends, and what the client owes us then.
    pub(super) fn deadline(&self, settings: &ServerSettings) -> (Instant, Phase) {
        let (phase, since) = self.load();
        let patience = match phase {
            Phase::Idle => settings.keep_alive_timeout,
            Phase::Head => settings.header_read_timeout,
            Phase::Body => settings.body_idle_timeout,
            Phase::Busy => return (Instant::now() + settings.longest_nap(), phase),
        };
        (since + patience, phase)
    }
}

impl ServerSettings {
    /// How long the timer may sleep while nothing is due, without missing what begins meanwhile.
    pub(super) fn longest_nap(&self) -> Duration {
        self.header_read_timeout
            .min(self.keep_alive_timeout)
            .min(self.body_idle_timeout)
    }
}
