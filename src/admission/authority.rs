//! Whom a request names: it must be us, since a page whose name was rebound to our address still
//! says its own name. No name can be rebound to a unix socket, which is no address and which no browser
//! connects to, so there every name is as good as any.

use std::net::{IpAddr, Ipv6Addr};

use http::{Version, uri::Authority};

use super::{Denied, RefusedHost, Rules};
use crate::{
    message::{Flaw, Name, RequestHead},
    server::Node,
};

/// RFC 9112 §3.2: exactly one valid Host with HTTP/1.1. What it names must be us. Gives what the
/// request names: the authority of its target before its Host (RFC 9112 §3.2.2).
pub(super) fn check_host<'a>(
    head: &'a RequestHead,
    from: Node,
    rules: &Rules,
) -> Result<Option<&'a [u8]>, Denied> {
    let check = |named: &[u8], part| match from {
        Node::Unix if is_host(named) => Ok(()),
        Node::Unix => Err(malformed(part)),
        Node::Ip(_) => rules.check_authority(&authority(named, part)?),
    };
    let mut hosts = head.fields.all(Name::Host);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed("Host: a second one"));
    }
    match host {
        Some(host) if rules.names_us(host) => {}
        Some(host) => check(host, "Host")?,
        None if head.version == Version::HTTP_11 => return Err(malformed("Host: none")),
        None => {}
    }
    let target = head.authority();
    if let Some(target) = target {
        const PART: &str = "target: its authority";
        // Unlike that of `Host`, the host of an address may not be empty (RFC 9110 §4.2.1).
        if target.is_empty() || target.starts_with(b":") {
            return Err(malformed(PART));
        }
        check(target, PART)?;
    }
    Ok(target.or(host))
}

fn malformed(part: &'static str) -> Denied {
    Denied::Malformed(Flaw::of(part))
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), to the letter: what is between brackets is an IPv6
/// address, and a port is digits.
fn authority(text: &[u8], part: &'static str) -> Result<Authority, Denied> {
    let authority = Authority::try_from(text).map_err(|_| malformed(part))?;
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
        Err(malformed(part))
    }
}

/// The address that a host is, with or without the brackets of one of IPv6.
fn address(host: &str) -> Option<IpAddr> {
    let address: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
    Some(address.to_canonical())
}

/// The same where nobody has to be named: `uri-host` may be empty, and may hold what is encoded, such
/// as the path of a socket (RFC 3986 §3.2.2).
fn is_host(text: &[u8]) -> bool {
    let end = match text {
        [b'[', ..] => memchr::memchr(b']', text).map_or(text.len(), |end| end + 1),
        _ => memchr::memchr(b':', text).unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(end);
    let is_port = match port.split_first() {
        None => true,
        Some((colon, digits)) => *colon == b':' && digits.iter().all(u8::is_ascii_digit),
    };
    let is_name = || {
        let mut bytes = host.iter();
        while let Some(byte) = bytes.next() {
            let mut is_digit = || bytes.next().is_some_and(u8::is_ascii_hexdigit);
            let is_right = match byte {
                b'%' => is_digit() && is_digit(),
                byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte),
            };
            if !is_right {
                return false;
            }
        }
        true
    };
    let literal = host.strip_prefix(b"[");
    let literal = literal.and_then(|rest| rest.strip_suffix(b"]"));
    is_port
        && match literal {
            Some(address) => {
                std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
            }
            None => is_name(),
        }
}

impl Rules {
    /// Whether it is one of our names and a port, to the byte: so are nearly all, and to see so costs
    /// less than to take them apart.
    fn names_us(&self, host: &[u8]) -> bool {
        let (name, port) = match memchr::memchr(b':', host) {
            Some(colon) => host.split_at(colon),
            None => (host, &[] as &[u8]),
        };
        let port = port.strip_prefix(b":").unwrap_or_default();
        let is_ours = |ours: &str| name.eq_ignore_ascii_case(ours.as_bytes());
        (port.len() < 5 || port.len() == 5 && port <= b"65535".as_slice())
            && port.iter().all(u8::is_ascii_digit)
            && (is_ours("localhost")
                || is_ours("127.0.0.1")
                || self.hosts.iter().any(|host| is_ours(host)))
    }

    fn check_authority(&self, authority: &Authority) -> Result<(), Denied> {
        let host = authority.host();
        let mut hosts = self.hosts.iter();
        let ours = match address(host) {
            // An address has several spellings.
            Some(named) => {
                named.is_loopback()
                    || self.any_address
                    || hosts.any(|own| address(own) == Some(named))
            }
            None => {
                host.eq_ignore_ascii_case("localhost")
                    || hosts.any(|name| host.eq_ignore_ascii_case(name))
            }
        };
        if ours {
            Ok(())
        } else {
            Err(Denied::Misdirected(RefusedHost::new(host)))
        }
    }
}
