//! An HTTP proxy on the way out, to the token service or to the upstream.

use std::{fmt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, zeroize::Zeroizing};
use url::Url;

use super::NoProxy;
use crate::secret::{SecretError, SecretSource, wiped_field};

/// An HTTP proxy on the way out.
#[derive(Clone, PartialEq)]
pub struct OutboundProxy {
    /// Its address, with its credentials if it wants some.
    pub url: Url,
    /// The file of its password, where that is not in the address. A new one in it is used without a
    /// restart.
    pub password_file: Option<PathBuf>,
    /// Hosts that are reached without it.
    pub no_proxy: NoProxy,
}

impl OutboundProxy {
    /// Whether it is on the way to that address.
    #[must_use]
    pub fn is_for(&self, target: &Url) -> bool {
        !self.no_proxy.has(target)
    }

    /// Whether it is given a user name.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        !self.url.username().is_empty() || self.url.password().is_some()
    }

    /// The `Proxy-Authorization` that it wants, with the password as it is now, if it has credentials.
    ///
    /// # Errors
    /// When the file of the password cannot be read.
    #[expect(
        clippy::disallowed_methods,
        reason = "the password goes to the proxy that wants it; the field is marked sensitive"
    )]
    pub fn authorization(&self) -> Result<Option<HeaderValue>, SecretError> {
        if !self.has_credentials() {
            return Ok(None);
        }
        let decoded = |text: &str| Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
        let user = decoded(self.url.username());
        let password = match &self.password_file {
            Some(file) => {
                let password = SecretSource::File(file.clone()).read()?;
                Zeroizing::new(password.expose_secret().as_bytes().to_vec())
            }
            None => decoded(self.url.password().unwrap_or_default()),
        };
        // With room for all of it: what outgrows its room leaves a copy behind that nobody wipes.
        let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
        for part in [user.as_slice(), b":", password.as_slice()] {
            pair.extend_from_slice(part);
        }
        let mut text = Zeroizing::new(String::with_capacity(2 * pair.len() + 16));
        text.push_str("Basic ");
        BASE64_STANDARD.encode_string(&*pair, &mut text);
        // Base64 is always a valid value.
        Ok(wiped_field(text).ok())
    }
}

impl fmt::Debug for OutboundProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundProxy")
            .field("host", &self.url.host_str())
            .field("password_file", &self.password_file)
            .field("no_proxy", &self.no_proxy)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, password_file: Option<PathBuf>) -> OutboundProxy {
        OutboundProxy {
            url: Url::parse(url).unwrap(),
            password_file,
            no_proxy: NoProxy::default(),
        }
    }

    #[test]
    fn its_credentials_are_decoded_and_never_print() {
        for (url, basic) in [
            (
                "http://user:p%40ss@proxy.example:3128",
                "Basic dXNlcjpwQHNz",
            ),
            ("http://user@proxy.example", "Basic dXNlcjo="),
            ("http://:p%40ss@proxy.example", "Basic OnBAc3M="),
        ] {
            let proxy = proxy(url, None);
            let value = proxy.authorization().unwrap().unwrap();
            assert_eq!(value, basic);
            assert!(value.is_sensitive());
            let printed = format!("{proxy:?}");
            assert!(
                !printed.contains("ss@") && !printed.contains("p@ss"),
                "{printed}"
            );
        }
        let none = proxy("http://proxy.example", None);
        assert_eq!(none.authorization().unwrap(), None);
    }

    #[test]
    fn a_password_from_a_file_is_what_the_file_holds_now() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let proxy = proxy("http://user@proxy.example:3128", Some(file.clone()));
        assert!(proxy.authorization().is_err());
        for (password, basic) in [
            ("p@ss\n", "Basic dXNlcjpwQHNz"),
            // What would mean something else in an address.
            ("a%40:/?#b\n", "Basic dXNlcjphJTQwOi8/I2I="),
        ] {
            std::fs::write(&file, password).unwrap();
            let value = proxy.authorization().unwrap().unwrap();
            assert_eq!(value, basic);
        }
    }
}
