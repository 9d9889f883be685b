//! The file of an access log, which a rotation may move away at any time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rustix::{fs::OFlags, process::geteuid};

use super::super::log::{LosingLog, Queue, Sink, dropped};

/// A file, and the thread that writes to it.
#[derive(Debug)]
pub(super) struct AccessFile {
    path: PathBuf,
    queue: Arc<Queue>,
    /// The file to go over to, until the thread has done so.
    next: Arc<Mutex<Option<File>>>,
}

impl AccessFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let queue = Arc::new(Queue::to(Some(path.to_owned())));
        let next = Arc::default();
        let out = Reopened {
            file,
            next: Arc::clone(&next),
        };
        let writing = Arc::clone(&queue);
        thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writing.write_to(&mut Sink::new(out), dropped))?;
        Ok(Self {
            path: path.to_owned(),
            queue,
            next,
        })
    }

    /// Takes a line, or drops it where there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        self.queue.push(line);
    }

    /// How many lines were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// The file, while it loses lines.
    pub(super) fn losing(&self) -> Option<LosingLog> {
        self.queue.losing()
    }

    /// Opens the path again: behind a rotation another file is there. If that fails, the one before
    /// goes on.
    pub(super) fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => {
                *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
                tracing::info!(path = %self.path.display(), "SIGHUP: the access log is open anew");
            }
            Err(error) => tracing::error!(
                path = %self.path.display(),
                %error,
                "cannot open log.access_file anew; the file before stays in use"
            ),
        }
    }

    /// Waits until what was logged is written, but not for long.
    pub(super) fn finish(&self) {
        self.queue.drain();
    }
}

impl Drop for AccessFile {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Opens a file to append to, for its owner and group alone where it is new. In a directory that others can
/// write to they could plant a link to a file that is ours, or a file that is theirs: neither is used.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| {
            if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
                io::Error::new(error.kind(), "it is a symbolic link; name the file itself")
            } else {
                error
            }
        })?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if found.nlink() > 1 {
        return Err(io::Error::other(
            "it has a second name, so it may be another's file",
        ));
    }
    if found.uid() != geteuid().as_raw() && found.uid() != 0 {
        return Err(io::Error::other("it belongs to somebody else"));
    }
    Ok(file)
}

/// A file that is exchanged for the next one as soon as there is one.
struct Reopened {
    file: File,
    next: Arc<Mutex<Option<File>>>,
}

impl Write for Reopened {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let next = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(next) = next {
            self.file = next;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_new_file_is_for_its_owner_and_group_and_what_is_there_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        drop(open(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
        std::fs::write(&path, "before\n").unwrap();
        open(&path).unwrap().write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn what_others_could_have_planted_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("victim"), "").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("missing"), at("dangling")).unwrap();
        std::fs::hard_link(at("victim"), at("second")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        for name in ["link", "dangling", "second", "directory", "none/file"] {
            assert!(open(&at(name)).is_err(), "{name}");
        }
        assert!(!at("missing").exists());
    }

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let old = directory.path().join("access.log.1");
        let log = AccessFile::open(&path).unwrap();
        log.push(b"one\n");
        log.finish();
        std::fs::rename(&path, &old).unwrap();
        log.push(b"two\n");
        log.finish();
        log.reopen();
        log.push(b"three\n");
        log.finish();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }
}
