//! Parsers of addresses, URLs, hosts and origins. What they refuse protects the credential.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use figment::value::Value;
use http::{Uri, uri::Authority};
use url::{Host, Url};

use super::{
    problem::Expected,
    shape::{Parser, Shape},
    sockets,
    values::text,
};
use crate::server::{Address, Inherited, PassedAddress};

/// `IP:port` or `localhost:port`.
fn port(text: &str, tls: bool) -> Result<Address, Expected> {
    let localhost = text.strip_prefix("localhost:");
    let localhost = localhost.and_then(|port| port.parse().ok());
    let localhost = localhost.map(|port| Address::Localhost { port, tls });
    let kind = if tls { Address::Tls } else { Address::Tcp };
    let parsed = localhost.or_else(|| text.parse().ok().map(kind));
    parsed.ok_or_else(|| {
        "must be IP:port or localhost:port, like 127.0.0.1:9797 or [::1]:9797".to_owned()
    })
}

/// `IP:port`, or `unix:` and a path.
///
/// # Errors
/// What would be right.
pub fn plain_address(text: &str) -> Result<Address, Expected> {
    match text.strip_prefix("unix:") {
        Some(path) => unix_path(path).map(Address::Unix),
        None => port(text, false),
    }
}

/// The system has room for 107 bytes (unix(7)).
const LONGEST_PATH: usize = 107;

fn unix_path(path: &str) -> Result<PathBuf, Expected> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains(char::is_control) {
        return Err(
            "must be \"unix:\" and an absolute path, like unix:/run/auth-sidecar/proxy.sock"
                .to_owned(),
        );
    }
    // "unix:///path" is how some tools write it.
    let path = path.trim_start_matches('/');
    if path.len() >= LONGEST_PATH {
        return Err(format!(
            "must be a path of at most {LONGEST_PATH} bytes: a unix socket cannot have a longer one"
        ));
    }
    Ok(PathBuf::from(format!("/{path}")))
}

/// An address of any kind.
pub(super) fn listen_address(text: &str) -> Result<Address, Expected> {
    let (tls, rest) = match text.strip_prefix("tls:") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    match passed_address(rest, tls) {
        Some(passed) => passed,
        None if tls => port(rest, true),
        None => plain_address(text),
    }
}

/// `systemd:` and a name, which `FileDescriptorName=` could be.
fn passed_address(text: &str, tls: bool) -> Option<Result<Address, Expected>> {
    let name = text.strip_prefix("systemd:")?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && c != ':');
    if !is_name {
        let expected = "must be \"systemd:\" and a name, the FileDescriptorName= of a socket unit";
        return Some(Err(expected.to_owned()));
    }
    Some(Ok(Address::Passed(PassedAddress {
        name: name.to_owned(),
        tls,
        found: None,
    })))
}

/// The admin listener's address; `None` turns it off.
pub(super) fn admin_address(
    allow_remote: bool,
    inherited: Option<&Inherited>,
) -> impl FnOnce(&Value) -> Result<Option<Address>, Expected> {
    move |value| {
        let address = value.as_str().ok_or("must be text in quotes")?.trim();
        if address.is_empty() || address == "off" {
            return Ok(None);
        }
        let address = match passed_address(address, false) {
            Some(passed) => sockets::only(&passed?, inherited)?,
            None => plain_address(address)?,
        };
        let mut sockets = address.sockets();
        if allow_remote || sockets.all(|socket| is_loopback(socket.ip())) {
            return Ok(Some(address));
        }
        Err(
            "must be a loopback address like 127.0.0.1 or [::1], unix:/path or \"off\"; \
             admin.allow_remote = true opens metrics and health to the network, and nothing else"
                .to_owned(),
        )
    }
}

pub(super) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether a name for `Host` leads to this machine wherever it is resolved, so that browsers hold it
/// for as good as HTTPS, and say of each request which site asks.
pub(super) fn is_loopback_name(name: &str) -> bool {
    let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
    name == "localhost" || address.is_some_and(is_loopback)
}

/// Whether a URL names this machine.
pub(super) fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => is_loopback(address.into()),
        None => false,
    }
}

/// Whether a URL names that listener.
pub(super) fn leads_to(url: &Url, listener: SocketAddr) -> bool {
    let is_host = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" && is_loopback(listener.ip()),
        Some(Host::Ipv4(address)) => listener.ip() == address,
        Some(Host::Ipv6(address)) => listener.ip() == address,
        None => false,
    };
    is_host && listener.port() != 0 && url.port_or_known_default() == Some(listener.port())
}

