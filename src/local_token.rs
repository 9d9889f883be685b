//! `auth-sidecar local-token NAME`: makes a token for one client, and the line that lets it in.

mod list;
mod place;

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use self::list::Added;
use crate::client_token::{ClientName, Hash};

/// What every token begins with, so that people and scanners for lost secrets know it.
const PREFIX: &str = "sidecar_";

/// Random bytes of a token.
const BYTES: usize = 32;

/// Makes a token for `name`. The token alone goes to `output`, everything else to `notes`, so that
/// `TOKEN=$(auth-sidecar local-token …)` works. With a `file`, its line is added there; the file
/// is created for its owner alone.
///
/// The token is shown when its line is in place: shown before, it could be one that lets nobody in. A
/// token that cannot be shown is lost, so its line is taken back; meanwhile it lets in nobody either.
///
/// # Errors
/// When the file is no list of client tokens, has the name already, or cannot be replaced; when the token
/// cannot be shown.
pub fn make(
    name: &ClientName,
    file: Option<&Path>,
    output: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<()> {
    let token = random()?;
    let line = line(name, &token);
    let added =
        file.map(|path| Added::to(path, name, &line).with_context(|| path.display().to_string()));
    let added = added.transpose()?;
    if let Err(error) = show(&token, output) {
        let unseen = anyhow::Error::new(error).context("the token cannot be shown");
        return Err(match (file, added.map(Added::take_back)) {
            (Some(path), Some(Err(left))) => unseen.context(format!(
                "{}: delete the line that begins with {name}:, which could not be taken back ({left:#})",
                path.display()
            )),
            _ => unseen,
        });
    }
    writeln!(
        notes,
        "\nAbove is the token of {name}. It is shown once: give it to the client as its API token.\n"
    )?;
    match file {
        Some(path) => writeln!(
            notes,
            "{} lets it in: the line has been added.\n\
             A running sidecar whose listen.client_tokens_file that is notices within a second.\n\
             To lock the client out again, delete the line that begins with {name}: there.",
            path.display()
        )?,
        None => writeln!(
            notes,
            "To let it in, add this line to the file that listen.client_tokens_file names\n\
             (`auth-sidecar local-token {name} --file FILE` would have done it):\n\n{line}"
        )?,
    }
    Ok(())
}

fn random() -> anyhow::Result<SecretString> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    SystemRandom::new()
        .fill(bytes.as_mut_slice())
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
    Ok(format!("{PREFIX}{}", text.as_str()).into())
}

#[expect(
    clippy::disallowed_methods,
    reason = "what is written down is its hash"
)]
fn line(name: &ClientName, token: &SecretString) -> String {
    format!("{name}:{}", Hash::of(token.expose_secret().as_bytes()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the token was asked for, and is kept nowhere else"
)]
fn show(token: &SecretString, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "{}", token.expose_secret())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn made(name: &str, file: Option<&Path>) -> anyhow::Result<(String, String)> {
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        make(&name.parse().unwrap(), file, &mut output, &mut notes)?;
        Ok((String::from_utf8(output)?, String::from_utf8(notes)?))
    }

    #[test]
    fn the_token_alone_is_the_output_and_its_line_is_its_hash() {
        let (output, notes) = made("grafana", None).unwrap();
        let token = output.strip_suffix('\n').unwrap();
        let random = token.strip_prefix(PREFIX).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len(), BYTES);
        assert!(notes.contains(&format!("\ngrafana:{}\n", Hash::of(token.as_bytes()))));
        assert!(!notes.contains(token));
        assert_ne!(made("grafana", None).unwrap().0, output);
    }

    #[test]
    fn a_file_gets_a_line_a_client_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let (first, notes) = made("a", Some(&path)).unwrap();
        assert!(notes.contains("has been added") && !notes.contains(first.trim()));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(&path, fs::read_to_string(&path).unwrap().trim_end()).unwrap();
        let (second, _) = made("b", Some(&path)).unwrap();
        let hash = |token: &str| Hash::of(token.trim().as_bytes());
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("a:{}\nb:{}\n", hash(&first), hash(&second))
        );
        let again = format!("{:#}", made("a", Some(&path)).unwrap_err());
        assert!(again.contains("a line for a already"), "{again}");
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    /// Shows nothing, and puts something else in the place of the list.
    struct Saboteur<'a>(&'a Path);

    impl Write for Saboteur<'_> {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            fs::rename(self.0, self.0.with_extension("old"))?;
            fs::create_dir(self.0)?;
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_taken_back_is_named_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let mut notes = Vec::new();
        let name = "a".parse().unwrap();
        let error = make(&name, Some(&path), &mut Saboteur(&path), &mut notes).unwrap_err();
        let said = format!("{error:#}");
        for part in [
            path.to_str().unwrap(),
            "delete the line that begins with a:",
            "must be a regular file",
            "the token cannot be shown",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(notes.is_empty());
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n").unwrap();
        assert!(made("a", Some(&path)).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n");
    }
}
