//! Where a secret comes from: a value given at start, or a file that is read each time it is used.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header::InvalidHeaderValue};
use secrecy::{
    ExposeSecret, SecretString,
    zeroize::{Zeroize, Zeroizing},
};
use tokio::time::sleep;

use crate::{
    named_file::{self, FileError},
    text,
};

/// No secret of this field is longer; a larger file is a mistake (a log, a directory dump).
const MAX_BYTES: usize = 64 * 1024;
/// What may be around it: a mark in front, line ends behind.
const AROUND: usize = 16;

/// A secret, or the place to read it from.
///
/// A file is read at each use, so a rotated mount works without a restart. Its trailing line
/// break is not part of the secret: editors and `kubectl create secret` add one. Nor is the mark
/// that some editors put in front.
#[derive(Clone)]
pub enum SecretSource {
    /// The secret itself, as an environment variable or the configuration file gave it.
    Value(SecretString),
    /// The file that holds it.
    File(PathBuf),
}

/// Why a secret could not be read. Names the file, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {kind}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// Something else than a file: a pipe, for one, would be empty at the next use.
    #[error("{path} must be a regular file")]
    NotRegular {
        /// What is none.
        path: PathBuf,
    },
    /// There is no next secret.
    #[error("no file for the next secret is configured")]
    NoNext,
    /// The file holds nothing but white space.
    #[error("{path} is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is too large or not text.
    #[error("{path} does not look like a secret: {why}")]
    NotASecret {
        /// The file.
        path: PathBuf,
        /// What is odd about it.
        why: &'static str,
    },
}

impl SecretSource {
    /// The secret as it is now.
    ///
    /// Reads a small local file with blocking calls: it happens once a token call, on the
    /// control runtime, and a secret volume is memory.
    ///
    /// # Errors
    /// When the file is missing, no regular one, unreadable, empty, larger than 64 KiB or not UTF-8.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File(path) => read_file(path),
        }
    }

    /// The file that holds it, if a file does.
    #[must_use]
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Value(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

fn read_file(path: &Path) -> Result<SecretString, SecretError> {
    let file = named_file::open(path).map_err(|error| match error {
        FileError::Io(error) => SecretError::Unreadable {
            path: path.to_owned(),
            kind: error.kind(),
        },
        FileError::NotRegular | FileError::TooLarge => SecretError::NotRegular {
            path: path.to_owned(),
        },
    })?;
    read_open(&file, path)
}

/// Reads a file that is open already, and was found under that path.
///
/// # Errors
/// As [`SecretSource::read`].
pub(crate) fn read_open(file: &fs::File, path: &Path) -> Result<SecretString, SecretError> {
    use io::Read;

    let unreadable = |error: io::Error| SecretError::Unreadable {
        path: path.to_owned(),
        kind: error.kind(),
    };
    let not_a_secret = |why| SecretError::NotASecret {
        path: path.to_owned(),
        why,
    };
    // Room for all of it at once: what outgrows its room leaves a copy behind that nobody wipes.
    let size = file.metadata().map_err(unreadable)?.len();
    let most = MAX_BYTES + AROUND;
    let room = usize::try_from(size).unwrap_or(most).min(most) + 64;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(not_a_secret(
            "it looks like UTF-16, not UTF-8 text; save it as that",
        ));
    }
    let too_large = || not_a_secret("it is larger than 64 KiB");
    if bytes.len() > most {
        return Err(too_large());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| not_a_secret("it is not UTF-8 text"))?;
    let text = text::value(text);
    if text.len() > MAX_BYTES {
        return Err(too_large());
    }
    if text.trim().is_empty() {
        return Err(SecretError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(SecretString::from(text))
}

/// Bytes that are wiped when the last that refers to them is dropped, for libraries that take
/// the body of a request. What they copy into their buffers on the way to the socket is theirs.
#[must_use]
pub fn wiped<T>(secret: Zeroizing<T>) -> Bytes
where
    T: Zeroize + AsRef<[u8]> + Send + 'static,
{
    Bytes::from_owner(secret)
}

/// The same as the value of a field. It is marked sensitive, so it never prints.
///
/// # Errors
/// When it is no legal field value.
pub fn wiped_field(text: Zeroizing<String>) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(wiped(text))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A secret, and the file of the one that will follow it: while both are valid, either works, so
/// nothing has to change at the same moment on both sides.
#[derive(Clone, Debug, PartialEq)]
pub struct RotatingSecret {
    /// The one in use.
    pub current: SecretSource,
    /// Where the next will be. The file need not exist yet.
    pub next_file: Option<PathBuf>,
}

impl From<SecretSource> for RotatingSecret {
    fn from(current: SecretSource) -> Self {
        Self {
            current,
            next_file: None,
        }
    }
}

impl RotatingSecret {
    /// The secret as it is now, or the next one.
    ///
    /// # Errors
    /// As [`SecretSource::read`]; also when there is no next one.
    pub fn read(&self, which: Which) -> Result<SecretString, SecretError> {
        match (which, &self.next_file) {
            (Which::Current, _) => self.current.read(),
            (Which::Next, Some(path)) => read_file(path),
            (Which::Next, None) => Err(SecretError::NoNext),
        }
    }

    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.current.file().into_iter().chain(&self.next_file)
    }
}

/// Which of two overlapping secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one in use.
    Current,
    /// The one that will follow it.
    Next,
}

