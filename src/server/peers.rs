//! Who may use a unix socket, by what the kernel says of whoever connects.

use tokio::net::UnixStream;

use super::pace::Pace;

/// The users and groups that may connect; all, when there are none here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Ids of users.
    pub users: Vec<u32>,
    /// Ids of groups. What counts is the group that a process runs as; its further ones are not
    /// told. Whoever is to have members of a group puts them into `users`.
    pub groups: Vec<u32>,
}

impl Peers {
    /// Whether the process at the other end may use the socket. One of which nothing is known
    /// may not. A refusal is a warning, at this pace.
    pub(super) fn admit(&self, stream: &UnixStream, warnings: &Pace) -> bool {
        if self.users.is_empty() && self.groups.is_empty() {
            return true;
        }
        let peer = match stream.peer_cred() {
            Ok(peer) => peer,
            Err(error) => {
                if let Some(unsaid) = warnings.due() {
                    tracing::warn!(%error, unsaid, "cannot tell who connects to the unix socket; refused");
                }
                return false;
            }
        };
        let (uid, gid) = (peer.uid(), peer.gid());
        let admitted = self.users.contains(&uid) || self.groups.contains(&gid);
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
