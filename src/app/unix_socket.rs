//! The file of a unix socket: made so that nobody can connect who may not, and never in the place
//! of something that is in use or is no socket.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown},
        net::UnixListener as StdUnix,
    },
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use socket2::{Domain, SockAddr, Socket, Type};

use super::sockets::BACKLOG;
use crate::config::UnixAccess;

/// The file that we made. Dropped, it is removed, unless it is another one by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Binds a path. Whoever connects before the file has its mode and owner is turned away by the
/// system: it is not listened on until then.
pub(super) fn listen(path: &Path, access: &UnixAccess) -> io::Result<(StdUnix, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Two that start at once must not take each other's new file for a stale one.
    let _lock = lock(path.parent().unwrap_or(path))?;
    remove_stale(path)?;
    socket
        .bind(&SockAddr::unix(path)?)
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => io::Error::new(
                error.kind(),
                "the directory must be writable; one that was not named at the start, while the \
                 sandbox is in force, needs a restart",
            ),
            _ => error,
        })?;
    let file = SocketFile::new(path)?;
    file.set_access(access)?;
    socket.listen(BACKLOG)?;
    Ok((StdUnix::from(socket), file))
}

/// The longest that two who bind in the same directory wait for each other.
const PATIENCE: Duration = Duration::from_secs(2);

/// Locks a directory until the descriptor is dropped.
fn lock(directory: &Path) -> io::Result<rustix::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = open(directory, flags, Mode::empty()).map_err(|error| {
        let reason = io::Error::from(error);
        let text = format!(
            "cannot open the directory {}: {reason}",
            directory.display()
        );
        io::Error::new(reason.kind(), text)
    })?;
    let end = clock_now() + PATIENCE;
    loop {
        match flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(descriptor),
            Err(rustix::io::Errno::WOULDBLOCK) if clock_now() < end => {
                sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn clock_now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Makes room where a program has left its socket behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other(
            "there is something else than a socket, which is left alone; choose another path",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(io::Error::new(
            error.kind(),
            "there is a socket of somebody else; choose another path or remove it",
        )),
        // Also when it is too busy to take us: somebody is there.
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another program listens there; stop it or choose another path",
        )),
    }
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }

    /// Gives it to those who may have it.
    pub(super) fn set_access(&self, access: &UnixAccess) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(access.mode))?;
        if access.owner.is_none() && access.group.is_none() {
            return Ok(());
        }
        lchown(&self.path, access.owner, access.group).map_err(|error| {
            let text = format!("cannot give it to its owner and group: {error}");
            io::Error::new(error.kind(), text)
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests;