impl Which {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Current => Self::Next,
            Self::Next => Self::Current,
        }
    }
}

/// Warns of files whose secret is in quotation marks, which are part of it. For those that have changed
/// at run time: of the others the configuration warns.
#[expect(
    clippy::disallowed_methods,
    reason = "only its first and last character are looked at"
)]
pub fn warn_of_quotes(files: &[PathBuf]) {
    for path in files {
        // One that cannot be read is reported where it is used.
        if read_file(path).is_ok_and(|secret| text::is_in_quotes(secret.expose_secret())) {
            let path = path.display();
            tracing::warn!(
                %path,
                "the quotation marks around the value in a changed secret file are part of it; if \
                 whoever wrote it did not mean them, remove them"
            );
        }
    }
}

/// What some files look like from outside: another content shows as another value, whether the
/// file was written in place, renamed over, or is reached by a symbolic link that was swapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(Vec<Option<Stamp>>);

/// Device, inode, size, times of content and of inode.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Fingerprint {
    /// How the files look now; one that cannot be looked at is a look of its own.
    #[must_use]
    pub fn of(paths: &[PathBuf]) -> Self {
        let stamp = |path: &PathBuf| {
            let found = fs::metadata(path).ok()?;
            let content = (found.mtime(), found.mtime_nsec());
            let inode = (found.ctime(), found.ctime_nsec());
            Some((found.dev(), found.ino(), found.size(), content, inode))
        };
        Self(paths.iter().map(stamp).collect())
    }
}

