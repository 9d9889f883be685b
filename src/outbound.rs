//! An HTTP proxy on the way out, to the token service or to the upstream.

use std::{fmt, path::PathBuf};

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use secrecy::{ExposeSecret, zeroize::Zeroizing};
use url::Url;

use crate::secret::{SecretError, SecretSource};

/// An HTTP proxy on the way out.
#[derive(Clone, PartialEq)]
pub struct OutboundProxy {
    /// Its address, with its credentials if it wants some.
    pub url: Url,
    /// The file of its password, where that is not in the address. A new one in it is used without a
    /// restart.
    pub password_file: Option<PathBuf>,
    /// Hosts that are reached without it, as in `NO_PROXY`.
    pub no_proxy: String,
}

impl OutboundProxy {
    /// Whether it is on the way to that address.
    #[must_use]
    pub fn is_for(&self, target: &Url) -> bool {
        self.intercept(&self.url, target).is_some()
    }

    /// Its address, with the password as it is now.
    ///
    /// # Errors
    /// When the file of the password cannot be read.
    #[expect(
        clippy::disallowed_methods,
        reason = "the password goes to the proxy that wants it; the address is not printed"
    )]
    pub fn address(&self) -> Result<Url, SecretError> {
        let mut url = self.url.clone();
        if let Some(file) = &self.password_file {
            let password = SecretSource::File(file.clone()).read()?;
            // Encoded by the setter, but for what would look encoded already.
            let password = Zeroizing::new(password.expose_secret().replace('%', "%25"));
            // An address with a host takes one.
            url.set_password(Some(&password)).unwrap_or_default();
        }
        Ok(url)
    }

    /// The `Proxy-Authorization` that it wants, if it has credentials.
    ///
    /// # Errors
    /// When the file of the password cannot be read.
    pub fn authorization(&self, target: &Url) -> Result<Option<HeaderValue>, SecretError> {
        let intercept = self.intercept(&self.address()?, target);
        let mut value = intercept.and_then(|proxy| proxy.basic_auth().cloned());
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        Ok(value)
    }

    fn intercept(&self, address: &Url, target: &Url) -> Option<Intercept> {
        // The same rules as those of the token leg's library, which uses this too.
        let matcher = Matcher::builder()
            .all(address.as_str())
            .no(self.no_proxy.as_str())
            .build();
        matcher.intercept(&target.as_str().parse::<Uri>().ok()?)
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

    fn proxy(no_proxy: &str) -> OutboundProxy {
        OutboundProxy {
            url: Url::parse("http://user:p%40ss@proxy.example:3128").unwrap(),
            password_file: None,
            no_proxy: no_proxy.to_owned(),
        }
    }

    #[test]
    fn exceptions_are_names_domains_addresses_and_networks() {
        let no_proxy = "localhost,.internal.example,h.example,10.0.0.0/8,::1";
        for (target, is_for) in [
            ("https://service.example", true),
            ("http://service.example", true),
            ("https://11.0.0.1", true),
            ("https://h.example", false),
            ("https://a.h.example", false),
            ("https://a.internal.example", false),
            ("https://localhost:8443", false),
            ("https://10.1.2.3", false),
            ("https://[::1]", false),
        ] {
            let target = Url::parse(target).unwrap();
            assert_eq!(proxy(no_proxy).is_for(&target), is_for, "{target}");
            assert!(proxy("").is_for(&target), "{target}");
            assert!(!proxy("*,0.0.0.0/0,::/0").is_for(&target), "{target}");
        }
    }

    #[test]
    fn its_credentials_are_decoded_and_never_print() {
        let target = Url::parse("https://service.example").unwrap();
        let value = proxy("").authorization(&target).unwrap().unwrap();
        assert_eq!(value, "Basic dXNlcjpwQHNz");
        assert!(value.is_sensitive());
        assert!(!format!("{:?}", proxy("")).contains("ss@"));
    }

    #[test]
    fn a_password_from_a_file_is_what_the_file_holds_now() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let proxy = OutboundProxy {
            url: Url::parse("http://user@proxy.example:3128").unwrap(),
            password_file: Some(file.clone()),
            no_proxy: String::new(),
        };
        let target = Url::parse("https://service.example").unwrap();
        assert!(proxy.authorization(&target).is_err());
        for (password, basic) in [
            ("p@ss\n", "Basic dXNlcjpwQHNz"),
            // What would mean something else in an address.
            ("a%40:/?#b\n", "Basic dXNlcjphJTQwOi8/I2I="),
        ] {
            std::fs::write(&file, password).unwrap();
            let value = proxy.authorization(&target).unwrap().unwrap();
            assert_eq!(value, basic);
        }
    }
}
