//! A file that holds the current token, for programs that read one: replaced whole at each renewal,
//! gone when the token ends and when the program does.
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
    time::{Duration, SystemTime},
};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, open, openat, renameat,
    statat, unlinkat,
};
use secrecy::zeroize::Zeroizing;
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::token::{AccessToken, TokenHandle};

/// Where a token goes, whose the file is, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The file. Its directory has to exist.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// The id of its owner; `None` leaves it ours.
    pub owner: Option<u32>,
    /// The id of its group; `None` leaves it ours.
    pub group: Option<u32>,
    /// What is in it.
    pub format: FileFormat,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// The token, and not even a line end.
    Raw,
    /// A line `Authorization: Bearer …`.
    Header,
    /// `access_token`, `token_type` and `expires_at`, in seconds since 1970.
    Json,
}

/// A file that follows a token. Dropped, it is removed, unless it is another one by then.
#[derive(Debug)]
pub struct TokenFile {
    settings: FileSettings,
    name: String,
    /// The file that we wrote last; open, so that no other one gets its number.
    written: Option<File>,
    /// The generation and the end of the token in it.
    holds: Option<Held>,
    /// Whether what may be left of an earlier run is gone.
    is_clean: bool,
}

type Held = (u64, Option<Instant>);

/// What is tried again when a file cannot be written, and at the earliest after how long.
const PAUSE: Duration = Duration::from_secs(1);
/// A moment that no program sees.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Whoever writes in this process. At a change of the configuration there can be two for one path.
static WRITING: Mutex<()> = Mutex::new(());

