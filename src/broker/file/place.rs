//! The place of a token's file: a new file is put there whole, and ours is taken away.
//!
//! No reader sees half of it: the content is written to a new file in the same directory, which gets
//! its owner and mode while it is empty, reaches the disk, and then takes the place of the old one. The
//! name of the new file is nobody else's, so that two sidecars that were given the same path by mistake
//! publish one token or the other, and never half of one.
//! What is in the place and is not a file of the sidecar's user is left alone, and nothing follows a link.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Uid, fchmod, fchown, flock,
        fsync, open, openat, renameat, statat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

use super::FileSettings;

/// Where a file is to be, and the one of ours that is there. Dropped, that one is removed.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    name: String,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    /// The user whose files count as ours.
    user: u32,
    /// The file that we wrote last; open, so that no other one gets its number.
    written: Option<File>,
    /// Held by whoever writes in this process: at a change of the configuration there can be two for one path.
    writing: Arc<Mutex<()>>,
    /// Gives the names of new files.
    random: fn() -> u64,
}

/// A file that is not in its place yet.
struct NewFile {
    file: File,
    name: String,
}

/// How many names are tried for a new file.
const NAMES: usize = 4;
/// How many characters of a name are chance.
const CHANCE: usize = 16;

impl Place {
    pub(super) fn new(settings: &FileSettings, random: fn() -> u64) -> io::Result<Self> {
        let path = settings.path.clone();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("the path must end in a name"))?;
        Ok(Self {
            name: name.to_owned(),
            writing: writing(&path),
            random,
            path,
            mode: settings.mode,
            owner: settings.owner,
            group: settings.group,
            user: geteuid().as_raw(),
            written: None,
        })
    }

    /// Sees whether a file can be put here, and leaves what is there.
    pub(super) fn check(&self) -> io::Result<()> {
        let directory = self.directory()?;
        self.is_free(&directory)?;
        self.sweep(&directory)?;
        let new = self.make(&directory)?;
        unlinkat(&directory, &new.name, AtFlags::empty())?;
        Ok(())
    }

    /// Sees whether nothing is in the place but what a sidecar of ours may have put there. Says whether
    /// there is something.
    fn is_free(&self, directory: &OwnedFd) -> io::Result<bool> {
        let found = match statat(directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            let what = "there is something else than a file, which is left alone";
            return Err(io::Error::other(what));
        }
        if !self.is_of_ours(found.st_uid) {
            return Err(io::Error::other(format!(
                "there is a file of another user (uid {}), which is left alone: name another path, or \
                 remove it",
                found.st_uid
            )));
        }
        Ok(true)
    }

    /// Whether a file of that owner can be one of ours.
    fn is_of_ours(&self, owner: u32) -> bool {
        owner == self.user || self.owner == Some(owner)
    }

    /// Removes new files that were left behind by a run that was killed. Whoever is at work on one holds
    /// its lock.
    fn sweep(&self, directory: &OwnedFd) -> io::Result<()> {
        let (before, after) = self.around();
        let is_new = |found: &[u8]| {
            let chance = found.strip_prefix(before.as_bytes());
            let chance = chance.and_then(|rest| rest.strip_suffix(after.as_bytes()));
            chance.is_some_and(|all| all.len() == CHANCE && all.iter().all(u8::is_ascii_hexdigit))
        };
        let mut found: Vec<OsString> = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if is_new(name) {
                found.push(OsStr::from_bytes(name).to_owned());
            }
        }
        for name in found {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            // One that cannot be opened was given to somebody else, and is theirs.
            let Ok(file) = openat(directory, &name, flags, Mode::empty()) else {
                continue;
            };
            let stat = rustix::fs::fstat(&file)?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            // Where there are no locks, nobody knows who is at work.
            if is_file
                && self.is_of_ours(stat.st_uid)
                && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                match unlinkat(directory, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(explained(error)),
                }
            }
        }
        Ok(())
    }

    fn directory(&self) -> io::Result<OwnedFd> {
        let parent = self.path.parent();
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(parent, flags, Mode::empty()).map_err(|error| {
            let reason = io::Error::from(error);
            let text = format!("cannot open the directory {}: {reason}", parent.display());
            io::Error::new(reason.kind(), text)
        })
    }

    /// What the name of a new file begins and ends with.
    fn around(&self) -> (String, &'static str) {
        (format!(".{}.", self.name), ".new")
    }

    /// Makes a new, empty file of the owner and the mode that are wanted.
    fn make(&self, directory: &OwnedFd) -> io::Result<NewFile> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let ours = Mode::RUSR | Mode::WUSR;
        let (before, after) = self.around();
        for _ in 0..NAMES {
            let name = format!("{before}{:0CHANCE$x}{after}", (self.random)());
            let file = match openat(directory, &name, flags, ours) {
                Ok(file) => file,
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(explained(error)),
            };
            // Whoever sweeps may have it by now.
            if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
                continue;
            }
            if let Err(error) = self.dress(&file) {
                unlinkat(directory, &name, AtFlags::empty()).unwrap_or_default();
                return Err(error);
            }
            let file = File::from(file);
            return Ok(NewFile { file, name });
        }
        Err(Errno::EXIST.into())
    }

    /// Gives a new file its owner and mode.
    fn dress(&self, file: &OwnedFd) -> io::Result<()> {
        let Self {
            mode, owner, group, ..
        } = *self;
        let give = |owner: Option<u32>, group: Option<u32>| {
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            fchown(file, owner, group).map_err(|error| {
                let reason = io::Error::from(error);
                let text = format!("cannot give it to its owner and group: {reason}");
                io::Error::new(reason.kind(), text)
            })
        };
        // The owner last: of a file that is somebody else's the mode cannot be changed.
        if group.is_some() {
            give(None, group)?;
        }
        fchmod(file, Mode::from_raw_mode(mode))?;
        if owner.is_some() {
            give(owner, None)?;
        }
        Ok(())
    }

    /// Puts a new file here, in the place of the one of ours that there may be.
    pub(super) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        let writing = Arc::clone(&self.writing);
        let _guard = writing.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.directory()?;
        let NewFile { mut file, name } = self.make(&directory)?;
        let placed = file
            .write_all(content)
            .and_then(|()| Ok(fsync(&file)?))
            .and_then(|()| self.is_free(&directory))
            .and_then(|_| Ok(renameat(&directory, &name, &directory, &self.name)?));
        if let Err(error) = placed {
            unlinkat(&directory, &name, AtFlags::empty()).unwrap_or_default();
            return Err(error);
        }
        // Readers may have locks of their own.
        flock(&file, FlockOperation::Unlock).unwrap_or_default();
        self.written = Some(file);
        // The name reaches the disk later on some file systems; all that it costs is a renewal.
        if let Err(error) = fsync(&directory) {
            tracing::debug!(%error, "a directory of token files cannot be synchronised");
        }
        Ok(())
    }

    /// Takes away what an earlier run has left.
    pub(super) fn clear(&self) -> io::Result<()> {
        let _guard = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.directory()?;
        if !self.is_free(&directory)? {
            return Ok(());
        }
        match unlinkat(directory, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes away the file that we wrote, if it is still that one.
    pub(super) fn remove(&mut self) {
        // Where there is none, nobody waits for a disk that holds up another.
        if self.written.is_none() {
            return;
        }
        let writing = Arc::clone(&self.writing);
        let _guard = writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.written.take() else {
            return;
        };
        let removed = self.directory().and_then(|directory| {
            let ours = file.metadata()?;
            match statat(&directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) if (found.st_dev, found.st_ino) == (ours.dev(), ours.ino()) => {
                    Ok(unlinkat(&directory, &self.name, AtFlags::empty())?)
                }
                // Somebody else's, or gone.
                _ => Ok(()),
            }
        });
        if let Err(error) = removed {
            let path = self.path.display();
            tracing::warn!(%path, %error, "cannot remove the file of the token");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The lock of all who write to a path in this process.
fn writing(path: &Path) -> Arc<Mutex<()>> {
    static ALL: Mutex<BTreeMap<PathBuf, Weak<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(path).and_then(Weak::upgrade) {
        return found;
    }
    all.retain(|_, lock| lock.strong_count() > 0);
    let new = Arc::<Mutex<()>>::default();
    all.insert(path.to_owned(), Arc::downgrade(&new));
    new
}

fn explained(error: Errno) -> io::Error {
    match io::Error::from(error) {
        reason if reason.kind() == io::ErrorKind::PermissionDenied => io::Error::new(
            reason.kind(),
            "the directory must be writable; one that was not named at the start, while the \
             sandbox is in force, needs a restart",
        ),
        reason => reason,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;
    use crate::broker::FileFormat;

    fn place(path: &Path) -> io::Result<Place> {
        place_by(path, || fastrand::u64(..))
    }

    fn place_by(path: &Path, random: fn() -> u64) -> io::Result<Place> {
        place_with(path, None, random)
    }

    fn place_with(path: &Path, owner: Option<u32>, random: fn() -> u64) -> io::Result<Place> {
        let settings = FileSettings {
            path: path.to_owned(),
            mode: 0o440,
            owner,
            group: None,
            format: FileFormat::Raw,
        };
        let place = Place::new(&settings, random)?;
        place.check()?;
        Ok(place)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let mut file = place(&path).unwrap();
        assert!(names(directory.path()).is_empty());
        file.write(b"one").unwrap();
        let first = File::open(&path).unwrap();
        file.write(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        // Whoever has the old one open reads it whole.
        assert_eq!(io::read_to_string(first).unwrap(), "one");
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o440);
        assert_eq!(names(directory.path()), ["token"]);
        drop(file);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_link_is_neither_followed_nor_replaced_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("victim"), "precious").unwrap();
        let mut file = place(&at("token")).unwrap();
        symlink(at("victim"), at("token")).unwrap();
        assert!(place(&at("token")).is_err());
        let error = file.write(b"secret").unwrap_err().to_string();
        assert!(error.contains("something else than a file"), "{error}");
        assert!(file.clear().is_err());
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        // Nor is one that took the place of ours.
        fs::remove_file(at("token")).unwrap();
        file.write(b"secret").unwrap();
        fs::remove_file(at("token")).unwrap();
        symlink(at("victim"), at("token")).unwrap();
        drop(file);
        assert_eq!(fs::read(at("token")).unwrap(), b"precious");
        let mut left = names(directory.path());
        left.sort_unstable();
        assert_eq!(left, ["token", "victim"]);
    }

    #[test]
    fn a_file_of_another_user_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "precious").unwrap();
        let writer = geteuid().as_raw();
        let mut file = place(&path).unwrap();
        // Whoever has written it is then somebody else.
        file.user = writer + 1;
        let error = file.check().unwrap_err().to_string();
        let whose = format!("another user (uid {writer})");
        assert!(error.contains(&whose), "{error}");
        assert!(file.write(b"secret").is_err() && file.clear().is_err());
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(names(directory.path()), ["token"]);
        // But for the user that ours are given to.
        let mut file = place_with(&path, Some(writer), || fastrand::u64(..)).unwrap();
        file.user = writer + 1;
        file.write(b"secret").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"secret");
    }

    #[test]
    fn what_another_sidecar_is_writing_is_not_touched_and_what_a_killed_one_has_left_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let at = |name: &str| directory.path().join(name);
        let (busy, left) = (".token.0000000000000007.new", ".token.0000000000000008.new");
        fs::write(at(busy), "half").unwrap();
        fs::write(at(left), "half").unwrap();
        let writer = File::open(at(busy)).unwrap();
        flock(&writer, FlockOperation::NonBlockingLockExclusive).unwrap();
        // It would take the name of the other.
        let error = place_by(&path, || 7).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(at(busy).exists() && !at(left).exists());
        let mut file = place(&path).unwrap();
        file.write(b"one").unwrap();
        assert_eq!(fs::read(at(busy)).unwrap(), b"half");
        drop(writer);
        drop(place(&path).unwrap());
        assert_eq!(names(directory.path()), ["token"]);
    }

    #[test]
    fn a_place_with_no_file_of_ours_is_given_up_while_another_is_at_work_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let other = place(&path).unwrap();
        let unused = place(&path).unwrap();
        let at_work = other.writing.lock().unwrap();
        let (dropped, is_dropped) = std::sync::mpsc::channel();
        let dropping = std::thread::spawn(move || {
            drop(unused);
            dropped.send(()).unwrap();
        });
        let waited = is_dropped.recv_timeout(std::time::Duration::from_secs(10));
        drop(at_work);
        dropping.join().unwrap();
        waited.unwrap();
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::create_dir(&path).unwrap();
        let error = place(&path).unwrap_err();
        assert!(error.to_string().contains("something else than a file"));
        let error = place(&path.join("missing/token")).unwrap_err();
        assert!(error.to_string().contains("cannot open the directory"));
        assert!(path.is_dir());
    }
}
