//! A refresh token in its file, which is replaced when the service rotates the token (RFC 6749 §6,
//! RFC 9700 §4.14).
//!
//! The service has rotated before its response arrives, so the new token exists nowhere but in that
//! response until it is in the file. Whatever can fail is therefore tried before the request is sent:
//! the file that will take its place is made beside it, with its owner, its mode and room for the new
//! token. What remains between the response and a file that survives the process is one write. A
//! process that ends behind that write, and before the rename, finds the token at its next start.
//!
//! Who holds the token holds a lock of the directory, so that two processes never send the same one.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{
        AtFlags, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, Uid, fallocate,
        fchmod, fchown, flock, fsync, openat, renameat, statat, unlinkat,
    },
    io::Errno,
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use tokio::time::{Instant, sleep};

use crate::secret::{SecretError, SecretSource, read_open};

/// The file of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshTokenFile {
    path: PathBuf,
}

/// Why a refresh token cannot be had, or not be replaced. Names files, and nothing that is in them.
#[derive(Debug, thiserror::Error)]
pub enum RefreshTokenError {
    /// The file holds no token, or cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The file is not one that could be replaced by another.
    #[error(
        "{0} must be a regular file and no link: it is replaced when the service rotates the token"
    )]
    NoFile(PathBuf),
    /// Another process has sent the token and waits for the next.
    #[error("another process holds {0}")]
    Busy(PathBuf),
    /// The file cannot be replaced.
    #[error(
        "{path} cannot be replaced ({kind}), as it must be when the service rotates the token: its \
         directory must be one that the user of the sidecar may write to, named in the configuration \
         that the sidecar was started with, and the file must belong to that user"
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
}

/// A refresh token that nobody else sends, and the file beside it that the next one is written to.
#[derive(Debug)]
pub(super) struct HeldRefreshToken {
    path: PathBuf,
    name: OsString,
    spare_name: OsString,
    /// Locked for as long as it is open.
    directory: File,
    spare: File,
    token: SecretString,
}

/// Longer tokens exist nowhere; so much room is made before the token is sent.
const ROOM: u64 = 64 * 1024;

/// How often a lock that another process has is tried.
const STEP: Duration = Duration::from_millis(20);

impl RefreshTokenFile {
    /// A file with that path. Nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// The directory that the file is replaced in.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    /// The file as a secret that is read when it is used.
    #[must_use]
    pub fn secret(&self) -> SecretSource {
        SecretSource::File(self.path.clone())
    }

    /// Takes the token, once no other process has it, and prepares its replacement.
    ///
    /// # Errors
    /// When there is no token, or one that could not be replaced; then it must not be sent.
    ///
    /// # Cancel safety
    /// Safe: dropped, it has changed nothing, but for a token of an earlier end that is in its place.
    pub(super) async fn hold(
        &self,
        patience: Duration,
    ) -> Result<HeldRefreshToken, RefreshTokenError> {
        let deadline = Instant::now() + patience;
        let directory = self.open_directory()?;
        loop {
            match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if Instant::now() >= deadline => {
                    return Err(RefreshTokenError::Busy(self.path.clone()));
                }
                Err(Errno::WOULDBLOCK) => sleep(STEP).await,
                Ok(()) => break,
                // A file system without locks has one sidecar, or two that its user must keep apart.
                Err(error) => {
                    let path = self.path.display();
                    tracing::debug!(%path, %error, "the directory of the refresh token cannot be locked");
                    break;
                }
            }
        }
        self.hold_in(directory)
    }

    fn open_directory(&self) -> Result<File, RefreshTokenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(self.directory(), flags, Mode::empty());
        Ok(File::from(opened.map_err(|error| self.unreadable(error))?))
    }

    fn hold_in(&self, directory: File) -> Result<HeldRefreshToken, RefreshTokenError> {
        let no_file = || RefreshTokenError::NoFile(self.path.clone());
        let name = self.path.file_name().ok_or_else(no_file)?.to_owned();
        let spare_name = spare_name(&name);
        // The file may be one that nobody has ever written here but in its spare.
        recover(&directory, &name, &spare_name).map_err(|error| self.unwritable(error))?;
        let file = open_regular(&directory, &name).map_err(|error| match error {
            Errno::LOOP | Errno::INVAL => no_file(),
            other => self.unreadable(other),
        })?;
        let token = read_open(&file, &self.path)?;
        let spare = prepare(&directory, &spare_name, &file);
        Ok(HeldRefreshToken {
            path: self.path.clone(),
            spare: spare.map_err(|error| self.unwritable(error))?,
            name,
            spare_name,
            directory,
            token,
        })
    }

    fn unreadable(&self, error: Errno) -> RefreshTokenError {
        RefreshTokenError::Secret(SecretError::Unreadable {
            path: self.path.clone(),
            kind: io::Error::from(error).kind(),
        })
    }

    fn unwritable(&self, error: Errno) -> RefreshTokenError {
        RefreshTokenError::Unwritable {
            path: self.path.clone(),
            kind: io::Error::from(error).kind(),
        }
    }
}

