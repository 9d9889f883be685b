//! A refresh token in its file, which is replaced when the service rotates the token (RFC 6749 §6,
//! RFC 9700 §4.14).
//!
//! The service has rotated before its response arrives, so the new token exists nowhere but in that
//! response until it is in the file. Whatever can fail is therefore tried before the request is sent:
//! the file that will take its place is made beside it, with its owner, its mode and room for the new
//! token. What remains between the response and a file that survives the process is one write. A
//! process that ends behind that write, and before the rename, finds the token at its next start. Which
//! token a file is the next of stands in its name and not in its dates, since a clock can be set back.
//!
//! Who holds the token holds a lock of the directory, so that two processes never send the same one; in
//! one process, where two configurations may share it for a moment, no file system has to know of locks.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs::File,
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::{
    fs::{
        AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, Uid, fallocate,
        fchmod, fchown, flock, fsync, openat, renameat, statat, unlinkat,
    },
    io::Errno,
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use tokio::time::{Instant, sleep};

use crate::{
    disk,
    secret::{Fingerprint, LOOK, SecretError, SecretSource, read_open},
};

/// The file of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshTokenFile {
    path: PathBuf,
    /// The time for everything that its disk has to do at once.
    disk_timeout: Duration,
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
    #[error("another process, or an earlier call, holds {0}")]
    Busy(PathBuf),
    /// The disk does not respond.
    #[error(
        "{path} cannot be used ({error} within {}): a token that could not be replaced is not sent",
        humantime::format_duration(*limit)
    )]
    Hanging {
        /// The file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
        /// The time that it had.
        limit: Duration,
    },
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
    file: RefreshTokenFile,
    name: OsString,
    spare_name: OsString,
    /// Locked for as long as it is open.
    directory: File,
    spare: File,
    token: SecretString,
    _turn: Turn,
}

/// The right to do something with a file, in this process: its path, until that is dropped.
#[derive(Debug)]
struct Turn {
    of: &'static Turns,
    path: PathBuf,
}

/// The files that somebody does something with, in this process.
type Turns = Mutex<BTreeSet<PathBuf>>;

/// The files that somebody works on.
static WORK: Turns = Mutex::new(BTreeSet::new());
/// The files that somebody looks at: where a disk hangs, one thread waits for it and not one a look.
static LOOKS: Turns = Mutex::new(BTreeSet::new());

/// The time for everything that a disk has to do before a token is sent, and for what comes after: busy ones
/// take seconds.
pub(super) const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Longer tokens exist nowhere; so much room is made before the token is sent.
const ROOM: u64 = 64 * 1024;

/// The first pause before a lock that another has is tried again. A try takes a thread and opens the
/// directory, so that pauses grow up to that of other looks.
const STEP: Duration = Duration::from_millis(20);

