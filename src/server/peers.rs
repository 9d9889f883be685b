//! Who may use a unix socket, by what the kernel says of whoever connects.

use tokio::net::UnixStream;

use super::pace::Pace;

/// Who is at the other end of a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// No process is of this user, and no list names it.
    const UNKNOWN: Self = Self {
        uid: u32::MAX,
        gid: u32::MAX,
    };

    pub(super) fn of(stream: &UnixStream) -> Self {
        stream.peer_cred().map_or(Self::UNKNOWN, |peer| Self {
            uid: peer.uid(),
            gid: peer.gid(),
        })
    }
}

/// The users and groups that may connect; all, when there are none here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Ids of users.
    pub users: Vec<u32>,
    /// Ids of groups. What counts is the group that a process runs as; its further ones are not
    /// known. Whoever is to have members of a group puts them into `users`.
    pub groups: Vec<u32>,
}

impl Peers {
    /// Whether a process of this user may use the socket.
    pub(super) fn admit(&self, user: User) -> bool {
        let is_open = self.users.is_empty() && self.groups.is_empty();
        let is_known = user != User::UNKNOWN;
        is_open || is_known && (self.users.contains(&user.uid) || self.groups.contains(&user.gid))
    }

    /// Whether the process at the other end may use the socket. One of which nothing is known
    /// may not. A refusal is a warning, at this pace.
    pub(super) fn admit_stream(&self, stream: &UnixStream, warnings: &Pace) -> bool {
        if self.users.is_empty() && self.groups.is_empty() {
            return true;
        }
        let peer = match stream.peer_cred() {
            Ok(peer) => peer,
            Err(error) => {
                if let Some(unsaid) = warnings.due() {
                    tracing::warn!(%error, unsaid, "cannot identify who connects to the unix socket; refused");
                }
                return false;
            }
        };
        let (uid, gid) = (peer.uid(), peer.gid());
        let admitted = self.admit(User { uid, gid });
        if !admitted {
            let pid = peer.pid().unwrap_or_default();
            if let Some(unsaid) = warnings.due() {
                tracing::warn!(uid, gid, pid, unsaid, "{REFUSED}");
            } else {
                tracing::debug!(uid, gid, pid, "{REFUSED}");
            }
        }
        admitted
    }
}

const REFUSED: &str =
    "refused a process that allow_users and allow_groups of the listener do not name";
