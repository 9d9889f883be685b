//! The place of a list of clients: held while the list is changed, and taken by a new one, whole.
//!
//! The lock is one of the file that is in the place. One of the directory would be held by a sidecar that
//! keeps a refresh token there, for as long as it runs.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::{
    fs::{FlockOperation, Gid, Mode, OFlags, Uid, fchmod, fchown, flock},
    io::Errno,
};
use tokio::time::Instant;

use crate::{
    client_token::{ClientTokensError, MAX_BYTES},
    named_file::{self, FileError},
};

/// How long another program may hold the list.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the lock is asked for: the kernel's own wait has no deadline.
const PAUSE: Duration = Duration::from_millis(20);
/// As many links as the kernel follows.
const LINKS: usize = 40;

/// Where a list is, or will be: behind all links, which stay when the list is replaced.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
}

/// The list that is in a place, and held.
#[derive(Debug)]
pub(super) struct Held(File);

impl Held {
    /// What is in it.
    pub(super) fn read(&self) -> anyhow::Result<Vec<u8>> {
        named_file::whole(&self.0, MAX_BYTES).map_err(|error| match error {
            FileError::Io(error) => error.into(),
            error => ClientTokensError::from(error).into(),
        })
    }
}

impl Place {
    /// The place that a path names.
    pub(super) fn of(path: &Path) -> anyhow::Result<Self> {
        // By the kernel first, which does not follow links that others have planted (fs.protected_symlinks).
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let mut path = std::path::absolute(path)?;
        for _ in 0..LINKS {
            let target = match fs::read_link(&path) {
                Ok(target) => target,
                // No link, or nothing yet.
                Err(error)
                    if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) =>
                {
                    return Ok(Self { path });
                }
                Err(error) => return Err(error.into()),
            };
            path = path.parent().unwrap_or(Path::new("/")).join(target);
        }
        Err(io::Error::from(Errno::LOOP).into())
    }

    /// Removes the list that is in the place.
    pub(super) fn clear(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Waits for the lock of the list; `None` where there is none.
    pub(super) fn held(&self, deadline: Instant) -> anyhow::Result<Option<Held>> {
        loop {
            let Some(file) = self.open()? else {
                return Ok(None);
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever held it may have put another one in its place.
                Ok(()) if self.has(&file)? => return Ok(Some(Held(file))),
                Ok(()) => {}
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(PAUSE),
                Err(error) => {
                    return Err(io::Error::from(error)).context("it cannot be locked");
                }
            }
            if Instant::now() > deadline {
                bail!(
                    "another program holds its lock, for more than {}; try again",
                    humantime::format_duration(LOCK_TIMEOUT)
                );
            }
        }
    }

    fn open(&self) -> anyhow::Result<Option<File>> {
        let not_regular = || ClientTokensError::NotRegular;
        // Looked at before it is opened, since a device may take being opened for something.
        match fs::metadata(&self.path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(not_regular().into()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // To be written as well: who may not write to the list may not replace it, and some network file
        // systems lock nothing else.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&self.path);
        match opened {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
            Ok(_) => Err(not_regular().into()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether this file is the one in the place.
    fn has(&self, file: &File) -> io::Result<bool> {
        let ours = file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a list beside the place: with the owner and the mode of the one before, or for its owner alone.
    pub(super) fn make(
        &self,
        content: &[u8],
        before: Option<&Held>,
    ) -> anyhow::Result<NewList<'_>> {
        let name = self.path.file_name().context("it has no name")?;
        let mut new_name = OsString::from(".");
        new_name.push(name);
        new_name.push(format!(".{:016x}.new", fastrand::u64(..)));
        let path = self.path.with_file_name(new_name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .context(
                "cannot make the new list beside it, as whoever replaces it must be able to",
            )?;
        let new = NewList { path, place: self };
        if let Some(Held(before)) = before {
            dress(&file, before)
                .context("cannot give the new list the owner and the mode of the one before")?;
        }
        file.write_all(content)
            .and_then(|()| file.sync_all())
            .context("cannot write the new list")?;
        Ok(new)
    }
}

fn dress(file: &File, before: &File) -> io::Result<()> {
    let (ours, theirs) = (file.metadata()?, before.metadata()?);
    if (ours.uid(), ours.gid()) != (theirs.uid(), theirs.gid()) {
        let (owner, group) = (Uid::from_raw(theirs.uid()), Gid::from_raw(theirs.gid()));
        fchown(file, Some(owner), Some(group))?;
    }
    Ok(fchmod(file, Mode::from_raw_mode(theirs.mode()))?)
}

/// A list that is not in its place yet. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct NewList<'a> {
    path: PathBuf,
    place: &'a Place,
}

impl NewList<'_> {
    /// Replaces the list that is in the place.
    pub(super) fn into_place(self) -> anyhow::Result<()> {
        fs::rename(&self.path, &self.place.path).map_err(|error| {
            let is_mount = error.kind() == ErrorKind::ResourceBusy;
            let hint = "cannot replace it: it is a mount of its own; mount its directory instead";
            let what = if is_mount { hint } else { "cannot replace it" };
            anyhow::Error::new(error).context(what)
        })?;
        self.reach_the_disk();
        Ok(())
    }

    /// Goes into the place if nothing is there; says whether that was so.
    pub(super) fn into_free_place(self) -> anyhow::Result<bool> {
        match fs::hard_link(&self.path, &self.place.path) {
            Ok(()) => {
                self.reach_the_disk();
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).context("cannot put it there"),
        }
    }

    /// Has the name on the disk, too. Where that fails the list is right all the same, and the worst that a
    /// crash can bring back is the one before.
    fn reach_the_disk(&self) {
        let directory = self.place.path.parent().unwrap_or(Path::new("/"));
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.unwrap_or_default();
    }
}

impl Drop for NewList<'_> {
    fn drop(&mut self) {
        // Behind a rename there is nothing any more.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}
