//! Which fields go on and which end here (RFC 9110 §7.6), in both directions: pure functions.

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, COOKIE, HOST, MAX_FORWARDS, TE, VIA},
};

use super::ProxyError;

/// Whether a request's field never goes on: connection fields, and every way in which clients of
/// this API send a credential. Names with an underscore are the same names to servers that hand
/// fields to programs as variables.
fn ends_here(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            // The codec has answered it, or will when the body is read.
            | "expect"
            | "proxy-authorization"
            | "authorization"
            | "x-auth-token"
            | "x_auth_token"
            | "csp-auth-token"
            | "csp_auth_token"
    )
}

/// Whether an answer's field is about the connection to the upstream.
fn ends_here_back(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            // It would send the client past us, to where its requests carry no credential.
            | "alt-svc"
    )
}

/// Whether a trailer's field would have to be in the head to mean anything (RFC 9110 §6.5.1).
fn belongs_to_head(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "content-length" | "host" | "trailer" | "set-cookie"
    )
}

/// The pseudonym of this proxy in `Via`.
const PSEUDONYM: &str = "auth-sidecar";

/// Makes a client's fields those of the request to the upstream, all but the credential.
pub(super) fn outbound(headers: &mut HeaderMap, host: &HeaderValue, via: Option<Version>) {
    remove_nominated(headers);
    remove(headers, ends_here);
    headers.insert(HOST, host.clone());
    if let Some(version) = via {
        let via = match version {
            Version::HTTP_10 => HeaderValue::from_static("1.0 auth-sidecar"),
            Version::HTTP_2 => HeaderValue::from_static("2.0 auth-sidecar"),
            _ => HeaderValue::from_static("1.1 auth-sidecar"),
        };
        // A received Via stays in front of ours, as a field of its own (RFC 9110 §7.6.3).
        headers.append(VIA, via);
    }
}

/// Makes one field of the pieces into which HTTP/2 may cut a cookie (RFC 9113 §8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<_> = headers.get_all(COOKIE).iter().collect();
    if let [_, _, ..] = pieces.as_slice() {
        let pieces: Vec<_> = pieces.into_iter().map(HeaderValue::as_bytes).collect();
        // Valid pieces make a valid whole.
        if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
            headers.insert(COOKIE, whole);
        }
    }
}

/// Whether the client says that it reads trailers.
#[must_use]
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Leaves in an answer's trailers only what may be there (RFC 9110 §6.5.1).
pub(super) fn trailers(trailers: &mut HeaderMap) {
    inbound(trailers);
    remove(trailers, belongs_to_head);
}

/// Makes the upstream's fields those of the answer to the client.
pub(super) fn inbound(headers: &mut HeaderMap) {
    remove_nominated(headers);
    remove(headers, ends_here_back);
}

/// Whether the request has passed through a proxy of this name before. A comma in a comment counts
/// like any other: what looks like us in one is nothing that anybody writes, and a comment that
/// never ends must not hide us.
#[must_use]
pub(super) fn is_loop(headers: &HeaderMap) -> bool {
    headers.get_all(VIA).iter().any(|via| {
        via.as_bytes()
            .split(|byte| *byte == b',')
            .filter_map(received_by)
            .any(|by| by.eq_ignore_ascii_case(PSEUDONYM.as_bytes()))
    })
}

/// The second word of `received-protocol RWS received-by [ RWS comment ]` (RFC 9110 §7.6.3).
fn received_by(hop: &[u8]) -> Option<&[u8]> {
    let mut words = hop
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty());
    words.nth(1)?.split(|byte| *byte == b'(').next()
}

/// Counts `Max-Forwards` of an OPTIONS down (RFC 9110 §7.6.2), one that is too large to the most
/// that we can count.
///
/// # Errors
/// It may go no further. Or there are several, or one that is no number: the next one to count
/// could read another number, so that the request would go on and on.
pub(super) fn count_down(headers: &mut HeaderMap) -> Result<(), ProxyError> {
    let mut values = headers.get_all(MAX_FORWARDS).iter();
    let Some(value) = values.next() else {
        return Ok(());
    };
    let digits = value.as_bytes();
    if values.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ProxyError::Malformed("Max-Forwards"));
    }
    let left = digits.iter().fold(0_u64, |left, digit| {
        left.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    let left = left.checked_sub(1).ok_or(ProxyError::LastHop)?;
    headers.insert(MAX_FORWARDS, HeaderValue::from(left));
    Ok(())
}

/// Removes the fields that `Connection` names. It may not name what frames or routes a message
/// or what admission judges: such a nomination is ignored. (Authorization is removed in any case,
/// and ours is set later.)
fn remove_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_protected(name.as_str()))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

