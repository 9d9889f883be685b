//! An HTTP proxy on the way out, to the token service or to the upstream.

use std::fmt;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

/// An HTTP proxy on the way out.
#[derive(Clone, PartialEq)]
pub struct OutboundProxy {
    /// Its address, with its credentials if it wants some.
    pub url: Url,
    /// Hosts that are reached without it, as in `NO_PROXY`.
    pub no_proxy: String,
}

impl OutboundProxy {
    /// Whether it is on the way to that address.
    #[must_use]
    pub fn is_for(&self, target: &Url) -> bool {
        self.intercept(target).is_some()
    }

    /// The `Proxy-Authorization` that it wants, if its address has credentials.
    #[must_use]
    pub fn authorization(&self, target: &Url) -> Option<HeaderValue> {
        let mut value = self.intercept(target)?.basic_auth()?.clone();
        value.set_sensitive(true);
        Some(value)
    }

    fn intercept(&self, target: &Url) -> Option<Intercept> {
        // The same rules as those of the token leg's library, which uses this too.
        let matcher = Matcher::builder()
            .all(self.url.as_str())
            .no(self.no_proxy.as_str())
            .build();
        matcher.intercept(&target.as_str().parse::<Uri>().ok()?)
    }
}

impl fmt::Debug for OutboundProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundProxy")
            .field("host", &self.url.host_str())
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
        let value = proxy("").authorization(&target).unwrap();
        assert_eq!(value, "Basic dXNlcjpwQHNz");
        assert!(value.is_sensitive());
        assert!(!format!("{:?}", proxy("")).contains("ss@"));
    }
}