impl RefreshTokenFile {
    /// A file with that path. Nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            disk_timeout: DISK_TIMEOUT,
        }
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

    /// Takes the token, once nobody else has it, and prepares its replacement.
    ///
    /// # Errors
    /// When there is no token, or one that could not be replaced; then it must not be sent.
    ///
    /// # Cancel safety
    /// Safe: dropped, it has changed nothing, but for a token of an earlier end that is in its place.
    pub(super) async fn hold(
        &self,
        hold_timeout: Duration,
    ) -> Result<HeldRefreshToken, RefreshTokenError> {
        let deadline = Instant::now() + hold_timeout;
        let mut pause = STEP;
        loop {
            // It goes along with the work: where a disk hangs, nothing more waits for it.
            if let Some(turn) = Turn::take(&WORK, &self.path) {
                let file = self.clone();
                if let Some(held) = self.on_disk(move || file.try_hold(turn)).await? {
                    return Ok(held);
                }
            }
            if Instant::now() >= deadline {
                return Err(RefreshTokenError::Busy(self.path.clone()));
            }
            sleep(pause).await;
            pause = (2 * pause).min(LOOK);
        }
    }

    /// Sees how the file looks now.
    ///
    /// # Errors
    /// When its disk does not respond.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(super) async fn look(&self) -> Result<Fingerprint, RefreshTokenError> {
        let deadline = Instant::now() + self.disk_timeout;
        loop {
            if let Some(turn) = Turn::take(&LOOKS, &self.path) {
                let path = self.path.clone();
                let look = move || {
                    let found = Fingerprint::of(std::slice::from_ref(&path));
                    drop(turn);
                    Ok(found)
                };
                return self.on_disk(look).await;
            }
            if Instant::now() >= deadline {
                return Err(RefreshTokenError::Busy(self.path.clone()));
            }
            sleep(STEP).await;
        }
    }

    /// Waits until the file looks other than it did.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(super) async fn changed(&self, seen: &Fingerprint) {
        // A look that fails sees nothing.
        while self.look().await.as_ref().unwrap_or(seen) == seen {
            sleep(LOOK).await;
        }
    }

    /// Takes the token, unless another process has it.
    fn try_hold(&self, turn: Turn) -> Result<Option<HeldRefreshToken>, RefreshTokenError> {
        let directory = self.open_directory()?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Ok(()) => {}
            // A file system without locks has one sidecar, or two that its user must keep apart.
            Err(error) => {
                let path = self.path.display();
                tracing::debug!(%path, %error, "the directory of the refresh token cannot be locked");
            }
        }
        self.hold_in(directory, turn).map(Some)
    }

    /// Works on the file in its time.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, RefreshTokenError> + Send + 'static,
    ) -> Result<T, RefreshTokenError> {
        let limit = self.disk_timeout;
        let done = disk::REFRESH_TOKENS.within(limit, work).await;
        done.map_err(|error| RefreshTokenError::Hanging {
            path: self.path.clone(),
            error,
            limit,
        })?
    }

    fn open_directory(&self) -> Result<File, RefreshTokenError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(self.directory(), flags, Mode::empty());
        Ok(File::from(opened.map_err(|error| self.unreadable(error))?))
    }

    fn hold_in(&self, directory: File, turn: Turn) -> Result<HeldRefreshToken, RefreshTokenError> {
        let no_file = || RefreshTokenError::NoFile(self.path.clone());
        let name = self.path.file_name().ok_or_else(no_file)?.to_owned();
        let read = || match open_regular(&directory, &name) {
            Ok(file) => {
                let token = read_open(&file, &self.path)?;
                Ok(Some((file, token)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::INVAL) => Err(no_file()),
            Err(error) => Err(self.unreadable(error)),
        };
        let mut found = read()?;
        let current = found.as_ref().map(|(file, token)| (file, token));
        // The file may be one that nobody has ever written here but in its spare.
        if recover(&directory, &name, current).map_err(|error| self.unwritable(error))? {
            found = read()?;
        }
        let (file, token) = found.ok_or_else(|| self.unreadable(Errno::NOENT))?;
        let spare_name = spare_name(&name, &token);
        let spare = prepare(&directory, &spare_name, &file);
        Ok(HeldRefreshToken {
            file: self.clone(),
            spare: spare.map_err(|error| self.unwritable(error))?,
            name,
            spare_name,
            directory,
            token,
            _turn: turn,
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

    /// Puts the token that follows in its place: whole, and so that it outlives a crash. Says how the file
    /// looks then.
    ///
    /// # Errors
    /// When it is not certain to be there.
    ///
    /// # Cancel safety
    /// Dropped, it is put there all the same, and nobody learns of it.
    pub(super) async fn replace(
        self,
        next: SecretString,
    ) -> Result<Fingerprint, RefreshTokenError> {
        let file = self.file.clone();
        file.on_disk(move || self.put(&next)).await
    }

    /// Gives the token back as it is.
    ///
    /// # Cancel safety
    /// Dropped, it is given back all the same.
    pub(super) async fn release(self) {
        let file = self.file.clone();
        let released = file.on_disk(move || {
            drop(self);
            Ok(())
        });
        if let Err(error) = released.await {
            tracing::debug!(%error, "a refresh token is not given back yet");
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the token is written to the file that it belongs into"
    )]
    fn put(mut self, next: &SecretString) -> Result<Fingerprint, RefreshTokenError> {
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
            fsync(&self.directory)?;
            Ok(Fingerprint::of(std::slice::from_ref(&self.file.path)))
        });
        replaced.map_err(|error| RefreshTokenError::Unwritable {
            path: self.file.path.clone(),
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

impl Turn {
    fn take(of: &'static Turns, path: &Path) -> Option<Self> {
        let mut turns = of.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.to_owned();
        turns.insert(path.clone()).then(|| Self { of, path })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        turns.remove(&self.path);
    }
}

/// The name of the file with the token that follows this one.
#[expect(
    clippy::disallowed_methods,
    reason = "of a digest that nobody could turn back, a quarter distinguishes two tokens"
)]
fn spare_name(name: &OsStr, token: &SecretString) -> OsString {
    let digest = digest(&SHA256, token.expose_secret().as_bytes());
    let mut spare = String::new();
    for byte in digest.as_ref().iter().take(TAG / 2) {
        // A text takes all that is written to it.
        write!(spare, "{byte:02x}").unwrap_or_default();
    }
    let (before, after) = around(name);
    [before, spare.into(), after].into_iter().collect()
}

/// How many characters of a name say which token it is the next of.
const TAG: usize = 16;

/// What a spare's name begins and ends with.
fn around(name: &OsStr) -> (OsString, OsString) {
    let before = [OsStr::new("."), name, OsStr::new(".")];
    (before.into_iter().collect(), OsString::from(".next"))
}

/// The spares that are there, whoever has left them.
fn spares(directory: &File, name: &OsStr) -> Result<Vec<OsString>, Errno> {
    let (before, after) = around(name);
    let is_spare = |found: &[u8]| {
        let tag = found.strip_prefix(before.as_bytes());
        let tag = tag.and_then(|rest| rest.strip_suffix(after.as_bytes()));
        tag.is_some_and(|tag| tag.len() == TAG && tag.iter().all(u8::is_ascii_hexdigit))
    };
    let mut spares = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let found = entry.file_name().to_bytes();
        if is_spare(found) {
            spares.push(OsStr::from_bytes(found).to_owned());
        }
    }
    Ok(spares)
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

/// Puts a token in its place that an earlier process had received and written when it ended, and says
/// whether there was one; what else is found beside the file is removed.
fn recover(
    directory: &File,
    name: &OsStr,
    current: Option<(&File, &SecretString)>,
) -> Result<bool, Errno> {
    // Whoever has put another token there since meant that one.
    let wanted = current.map(|(_, token)| spare_name(name, token));
    let owner = match current {
        Some((file, _)) => rustix::fs::fstat(file)?.st_uid,
        None => rustix::process::geteuid().as_raw(),
    };
    let mut is_recovered = false;
    for spare in spares(directory, name)? {
        let is_next = wanted.as_ref().is_none_or(|wanted| *wanted == spare);
        // In doubt nothing is removed: it may be all that there is.
        let io = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        if is_next && !is_recovered && is_whole(directory, &spare, owner).map_err(io)? {
            renameat(directory, &spare, directory, name)?;
            tracing::info!(
                "a refresh token that was received before the last end of the sidecar is in its place"
            );
            fsync(directory)?;
            is_recovered = true;
        } else {
            unlinkat(directory, &spare, AtFlags::empty())?;
        }
    }
    Ok(is_recovered)
}

fn is_whole(directory: &File, spare: &OsStr, owner: u32) -> io::Result<bool> {
    let spare = match open_regular(directory, spare) {
        Ok(spare) => spare,
        Err(Errno::LOOP | Errno::INVAL) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let found = spare.metadata()?;
    if found.uid() != owner || found.size() < 2 || found.size() > ROOM {
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
            // The error that is returned is the first.
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