/// How often files are looked at. Looking works where a notification does not (network file
/// systems, links into mounted volumes) and costs a system call.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// Waits until the files look other than they did; for ever where there are none.
///
/// # Cancel safety
/// Safe: it only looks.
pub async fn changed(files: &[PathBuf], seen: &Fingerprint) {
    if files.is_empty() {
        return std::future::pending().await;
    }
    while Fingerprint::of(files) == *seen {
        sleep(LOOK).await;
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl PartialEq for SecretSource {
    #[expect(
        clippy::disallowed_methods,
        reason = "compares two configurations of the same process, where timing shows nobody anything"
    )]
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Value(a), Self::Value(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the test asks what was read")]
    fn content(source: &SecretSource) -> Result<String, String> {
        match source.read() {
            Ok(secret) => Ok(secret.expose_secret().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn file(bytes: &[u8]) -> (tempfile::TempDir, SecretSource) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, bytes).unwrap();
        (directory, SecretSource::File(path))
    }

    #[test]
    fn a_trailing_line_break_is_not_part_of_the_secret() {
        for bytes in ["s3cret", "s3cret\n", "s3cret\r\n", "s3cret\n\n"] {
            let (_directory, source) = file(bytes.as_bytes());
            assert_eq!(content(&source).unwrap(), "s3cret");
        }
    }

    #[test]
    fn the_mark_in_front_of_a_text_is_not_part_of_the_secret() {
        for bytes in ["\u{feff}s3cret", "\u{feff}s3cret\r\n"] {
            let (_directory, source) = file(bytes.as_bytes());
            assert_eq!(content(&source).unwrap(), "s3cret");
        }
        let (_directory, source) = file("\u{feff}\r\n".as_bytes());
        assert!(content(&source).unwrap_err().contains("is empty"));
        // As PowerShell writes it.
        let utf16 = "canary".encode_utf16().flat_map(u16::to_le_bytes);
        let bytes: Vec<u8> = [0xff, 0xfe].into_iter().chain(utf16).collect();
        let (_directory, source) = file(&bytes);
        assert!(content(&source).unwrap_err().contains("UTF-16"));
    }

    #[test]
    fn the_longest_token_fits_with_its_line_end() {
        let token = "x".repeat(64 * 1024);
        let (_directory, source) = file(format!("\u{feff}{token}\r\n").as_bytes());
        assert_eq!(content(&source).unwrap().len(), token.len());
        let (_directory, source) = file(format!("{token}x").as_bytes());
        assert!(content(&source).unwrap_err().contains("larger than 64 KiB"));
    }

    #[test]
    fn a_file_is_read_again_at_each_use() {
        let (_directory, source) = file(b"old");
        assert_eq!(content(&source).unwrap(), "old");
        fs::write(source.file().unwrap(), "new").unwrap();
        assert_eq!(content(&source).unwrap(), "new");
    }

    #[test]
    fn a_file_that_is_no_secret_is_an_error_without_its_content() {
        for (bytes, why) in [
            (&b"\n\n"[..], "is empty"),
            (&[0xff, 0xfe, b'x'], "not UTF-8"),
            (&vec![b'x'; 70_000], "larger than 64 KiB"),
        ] {
            let (_directory, source) = file(bytes);
            let message = content(&source).unwrap_err();
            assert!(message.contains(why), "{message}");
            assert!(!message.contains('\u{fffd}') && !message.contains("xxx"));
        }
        let missing = SecretSource::File("/nonexistent/secret".into());
        assert!(content(&missing).unwrap_err().contains("not found"));
    }

    #[test]
    fn a_changed_file_looks_different_however_it_changed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let paths = [at("secret")];
        let mut looks = vec![Fingerprint::of(&paths)];
        let mut look = |what: &str| {
            let now = Fingerprint::of(&paths);
            assert!(!looks.contains(&now), "{what}");
            looks.push(now);
        };
        fs::write(at("secret"), "one").unwrap();
        look("created");
        fs::write(at("secret"), "twoo").unwrap();
        look("written in place");
        fs::write(at("new"), "twoo").unwrap();
        fs::rename(at("new"), at("secret")).unwrap();
        look("renamed over");
        fs::remove_file(at("secret")).unwrap();
        for (link, content) in [("a", "1"), ("b", "2")] {
            fs::create_dir(at(link)).unwrap();
            fs::write(at(link).join("secret"), content).unwrap();
        }
        // As Kubernetes does: secret -> ..data/secret, ..data -> a, then ..data -> b.
        std::os::unix::fs::symlink("..data/secret", at("secret")).unwrap();
        std::os::unix::fs::symlink("a", at("..data")).unwrap();
        look("linked");
        std::os::unix::fs::symlink("b", at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        look("link swapped");
    }

    #[test]
    fn a_field_of_a_secret_refers_to_what_is_wiped_and_never_prints() {
        let text = Zeroizing::new("Bearer canary".to_owned());
        let place = text.as_ptr();
        let value = wiped_field(text).unwrap();
        assert_eq!(value.as_bytes(), b"Bearer canary");
        assert_eq!(value.clone().as_bytes().as_ptr(), place);
        assert!(value.is_sensitive() && !format!("{value:?}").contains("canary"));
        assert!(wiped_field(Zeroizing::new("a\nb".to_owned())).is_err());
    }

    #[test]
    fn debug_never_prints_the_value() {
        let source = SecretSource::Value(SecretString::from("canary"));
        assert_eq!(format!("{source:?}"), "Value(…)");
    }
}
