//! Which fields go on and which end here (RFC 9110 §7.6), in both directions: pure functions.

use http::Version;

use super::ProxyError;
use crate::{
    message::{
        ConnectionOptions, Fields, Flaw, Name, RequestHead,
        grammar::{elements, is_tchar},
    },
    server::Refusal,
};

/// Whether a request's field never goes on: connection fields, and every way in which clients of
/// this API send a credential.
fn ends_here(kind: Name) -> bool {
    matches!(
        kind,
        Name::Authorization
            | Name::Connection
            | Name::CspAuthToken
            | Name::Disguised
            // It is the upstream's own, which is written with each request.
            | Name::Host
            | Name::Http2Settings
            | Name::KeepAlive
            | Name::ProxyAuthorization
            | Name::ProxyConnection
            | Name::Te
            | Name::Trailer
            | Name::TransferEncoding
            | Name::Upgrade
            | Name::XAuthToken
    )
}

/// Whether a response's field is about the connection to the upstream, or about its host.
fn ends_here_back(kind: Name) -> bool {
    matches!(
        kind,
        Name::Connection
            | Name::Disguised
            // Said of the service, and heard of localhost: a browser that believed it would come by
            // TLS to every port, or clear what other programs there have stored, or go past us.
            | Name::HostPolicy
            | Name::KeepAlive
            | Name::ProxyAuthenticate
            | Name::ProxyConnection
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
    )
}

/// Whether a trailer's field would have to be in the head to mean anything (RFC 9110 §6.5.1).
fn belongs_to_head(kind: Name) -> bool {
    matches!(
        kind,
        Name::ContentLength | Name::Host | Name::Trailer | Name::SetCookie
    )
}

/// The pseudonym of this proxy in `Via`.
const PSEUDONYM: &str = "auth-sidecar";

/// What of a request is for the upstream besides what its client sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Additions {
    /// Whether `Via` is to name the version in which the request came.
    pub(super) via: bool,
    /// Whether the upstream may be asked for trailers.
    pub(super) trailers: bool,
    /// Whether a change to a WebSocket is offered.
    pub(super) websocket: bool,
}

/// Makes a client's fields those of the request to the upstream, all but `Host` and the credential.
pub(super) fn outbound(head: &mut RequestHead, additions: Additions) {
    let takes_trailers = additions.trailers && head.takes_trailers();
    let is_http_10 = head.version == Version::HTTP_10;
    remove_nominated(&mut head.fields, head.connection);
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.fields);
    }
    // RFC 9110 §10.1.1: what HTTP/1.0 expects is not met.
    let is_unmet = |kind| is_http_10 && kind == Name::Expect;
    head.fields
        .retain(|field| !ends_here(field.kind) && !is_unmet(field.kind));
    if additions.via {
        // A received Via stays in front of ours, as a field of its own (RFC 9110 §7.6.3).
        let via: &[u8] = match head.version {
            Version::HTTP_10 => b"1.0 auth-sidecar",
            Version::HTTP_2 => b"2.0 auth-sidecar",
            _ => b"1.1 auth-sidecar",
        };
        head.fields.push(b"Via", via);
    }
    if takes_trailers {
        head.fields.push(b"TE", b"trailers");
    }
    if additions.websocket {
        switches(&mut head.fields);
    }
}

/// Makes the upstream's fields those of the response to the client. Gives the names of those that
/// are about the connection alone, in its trailers too.
pub(super) fn inbound(fields: &mut Fields, connection: ConnectionOptions) -> Nominated {
    let nominated = remove_nominated(fields, connection);
    fields.retain(|field| !ends_here_back(field.kind));
    nominated
}

/// Adds the two fields by which a connection changes to a WebSocket.
pub(super) fn switches(fields: &mut Fields) {
    fields.push(b"Connection", b"Upgrade");
    fields.push(b"Upgrade", b"websocket");
}

/// Whether fields are about a WebSocket and nothing else.
pub(super) fn names_websocket(fields: &Fields, connection: ConnectionOptions) -> bool {
    let mut protocols = fields.all(Name::Upgrade);
    let is_one = protocols
        .next()
        .is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    is_one && protocols.next().is_none() && connection.upgrade
}

/// Makes one field of the pieces into which HTTP/2 may cut a cookie (RFC 9113 §8.2.3).
fn join_cookies(fields: &mut Fields) {
    let pieces: Vec<&[u8]> = fields.all(Name::Cookie).collect();
    if let [_, _, ..] = pieces.as_slice() {
        let whole = pieces.join(&b"; "[..]);
        fields.set(b"cookie", &whole);
    }
}

/// Leaves in a response's trailers only what may be there (RFC 9110 §6.5.1).
pub(super) fn trailers(trailers: &mut Fields, nominated: &Nominated) {
    let mut connection = ConnectionOptions::default();
    trailers
        .all(Name::Connection)
        .for_each(|value| connection.read(value));
    remove_nominated(trailers, connection);
    trailers.retain(|field| {
        !ends_here_back(field.kind) && !belongs_to_head(field.kind) && !nominated.has(field.name)
    });
}

