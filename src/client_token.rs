//! Local tokens of clients: random values that mean something to this sidecar alone. A client sends
//! one where its tool wants an API token; the file that lists them holds only their hashes.

use std::{collections::HashMap, fmt, io, path::Path, str::FromStr, sync::Arc};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use subtle::ConstantTimeEq;

use crate::{
    named_file::{self, FileError},
    text,
};

/// No list is longer; a larger file is a mistake.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// What a client is called in logs and metrics: up to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_right) {
            Ok(Self(text.into()))
        } else {
            Err("the name must be 1 to 64 of A-Z, a-z, 0-9, \".\", \"_\" and \"-\"")
        }
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of a token. The tokens are long and random, so a plain hash is enough: there is
/// nothing to guess.
#[derive(Clone, Copy, Debug)]
pub struct Hash([u8; SHA256_OUTPUT_LEN]);

impl Hash {
    /// Of this token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        // Both are as long as the algorithm's output.
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, token).as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// A number by which a token is known again among those of a list: the first bytes of its hash.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0
            .iter()
            .take(size_of::<u64>())
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Whether it is the same hash; takes as long whether it is or not.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "the hash must be the SHA-256 of the token, 64 hexadecimal digits";
        if text.len() != 2 * SHA256_OUTPUT_LEN {
            return Err(expected);
        }
        let mut hash = [0; SHA256_OUTPUT_LEN];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let value = pair
                .iter()
                .try_fold(0, |value, next| Some(value * 16 + digit(*next)?));
            *byte = value
                .and_then(|value| value.try_into().ok())
                .ok_or(expected)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Who may use the port, as a file lists them.
#[derive(Clone, Debug, Default)]
pub struct ClientTokens(Vec<(ClientName, Hash)>);

/// Why a file is no list of client tokens. Names lines, never what is in them: somebody may have
/// put a token where its hash belongs.
#[derive(Debug, thiserror::Error)]
pub enum ClientTokensError {
    /// The file cannot be opened or read.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// Something else than a file.
    #[error("must be a regular file")]
    NotRegular,
    /// It is not text, or too long.
    #[error("must be text of at most 1 MiB, a line name:sha256 for each client")]
    NotAList,
    /// Nothing is in it. A file that is being written looks like that too, so it does not mean
    /// that nobody is let in; a file of comments does.
    #[error("is empty; `auth-sidecar local-token NAME` makes a token and its line")]
    Empty,
    /// Lines that are wrong.
    #[error("{}", .0.join("; "))]
    Wrong(Vec<String>),
}

impl From<FileError> for ClientTokensError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io(error) => Self::Unreadable(error.kind()),
            FileError::NotRegular => Self::NotRegular,
            FileError::TooLarge => Self::NotAList,
        }
    }
}

impl ClientTokens {
    /// Reads a list. Small and rare, so with blocking calls.
    ///
    /// # Errors
    /// When the file is unreadable, empty or not right to the last line.
    pub fn read(path: &Path) -> Result<Self, ClientTokensError> {
        Self::of(&named_file::read(path, MAX_BYTES)?)
    }

    /// The list of what was read from a file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, ClientTokensError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ClientTokensError::NotAList)?;
        Self::parse(text)
    }

    /// Parses a list: a line `name:sha256` for each client, `#` begins a comment.
    ///
    /// # Errors
    /// When there is nothing in it, or a line is wrong; all that are.
    pub fn parse(text: &str) -> Result<Self, ClientTokensError> {
        let text = text::unmarked(text);
        if text.trim().is_empty() {
            return Err(ClientTokensError::Empty);
        }
        let mut tokens: Vec<(ClientName, Hash)> = Vec::new();
        let (mut names, mut hashes) = (HashMap::new(), HashMap::new());
        let mut mistakes = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match entry(line) {
                Ok((name, hash)) => {
                    if let Some(first) = names.insert(name.clone(), number) {
                        mistakes.push(format!("line {number} has the name of line {first}"));
                    }
                    if let Some(first) = hashes.insert(hash.0, number) {
                        mistakes.push(format!("line {number} has the token of line {first}"));
                    }
                    tokens.push((name, hash));
                }
                Err(expected) => mistakes.push(format!("line {number}: {expected}")),
            }
        }
        if mistakes.is_empty() {
            Ok(Self(tokens))
        } else {
            Err(ClientTokensError::Wrong(mistakes))
        }
    }

    /// Whether nobody is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many clients are on it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each client with the hash of its token.
    pub fn iter(&self) -> impl Iterator<Item = (&ClientName, &Hash)> {
        self.0.iter().map(|(name, hash)| (name, hash))
    }
}

fn entry(line: &str) -> Result<(ClientName, Hash), &'static str> {
    let (name, hash) = line
        .split_once(':')
        .ok_or("must be name:sha256, or a comment that begins with #")?;
    Ok((name.trim().parse()?, hash.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn mistakes(text: &str) -> String {
        ClientTokens::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_hash_is_that_of_the_standard_in_either_case() {
        assert_eq!(Hash::of(b"abc").to_string(), ABC);
        let upper: Hash = ABC.to_uppercase().parse().unwrap();
        assert!(upper.is(&Hash::of(b"abc")));
        assert!(!upper.is(&Hash::of(b"abd")));
        for wrong in [
            &ABC[1..],
            &format!("{ABC}0"),
            &ABC.replace('b', "g"),
            &ABC.replace("ba", "+a"),
            "",
        ] {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_is_a_line_a_client_with_comments() {
        let other = Hash::of(b"other");
        let text =
            format!("# who may\r\n\n  grafana:{ABC}\r\n#old:{ABC}\ntele.graf_2-x : {other}\n");
        let tokens = ClientTokens::parse(&text).unwrap();
        let names: Vec<&str> = tokens.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["grafana", "tele.graf_2-x"]);
        assert_eq!(tokens.len(), 2);
        let marked = format!("\u{feff}grafana:{ABC}");
        assert_eq!(ClientTokens::parse(&marked).unwrap().len(), 1);
        assert!(mistakes("\u{feff}\r\n").contains("is empty"));
        assert!(ClientTokens::parse("# nobody\n").unwrap().is_empty());
    }

    #[test]
    fn every_wrong_line_is_named_and_none_is_shown() {
        let other = Hash::of(b"other");
        let long = "x".repeat(65);
        let text = format!(
            "canary\ngood:{ABC}\ncanary:canary\ngood:{other}\nsame:{ABC}\n{long}:{other}\nca nary:{other}\n:{other}\n"
        );
        let said = mistakes(&text);
        for part in [
            "line 1: must be name:sha256",
            "line 3: the hash must be",
            "line 4 has the name of line 2",
            "line 5 has the token of line 2",
            "line 6: the name must be",
            "line 7: the name must be",
            "line 8: the name must be",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("canary") && !said.contains(ABC));
        for empty in ["", "\n \n"] {
            assert!(mistakes(empty).contains("is empty"));
        }
    }

    #[test]
    fn a_file_that_is_no_list_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let said = |path: &Path| ClientTokens::read(path).unwrap_err().to_string();
        assert!(said(&path).contains("cannot be read"));
        for bytes in [&[0xff, 0xfe][..], &vec![b'#'; (1 << 20) + 1]] {
            fs::write(&path, bytes).unwrap();
            assert!(said(&path).contains("at most 1 MiB"));
        }
        assert!(said(directory.path()).contains("must be a regular file"));
    }
}
