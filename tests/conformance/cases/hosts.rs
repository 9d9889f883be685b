//! Host (RFC 9112 §3.2, RFC 9110 §7.2), and who we are (the contract's answer to DNS rebinding).

use crate::case::{Case, case};

const X: &str = "GET /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    let with = |fields: &[u8]| [b"GET /x HTTP/1.1\r\n", fields, b"\r\n\r\n"].concat();
    let ours = |name, host: &str| {
        case("9110 §7.2", name, with(format!("Host: {host}").as_bytes())).forwarded(X)
    };
    let misdirected = |name, host: &str| {
        case("9110 §7.4", name, with(format!("Host: {host}").as_bytes()))
            .denied(421)
            .by_name()
    };
    let refused = |name, fields: &[u8]| case("9112 §3.2", name, with(fields)).refused(&[400]);
    let either = |name, host: &str| {
        case("9112 §3.2", name, with(format!("Host: {host}").as_bytes()))
            .denied(421)
            .or_refused(&[400])
            .by_name()
    };
    vec![
        ours("localhost is us", "localhost"),
        ours("localhost in capitals is us", "LocalHost"),
        ours("localhost with a port is us", "localhost:9797"),
        // RFC 3986 §3.2.3 lets a port be empty.
        ours("localhost with an empty port is us", "localhost:"),
        ours("the address of this host is us", "127.0.0.1:9797"),
        ours("the IPv6 address of this host is us", "[::1]:9797"),
        ours(
            "white space around a host is no part of it",
            " \tlocalhost \t",
        ),
        case(
            "9110 §7.2",
            "a Host of ours is spelled in any case",
            with(b"hOsT: localhost"),
        )
        .forwarded(X),
        case(
            "9110 §7.2",
            "a Host behind other fields counts",
            with(b"X-A: 1\r\nX-B: 2\r\nHost: localhost"),
        )
        .forwarded(X),
        misdirected("another host is misdirected", "evil.example"),
        misdirected(
            "another host with our port is misdirected",
            "evil.example:9797",
        ),
        misdirected(
            "a name under another is misdirected",
            "localhost.evil.example",
        ),
        misdirected("a name that ends in ours is misdirected", "evil-localhost"),
        misdirected("any address is misdirected", "0.0.0.0"),
        misdirected("the empty IPv6 address is misdirected", "[::]"),
        misdirected(
            "an address of the cloud's metadata is misdirected, in Host",
            "169.254.169.254",
        ),
        misdirected(
            "a name that holds our address is misdirected",
            "127.0.0.1.evil.example",
        ),
        either("our address in a word is not ours", "2130706433"),
        either("our address in hexadecimal is not ours", "0x7f.0.0.1"),
        either("our address in octal is not ours", "0177.0.0.1"),
        either("a host with a percent is not ours", "loc%61lhost"),
        either("a host of 300 letters is not ours", &"a".repeat(300)),
        refused("no Host is refused", b"X-A: 1"),
        refused("an empty Host is refused", b"Host:").by_name(),
        refused("a Host of white space is refused", b"Host: \t ").by_name(),
        refused(
            "two Host fields are refused",
            b"Host: localhost\r\nHost: evil.example",
        ),
        refused(
            "two equal Host fields are refused",
            b"Host: localhost\r\nHost: localhost",
        ),
        refused(
            "two Host fields of other case are refused",
            b"Host: localhost\r\nX-A: 1\r\nhost: localhost",
        ),
        refused(
            "a list of hosts is refused",
            b"Host: localhost, evil.example",
        ),
        refused("two hosts are refused", b"Host: localhost evil.example"),
        refused(
            "user information in Host is refused",
            b"Host: user@localhost",
        ),
        refused(
            "our name as user information is refused",
            b"Host: localhost@evil.example",
        ),
        refused("a path in Host is refused", b"Host: localhost/x"),
        refused("a query in Host is refused", b"Host: localhost?x"),
        refused("a fragment in Host is refused", b"Host: localhost#x"),
        refused("an address in Host is refused", b"Host: http://localhost"),
        refused("a port of letters is refused", b"Host: localhost:port"),
        refused("a port with a sign is refused", b"Host: localhost:+80"),
        refused("a port over 16 bit is refused", b"Host: localhost:65536").by_name(),
        refused("two ports are refused", b"Host: localhost:80:80"),
        refused("a port alone is refused", b"Host: :80").by_name(),
        refused("half a bracket in Host is refused", b"Host: [::1"),
        refused("brackets around nothing are refused", b"Host: []"),
        refused(
            "brackets around an IPv4 address are refused",
            b"Host: [127.0.0.1]",
        ),
        refused("a bracket behind our name is refused", b"Host: localhost]"),
        refused(
            "a NUL in Host is refused",
            b"Host: localhost\0.evil.example",
        ),
        refused(
            "a backslash in Host is refused",
            b"Host: localhost\\evil.example",
        ),
        refused(
            "bytes that are no ASCII in Host are refused",
            b"Host: localh\xc3\xb6st",
        ),
        refused("a folded Host is refused", b"Host:\r\n localhost"),
        refused(
            "a Host with white space before its colon is refused",
            b"Host : localhost",
        ),
        case(
            "9112 §3.2",
            "an empty Host in HTTP/1.0 is refused",
            "GET /x HTTP/1.0\r\nHost:\r\n\r\n",
        )
        .refused(&[400])
        .by_name(),
        case(
            "9112 §3.2",
            "two Host fields in HTTP/1.0 are refused",
            "GET /x HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        )
        .refused(&[400]),
        case(
            "9110 §7.6.1",
            "Connection cannot take Host away",
            with(b"Host: localhost\r\nConnection: host"),
        )
        .forwarded(X),
        case(
            "9110 §7.2",
            "a forwarded host is no Host",
            with(b"Host: evil.example\r\nX-Forwarded-Host: localhost\r\nForwarded: host=localhost"),
        )
        .denied(421)
        .by_name(),
    ]
}
