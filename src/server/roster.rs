//! Who is in: each connection of a listener, and each stream of one with HTTP/2, with what it was let
//! in by; so that those end who would no longer be let in, and nobody else.
//!
//! The rules change rarely, and connections are many. So no connection listens for a change: the task
//! that accepts them goes through the roster, on the same thread as they, and ends whom it must.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use rustls::pki_types::CertificateDer;
use tokio::{sync::watch, task::AbortHandle};
use tokio_util::sync::CancellationToken;

use super::{
    Connections, Listener, Peers, Protocol, ServerSettings, TlsInUse, peers::User, tls::Terms,
};

/// What a handler has let a request in by. It means something to the handler alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass(u64);

/// No request was let in yet.
const NONE: u64 = 0;

impl Pass {
    /// Nothing was asked for.
    pub const ANYBODY: Self = Self(1);

    /// A credential, by a number that no other has.
    #[must_use]
    pub fn of(number: u64) -> Self {
        Self(number | 1 << 63)
    }
}

impl Default for Pass {
    fn default() -> Self {
        Self::ANYBODY
    }
}

/// Why the server itself aborts what a client has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AbortReason {
    /// The drain time was over.
    DrainTimeout = 1,
    /// The client would not be let in any more.
    Revoked,
}

/// Whether a connection or a stream was aborted, for whoever accounts for what was on it.
#[derive(Debug, Clone)]
pub struct AbortState(Arc<Member>);

/// The roster of one listener and one worker.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    next: u64,
    members: BTreeMap<u64, Arc<Member>>,
}

/// A connection, or a stream of one.
#[derive(Debug)]
pub(super) struct Member {
    /// Who is at the other end of a unix socket.
    user: Option<User>,
    /// What the client has shown in the handshake of TLS.
    tls: OnceLock<Option<Vec<CertificateDer<'static>>>>,
    /// What the last request was let in by.
    pass: AtomicU64,
    /// Why it was aborted, as an [`AbortReason`]; 0 while it was not.
    aborted: AtomicU8,
    /// The connection that a stream is on.
    connection: Option<Arc<Member>>,
    /// The task that serves it, by which it ends at once.
    task: OnceLock<AbortHandle>,
    /// The signal by which it ends once the others on it are done.
    leave: OnceLock<CancellationToken>,
}

/// A place in the roster, for as long as it is kept.
#[derive(Debug)]
pub struct Seat {
    roster: Roster,
    number: u64,
    member: Arc<Member>,
}

/// What decides which members stay.
struct Rules<'a> {
    peers: &'a Peers,
    /// Present where clients' certificates are to be verified again.
    tls: Option<&'a Terms>,
}

impl AbortReason {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::DrainTimeout, Self::Revoked];

    /// Whether this is the word for one of them.
    #[must_use]
    pub fn is_label(label: &str) -> bool {
        Self::ALL.iter().any(|reason| reason.as_str() == label)
    }

    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DrainTimeout => "drain_timeout",
            Self::Revoked => "revoked",
        }
    }
}

impl AbortState {
    /// Why the server has aborted it, if it has.
    #[must_use]
    pub fn reason(&self) -> Option<AbortReason> {
        let own = self.0.aborted();
        own.or_else(|| self.0.connection.as_ref()?.aborted())
    }
}

impl Roster {
    /// Takes in a connection, from this user where it comes by a unix socket.
    pub(super) fn enter(&self, user: Option<User>) -> Seat {
        self.insert(user, None)
    }

    fn insert(&self, user: Option<User>, connection: Option<Arc<Member>>) -> Seat {
        let member = Arc::new(Member {
            user,
            tls: OnceLock::new(),
            pass: AtomicU64::new(NONE),
            aborted: AtomicU8::new(0),
            connection,
            task: OnceLock::new(),
            leave: OnceLock::new(),
        });
        let mut members = self.lock();
        let number = members.next;
        members.next += 1;
        members.members.insert(number, Arc::clone(&member));
        drop(members);
        Seat {
            roster: self.clone(),
            number,
            member,
        }
    }

    /// Ends the members that would not be let in any more.
    fn review(&self, rules: &Rules<'_>, admits: impl Fn(Pass) -> bool) {
        let mut ended = 0;
        for member in self.lock().members.values() {
            if !member.is_welcome(rules) {
                member.abort(Some(AbortReason::Revoked));
                ended += 1;
            } else if !member.pass().is_none_or(&admits) {
                // Streams of others may be on a connection with HTTP/2; each is a member itself.
                match member.leave.get() {
                    Some(leave) => leave.cancel(),
                    None => member.abort(Some(AbortReason::Revoked)),
                }
                ended += 1;
            }
        }
        if ended > 0 {
            tracing::info!(
                ended,
                "ended what clients had open that are no longer let in"
            );
        }
    }

