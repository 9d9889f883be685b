//! Where a secret comes from: a value given at start, or a file that is read each time it is used.

use std::{fmt, io, path::PathBuf};

use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

/// No secret of this field is longer; a larger file is a mistake (a log, a directory dump).
const MAX_BYTES: u64 = 64 * 1024;

/// A secret, or the place to read it from.
///
/// A file is read at each use, so a rotated mount works without a restart. Its trailing line
/// break is not part of the secret: editors and `kubectl create secret` add one.
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
    /// When the file is missing, unreadable, empty, larger than 64 KiB or not UTF-8.
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

fn read_file(path: &PathBuf) -> Result<SecretString, SecretError> {
    use io::Read;

    let unreadable = |error: io::Error| SecretError::Unreadable {
        path: path.clone(),
        kind: error.kind(),
    };
    let not_a_secret = |why| SecretError::NotASecret {
        path: path.clone(),
        why,
    };
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path)
        .map_err(unreadable)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(not_a_secret("it is larger than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| not_a_secret("it is not UTF-8 text"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(SecretError::Empty { path: path.clone() });
    }
    Ok(SecretString::from(text))
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
        reason = "compares two configurations of the same process, where timing tells nobody anything"
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
        std::fs::write(&path, bytes).unwrap();
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
    fn a_file_is_read_again_at_each_use() {
        let (_directory, source) = file(b"old");
        assert_eq!(content(&source).unwrap(), "old");
        std::fs::write(source.file().unwrap(), "new").unwrap();
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
    fn debug_never_prints_the_value() {
        let source = SecretSource::Value(SecretString::from("canary"));
        assert_eq!(format!("{source:?}"), "Value(…)");
    }
}
