//! Who may use a listener, and for what: the checks of the data listeners, of the admin listener and of
//! the broker, on the fields as received, before anything is stripped.

mod allowed;
mod authority;
mod browser;
mod clients;
mod denied;
mod refused_host;
mod required;

pub use self::{
    allowed::{Allowed, Preset, Rule},
    clients::Clients,
    denied::Denied,
    refused_host::RefusedHost,
    required::RequiredField,
};
use self::{authority::check_host, browser::check_browser};
use crate::{
    client_token::ClientName,
    message::{Fields, RequestHead},
    server::{Pass, Peer},
};

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

/// Whom a request was let in for.
#[derive(Debug, Clone, Default)]
pub struct Admitted {
    /// The client whose local token it showed, where such are asked for.
    pub client: Option<ClientName>,
    /// By what, to be looked at again when the rules change.
    pub pass: Pass,
}

/// Checks the head of a request of that peer.
///
/// # Errors
/// Why the request is not let in.
pub fn admit(head: &RequestHead, peer: &Peer, rules: &Rules) -> Result<Admitted, Denied> {
    // Methods are case-sensitive, but not every server knows that.
    let is = |method: &str| head.method.as_str().eq_ignore_ascii_case(method);
    if is("TRACE") || is("TRACK") || is("CONNECT") {
        return Err(Denied::Method);
    }
    let host = check_host(head, peer.node, rules)?;
    check_browser(&head.fields, host, peer.is_tls, rules)?;
    let admitted = prove(&head.fields, rules)?;
    if let Some(allowed) = &rules.allowed {
        allowed.check(head)?;
    }
    Ok(admitted)
}

/// Checks what a request shows of who sends it: the required field and the local token.
///
/// # Errors
/// Why the request is not let in.
pub fn prove(fields: &Fields, rules: &Rules) -> Result<Admitted, Denied> {
    if let Some(required) = &rules.required {
        required.check(fields)?;
    }
    let clients = rules.clients.as_ref();
    clients.map_or_else(|| Ok(Admitted::default()), |clients| clients.check(fields))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{Request, Version, header::HOST};

    use super::*;
    use crate::{proxy::ProxyError, server::Node};

    fn refusal(
        build: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Option<u16> {
        refusal_from(Node::Ip(Ipv4Addr::LOCALHOST.into()), build)
    }

    fn refusal_from(
        from: Node,
        build: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Option<u16> {
        let rules = Rules {
            hosts: ["example.wavefront.com", "fd00::1", "[fd00::a]"]
                .map(ToOwned::to_owned)
                .into(),
            any_address: false,
            origins: vec!["https://tools.example".to_owned()],
            ..Rules::default()
        };
        let (parts, ()) = build(Request::builder()).body(()).unwrap().into_parts();
        let peer = Peer {
            node: from,
            is_tls: false,
            certificate: None,
            user: None,
        };
        let error = admit(&RequestHead::of_parts(&parts), &peer, &rules).err()?;
        Some(ProxyError::from(error).row().status.as_u16())
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
            "[0:0::1]",
            "[::ffff:127.0.0.1]:9797",
            "[fd00::1]:9797",
            "[FD00:0::1]",
            "[fd00::a]",
            "example.wavefront.com",
            "Example.Wavefront.com:443",
        ] {
            assert_eq!(refusal(|r| r.header(HOST, host)), None, "{host}");
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
            "[fd00::2]:9797",
            "[::ffff:10.0.0.1]",
        ] {
            assert_eq!(refusal(|r| r.header(HOST, host)), Some(421), "{host}");
        }
    }

    #[test]
    fn a_host_that_is_missing_repeated_or_malformed_is_refused() {
        assert_eq!(refusal(|r| r), Some(400));
        assert_eq!(refusal(|r| r.version(Version::HTTP_10)), None);
        assert_eq!(
            refusal(|r| r.header(HOST, "localhost").header(HOST, "localhost")),
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
            assert_eq!(refusal(|r| r.header(HOST, host)), Some(400), "{host:?}");
        }
    }

    #[test]
    fn on_a_unix_socket_every_host_that_the_protocol_allows_is_served() {
        let with = |host: &'static str| refusal_from(Node::Unix, |r| r.header(HOST, host));
        for host in [
            "",
            "localhost",
            "h.example:8080",
            "%2Frun%2Fauth-sidecar.sock",
            "_",
            ":80",
            "h.example:",
            "[::1]",
            "[::1]:80",
            "10.0.0.1",
        ] {
            assert_eq!(with(host), None, "{host}");
            if !host.is_empty() && !host.contains("localhost") && !host.contains("::1") {
                assert!(refusal(|r| r.header(HOST, host)).is_some(), "{host}");
            }
        }
        for host in [
            "a b", "user@h", "h:port", "h/x", "%2", "%zz", "[::1", "[::1]x", "[x]", "h:1:2",
        ] {
            assert_eq!(with(host), Some(400), "{host:?}");
        }
        let twice = |r: http::request::Builder| r.header(HOST, "h").header(HOST, "h");
        assert_eq!(refusal_from(Node::Unix, twice), Some(400));
        assert_eq!(refusal_from(Node::Unix, |r| r), Some(400));
        let absolute = |r: http::request::Builder| r.uri("http://x.example/").header(HOST, "");
        assert_eq!(refusal_from(Node::Unix, absolute), None);
        // Who stands in front of the socket may have browsers as clients.
        let foreign = |r: http::request::Builder| {
            r.header(HOST, "h.example")
                .header("origin", "http://evil.example")
        };
        assert_eq!(refusal_from(Node::Unix, foreign), Some(403));
    }

    #[test]
    fn an_absolute_target_must_name_us_too() {
        let with = |uri: &'static str| refusal(|r| r.uri(uri).header(HOST, "localhost"));
        assert_eq!(with("http://localhost:9797/x"), None);
        assert_eq!(with("http://example.wavefront.com/x"), None);
        assert_eq!(with("http://evil.example/x"), Some(421));
        assert_eq!(with("http://user@localhost/x"), Some(400));
        assert_eq!(
            refusal(|r| r.uri("http://localhost/").header(HOST, "evil.example")),
            Some(421)
        );
    }

    #[test]
    fn browsers_are_refused_unless_the_page_is_ours_or_allowed() {
        let with = |name: &'static str, value: &'static str| {
            refusal(|r| r.header(HOST, "localhost:9797").header(name, value))
        };
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost:1",
            "https://localhost:9797",
            "ftp://localhost:9797",
            "localhost:9797",
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
            refusal(|r| {
                r.header(HOST, "localhost")
                    .header("origin", "https://tools.example")
                    .header("sec-fetch-site", site)
            })
        };
        assert_eq!(allowed("cross-site"), None);
        let twice = refusal(|r| {
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
                refusal(|r| r.method(method).header(HOST, "localhost")),
                Some(405)
            );
        }
        let connect = refusal(|r| {
            r.method("CONNECT")
                .uri("localhost:1")
                .header(HOST, "localhost")
        });
        assert_eq!(connect, Some(405));
    }
}
