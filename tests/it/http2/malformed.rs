//! Requests that are malformed (RFC 9113 §8.1.1), as bytes: no library would send them.

use super::pair;
use crate::support::{
    Connection, FakeService, Sidecar,
    http2::{PREFACE, frame},
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113 §7.
const PROTOCOL_ERROR: u8 = 1;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A response with this status.
    Status(u16),
    /// The stream, or the connection, ended with this error.
    Error(u8),
}

type Fields<'a> = [(&'a str, &'a [u8])];

/// Fields that no table knows (RFC 7541 §6.2.2), of any bytes.
fn block(fields: &Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.extend([0, u8::try_from(name.len()).unwrap()]);
        block.extend(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(*value);
    }
    block
}

/// A request whose head is this, and what follows it.
fn request(head: &Fields<'_>, behind: &[Vec<u8>]) -> Vec<u8> {
    let end = if behind.is_empty() { END_STREAM } else { 0 };
    let mut frames = frame(HEADERS, END_HEADERS | end, 1, &block(head));
    frames.extend(behind.concat());
    frames
}

async fn outcome(sidecar: &Sidecar, frames: Vec<u8>) -> Outcome {
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write([PREFACE, &frames].concat()).await;
    loop {
        let head = client.read_exact(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = client.read_exact(length.try_into().unwrap()).await;
        match head[3] {
            // The status comes first, by its place in the static table (RFC 7541 Appendix A).
            HEADERS => {
                return Outcome::Status(match payload[0] {
                    0x88 => 200,
                    0x8c => 400,
                    _ => panic!("another status: {payload:?}"),
                });
            }
            RST_STREAM => return Outcome::Error(payload[3]),
            GOAWAY => return Outcome::Error(payload[7]),
            _ => {}
        }
    }
}

/// The head of a request, of which one field is another or left out.
fn with<'a>(name: &str, value: Option<&'a [u8]>) -> Vec<(&'static str, &'a [u8])> {
    let usual: [(&'static str, &'static [u8]); 4] = [
        (":method", b"GET"),
        (":scheme", b"http"),
        (":path", b"/x"),
        (":authority", b"localhost"),
    ];
    usual
        .into_iter()
        .filter_map(|(field, usual)| {
            let value = if field == name { value } else { Some(usual) };
            value.map(|value| (field, value))
        })
        .collect()
}

/// That the request with this head is refused, by a response or by an error of the protocol.
async fn refused(sidecar: &Sidecar, head: &Fields<'_>, expected: Outcome) {
    let shown: Vec<_> = head
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.escape_ascii()))
        .collect();
    let outcome = outcome(sidecar, request(head, &[])).await;
    assert_eq!(outcome, expected, "{shown:?}");
}

const BY_CODEC: Outcome = Outcome::Error(PROTOCOL_ERROR);
const BY_US: Outcome = Outcome::Status(400);

fn assert_untouched(service: &FakeService) {
    assert_eq!(service.request_count(), 0, "{:?}", service.requests());
}

#[tokio::test]
async fn a_request_of_raw_frames_is_served() {
    let (_service, sidecar) = pair();
    let frames = request(&with("", None), &[]);
    assert_eq!(outcome(&sidecar, frames).await, Outcome::Status(200));
    // Without an authority where there is a Host, and about the server itself.
    let mut head = with(":authority", None);
    head.push(("host", b"localhost"));
    let frames = request(&head, &[]);
    assert_eq!(outcome(&sidecar, frames).await, Outcome::Status(200));
}

#[tokio::test]
async fn a_pseudo_header_that_is_missing_repeated_misplaced_or_wrong_is_refused() {
    let (service, sidecar) = pair();
    for name in [":method", ":scheme", ":path"] {
        refused(&sidecar, &with(name, None), BY_CODEC).await;
    }
    for (name, value, by) in [
        (":path", &b""[..], BY_CODEC),
        (":path", b"x", BY_CODEC),
        (":path", b"?x", BY_US),
        (":path", b"*", BY_US),
        (":path", b"http://localhost/x", BY_CODEC),
        (":path", b"/a b", BY_CODEC),
        (":path", b"/a\x7fb", BY_CODEC),
        (":authority", b"", BY_CODEC),
        (":authority", b"user@localhost", BY_US),
        (":authority", b"user:secret@localhost", BY_US),
        (":authority", b"localhost/x", BY_CODEC),
        (":scheme", b"ftp", BY_US),
        (":scheme", b"", BY_US),
    ] {
        refused(&sidecar, &with(name, Some(value)), by).await;
    }
    for (name, value, by) in [
        (":path", &b"/y"[..], BY_CODEC),
        (":method", b"GET", BY_CODEC),
        (":authority", b"localhost", BY_CODEC),
        (":status", b"200", BY_CODEC),
        (":protocol", b"websocket", BY_CODEC),
        (":other", b"1", BY_CODEC),
    ] {
        let mut head = with("", None);
        head.push((name, value));
        refused(&sidecar, &head, by).await;
    }
    let mut misplaced = with(":path", None);
    misplaced.extend([("x-a", &b"1"[..]), (":path", b"/x")]);
    refused(&sidecar, &misplaced, BY_CODEC).await;
    assert_untouched(&service);
}