fn is_protected(name: &str) -> bool {
    matches!(
        name,
        "host" | "content-length" | "origin" | "via" | "max-forwards"
    ) || name.starts_with("sec-fetch-")
}

/// Looks at the few fields that are there: looking up each of the names would cost more.
fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_unwanted(name)).cloned() {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn sent(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = map(fields);
        outbound(&mut headers, &HeaderValue::from_static("up.example"), None);
        headers
    }

    #[test]
    fn no_credential_of_the_client_goes_on() {
        let headers = sent(&[
            ("Authorization", "Bearer a"),
            ("authorization", "Basic b"),
            ("X-AUTH-TOKEN", "c"),
            ("csp-auth-token", "d"),
            ("Proxy-Authorization", "Basic e"),
            ("x_auth_token", "f"),
            ("Accept", "*/*"),
        ]);
        assert_eq!(headers, map(&[("accept", "*/*"), ("host", "up.example")]));
    }

    #[test]
    fn connection_fields_and_what_they_name_end_here() {
        let headers = sent(&[
            ("Connection", "close, X-Private"),
            ("connection", "Upgrade,HTTP2-Settings"),
            ("x-private", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABk"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("Expect", "100-continue"),
            ("Proxy-Connection", "keep-alive"),
            ("Transfer-Encoding", "chunked"),
            ("Cookie", "a=b"),
        ]);
        assert_eq!(headers, map(&[("cookie", "a=b"), ("host", "up.example")]));
    }

    #[test]
    fn connection_cannot_name_what_frames_or_routes_a_message() {
        let headers = sent(&[
            (
                "Connection",
                "host, content-length, authorization, origin, \u{e9}",
            ),
            ("Host", "localhost"),
            ("Content-Length", "3"),
            ("Origin", "http://localhost"),
        ]);
        assert_eq!(headers["host"], "up.example");
        assert_eq!(headers["content-length"], "3");
        assert_eq!(headers["origin"], "http://localhost");
    }

    #[test]
    fn repeated_fields_keep_their_order() {
        let headers = sent(&[("x-a", "1"), ("te", "gzip"), ("x-a", "2"), ("x-a", "3")]);
        let values: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2", "3"]);
    }

    #[test]
    fn via_is_appended_and_finds_loops() {
        let mut headers = map(&[("Via", "1.0 fred, 1.1 p.example")]);
        assert!(!is_loop(&headers));
        outbound(
            &mut headers,
            &HeaderValue::from_static("h"),
            Some(Version::HTTP_11),
        );
        let via: Vec<_> = headers.get_all("via").iter().collect();
        assert_eq!(via, ["1.0 fred, 1.1 p.example", "1.1 auth-sidecar"]);
        assert!(is_loop(&headers));
        assert!(is_loop(&map(&[("via", "1.1 a, 1.0 Auth-Sidecar (x)")])));
        assert!(is_loop(&map(&[("via", "HTTP/1.1 \t auth-sidecar(x)")])));
        assert!(!is_loop(&map(&[("via", "1.1 auth-sidecar-2")])));
        assert!(!is_loop(&map(&[(
            "via",
            "auth-sidecar, 1.1 b (auth-sidecar)"
        )])));
    }

    #[test]
    fn an_answer_keeps_all_but_the_connection_fields() {
        let mut headers = map(&[
            ("Connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Alt-Svc", "h3=\":443\""),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Date", "x"),
            ("Server", "y"),
            ("Trailer", "grpc-status"),
            ("WWW-Authenticate", "Bearer"),
        ]);
        inbound(&mut headers);
        assert_eq!(headers.len(), 6);
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
        assert!(!headers.contains_key("x-hop") && headers.contains_key("trailer"));
    }
}
