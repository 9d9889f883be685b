//! The place of a token's file: a new file is put there whole, and ours is taken away.
//!
//! No reader sees half of it: the content is written to a new file in the same directory, which gets
//! its owner and mode while it is empty, reaches the disk, and then takes the place of the old one.
//! Nothing on the way follows a link: a new file is made where there is none, and a link in the
//! place of the old one is replaced, not what it leads to.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, open, openat, renameat,
        statat, unlinkat,
    },
    io::Errno,
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
    /// The file that we wrote last; open, so that no other one gets its number.
    written: Option<File>,
}

/// Held by whoever writes in this process: at a change of the configuration there can be two for one path.
static WRITING: Mutex<()> = Mutex::new(());

impl Place {
    pub(super) fn new(settings: &FileSettings) -> io::Result<Self> {
        let path = settings.path.clone();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("the path must end in a name"))?;
        Ok(Self {
            name: name.to_owned(),
            path,
            mode: settings.mode,
            owner: settings.owner,
            group: settings.group,
            written: None,
        })
    }

    /// Sees whether a file can be put here, and leaves what is there.
    pub(super) fn check(&self) -> io::Result<()> {
        let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.directory()?;
        match statat(&directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile | FileType::Symlink => {}
                _ => {
                    let what = "there is something else than a file, which is left alone";
                    return Err(io::Error::other(what));
                }
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        drop(self.make(&directory)?);
        unlinkat(&directory, self.temporary(), AtFlags::empty())?;
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

    fn temporary(&self) -> String {
        format!(".{}.new", self.name)
    }

    /// Makes a new, empty file of the owner and the mode that are wanted.
    fn make(&self, directory: &OwnedFd) -> io::Result<File> {
        let name = self.temporary();
        // Left behind by a run that was killed.
        match unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(explained(error)),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let ours = Mode::RUSR | Mode::WUSR;
        let file = openat(directory, &name, flags, ours).map_err(explained)?;
        if let Err(error) = self.dress(&file) {
            unlinkat(directory, &name, AtFlags::empty()).unwrap_or_default();
            return Err(error);
        }
        Ok(File::from(file))
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

    /// Puts a new file here, in the place of whatever file or link there is.
    pub(super) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.directory()?;
        let mut file = self.make(&directory)?;
        let placed = file
            .write_all(content)
            .and_then(|()| Ok(fsync(&file)?))
            .and_then(|()| {
                let temporary = self.temporary();
                Ok(renameat(&directory, temporary, &directory, &self.name)?)
            });
        if let Err(error) = placed {
            unlinkat(&directory, self.temporary(), AtFlags::empty()).unwrap_or_default();
            return Err(error);
        }
        self.written = Some(file);
        // The name reaches the disk later on some file systems; all that it costs is a renewal.
        if let Err(error) = fsync(&directory) {
            tracing::debug!(%error, "a directory of token files cannot be synchronised");
        }
        Ok(())
    }

    /// Takes away what an earlier run has left.
    pub(super) fn clear(&self) -> io::Result<()> {
        let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        match unlinkat(self.directory()?, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes away the file that we wrote, if it is still that one.
    pub(super) fn remove(&mut self) {
        let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
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
        let place = Place::new(&FileSettings {
            path: path.to_owned(),
            mode: 0o440,
            owner: None,
            group: None,
            format: FileFormat::Raw,
        })?;
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
    fn a_link_in_the_place_of_either_file_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("victim"), "precious").unwrap();
        symlink(at("victim"), at("token")).unwrap();
        symlink(at("victim"), at(".token.new")).unwrap();
        let mut file = place(&at("token")).unwrap();
        symlink(at("victim"), at(".token.new")).unwrap();
        file.write(b"secret").unwrap();
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        assert!(fs::symlink_metadata(at("token")).unwrap().is_file());
        // Nor is one that took its place removed.
        fs::remove_file(at("token")).unwrap();
        symlink(at("victim"), at("token")).unwrap();
        drop(file);
        assert_eq!(fs::read(at("token")).unwrap(), b"precious");
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
