//! The head of a request of HTTP/2, where its codec is more patient than the framing of HTTP/1.

use http::{
    HeaderValue,
    header::{CONTENT_LENGTH, HOST},
    request::Parts,
    uri::PathAndQuery,
};

use crate::{
    proxy::error::ProxyError,
    server::{MAX_FIELDS, MAX_TARGET, Refusal, decimal},
};

/// What the framing of HTTP/1 has judged by now, and the codec of HTTP/2 leaves to us.
pub(super) fn check_head(parts: &Parts) -> Result<(), ProxyError> {
    if parts.headers.len() > MAX_FIELDS {
        return Err(ProxyError::Refused(Refusal::HeadTooLarge));
    }
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
    if target.len() > MAX_TARGET {
        return Err(ProxyError::Refused(Refusal::TargetTooLong));
    }
    let mut lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let is_length = |length: &HeaderValue| decimal(length.as_bytes()).is_some();
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
