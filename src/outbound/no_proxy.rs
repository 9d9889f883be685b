//! The hosts that are reached without a proxy, in the forms that curl, Go and Python know.
//!
//! | Form | Means |
//! |---|---|
//! | `h.example`, `.h.example`, `h.example.` | the name and every name below it |
//! | `*.h.example` | every name below it |
//! | `10.1.2.3`, `::1`, `[::1]` | the address |
//! | `10.0.0.0/8`, `fd00::/8` | the network |
//! | any name or address with `:port` behind it | the same at that port alone |
//! | `*` | everything |

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

/// Exceptions from a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Exception>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    /// Every port, where none is named.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    All,
    /// In lower case, without a dot at either end.
    Name {
        name: String,
        only_below: bool,
    },
    Network(IpNet),
}

impl NoProxy {
    /// Reads exceptions, one each. Gives the positions (from 1) of those that have no meaning in any of
    /// the forms, too: what they were to keep from the proxy goes to it.
    #[must_use]
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> (Self, Vec<usize>) {
        let (mut exceptions, mut unknown) = (Vec::new(), Vec::new());
        for (number, entry) in (1..).zip(entries) {
            match exception(entry.trim()) {
                Some(exception) => exceptions.push(exception),
                None => unknown.push(number),
            }
        }
        (Self(exceptions), unknown)
    }

    /// Whether an address is one of the exceptions.
    #[must_use]
    pub fn has(&self, target: &Url) -> bool {
        let Some(host) = target.host() else {
            return false;
        };
        let port = target.port_or_known_default();
        let mut exceptions = self.0.iter();
        exceptions.any(|one| one.hosts.has(&host) && (one.port.is_none() || one.port == port))
    }
}

impl Hosts {
    fn has(&self, host: &Host<&str>) -> bool {
        let address = match host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::from(*address)),
            // An IPv4 address in the clothes of an IPv6 address is that one.
            Host::Ipv6(address) => Some(IpAddr::from(*address).to_canonical()),
        };
        match (self, host) {
            (Self::All, _) => true,
            (Self::Network(network), _) => address.is_some_and(|it| network.contains(&it)),
            (Self::Name { name, only_below }, Host::Domain(domain)) => {
                let domain = domain.trim_end_matches('.').to_ascii_lowercase();
                match domain.strip_suffix(name.as_str()) {
                    Some("") => !only_below,
                    Some(before) => before.ends_with('.'),
                    None => false,
                }
            }
            (Self::Name { .. }, _) => false,
        }
    }
}

fn exception(entry: &str) -> Option<Exception> {
    let at = |hosts, port| Some(Exception { hosts, port });
    if entry == "*" {
        return at(Hosts::All, None);
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return at(Hosts::Network(network), None);
    }
    // Without brackets, what looks like a port belongs to an IPv6 address.
    if let Ok(address) = entry.parse::<IpAddr>() {
        return at(Hosts::Network(address.to_canonical().into()), None);
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
        _ => (entry, None),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
        return at(Hosts::Network(address.to_canonical().into()), port);
    }
    let (name, only_below) = match host.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (host.strip_prefix('.').unwrap_or(host), false),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    // In the form that the name has in an address: lower case, and Punycode where it needs that.
    let Ok(Host::Domain(name)) = Host::parse(name) else {
        return None;
    };
    let is_label = |label: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        !label.is_empty() && label.chars().all(is_part)
    };
    let is_name = name.split('.').all(is_label);
    is_name.then_some(Exception {
        hosts: Hosts::Name { name, only_below },
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_around(entry: &str, target: &str) -> bool {
        let (list, unknown) = NoProxy::parse([entry]);
        assert!(unknown.is_empty(), "{entry}");
        list.has(&Url::parse(target).unwrap())
    }

    #[test]
    fn every_form_that_others_know_means_the_same_here() {
        for (entry, around, through) in [
            (
                "h.example",
                &[
                    "https://h.example",
                    "http://H.example.:8080",
                    "https://a.b.h.example",
                ][..],
                &[
                    "https://xh.example",
                    "https://example",
                    "https://h.example.com",
                ][..],
            ),
            (
                ".h.example",
                &["https://h.example", "https://a.h.example"],
                &["https://xh.example"],
            ),
            (
                "h.example.",
                &["https://h.example", "https://a.h.example"],
                &["https://h"],
            ),
            (
                "*.h.example",
                &["https://a.h.example", "https://a.b.h.example."],
                &["https://h.example", "https://xh.example"],
            ),
            (
                "h.example:8443",
                &["https://h.example:8443", "https://a.h.example:8443"],
                &["https://h.example", "http://h.example:8080"],
            ),
            (
                "h.example:443",
                &["https://h.example"],
                &["http://h.example"],
            ),
            (
                "*.h.example:443",
                &["https://a.h.example"],
                &["https://h.example"],
            ),
            (
                "bücher.example",
                &["https://bücher.example"],
                &["https://b.example"],
            ),
            (
                "10.1.2.3",
                &["http://10.1.2.3:1"],
                &["http://10.1.2.4", "http://h10.1.2.3.example"],
            ),
            ("10.1.2.3:80", &["http://10.1.2.3"], &["https://10.1.2.3"]),
            (
                "::1",
                &["https://[::1]:8443", "https://[0:0::1]"],
                &["https://[::2]"],
            ),
            ("[::1]", &["https://[::1]"], &["https://[::2]"]),
            ("[::1]:8443", &["https://[::1]:8443"], &["https://[::1]"]),
            (
                "10.0.0.0/8",
                &["https://10.9.9.9", "https://[::ffff:10.9.9.9]"],
                &["https://11.0.0.1"],
            ),
            (
                "fd00::/8",
                &["https://[fd12::1]"],
                &["https://[fe80::1]", "https://10.0.0.1"],
            ),
            (
                "*",
                &["https://h.example", "http://10.0.0.1", "https://[::1]:8443"],
                &[],
            ),
        ] {
            for target in around {
                assert!(is_around(entry, target), "{entry} {target}");
            }
            for target in through {
                assert!(!is_around(entry, target), "{entry} {target}");
            }
        }
    }

    #[test]
    fn what_has_no_meaning_is_reported_by_its_position_and_costs_the_others_nothing() {
        let entries = [
            "h.example",
            "10.0.*",
            "a*.example",
            "<local>",
            "h.example:http",
            "10.0.0.0/33",
            "http://x.example",
            "a..b",
            "[::1",
            "h:99999",
            "b.example",
        ];
        let (list, unknown) = NoProxy::parse(entries);
        assert_eq!(unknown, [2, 3, 4, 5, 6, 7, 8, 9, 10]);
        for target in ["https://h.example", "https://b.example"] {
            assert!(list.has(&Url::parse(target).unwrap()));
        }
        assert!(!list.has(&Url::parse("https://10.0.0.1").unwrap()));
    }
}
