//! Secret keys: each is given as itself or as a file, and checked without being quoted.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{
    layers::DEFAULT,
    problem::Problem,
    reader::{Found, Reader},
    shape::Shape,
    values,
};
use crate::{
    permissions::KEEP_FROM_OTHERS,
    secret::{RotatingSecret, SecretSource},
    telemetry::spans::header_fields,
    text,
    tls::signing_key,
    token::endpoint::ServiceAccount,
};

/// What is right for a secret's text: a description for the message, and a test.
type Rule = (&'static str, fn(&str) -> bool);

const ONE_LINE: Rule = ("must be one line without control characters", |text| {
    !text.contains(char::is_control)
});

const PRIVATE_KEY: Rule = (
    "must be a private key as PEM: RSA, ECDSA (P-256, P-384) or Ed25519, not encrypted",
    |text| signing_key(&SecretString::from(text)).is_some(),
);

const SERVICE_ACCOUNT: Rule = (
    "must be the JSON key file of a service account, with a private key that is not encrypted",
    |text| {
        let account = ServiceAccount::parse(&SecretString::from(text));
        account.is_ok_and(|account| signing_key(&account.private_key).is_some())
    },
);

const FIELDS: Rule = (
    "must be header fields for the collector, a line \"Name: value\" each, none of which frames the message \
     (Host, Content-Type, …)",
    |text| header_fields(&SecretString::from(text)).is_some(),
);

const BEARER: Rule = (
    "must be the token alone: visible ASCII without spaces, without \"Bearer\"",
    |text| text.chars().all(|c| c.is_ascii_graphic()),
);

impl Reader {
    /// Reads `key` or its sibling with `_file`, exactly one of the two; and `_next_file`: the secret
    /// that will follow. That one is not looked at, since it need not be there yet.
    pub(super) fn rotating(&mut self, key: &'static str, also: &[&str]) -> Option<RotatingSecret> {
        self.rotating_checked(key, also, ONE_LINE)
    }

    /// The same for a private key.
    pub(super) fn private_key(&mut self, key: &'static str) -> Option<RotatingSecret> {
        self.rotating_checked(key, &[], PRIVATE_KEY)
    }

    fn rotating_checked(&mut self, key: &str, also: &[&str], rule: Rule) -> Option<RotatingSecret> {
        let current = self.checked(key, also, rule);
        let next_key = format!("{key}_next_file");
        let next_file = self.optional(&next_key, values::path);
        let current_file = current.as_ref().and_then(SecretSource::file);
        if next_file.is_some() && current_file == next_file.as_ref() {
            self.wrong(&next_key, format!("must be another file than {key}_file"));
        }
        Some(RotatingSecret {
            current: current?,
            next_file,
        })
    }

    /// The same for the JSON file of a service account, which need not be given unless `is_needed`.
    pub(super) fn service_account(
        &mut self,
        key: &'static str,
        is_needed: bool,
    ) -> Option<RotatingSecret> {
        let keys = [key.to_owned(), format!("{key}_file")];
        self.note(key, Shape::Secret);
        let mut found = keys.iter().map(|key| self.find(key).is_some());
        let is_given = found.any(|is_given| is_given);
        if is_given || is_needed {
            return self.rotating_checked(key, &[], SERVICE_ACCOUNT);
        }
        let next = format!("{key}_next_file");
        if self.find(&next).is_some() {
            self.wrong(&next, format!("also needs {key}_file"));
        }
        None
    }

    /// Reads `key` or its sibling with `_file`, where one need not be given.
    pub(super) fn optional_bearer(&mut self, key: &'static str) -> Option<SecretSource> {
        self.note(key, Shape::Secret);
        let is_given = self.find(key).is_some() | self.find(&format!("{key}_file")).is_some();
        is_given.then(|| self.checked(key, &[], BEARER)).flatten()
    }

    /// Reads `key` or its sibling with `_file`, for one that is an access token itself.
    pub(super) fn bearer(&mut self, key: &'static str, also: &[&str]) -> Option<SecretSource> {
        self.checked(key, also, BEARER)
    }

    /// The list of the clients that are let in. It holds no secret; whoever writes to it is let in.
    pub(super) fn client_list(&mut self, key: &str) -> Option<PathBuf> {
        self.optional(key, values::client_tokens_file)
    }

    /// Reads a key that can only be given as a file, and need not be given.
    pub(super) fn secret_in_file(&mut self, key: &str) -> Option<PathBuf> {
        self.checked_in_file(key, ONE_LINE)
    }

    /// The same for header fields, which may hold a key.
    pub(super) fn fields_in_file(&mut self, key: &str) -> Option<PathBuf> {
        self.checked_in_file(key, FIELDS)
    }

    fn checked_in_file(&mut self, key: &str, rule: Rule) -> Option<PathBuf> {
        self.note(key, Shape::Text);
        let Some(found) = self.find(key) else {
            self.resolved(key, "(not set)".to_owned(), DEFAULT);
            return None;
        };
        self.secret_file(key, &found, rule)?.file().cloned()
    }

    fn checked(&mut self, key: &str, also: &[&str], rule: Rule) -> Option<SecretSource> {
        let file_key = format!("{key}_file");
        self.note(key, Shape::Secret);
        self.note(&file_key, Shape::Text);
        match (self.find(key), self.find(&file_key)) {
            (Some(value), Some(file)) => {
                let text = format!("set twice: also {file_key} ({}); keep one", file.source);
                self.problems.push(Problem::new(key, value.source, text));
                None
            }
            (Some(value), None) => self.secret_value(key, &value, rule),
            (None, Some(file)) => self.secret_file(&file_key, &file, rule),
            (None, None) => {
                let mut ways = vec![file_key.as_str()];
                ways.extend(also);
                self.missing(key, &ways);
                None
            }
        }
    }

    fn secret_value(&mut self, key: &str, found: &Found, rule: Rule) -> Option<SecretSource> {
        let checked = match found.value.as_str() {
            None => Err("must be text in quotes"),
            Some(text) => {
                // The line break that a file or a here-document adds; nothing else is trimmed.
                let secret = SecretString::from(text::value(text));
                check(&secret, rule).map(|()| secret)
            }
        };
        match checked {
            Ok(secret) => {
                self.resolved(key, "(set)".to_owned(), &found.source);
                if is_in_quotes(&secret) {
                    self.warn_of_quotes(key, &found.source);
                }
                Some(SecretSource::Value(secret))
            }
            Err(text) => {
                self.problems
                    .push(Problem::new(key, found.source.as_str(), text));
                None
            }
        }
    }

    fn secret_file(&mut self, key: &str, found: &Found, rule: Rule) -> Option<SecretSource> {
        let checked = values::path(&found.value).and_then(|path| {
            let look = check_file(&path, rule)?;
            Ok((path, look))
        });
        match checked {
            Ok((path, look)) => {
                if look.is_quoted {
                    self.warn_of_quotes(key, &found.source);
                }
                if look.is_readable_by_all {
                    let path = path.display();
                    let warning = format!(
                        "{key}: every user of this machine can read {path}; {KEEP_FROM_OTHERS}"
                    );
                    self.warnings.push(warning);
                }
                self.resolved(key, path.display().to_string(), &found.source);
                Some(SecretSource::File(path))
            }
            Err(text) => {
                self.problems
                    .push(Problem::new(key, found.source.as_str(), text));
                None
            }
        }
    }
}

/// What is odd about a secret file, though it can be used.
struct Look {
    is_readable_by_all: bool,
    is_quoted: bool,
}

/// Reads the file once now, so that a mistake is found at the start.
fn check_file(path: &PathBuf, rule: Rule) -> Result<Look, String> {
    let metadata =
        fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // Reading a pipe would take from it what is read at each use.
    if !metadata.is_file() {
        return Err(format!("{} must be a regular file", path.display()));
    }
    let secret = SecretSource::File(path.clone())
        .read()
        .map_err(|error| error.to_string())?;
    check(&secret, rule).map_err(|text| format!("what is in {} {text}", path.display()))?;
    Ok(Look {
        // Not the group: secret volumes of Kubernetes are made readable by theirs.
        is_readable_by_all: metadata.permissions().mode() & 0o004 != 0,
        is_quoted: is_in_quotes(&secret),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "only its first and last character are looked at"
)]
fn is_in_quotes(secret: &SecretString) -> bool {
    text::is_in_quotes(secret.expose_secret())
}

#[expect(
    clippy::disallowed_methods,
    reason = "its text is checked; the error does not quote it"
)]
fn check(secret: &SecretString, (expected, is_right): Rule) -> Result<(), &'static str> {
    let text = secret.expose_secret();
    if text.trim().is_empty() {
        return Err("must not be empty");
    }
    is_right(text).then_some(()).ok_or(expected)
}