/// The upstream: scheme, host and port.
pub(super) fn upstream_url(
    allow_insecure_http: bool,
) -> impl FnOnce(&Value) -> Result<Url, Expected> {
    move |value| {
        let mut url = https_url(value, allow_insecure_http, "upstream")?;
        if url.query().is_some() {
            return Err("must not have a query".to_owned());
        }
        if !matches!(url.path(), "/" | "/api" | "/api/") {
            url.set_path("");
            let host = url.as_str().trim_end_matches('/');
            return Err(format!(
                "must end after the host, as {host} does: the client's path goes on as it came"
            ));
        }
        url.set_path("/");
        Ok(url)
    }
}

/// The base of the token service's paths.
pub(super) fn base_url(allow_insecure_http: bool) -> impl FnOnce(&Value) -> Result<Url, Expected> {
    move |value| {
        let url = https_url(value, allow_insecure_http, "auth")?;
        if url.query().is_some() {
            return Err("must not have a query: paths are appended to it".to_owned());
        }
        Ok(url)
    }
}

/// A token endpoint; it may have a query (RFC 6749 §3.2), but no fragment.
pub(super) fn token_url(allow_insecure_http: bool) -> impl FnOnce(&Value) -> Result<Url, Expected> {
    move |value| https_url(value, allow_insecure_http, "auth")
}

/// The collector's address for OTLP over HTTP. As everywhere, the path of spans is added to it; who has
/// written it already has meant the same.
pub(super) fn otlp_endpoint() -> impl Parser<Url> {
    Shape::Text.of(|value: &Value| {
        let mut url = web_url(value, "must be a URL like \"http://127.0.0.1:4318\"")?;
        if has_user(&url) || url.query().is_some() {
            return Err(
                "must have neither a user nor a query; a key goes into telemetry.otlp_headers_file"
                    .to_owned(),
            );
        }
        let path = url.path().trim_end_matches('/');
        let base = path.strip_suffix(SPANS).unwrap_or(path);
        let path = format!("{base}{SPANS}");
        url.set_path(&path);
        Ok(url)
    })
}

/// The path of spans below a collector's address (OTLP 1.x, "OTLP/HTTP Request").
const SPANS: &str = "/v1/traces";

/// An HTTP proxy on the way out; it may want a user name and a password.
pub(super) fn proxy_url(value: &Value) -> Result<Url, Expected> {
    let url = web_url(value, "must be a URL like \"http://proxy.example:3128\"")?;
    if url.path() != "/" || url.query().is_some() {
        return Err("must end after the host and the port".to_owned());
    }
    Ok(url)
}

/// Whether a URL has a user name or a password.
pub(super) fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

fn web_url(value: &Value, expected: &str) -> Result<Url, Expected> {
    let url = Url::parse(&text(value)?).map_err(|_| expected)?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(expected.to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a fragment (\"#…\")".to_owned());
    }
    Ok(url)
}

fn https_url(value: &Value, allow_insecure_http: bool, section: &str) -> Result<Url, Expected> {
    let url = web_url(value, "must be a URL like \"https://host.example\"")?;
    if has_user(&url) {
        return Err("must not have a user name or a password".to_owned());
    }
    if url.scheme() == "http" && !allow_insecure_http && !is_local(&url) {
        return Err(format!(
            "must begin with https://, or everybody on the way can read the credential; \
             {section}.allow_insecure_http = true accepts that"
        ));
    }
    Ok(url)
}

/// A name for `Host`, in lower case. A port is dropped: the name is what is compared.
pub(super) fn host(text: &str) -> Result<String, Expected> {
    let authority: Option<Authority> = text.parse().ok();
    authority
        .filter(|authority| !text.contains('@') && !authority.host().is_empty())
        .filter(|authority| !authority.host().contains('*'))
        .map(|authority| authority.host().to_lowercase())
        .ok_or_else(|| "must be names like \"proxy.example\", without wildcards".to_owned())
}

