//! The `Forwarded` field (RFC 7239): shows the upstream who the client is, where that is wanted.

use crate::{
    message::{Name, RequestHead, grammar::is_tchar},
    server::{Node, Peer},
};

/// What we know of the client: its address, how it came to us, and by which name. To be read before
/// `Host` is taken off.
pub(super) fn element(peer: &Peer, head: &RequestHead) -> String {
    let node = match peer.node {
        Node::Ip(address) if address.is_ipv6() => format!("\"[{address}]\""),
        Node::Ip(address) => address.to_string(),
        Node::Unix => "_unix".to_owned(),
    };
    let proto = if peer.is_tls { "https" } else { "http" };
    let mut text = format!("for={node};proto={proto}");
    // A target that names the host goes before the field (RFC 9112 §3.2.2).
    let host = head.authority().or_else(|| head.fields.first(Name::Host));
    let host = host.and_then(|host| std::str::from_utf8(host).ok());
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        text.push_str(";host=");
        push_value(&mut text, host);
    }
    text
}

/// A token as it is, anything else in quotes (RFC 9110 §5.6.2, §5.6.4).
fn push_value(text: &mut String, value: &str) {
    if value.bytes().all(is_tchar) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(node: Node, is_tls: bool, target: &str, host: Option<&str>) -> String {
        let mut parts = http::Request::get(target).body(()).unwrap().into_parts().0;
        if let Some(host) = host {
            parts.headers.insert("host", host.parse().unwrap());
        }
        let peer = Peer {
            node,
            is_tls,
            certificate: None,
            user: None,
        };
        element(&peer, &RequestHead::of_parts(&parts))
    }

    #[test]
    fn every_kind_of_client_has_its_node() {
        for (node, expected) in [
            (Node::Ip("127.0.0.1".parse().unwrap()), "127.0.0.1"),
            (
                Node::Ip("2001:db8::1".parse().unwrap()),
                "\"[2001:db8::1]\"",
            ),
            (Node::Unix, "_unix"),
        ] {
            for (is_tls, proto) in [(false, "http"), (true, "https")] {
                let made = made(node, is_tls, "/", None);
                assert_eq!(made, format!("for={expected};proto={proto}"));
            }
        }
    }

    #[test]
    fn the_host_is_quoted_where_it_is_no_token_and_the_targets_goes_before_the_fields() {
        for (target, host, expected) in [
            ("/", Some("localhost"), "localhost"),
            ("/", Some("localhost:9797"), "\"localhost:9797\""),
            ("/", Some("[::1]:1"), "\"[::1]:1\""),
            ("/", Some("a\"b\\c;for=d"), r#""a\"b\\c;for=d""#),
            ("http://a.example:80/x", Some("b"), "\"a.example:80\""),
        ] {
            let made = made(Node::Unix, false, target, host);
            assert_eq!(made, format!("for=_unix;proto=http;host={expected}"));
        }
        assert_eq!(
            made(Node::Unix, false, "/", Some("")),
            "for=_unix;proto=http"
        );
    }
}
