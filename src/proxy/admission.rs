//! Who may use the port: judged on the fields as received, before anything is stripped.

mod clients;

use std::net::{IpAddr, Ipv6Addr};

use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{CONTENT_LENGTH, HOST, ORIGIN},
    request::Parts,
    uri::{Authority, PathAndQuery},
};

pub use self::clients::Clients;
use super::error::ProxyError;
use crate::server::{MAX_FIELDS, MAX_TARGET, Refusal};

/// The hosts and origins that are served.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Names that clients may use for us, in lower case, without a port.
    pub hosts: Vec<String>,
    /// Whether any address literal will do. A name can be rebound to us by a hostile name
    /// server, an address can't.
    pub any_address: bool,
    /// Origins (`scheme://host[:port]`) of pages that may use us.
    pub origins: Vec<String>,
    /// The clients that are let in; `None` lets everybody in.
    pub clients: Option<Clients>,
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
    match &rules.clients {
        Some(clients) => clients.check(&parts.headers),
        None => Ok(()),
    }
}

/// What the framing of HTTP/1 has judged by now, and the codec of HTTP/2 leaves to us.
fn check_head(parts: &Parts) -> Result<(), ProxyError> {
    if parts.headers.len() > MAX_FIELDS {
        return Err(ProxyError::Refused(Refusal::HeadTooLarge));
    }
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > MAX_TARGET {
        return Err(ProxyError::Refused(Refusal::TargetTooLong));
    }
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let is_length = |length: &HeaderValue| length.as_bytes().iter().all(u8::is_ascii_digit);
    if !lengths.next().is_none_or(is_length) || lengths.next().is_some() {
        return Err(ProxyError::Malformed("Content-Length"));
    }
    // RFC 9113 §8.3.1: one who says both says the same.
    let host = parts.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (None, None) => Err(ProxyError::Malformed("no authority")),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(ProxyError::Malformed("two authorities"))
        }
        _ => Ok(()),
    }
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

/// RFC 9112 §3.2: exactly one valid Host with HTTP/1.1. What it names must be us: a page whose
/// name was rebound to our address still says its own name.
fn check_host<'a>(parts: &'a Parts, rules: &Rules) -> Result<Option<&'a Authority>, ProxyError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyError::Malformed("several Host fields"));
    }
    match host {
        Some(host) => rules.check_authority(&authority(host.as_bytes())?)?,
        None if parts.version == Version::HTTP_11 => {
            return Err(ProxyError::Malformed("no Host"));
        }
        None => {}
    }
    // Absolute-form: the target's authority counts (RFC 9112 §3.2.2), and Host must be ours too.
    let target = parts.uri.authority();
    if let Some(target) = target {
        rules.check_authority(&authority(target.as_str().as_bytes())?)?;
    }
    Ok(target)
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), to the letter: what is between brackets is an IPv6
/// address, and a port is digits.
fn authority(text: &[u8]) -> Result<Authority, ProxyError> {
    let malformed = ProxyError::Malformed("authority");
    let authority = Authority::try_from(text).map_err(|_| malformed.clone())?;
    let host = authority.host();
    let rest = authority.as_str().strip_prefix(host);
    let is_port = |rest: &str| {
        rest.strip_prefix(':').is_some_and(|digits| {
            digits.bytes().all(|digit| digit.is_ascii_digit())
                && (digits.is_empty() || digits.parse::<u16>().is_ok())
        })
    };
    let is_host = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(['[', ']', '@']),
    };
    if is_host && rest.is_some_and(|rest| rest.is_empty() || is_port(rest)) {
        Ok(authority)
    } else {
        Err(malformed)
    }
}

impl Rules {
    fn check_authority(&self, authority: &Authority) -> Result<(), ProxyError> {
        let host = authority.host();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let ours = match address {
            Some(address) if address.is_loopback() || self.any_address => true,
            _ => {
                host.eq_ignore_ascii_case("localhost")
                    || self
                        .hosts
                        .iter()
                        .any(|name| host.eq_ignore_ascii_case(name))
            }
        };
        if ours {
            Ok(())
        } else {
            Err(ProxyError::Misdirected)
        }
    }

    fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let allowed = |allowed: &String| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
        self.origins.iter().any(allowed)
    }
}

/// A page of another site can make its visitor's browser send us requests; the browser says so.
fn check_browser(
    headers: &HeaderMap,
    target: Option<&Authority>,
    rules: &Rules,
) -> Result<(), ProxyError> {
    let mut granted = false;
    for origin in headers.get_all(ORIGIN) {
        if !rules.allows_origin(origin) && !is_own(origin, headers, target) {
            return Err(ProxyError::CrossSite);
        }
        granted = true;
    }
    let site_is_foreign = headers
        .get_all("sec-fetch-site")
        .iter()
        .any(|site| site != "same-origin" && site != "none");
    if site_is_foreign && !granted {
        return Err(ProxyError::CrossSite);
    }
    Ok(())
}

/// Whether a page got from here sent it: its origin is the host that the request names, which is
/// known to be ours by now.
fn is_own(origin: &HeaderValue, headers: &HeaderMap, target: Option<&Authority>) -> bool {
    let Some(origin) = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok())
    else {
        return false;
    };
    let host = match target {
        Some(target) => Some(target.as_str().as_bytes()),
        None => headers.get(HOST).map(HeaderValue::as_bytes),
    };
    let same = |authority: &Authority| {
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_str().as_bytes()))
    };
    origin.authority().is_some_and(same)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

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
