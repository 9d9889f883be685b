//! Who may use the port, and for what: judged on the fields as received, before anything is
//! stripped.

mod allowed;
mod authority;
mod browser;
mod clients;
mod http2;
mod required;

use http::{Method, Version, request::Parts};

pub use self::{
    allowed::{Allowed, Preset, Rule},
    clients::Clients,
    required::RequiredField,
};
use self::{authority::check_host, browser::check_browser, http2::check_head};
use super::error::ProxyError;

/// Who is served, and with what.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Names that clients may use for us, in lower case, without a port.
    pub hosts: Vec<String>,
    /// Whether any address literal will do. A name can be rebound to us by a hostile name
    /// server, an address can't.
    pub any_address: bool,
    /// Origins (`scheme://host[:port]`) of pages that may use us.
    pub origins: Vec<String>,
    /// A field that every request must have.
    pub required: Option<RequiredField>,
    /// The clients that are let in; `None` lets everybody in.
    pub clients: Option<Clients>,
    /// What they may ask for; `None` allows everything.
    pub allowed: Option<Allowed>,
}

/// Judges a request's head.
///
/// # Errors
/// The answer that it earns.
pub fn admit(parts: &Parts, rules: &Rules) -> Result<(), ProxyError> {
    // Methods are case-sensitive, but not every server knows that.
    let is = |method: &str| parts.method.as_str().eq_ignore_ascii_case(method);
    if is("TRACE") || is("TRACK") || is("CONNECT") {
        return Err(ProxyError::Method);
    }
    if parts.version == Version::HTTP_2 {
        check_head(parts)?;
    }
    check_target(parts)?;
    let host = check_host(parts, rules)?;
    check_browser(&parts.headers, host, rules)?;
    if let Some(required) = &rules.required {
        required.check(&parts.headers)?;
    }
    if let Some(clients) = &rules.clients {
        clients.check(&parts.headers)?;
    }
    if let Some(allowed) = &rules.allowed {
        allowed.check(parts)?;
    }
    Ok(())
}