    /// Ends the oldest of all; whether there was one.
    pub(super) fn end_oldest(&self) -> bool {
        let oldest = self.lock().members.pop_first();
        oldest.is_some_and(|(_, member)| {
            member.abort(None);
            true
        })
    }

    /// Ends all members, whose drain time is over.
    pub(super) fn end_all(&self) {
        let members = self.lock();
        let members = members.members.values();
        members.for_each(|member| member.abort(Some(AbortReason::DrainTimeout)));
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        // Nothing is left half done in there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    fn pass(&self) -> Option<Pass> {
        let pass = self.pass.load(Ordering::Relaxed);
        (pass != NONE).then_some(Pass(pass))
    }

    /// Whether its connection would be let in.
    fn is_welcome(&self, rules: &Rules<'_>) -> bool {
        let is_peer = self.user.is_none_or(|user| rules.peers.admit(user));
        // A connection in its handshake is checked at the end of that.
        let shown = rules.tls.zip(self.tls.get());
        is_peer && shown.is_none_or(|(terms, shown)| terms.admit(shown.as_deref()))
    }

    fn aborted(&self) -> Option<AbortReason> {
        let aborted = self.aborted.load(Ordering::Relaxed);
        let mut reasons = AbortReason::ALL.into_iter();
        reasons.find(|reason| *reason as u8 == aborted)
    }

    /// Ends its task, for a reason that whoever accounts for its requests wants to know.
    fn abort(&self, reason: Option<AbortReason>) {
        let reason = reason.map_or(0, |reason| reason as u8);
        self.aborted.store(reason, Ordering::Relaxed);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// Names the task that serves it; to be called once.
    pub(super) fn set_task(&self, task: AbortHandle) {
        self.task.set(task).unwrap_or_default();
    }

    /// Notes what the client has shown in the handshake; to be called once.
    pub(super) fn set_certificates(&self, shown: Option<&[CertificateDer<'_>]>) {
        let owned = |one: &CertificateDer<'_>| one.clone().into_owned();
        let shown = shown.map(|chain| chain.iter().map(owned).collect());
        self.tls.set(shown).unwrap_or_default();
    }

    /// Has it end in its own time when `leave` is set, for the sake of others on its connection; to
    /// be called once.
    pub(super) fn set_leave(&self, leave: CancellationToken) {
        self.leave.set(leave).unwrap_or_default();
    }

    /// Notes what a request was let in by: of a stream, on its connection too.
    pub(super) fn set_pass(&self, pass: Pass) {
        self.pass.store(pass.0, Ordering::Relaxed);
        if let Some(connection) = &self.connection {
            connection.set_pass(pass);
        }
    }
}

impl Seat {
    /// The member whose place it is.
    pub(super) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Whether what has this place is aborted.
    pub(super) fn abort_state(&self) -> AbortState {
        AbortState(Arc::clone(&self.member))
    }

    /// A place for a stream of this connection, which ends with it.
    pub(super) fn for_stream(&self) -> Self {
        self.roster.insert(None, Some(Arc::clone(&self.member)))
    }
}

/// When the connections of a listener are reviewed, and by what.
pub(super) struct Reviews {
    changes: watch::Receiver<()>,
    tls: Option<TlsInUse>,
    /// The terms by which certificates were verified last.
    used: Option<Arc<Terms>>,
}

impl Reviews {
    pub(super) fn new(connections: &Connections, listener: &Listener) -> Self {
        let tls = listener.tls();
        Self {
            changes: connections.reviews.subscribe(),
            used: tls.as_ref().and_then(TlsInUse::get),
            tls,
        }
    }

    /// Waits for new rules.
    ///
    /// # Cancel safety
    /// Safe: rules that nobody has waited for are still new at the next call.
    pub(super) async fn due(&mut self) {
        if self.changes.changed().await.is_err() {
            // Nobody is left who could change them.
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn review(
        &mut self,
        roster: &Roster,
        settings: &ServerSettings,
        protocol: &impl Protocol,
    ) {
        // Where there are none now, the listener is being given up, and its connections drain.
        let now = self.tls.as_ref().and_then(TlsInUse::get);
        let is_same = |now: &Arc<Terms>| {
            let used = self.used.as_ref();
            used.is_some_and(|used| Arc::ptr_eq(used, now))
        };
        let new = now.filter(|now| !is_same(now));
        let rules = Rules {
            peers: &settings.peers,
            tls: new.as_deref(),
        };
        roster.review(&rules, |pass| protocol.admits(pass));
        self.used = new.or(self.used.take());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.lock().members.remove(&self.number);
    }
}
