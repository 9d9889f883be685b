//! The head of a request of HTTP/2, where its codec is more lenient than the reader of HTTP/1.

use http::{HeaderMap, Method, request::Parts};

use crate::{
    message::{Flaw, MAX_FIELDS, MAX_TARGET, Name, RequestHead, grammar::decimal},
    server::Refusal,
};

/// What the codec leaves to us: `head` is what was made of `parts`.
pub(super) fn check(parts: &Parts, head: &RequestHead) -> Result<(), Refusal> {
    if head.fields.len() > MAX_FIELDS {
        return Err(Refusal::HeadTooLarge);
    }
    if head.target().len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let malformed = |part| Err(Refusal::Malformed(Flaw::of(part)));
    // RFC 9113 §8.3.1. That of CONNECT, which has none, is refused later.
    let is_path = match parts.uri.path_and_query().map(|_| head.target()) {
        None => head.method == Method::CONNECT,
        Some(b"*") => head.method == Method::OPTIONS,
        Some(target) => target.first() == Some(&b'/'),
    };
    if !is_path {
        return malformed(":path");
    }
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return malformed(":scheme");
    }
    if !are_trimmed(&parts.headers) {
        return malformed("field value: white space around it");
    }
    let mut lengths = head.fields.all(Name::ContentLength);
    if lengths
        .next()
        .is_some_and(|length| decimal(length).is_none())
        || lengths.next().is_some()
    {
        return malformed("Content-Length");
    }
    // RFC 9113 §8.3.1: one who says both says the same.
    match (head.authority(), head.fields.first(Name::Host)) {
        (None, None) => malformed("no authority"),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            malformed("Host is not the authority")
        }
        _ => Ok(()),
    }
}

/// Whether no value begins or ends with white space (RFC 9113 §8.2.1). HTTP/1 would not send it on,
/// so that two readers of one request could take it for two values.
pub(super) fn are_trimmed(fields: &HeaderMap) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    fields.values().all(|value| {
        let value = value.as_bytes();
        !is_space(value.first()) && !is_space(value.last())
    })
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_accepted(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> bool {
        let request = build(Request::get("http://localhost/x")).body(()).unwrap();
        let parts = request.into_parts().0;
        check(&parts, &RequestHead::of_parts(&parts)).is_ok()
    }

    #[test]
    fn one_host_is_named_by_either_of_two_ways() {
        assert!(is_accepted(|r| r));
        assert!(is_accepted(|r| r.header("host", "LOCALHOST")));
        assert!(!is_accepted(|r| r.header("host", "localhost:1")));
        assert!(is_accepted(|r| r.uri("/x").header("host", "localhost")));
        assert!(!is_accepted(|r| r.uri("/x")));
    }

    #[test]
    fn a_path_is_one_of_this_server() {
        assert!(is_accepted(|r| r
            .method("OPTIONS")
            .uri("*")
            .header("host", "localhost")));
        assert!(!is_accepted(|r| r.uri("*").header("host", "localhost")));
        assert!(!is_accepted(|r| r
            .uri("localhost:1")
            .header("host", "localhost")));
        assert!(!is_accepted(|r| r.uri("ftp://localhost/x")));
    }

    #[test]
    fn white_space_is_no_part_of_a_value() {
        for (value, expected) in [("", true), ("a b\tc", true), (" a", false), ("a\t", false)] {
            assert_eq!(
                is_accepted(|r| r.header("x-a", value)),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn the_bounds_are_those_of_http1() {
        let with = |name: &'static str, value: &'static str, times: usize| {
            is_accepted(|r| (0..times).fold(r, |r, _| r.header(name, value)))
        };
        assert!(with("content-length", "7", 1));
        assert!(!with("content-length", "7", 2));
        assert!(!with("content-length", "+7", 1));
        assert!(with("x-a", "1", MAX_FIELDS));
        assert!(!with("x-a", "1", MAX_FIELDS + 1));
        let long = format!("http://localhost/{}", "x".repeat(MAX_TARGET));
        assert!(!is_accepted(|r| r.uri(long)));
    }
}