/// Whether the request has passed through a proxy of this name before. A comma in a comment counts
/// like any other: what looks like us in one is nothing that anybody writes, and a comment that
/// never ends must not hide us.
#[must_use]
pub(super) fn is_loop(fields: &Fields) -> bool {
    fields.all(Name::Via).any(|via| {
        via.split(|byte| *byte == b',')
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
pub(super) fn count_down(fields: &mut Fields) -> Result<(), ProxyError> {
    let mut values = fields.all(Name::MaxForwards);
    let Some(digits) = values.next() else {
        return Ok(());
    };
    if values.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Malformed(Flaw::of("Max-Forwards")).into());
    }
    let left = digits.iter().fold(0_u64, |left, digit| {
        left.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    drop(values);
    let left = left.checked_sub(1).ok_or(ProxyError::LastHop)?;
    fields.set(b"Max-Forwards", left.to_string().as_bytes());
    Ok(())
}

/// Names of fields that `Connection` has named, in small letters.
#[derive(Debug, Default)]
pub(super) struct Nominated(Vec<Vec<u8>>);

impl Nominated {
    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|one| name.eq_ignore_ascii_case(one))
    }
}

/// Removes the fields that `Connection` names. It may not name what frames or routes a message
/// or what admission checks: such a nomination is ignored. (Authorization is removed in any case,
/// and ours is set later.)
fn remove_nominated(fields: &mut Fields, connection: ConnectionOptions) -> Nominated {
    if !connection.nominates {
        return Nominated::default();
    }
    let names = fields.all(Name::Connection).flat_map(elements);
    let nominated = names
        .filter(|name| !name.is_empty() && name.iter().copied().all(is_tchar))
        .map(<[u8]>::to_ascii_lowercase)
        .filter(|name| !is_protected(name));
    let nominated = Nominated(nominated.collect());
    fields.retain(|field| !nominated.has(field.name));
    nominated
}

fn is_protected(name: &[u8]) -> bool {
    matches!(
        Name::of(name),
        Name::Host | Name::ContentLength | Name::Origin | Name::Via | Name::MaxForwards
    ) || name.starts_with(b"sec-fetch-")
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::to(Method::GET, b"/x");
        for (name, value) in fields {
            if name.eq_ignore_ascii_case("connection") {
                head.connection.read(value.as_bytes());
            }
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn written(fields: &Fields) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields
            .iter()
            .map(|field| (text(field.name), text(field.value)))
            .collect()
    }

    fn list(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    const NOTHING: Additions = Additions {
        via: false,
        trailers: false,
        websocket: false,
    };

    fn sent(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut head = head(fields);
        outbound(&mut head, NOTHING);
        written(&head.fields)
    }

    #[test]
    fn no_credential_of_the_client_goes_on() {
        let fields = sent(&[
            ("Authorization", "Bearer a"),
            ("authorization", "Basic b"),
            ("X-AUTH-TOKEN", "c"),
            ("csp-auth-token", "d"),
            ("Proxy-Authorization", "Basic e"),
            ("x_auth_token", "f"),
            ("HTTP_AUTHORIZATION", "g"),
            ("Accept", "*/*"),
        ]);
        assert_eq!(fields, list(&[("Accept", "*/*")]));
    }

    #[test]
    fn connection_fields_and_what_they_name_end_here() {
        let fields = sent(&[
            ("Connection", "close, X-Private"),
            ("connection", "Upgrade,HTTP2-Settings"),
            ("x-private", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABk"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("Proxy-Connection", "keep-alive"),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
            ("Cookie", "a=b"),
        ]);
        assert_eq!(
            fields,
            list(&[("Expect", "100-continue"), ("Cookie", "a=b")])
        );
    }

    #[test]
    fn connection_cannot_name_what_frames_or_routes_a_message() {
        let fields = sent(&[
            (
                "Connection",
                "host, content-length, authorization, origin, \u{e9}",
            ),
            ("Host", "localhost"),
            ("Content-Length", "3"),
            ("Origin", "http://localhost"),
        ]);
        assert_eq!(
            fields,
            list(&[("Content-Length", "3"), ("Origin", "http://localhost")])
        );
    }

    #[test]
    fn repeated_fields_keep_their_order() {
        let fields = sent(&[("x-a", "1"), ("te", "gzip"), ("x-a", "2"), ("x-a", "3")]);
        assert_eq!(fields, list(&[("x-a", "1"), ("x-a", "2"), ("x-a", "3")]));
    }

    #[test]
    fn via_is_appended_and_finds_loops() {
        let mut via = head(&[("Via", "1.0 fred, 1.1 p.example")]);
        assert!(!is_loop(&via.fields));
        let additions = Additions {
            via: true,
            ..NOTHING
        };
        outbound(&mut via, additions);
        let values: Vec<_> = via.fields.all(Name::Via).collect();
        assert_eq!(
            values,
            [&b"1.0 fred, 1.1 p.example"[..], b"1.1 auth-sidecar"]
        );
        assert!(is_loop(&via.fields));
        let is_loop = |via: &str| is_loop(&head(&[("via", via)]).fields);
        assert!(is_loop("1.1 a, 1.0 Auth-Sidecar (x)"));
        assert!(is_loop("HTTP/1.1 \t auth-sidecar(x)"));
        assert!(!is_loop("1.1 auth-sidecar-2"));
        assert!(!is_loop("auth-sidecar, 1.1 b (auth-sidecar)"));
    }

    #[test]
    fn a_response_keeps_all_but_the_connection_fields() {
        let mut head = head(&[
            ("Connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Alt-Svc", "h3=\":443\""),
            ("Strict-Transport-Security", "max-age=31536000"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Date", "x"),
            ("Server", "y"),
            ("Trailer", "grpc-status"),
            ("WWW-Authenticate", "Bearer"),
        ]);
        inbound(&mut head.fields, head.connection);
        assert_eq!(head.fields.len(), 6);
        assert_eq!(head.fields.all(Name::SetCookie).count(), 2);
        assert!(head.fields.has(Name::Trailer));
    }
}