impl TokenFile {
    /// Sees whether the file can be written, owner and mode included, and leaves what is there.
    ///
    /// # Errors
    /// When the directory is not there or may not be written to, the owner may not be given, or
    /// something else than a file is in the place.
    pub fn new(settings: FileSettings) -> io::Result<Self> {
        let name = settings.path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("the path must end in a name"))?;
        let file = Self {
            name: name.to_owned(),
            settings,
            written: None,
            holds: None,
            is_clean: false,
        };
        let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = file.directory()?;
        match statat(&directory, &file.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile | FileType::Symlink => {}
                _ => {
                    let what = "there is something else than a file, which is left alone";
                    return Err(io::Error::other(what));
                }
            },
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        drop(file.make(&directory)?);
        unlinkat(&directory, file.temporary(), AtFlags::empty())?;
        Ok(file)
    }

    /// Follows the token, for ever. `looked` is called once the file is as the token has it for the
    /// first time, `wrote` after each attempt to write, with whether it succeeded.
    pub async fn keep(mut self, tokens: TokenHandle, looked: impl FnOnce(), wrote: impl Fn(bool)) {
        let mut looked = Some(looked);
        let mut snapshot = tokens.snapshot();
        loop {
            let now = Instant::now();
            let token = snapshot.usable(now);
            let mut again = now + NEVER;
            if let Err(error) = self.show(token.map(|token| &**token), now, &wrote) {
                let path = self.settings.path.display();
                tracing::error!(%path, %error, "cannot keep the file of the token; trying again");
                again = now + PAUSE + PAUSE.mul_f64(fastrand::f64() * 4.0);
            }
            if let Some(looked) = looked.take() {
                looked();
            }
            // What ends first: the token that there is, or the one that could not be replaced.
            let ends = [
                token.and_then(|token| token.expires_at),
                self.holds.and_then(|(_, end)| end),
            ];
            let ends = ends.into_iter().flatten().filter(|end| *end > now);
            let next = ends.min().map_or(again, |end| end.min(again));
            tokio::select! {
                changed = tokens.changed(&snapshot) => snapshot = changed,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Has the file hold this token, or be gone where there is none.
    fn show(
        &mut self,
        token: Option<&AccessToken>,
        now: Instant,
        wrote: &impl Fn(bool),
    ) -> io::Result<()> {
        let wanted = token.map(|token| (token.generation, token.expires_at));
        if self.is_clean && wanted == self.holds {
            return Ok(());
        }
        let has_ended =
            |(_, end): Held| token.is_none() || end.is_some_and(|end| end <= Instant::now());
        let result = match token {
            Some(token) => {
                let result = self.write(&content(token, self.settings.format, now));
                wrote(result.is_ok());
                result
            }
            None => self.clear(),
        };
        match &result {
            Ok(()) => {
                self.is_clean = true;
                self.holds = wanted;
            }
            // Better none than one that has ended.
            Err(_) if self.holds.is_some_and(has_ended) => {
                self.remove();
                self.holds = None;
            }
            Err(_) => {}
        }
        result
    }

    fn directory(&self) -> io::Result<rustix::fd::OwnedFd> {
        let parent = self.settings.path.parent();
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

    /// A new, empty file of the owner and the mode that are wanted.
    fn make(&self, directory: &rustix::fd::OwnedFd) -> io::Result<File> {
        let name = self.temporary();
        // Left behind by a run that was killed.
        match unlinkat(directory, &name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(explained(error)),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let ours = Mode::RUSR | Mode::WUSR;
        let file = openat(directory, &name, flags, ours).map_err(explained)?;
        let FileSettings {
            mode, owner, group, ..
        } = self.settings;
        // The owner first: a change of it may take bits of the mode away.
        if owner.is_some() || group.is_some() {
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            fchown(&file, owner, group).map_err(|error| {
                let reason = io::Error::from(error);
                let text = format!("cannot give it to its owner and group: {reason}");
                io::Error::new(reason.kind(), text)
            })?;
        }
        fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(File::from(file))
    }

    fn write(&mut self, content: &[u8]) -> io::Result<()> {
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

    /// Takes away what is there: ours, or what an earlier run has left.
    fn clear(&mut self) -> io::Result<()> {
        if self.is_clean {
            self.remove();
            return Ok(());
        }
        let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        match unlinkat(self.directory()?, &self.name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes away the file that we wrote, if it is still that one.
    fn remove(&mut self) {
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
            let path = self.settings.path.display();
            tracing::warn!(%path, %error, "cannot remove the file of the token");
        }
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn explained(error: rustix::io::Errno) -> io::Error {
    match io::Error::from(error) {
        reason if reason.kind() == io::ErrorKind::PermissionDenied => io::Error::new(
            reason.kind(),
            "the directory must be writable; one that was not named at the start, while the \
             sandbox is in force, needs a restart",
        ),
        reason => reason,
    }
}

#[derive(Serialize)]
struct Json<'a> {
    access_token: &'a str,
    token_type: &'a str,
    /// `null`: it does not end.
    expires_at: Option<u64>,
}

fn content(token: &AccessToken, format: FileFormat, now: Instant) -> Zeroizing<Vec<u8>> {
    let text = token.bearer.expose_token();
    // Room for all of it at once: what outgrows its room leaves a copy that nobody wipes.
    let mut content = Zeroizing::new(Vec::with_capacity(2 * text.len() + 128));
    match format {
        FileFormat::Raw => content.extend_from_slice(text.as_bytes()),
        FileFormat::Header => {
            for part in ["Authorization: Bearer ", text, "\n"] {
                content.extend_from_slice(part.as_bytes());
            }
        }
        FileFormat::Json => {
            let ends = token.expires_at.map(|end| {
                let at = SystemTime::now() + end.saturating_duration_since(now);
                let since = at.duration_since(SystemTime::UNIX_EPOCH);
                since.map_or(0, |since| since.as_secs())
            });
            let json = Json {
                access_token: text,
                token_type: "Bearer",
                expires_at: ends,
            };
            // A structure of texts and a number can always be written.
            drop(serde_json::to_writer(&mut *content, &json));
            content.push(b'\n');
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use secrecy::SecretString;

    use super::*;
    use crate::token::Bearer;

    fn token(name: &str) -> AccessToken {
        let now = Instant::now();
        AccessToken {
            bearer: Bearer::new(&SecretString::from(name)).unwrap(),
            generation: 1,
            requested_at: now,
            expires_at: Some(now + Duration::from_secs(60)),
        }
    }

    fn settings(path: PathBuf) -> FileSettings {
        FileSettings {
            path,
            mode: 0o440,
            owner: None,
            group: None,
            format: FileFormat::Raw,
        }
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
        let mut file = TokenFile::new(settings(path.clone())).unwrap();
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
        let mut file = TokenFile::new(settings(at("token"))).unwrap();
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
        let error = TokenFile::new(settings(path.clone())).unwrap_err();
        assert!(error.to_string().contains("something else than a file"));
        let missing = settings(path.join("missing").join("token"));
        let error = TokenFile::new(missing).unwrap_err();
        assert!(error.to_string().contains("cannot open the directory"));
        assert!(path.is_dir());
    }

    #[test]
    fn what_an_earlier_run_has_left_goes_before_the_first_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "stale").unwrap();
        let mut file = TokenFile::new(settings(path.clone())).unwrap();
        assert!(path.exists());
        file.show(None, Instant::now(), &|_| ()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_token_that_has_ended_does_not_stay_because_the_next_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let mut file = TokenFile::new(settings(path.clone())).unwrap();
        let now = Instant::now();
        let mut ended = token("old");
        ended.expires_at = Some(now);
        file.show(Some(&ended), now, &|_| ()).unwrap();
        assert!(path.exists());
        // Nothing can be made where a directory with something in it is in the way.
        fs::create_dir_all(directory.path().join(".token.new/x")).unwrap();
        assert!(file.show(Some(&token("new")), now, &|_| ()).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn each_format_is_what_its_readers_expect() {
        let text = |format| {
            let content = content(&token("a\"b"), format, Instant::now());
            String::from_utf8(content.to_vec()).unwrap()
        };
        assert_eq!(text(FileFormat::Raw), "a\"b");
        assert_eq!(text(FileFormat::Header), "Authorization: Bearer a\"b\n");
        let json: serde_json::Value = serde_json::from_str(&text(FileFormat::Json)).unwrap();
        assert_eq!(json["access_token"], "a\"b");
        assert_eq!(json["token_type"], "Bearer");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let left = json["expires_at"].as_u64().unwrap() - now.unwrap().as_secs();
        assert!((58..=60).contains(&left), "{left}");
    }
}
