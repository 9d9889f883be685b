//! The file of a unix socket: made so that nobody can connect who may not, and never in the place
//! of something that is in use or is no socket.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::FileTypeExt, net::UnixListener as StdUnix},
    },
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{
        AtFlags, FileType, FlockOperation, Mode, OFlags, chmod, chownat, fchmod, flock, fstat,
        open, openat, statat, unlinkat,
    },
    process::{Gid, Uid, geteuid},
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::sockets::BACKLOG;
use crate::config::UnixAccess;

/// The file that we made. Dropped, it is removed, unless it is another one by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
    file: OwnedFd,
}

/// Binds a path. Whoever connects before the file has its mode and owner is turned away by the
/// system: it is not listened on until then.
pub(super) fn listen(path: &Path, access: &UnixAccess) -> io::Result<(StdUnix, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Two that start at once must not take each other's new file for a stale one.
    let _lock = lock(path.parent().unwrap_or(path))?;
    remove_stale(path)?;
    // The file is made with the mode of the socket, less the mask: never with more than is asked for.
    fchmod(&socket, Mode::from_raw_mode(access.mode))?;
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
    let file = SocketFile::hold(path)?;
    file.set_access(access)?;
    socket.listen(BACKLOG)?;
    Ok((StdUnix::from(socket), file))
}

/// The longest that two who bind in the same directory wait for each other.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Locks a directory until the descriptor is dropped.
fn lock(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = open(directory, flags, Mode::empty()).map_err(|error| {
        let reason = io::Error::from(error);
        let text = format!(
            "cannot open the directory {}: {reason}",
            directory.display()
        );
        io::Error::new(reason.kind(), text)
    })?;
    let end = clock_now() + TIMEOUT;
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
    /// Takes hold of the file of a socket that was just bound.
    ///
    /// By a descriptor that follows no link and is kept: what is done to the file from here on is
    /// done to this one, whatever is found under its path, and its number is no other's.
    fn hold(path: &Path) -> io::Result<Self> {
        let parent = path.parent().unwrap_or(path);
        let name = path.file_name().unwrap_or_default().to_owned();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let directory = open(parent, flags | OFlags::DIRECTORY, Mode::empty())?;
        let file = openat(&directory, &name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        let found = fstat(&file)?;
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        // Those of others have other owners, unless they are root's or our own user's.
        if !is_socket || found.st_uid != geteuid().as_raw() {
            return Err(io::Error::other(
                "something else has taken the place of the new socket; see who may write to its \
                 directory",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            directory,
            name,
            file,
        })
    }

    /// Gives it to those who may have it, and nothing that has taken its place.
    pub(super) fn set_access(&self, access: &UnixAccess) -> io::Result<()> {
        if !self.is_in_place() {
            tracing::warn!(
                path = %self.path.display(),
                "something else is in the place of the socket, so clients do not find it"
            );
        }
        let wanted = Mode::from_raw_mode(access.mode);
        if self.mode()? != wanted {
            // No call changes the mode through a descriptor like this one on every kernel:
            // fchmod refuses it, and fchmodat2 is of Linux 6.6. What /proc shows of it is no path
            // but the file itself. Without /proc the mode stays, which is an error.
            chmod(format!("/proc/self/fd/{}", self.file.as_raw_fd()), wanted).map_err(|error| {
                let reason = io::Error::from(error);
                io::Error::new(
                    reason.kind(),
                    format!("cannot change its mode by way of /proc: {reason}"),
                )
            })?;
            if self.mode()? != wanted {
                return Err(io::Error::other("its mode did not change"));
            }
        }
        if access.owner.is_none() && access.group.is_none() {
            return Ok(());
        }
        let owner = access.owner.map(Uid::from_raw);
        let group = access.group.map(Gid::from_raw);
        chownat(&self.file, "", owner, group, AtFlags::EMPTY_PATH).map_err(|error| {
            let error = io::Error::from(error);
            let text = format!("cannot give it to its owner and group: {error}");
            io::Error::new(error.kind(), text)
        })
    }

    fn mode(&self) -> io::Result<Mode> {
        let mode = Mode::from_raw_mode(fstat(&self.file)?.st_mode);
        Ok(mode & Mode::from_raw_mode(0o7777))
    }

    /// Whether it is what is found under its path.
    fn is_in_place(&self) -> bool {
        let found = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let held = fstat(&self.file);
        found.is_ok_and(|found| {
            held.is_ok_and(|held| (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino))
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place()
            && let Err(error) = unlinkat(&self.directory, &self.name, AtFlags::empty())
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket file");
        }
    }
}

#[cfg(test)]
mod tests;