impl HeldRefreshToken {
    /// The token to send.
    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }

    /// Puts the token that follows in its place: whole, and so that it outlives a crash.
    ///
    /// # Errors
    /// When it is not certain to be there.
    #[expect(
        clippy::disallowed_methods,
        reason = "the token is written to the file that it belongs into"
    )]
    pub(super) fn replace(mut self, next: &SecretString) -> Result<(), RefreshTokenError> {
        let next = next.expose_secret();
        let mut line = Zeroizing::new(Vec::with_capacity(next.len() + 1));
        line.extend_from_slice(next.as_bytes());
        // The end of the line says that nothing is missing.
        line.push(b'\n');
        let written = self.spare.write_all(&line);
        let replaced = written.and_then(|()| {
            self.spare.sync_all()?;
            self.is_spare_ours()?;
            renameat(
                &self.directory,
                &self.spare_name,
                &self.directory,
                &self.name,
            )?;
            fsync(&self.directory).map_err(io::Error::from)
        });
        replaced.map_err(|error| RefreshTokenError::Unwritable {
            path: self.path.clone(),
            kind: error.kind(),
        })
    }
}

impl HeldRefreshToken {
    /// Makes sure that what is renamed is what was written: where locks do not exclude others, one of
    /// them may have put a file of its own there.
    fn is_spare_ours(&self) -> io::Result<()> {
        let there = statat(&self.directory, &self.spare_name, AtFlags::SYMLINK_NOFOLLOW)?;
        let ours = rustix::fs::fstat(&self.spare)?;
        if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) {
            Ok(())
        } else {
            Err(io::Error::other(
                "another process replaces the refresh token",
            ))
        }
    }
}

impl Drop for HeldRefreshToken {
    /// Removes the spare where nothing was written to it; a written one is for the next start.
    fn drop(&mut self) {
        if self.spare.metadata().is_ok_and(|found| found.size() == 0)
            && let Err(error) = unlinkat(&self.directory, &self.spare_name, AtFlags::empty())
        {
            tracing::debug!(%error, "an unused file beside the refresh token stays behind");
        }
    }
}

fn spare_name(name: &OsStr) -> OsString {
    let mut spare = OsString::from(".");
    spare.push(name);
    spare.push(".next");
    spare
}

/// Opens a regular file of the directory, never through a link.
fn open_regular(directory: &File, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(directory, name, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok(File::from(file))
}

/// Puts a token in its place that an earlier process had received and written when it ended; anything
/// else that is found under that name is removed.
fn recover(directory: &File, name: &OsStr, spare_name: &OsStr) -> Result<(), Errno> {
    match statat(directory, spare_name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let is_wanted = is_whole_and_newer(directory, name, spare_name);
    // In doubt nothing is removed: it may be all that there is.
    if is_wanted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))? {
        renameat(directory, spare_name, directory, name)?;
        tracing::info!(
            "a refresh token that was received before the last end of the sidecar is in its place"
        );
        return fsync(directory);
    }
    unlinkat(directory, spare_name, AtFlags::empty())
}

fn is_whole_and_newer(directory: &File, name: &OsStr, spare_name: &OsStr) -> io::Result<bool> {
    let spare = match open_regular(directory, spare_name) {
        Ok(spare) => spare,
        Err(Errno::LOOP | Errno::INVAL) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let current = open_regular(directory, name);
    let found = spare.metadata()?;
    // Whoever put another token there afterwards meant that one.
    let is_newer = match current {
        Ok(current) => {
            let current = current.metadata()?;
            let time = |of: &std::fs::Metadata| (of.mtime(), of.mtime_nsec());
            found.uid() == current.uid() && time(&found) >= time(&current)
        }
        // The end may have come between the two names.
        Err(Errno::NOENT) => found.uid() == rustix::process::geteuid().as_raw(),
        Err(Errno::LOOP | Errno::INVAL) => false,
        Err(error) => return Err(error.into()),
    };
    if !is_newer || found.size() < 2 || found.size() > ROOM {
        return Ok(false);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(
        usize::try_from(ROOM).unwrap_or_default() + 1,
    ));
    io::Read::read_to_end(&mut io::Read::take(&spare, ROOM + 1), &mut text)?;
    spare.sync_all()?;
    Ok(text.ends_with(b"\n"))
}

/// Makes the file that will take the place of `current`: for the same owner, with the same mode, and
/// with room.
fn prepare(directory: &File, spare_name: &OsStr, current: &File) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let spare = openat(directory, spare_name, flags, Mode::RUSR | Mode::WUSR)?;
    let prepare = || {
        let (ours, theirs) = (rustix::fs::fstat(&spare)?, rustix::fs::fstat(current)?);
        if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid) {
            let (user, group) = (Uid::from_raw(theirs.st_uid), Gid::from_raw(theirs.st_gid));
            fchown(&spare, Some(user), Some(group))?;
        }
        fchmod(&spare, Mode::from_raw_mode(theirs.st_mode))?;
        match fallocate(&spare, FallocateFlags::KEEP_SIZE, 0, ROOM) {
            // Where room cannot be made in advance, the write finds out.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            made => made,
        }
    };
    match prepare() {
        Ok(()) => Ok(File::from(spare)),
        Err(error) => {
            // The mistake that is told is the first.
            unlinkat(directory, spare_name, AtFlags::empty()).unwrap_or_default();
            Err(error)
        }
    }
}

/// Whether a path names a file that could be held: for the configuration, before anything runs.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<(), RefreshTokenError> {
    let file = RefreshTokenFile::new(path.to_owned());
    let directory = file.open_directory()?;
    let name = path.file_name().unwrap_or_default();
    match open_regular(&directory, name) {
        Ok(_) => Ok(()),
        Err(Errno::LOOP | Errno::INVAL) => Err(RefreshTokenError::NoFile(path.to_owned())),
        Err(error) => Err(file.unreadable(error)),
    }
}

#[cfg(test)]
mod tests;