/// RFC 9112 §3.2: the forms of a target and the methods that they belong to.
fn check_target(parts: &Parts) -> Result<(), ProxyError> {
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(ProxyError::Malformed("asterisk-form"));
    }
    if parts.uri.authority().is_some() && !matches!(parts.uri.scheme_str(), Some("http" | "https"))
    {
        return Err(ProxyError::Malformed("authority-form, or another scheme"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::{Request, header::HOST};

    use super::*;
    use crate::server::{MAX_FIELDS, MAX_TARGET};

    fn judge(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Option<u16> {
        let rules = Rules {
            hosts: vec!["example.wavefront.com".to_owned()],
            any_address: false,
            origins: vec!["https://tools.example".to_owned()],
            ..Rules::default()
        };
        let (parts, ()) = build(Request::builder()).body(()).unwrap().into_parts();
        let error = admit(&parts, &rules).err()?;
        Some(error.response(false).status().as_u16())
    }

    #[test]
    fn hosts_that_are_ours_are_served_and_others_misdirected() {
        for host in [
            "localhost",
            "LOCALHOST:9797",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.8.8.8",
            "[::1]:9797",
            "example.wavefront.com",
            "Example.Wavefront.com:443",
        ] {
            assert_eq!(judge(|r| r.header(HOST, host)), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "wavefront.com",
            "evil-example.wavefront.com",
            "localhost.",
        ] {
            assert_eq!(judge(|r| r.header(HOST, host)), Some(421), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_missing_repeated_or_malformed_is_refused() {
        assert_eq!(judge(|r| r), Some(400));
        assert_eq!(judge(|r| r.version(Version::HTTP_10)), None);
        assert_eq!(
            judge(|r| r.header(HOST, "localhost").header(HOST, "localhost")),
            Some(400)
        );
        for host in [
            "",
            "a b",
            "user@localhost",
            "localhost:port",
            "local/host",
            ":80",
        ] {
            assert_eq!(judge(|r| r.header(HOST, host)), Some(400), "{host:?}");
        }
    }

    #[test]
    fn an_absolute_target_must_name_us_too() {
        let with = |uri: &'static str| judge(|r| r.uri(uri).header(HOST, "localhost"));
        assert_eq!(with("http://localhost:9797/x"), None);
        assert_eq!(with("http://example.wavefront.com/x"), None);
        assert_eq!(with("http://evil.example/x"), Some(421));
        assert_eq!(with("http://user@localhost/x"), Some(400));
        assert_eq!(
            judge(|r| r.uri("http://localhost/").header(HOST, "evil.example")),
            Some(421)
        );
    }

    #[test]
    fn browsers_are_refused_unless_the_page_is_ours_or_allowed() {
        let with = |name: &'static str, value: &'static str| {
            judge(|r| r.header(HOST, "localhost:9797").header(name, value))
        };
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:1",
            "https://tools.example.evil",
        ] {
            assert_eq!(with("origin", origin), Some(403), "{origin}");
        }
        assert_eq!(with("origin", "http://localhost:9797"), None);
        assert_eq!(with("origin", "https://tools.example"), None);
        assert_eq!(with("sec-fetch-site", "cross-site"), Some(403));
        assert_eq!(with("sec-fetch-site", "same-site"), Some(403));
        assert_eq!(with("sec-fetch-site", "none"), None);
        assert_eq!(with("sec-fetch-site", "same-origin"), None);
        let allowed = |site| {
            judge(|r| {
                r.header(HOST, "localhost")
                    .header("origin", "https://tools.example")
                    .header("sec-fetch-site", site)
            })
        };
        assert_eq!(allowed("cross-site"), None);
        let twice = judge(|r| {
            r.header(HOST, "localhost:9797")
                .header("origin", "http://localhost:9797")
                .header("origin", "http://evil.example")
        });
        assert_eq!(twice, Some(403));
    }

    #[test]
    fn methods_that_show_or_tunnel_are_refused() {
        for method in ["TRACE", "TRACK"] {
            assert_eq!(
                judge(|r| r.method(method).header(HOST, "localhost")),
                Some(405)
            );
        }
        let connect = judge(|r| {
            r.method("CONNECT")
                .uri("localhost:1")
                .header(HOST, "localhost")
        });
        assert_eq!(connect, Some(405));
    }

    #[test]
    fn http2_names_one_host_by_either_of_two_ways() {
        let with = |uri: &'static str| judge(|r| r.version(Version::HTTP_2).uri(uri));
        assert_eq!(with("/x"), Some(400));
        assert_eq!(with("http://localhost/x"), None);
        assert_eq!(with("http://evil.example/x"), Some(421));
        let both = |host: &'static str| {
            let uri = "https://localhost:1/x";
            judge(|r| r.version(Version::HTTP_2).uri(uri).header(HOST, host))
        };
        assert_eq!(both("LOCALHOST:1"), None);
        assert_eq!(both("localhost"), Some(400));
        let host = judge(|r| {
            r.version(Version::HTTP_2)
                .uri("/x")
                .header(HOST, "localhost")
        });
        assert_eq!(host, None);
    }

    #[test]
    fn http2_has_the_bounds_of_http1() {
        let with = |name: &'static str, value: &'static str, times: usize| {
            judge(|r| {
                let r = r.version(Version::HTTP_2).uri("http://localhost/x");
                (0..times).fold(r, |r, _| r.header(name, value))
            })
        };
        assert_eq!(with("content-length", "7", 1), None);
        assert_eq!(with("content-length", "7", 2), Some(400));
        assert_eq!(with("content-length", "+7", 1), Some(400));
        assert_eq!(with("x-a", "1", MAX_FIELDS), None);
        assert_eq!(with("x-a", "1", MAX_FIELDS + 1), Some(431));
        let long = format!("http://localhost/{}", "x".repeat(MAX_TARGET));
        assert_eq!(judge(|r| r.version(Version::HTTP_2).uri(long)), Some(414));
    }

    #[test]
    fn the_asterisk_belongs_to_options() {
        let with =
            |method: &'static str| judge(|r| r.method(method).uri("*").header(HOST, "localhost"));
        assert_eq!(with("OPTIONS"), None);
        assert_eq!(with("GET"), Some(400));
    }
}
