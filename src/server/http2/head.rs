//! The head of a request of HTTP/2, where its codec is more patient than the reader of HTTP/1.

use crate::{
    message::{Flaw, MAX_FIELDS, MAX_TARGET, Name, RequestHead, grammar::decimal},
    server::Refusal,
};

/// What the codec leaves to us.
pub(super) fn check(head: &RequestHead) -> Result<(), Refusal> {
    if head.fields.len() > MAX_FIELDS {
        return Err(Refusal::HeadTooLarge);
    }
    if head.target().len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    let malformed = |part| Err(Refusal::Malformed(Flaw::of(part)));
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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judge(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> bool {
        let request = build(Request::get("http://localhost/x")).body(()).unwrap();
        check(&RequestHead::of_parts(&request.into_parts().0)).is_ok()
    }

    #[test]
    fn one_host_is_named_by_either_of_two_ways() {
        assert!(judge(|r| r));
        assert!(judge(|r| r.header("host", "LOCALHOST")));
        assert!(!judge(|r| r.header("host", "localhost:1")));
        assert!(judge(|r| r.uri("/x").header("host", "localhost")));
        assert!(!judge(|r| r.uri("/x")));
    }

    #[test]
    fn the_bounds_are_those_of_http1() {
        let with = |name: &'static str, value: &'static str, times: usize| {
            judge(|r| (0..times).fold(r, |r, _| r.header(name, value)))
        };
        assert!(with("content-length", "7", 1));
        assert!(!with("content-length", "7", 2));
        assert!(!with("content-length", "+7", 1));
        assert!(with("x-a", "1", MAX_FIELDS));
        assert!(!with("x-a", "1", MAX_FIELDS + 1));
        let long = format!("http://localhost/{}", "x".repeat(MAX_TARGET));
        assert!(!judge(|r| r.uri(long)));
    }
}