#[tokio::test]
async fn a_field_that_http2_has_no_place_for_is_refused() {
    let (service, sidecar) = pair();
    for (name, value, by) in [
        ("connection", &b"close"[..], BY_CODEC),
        ("keep-alive", b"timeout=5", BY_CODEC),
        ("proxy-connection", b"keep-alive", BY_CODEC),
        ("transfer-encoding", b"chunked", BY_CODEC),
        ("upgrade", b"websocket", BY_CODEC),
        ("te", b"gzip", BY_CODEC),
        ("te", b"trailers, deflate", BY_CODEC),
        ("X-A", b"1", BY_CODEC),
        ("", b"1", BY_CODEC),
        ("x a", b"1", BY_CODEC),
        ("x:a", b"1", BY_CODEC),
        ("x-a", b"1\r\nx-b: 2", BY_CODEC),
        ("x-a", b"1\n2", BY_CODEC),
        ("x-a", b"1\x002", BY_CODEC),
        ("x-a", b"1\x7f2", BY_CODEC),
        ("x-a", b" 1", BY_US),
        ("x-a", b"1 ", BY_US),
        ("x-a", b"\t1", BY_US),
        ("x-a", b"1\t", BY_US),
        ("x-a", b" ", BY_US),
        ("authorization", b"Bearer mine ", BY_US),
        ("host", b"evil.example", BY_US),
        ("content-length", b"x", BY_CODEC),
        ("content-length", b"1", BY_CODEC),
    ] {
        let mut head = with("", None);
        head.push((name, value));
        refused(&sidecar, &head, by).await;
    }
    assert_untouched(&service);
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_was_said_is_refused() {
    let (service, sidecar) = pair();
    let mut head = with(":method", Some(b"POST"));
    head.push(("content-length", b"5"));
    for pieces in [&["four"][..], &["sixsix"], &["four", "four"], &[""]] {
        let mut behind: Vec<_> = pieces
            .iter()
            .map(|piece| frame(DATA, 0, 1, piece.as_bytes()))
            .collect();
        behind.push(frame(DATA, END_STREAM, 1, b""));
        let outcome = outcome(&sidecar, request(&head, &behind)).await;
        assert_eq!(outcome, BY_CODEC, "{pieces:?}");
    }
    let complete = |request: &crate::support::service::Received| request.complete;
    assert!(!service.requests().iter().any(complete));
}

#[tokio::test]
async fn trailers_that_are_malformed_are_refused() {
    let (service, sidecar) = pair();
    let head = with(":method", Some(b"POST"));
    for (trailers, by) in [
        (&[("connection", &b"close"[..])][..], BY_CODEC),
        (&[("te", b"gzip")], BY_CODEC),
        (&[("X-A", b"1")], BY_CODEC),
        (&[("x-a", b"1\r\n")], BY_CODEC),
        (&[("x-a", b" 1")], BY_US),
    ] {
        let behind = [
            frame(DATA, 0, 1, b"body"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)),
        ];
        let outcome = outcome(&sidecar, request(&head, &behind)).await;
        assert_eq!(outcome, by, "{trailers:?}");
    }
    // Neither ends the stream: it is no trailer section (RFC 9113 §8.1).
    let behind = [
        frame(DATA, 0, 1, b"body"),
        frame(HEADERS, END_HEADERS, 1, &block(&[("x-a", b"1")])),
    ];
    assert_eq!(outcome(&sidecar, request(&head, &behind)).await, BY_CODEC);
    let complete = |request: &crate::support::service::Received| request.complete;
    assert!(!service.requests().iter().any(complete));
}

/// The codec takes it away before anybody can see it.
#[tokio::test]
async fn what_cannot_be_seen_of_a_malformed_request_goes_no_further() {
    let (service, sidecar) = pair();
    let fragment = request(&with(":path", Some(b"/x?a#b")), &[]);
    assert_eq!(outcome(&sidecar, fragment).await, Outcome::Status(200));
    let mut pathless = with(":path", None);
    pathless.retain(|(name, _)| *name != ":authority");
    pathless.push(("host", b"localhost"));
    let pathless = request(&pathless, &[]);
    assert_eq!(outcome(&sidecar, pathless).await, Outcome::Status(200));
    let trailers: [(&str, &[u8]); 2] = [(":path", b"/y"), ("x-late", b"1")];
    let behind = [
        frame(DATA, 0, 1, b"body"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&trailers)),
    ];
    let late = request(&with(":method", Some(b"POST")), &behind);
    assert_eq!(outcome(&sidecar, late).await, Outcome::Status(200));
    let received = service.requests();
    let targets: Vec<_> = received.iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["/x?a", "/", "/x"]);
    assert_eq!(received[2].body, b"body");
    assert_eq!(received[2].header("x-late"), None);
}