/// `scheme://host[:port]`, in lower case, as browsers send it.
pub(super) fn origin(text: &str) -> Result<String, Expected> {
    let is_origin = text
        .parse::<Uri>()
        .is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some());
    let (_, rest) = text.split_once("://").unwrap_or_default();
    if is_origin && !rest.contains(['/', '?', '#', '@', '*']) {
        return Ok(text.to_lowercase());
    }
    Err("must be origins like \"https://tools.example\", without a path or wildcards".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(url: &str) -> Result<String, Expected> {
        upstream_url(false)(&url.into()).map(|url| url.to_string())
    }

    #[test]
    fn an_upstream_is_scheme_host_and_port() {
        for (given, meant) in [
            ("https://h.example", "https://h.example/"),
            (" https://H.example:8443/ ", "https://h.example:8443/"),
            ("https://h.example/api", "https://h.example/"),
            ("https://h.example/api/", "https://h.example/"),
            ("http://localhost:8080", "http://localhost:8080/"),
            ("http://127.8.9.10:1", "http://127.8.9.10:1/"),
            ("http://[::1]:1", "http://[::1]:1/"),
        ] {
            assert_eq!(upstream(given).unwrap(), meant);
        }
        for (given, expected) in [
            ("h.example", "must be a URL"),
            ("h.example:443", "must be a URL"),
            ("ftp://h.example", "must be a URL"),
            ("https://", "must be a URL"),
            ("", "empty"),
            ("https://h.exa\nmple", "control"),
            ("https://user@h.example", "user name"),
            ("https://:pw@h.example", "user name"),
            ("https://h.example/?a", "query"),
            ("https://h.example/#a", "fragment"),
            ("https://h.example/api/v2", "path goes on"),
            ("https://h.example//api", "path goes on"),
            ("http://h.example", "allow_insecure_http"),
            ("http://localhost.example", "allow_insecure_http"),
            ("http://127.0.0.1.example", "allow_insecure_http"),
        ] {
            let message = upstream(given).unwrap_err();
            assert!(message.contains(expected), "{given}: {message}");
        }
        assert!(upstream_url(true)(&"http://h.example".into()).is_ok());
        assert!(upstream_url(false)(&443.into()).is_err());
    }

    #[test]
    fn a_proxy_may_want_a_user_and_ends_after_the_port() {
        let parse = |url: &str| proxy_url(&url.into()).map(|url| url.to_string());
        for (given, meant) in [
            ("http://proxy.example:3128", "http://proxy.example:3128/"),
            (
                "https://u:p%40@proxy.example",
                "https://u:p%40@proxy.example/",
            ),
        ] {
            assert_eq!(parse(given).unwrap(), meant);
        }
        for (given, expected) in [
            ("proxy.example:3128", "must be a URL"),
            ("socks5://proxy.example", "must be a URL"),
            ("http://proxy.example/path", "end after"),
            ("http://proxy.example/?q", "end after"),
            // A password that is not percent-encoded makes another URL.
            ("http://u:1/p@proxy.example", "end after"),
            ("http://u:1#p@proxy.example", "fragment"),
        ] {
            let message = parse(given).unwrap_err();
            assert!(message.contains(expected), "{given}: {message}");
        }
    }

    #[test]
    fn there_are_several_kinds_of_address() {
        for (given, meant) in [
            ("127.0.0.1:9797", "127.0.0.1:9797"),
            ("localhost:0", "localhost:0"),
            ("[::1]:1", "[::1]:1"),
            ("tls:localhost:9443", "tls:localhost:9443"),
            ("systemd:proxy.socket", "systemd:proxy.socket"),
            ("tls:systemd:tls", "tls:systemd:tls"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(listen_address(given).unwrap().to_string(), meant);
        }
        for (given, expected) in [
            (":9797", "IP:port"),
            ("9797", "IP:port"),
            ("localhost", "IP:port"),
            ("localhost:99999", "IP:port"),
            ("h.example:80", "IP:port"),
            ("unix:run/x.sock", "absolute path"),
            ("unix:/run/", "absolute path"),
            ("unix:", "absolute path"),
            ("tls:unix:/run/x", "IP:port"),
            ("systemd:", "and a name"),
            ("tls:systemd:", "and a name"),
            ("systemd:a:b", "and a name"),
            ("systemd:a b", "and a name"),
            ("systemd:tls:a", "and a name"),
            (&format!("unix:/{}", "x".repeat(107)), "at most 107"),
        ] {
            let message = listen_address(given).unwrap_err();
            assert!(message.contains(expected), "{given}: {message}");
        }
    }

    #[test]
    fn the_admin_listener_may_be_off_or_opened() {
        let parse = |given: &str, remote| admin_address(remote, None)(&given.into());
        assert_eq!(parse("off", false), Ok(None));
        assert_eq!(parse("", false), Ok(None));
        assert!(
            parse("0.0.0.0:1", false)
                .unwrap_err()
                .contains("admin.allow_remote")
        );
        assert!(parse("0.0.0.0:1", true).is_ok());
        assert!(parse("unix:/run/admin.sock", false).is_ok());
        assert!(parse("systemd:admin", false).is_ok());
        assert!(parse("tls:systemd:admin", false).is_err());
        assert!(parse("tls:127.0.0.1:1", false).is_err());
    }

    #[test]
    fn hosts_and_origins_are_exact() {
        assert_eq!(host("Proxy.Example:9797").unwrap(), "proxy.example");
        assert_eq!(
            origin("https://Tools.example:8443").unwrap(),
            "https://tools.example:8443"
        );
        for wrong in ["*", "*.example", "user@h", "http://h", "h/path"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "h.example",
            "https://h/",
            "https://h/x",
            "https://*",
            "null",
            "https://u@h",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
