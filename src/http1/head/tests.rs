use super::*;

const LIMITS: Limits = Limits {
    bytes: 64 * 1024,
    fields: 100,
};

type Outcome = Result<Option<(Framing, usize)>, HeadError>;

/// Reads it whole, then split at each byte, and expects the same of all.
fn read(text: &[u8]) -> Outcome {
    let outcome = |read: Result<Option<(RequestHead, Framing, usize)>, HeadError>| {
        read.map(|head| head.map(|(_, framing, length)| (framing, length)))
    };
    let whole = outcome(Reader::<RequestLine>::default().read(text, LIMITS));
    for at in 1..text.len().min(400) {
        let mut reader = Reader::<RequestLine>::default();
        let first = outcome(reader.read(&text[..at], LIMITS));
        let split = match first {
            Ok(None) => outcome(reader.read(text, LIMITS)),
            other => other,
        };
        let class = |read: &Outcome| match read {
            Ok(read) => format!("{read:?}"),
            // Before a line is whole there may be other words for it.
            Err(error) => format!("{:?}", std::mem::discriminant(error)),
        };
        let text = text.escape_ascii();
        assert_eq!(class(&split), class(&whole), "{text} split at {at}");
    }
    whole
}

fn flaw(text: &[u8]) -> Option<String> {
    match read(text) {
        Err(HeadError::Malformed(flaw)) => Some(flaw.to_string()),
        _ => None,
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused_with_what_and_where() {
    for (head, why) in [
        ("GET / HTTP/1.1\nHost: a\r\n", "a line without CRLF"),
        (
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "a line without CRLF in line 2",
        ),
        (
            "GET / HTTP/1.1\r\nA: b\rc\r\n",
            "field value in line 2: byte 2, 0x0d",
        ),
        (
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n",
            "field name in line 3: byte 0, 0x20",
        ),
        (
            "GET / HTTP/1.1\r\n A: b\r\n",
            "field name in line 2: byte 0, 0x20",
        ),
        (
            "GET / HTTP/1.1\r\nA : b\r\n",
            "field name in line 2: byte 1, 0x20",
        ),
        ("GET / HTTP/1.1\r\nA\r\n", "field line: no colon in line 2"),
        ("GET / HTTP/1.1\r\n: b\r\n", "field name: none in line 2"),
        ("GET / HTTP/1.1 \r\n", "version"),
        ("GET /\r\n", "request line: no version"),
        ("GET  / HTTP/1.1\r\n", "target: none"),
        ("GET /a#b HTTP/1.1\r\n", "target: byte 2, '#'"),
        ("GET /\u{7f} HTTP/1.1\r\n", "target: byte 1, 0x7f"),
        ("GET /a\tb HTTP/1.1\r\n", "target: byte 2, 0x09"),
        ("G\tT / HTTP/1.1\r\n", "method: byte 1, 0x09"),
        ("GET / HTTP/1.2\r\n", "version"),
        ("GET / http/1.1\r\n", "version"),
        (
            "P / HTTP/1.1\r\nContent-Length: +1\r\n",
            "Content-Length in line 2",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length: 1,1\r\n",
            "Content-Length in line 2",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length:\r\n",
            "Content-Length in line 2",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n",
            "Content-Length in line 2",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n",
            "a second Content-Length in line 3",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Content-Length beside Transfer-Encoding",
        ),
        (
            "P / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding in HTTP/1.0",
        ),
        (
            "GET x/y HTTP/1.1\r\n\r\n",
            "target: neither a path nor an address of http or https",
        ),
    ] {
        let whole = Reader::<RequestLine>::default().read(head.as_bytes(), LIMITS);
        let Err(HeadError::Malformed(found)) = whole else {
            panic!("{head:?}: {whole:?}");
        };
        assert_eq!(found.to_string(), why, "{head:?}");
        assert!(flaw(head.as_bytes()).is_some());
    }
    for coding in [
        "gzip, chunked",
        "chunked, chunked",
        "xchunked",
        "",
        "chunked;q=1",
    ] {
        let head = format!("P / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert_eq!(read(head.as_bytes()), Err(HeadError::TransferCoding));
    }
    let twice = b"P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(read(twice), Err(HeadError::TransferCoding));
    assert_eq!(read(b"GET / HTTP/2.0\r\n"), Err(HeadError::Version));
}

#[test]
fn what_cannot_become_a_head_is_refused_before_its_line_ends() {
    for bad in [
        &b"\x16\x03\x01\x02"[..],
        b"\0",
        b" ",
        b"GET\t",
        b"GET  ",
        b"GET /#",
        b"GET /\x7f",
        b"GET / HTTP/1.2",
        b"GET / http",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/1.1\r ",
        b"\r\r",
        b"GET / HTTP/1.1\r\n a",
        b"GET / HTTP/1.1\r\na b",
        b"GET / HTTP/1.1\r\na: b\rc",
        b"GET / HTTP/1.1\r\na: b\r\n\r ",
        b"GET / HTTP/1.1\r\n:",
        b"GET / HTTP/1.1\r\na: \x01",
    ] {
        assert!(flaw(bad).is_some(), "{}", bad.escape_ascii());
    }
    for good in [
        &b"\r"[..],
        b"GET",
        b"GET ",
        b"GET /\xc3",
        b"GET / ",
        b"GET / HTT",
        b"GET / HTTP/1.0",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.1\r\n\r",
        b"GET / HTTP/1.1\r\nHost: caf\xe9\tx\r",
    ] {
        assert_eq!(read(good), Ok(None), "{}", good.escape_ascii());
    }
}

#[test]
fn heads_of_every_framing_are_read_to_their_end() {
    for (text, framing) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::None),
        ("\r\nGET / HTTP/1.0\r\n\r\n", Framing::None),
        (
            "P / HTTP/1.1\r\nContent-Length: 05\r\n\r\n",
            Framing::Length(5),
        ),
        (
            "P / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n",
            Framing::Chunked,
        ),
    ] {
        let with_more = [text.as_bytes(), b"GET"].concat();
        assert_eq!(
            read(&with_more),
            Ok(Some((framing, text.len()))),
            "{text:?}"
        );
    }
}

#[test]
fn fields_are_written_as_they_were_read_but_for_what_others_could_misread() {
    let text =
        b"GET /a\"\xff HTTP/1.1\r\nX-a: 1\r\nHOST:\t h \r\nContent-Length: 007\r\nx-B:2\r\n\r\n";
    let mut reader = Reader::<RequestLine>::default();
    let (head, _, _) = reader.read(text, LIMITS).unwrap().unwrap();
    assert_eq!(head.target(), b"/a\"\xff");
    let mut out = Vec::new();
    head.fields.write(&mut out, |_| true);
    let written = "X-a: 1\r\nHOST: h\r\nContent-Length: 7\r\nx-B: 2\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), written);
}

#[test]
fn a_head_of_no_bytes_of_length_zero_stays_zero() {
    let text = b"P / HTTP/1.1\r\nContent-Length: 000\r\n\r\n";
    let mut reader = Reader::<RequestLine>::default();
    let (head, framing, _) = reader.read(text, LIMITS).unwrap().unwrap();
    assert_eq!(framing, Framing::Length(0));
    assert_eq!(head.fields.first(Name::ContentLength), Some(&b"0"[..]));
}

#[test]
fn everything_has_a_bound() {
    let many = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(101));
    assert_eq!(read(many.as_bytes()), Err(HeadError::TooLarge));
    let large = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(65 * 1024));
    assert_eq!(read(large.as_bytes()), Err(HeadError::TooLarge));
    let long = format!("GET /{} HTTP/1.1\r\n", "y".repeat(17 * 1024));
    assert_eq!(read(long.as_bytes()), Err(HeadError::TargetTooLong));
    let endless = format!("GET /{}", "y".repeat(65 * 1024));
    assert_eq!(read(endless.as_bytes()), Err(HeadError::TargetTooLong));
    let empty = "\r\n".repeat(40 * 1024);
    assert_eq!(read(empty.as_bytes()), Err(HeadError::TargetTooLong));
}

#[test]
fn a_status_line_is_a_version_a_status_of_three_digits_and_a_reason() {
    let read = |line: &str| {
        let text = format!("{line}\r\nA: b\r\n\r\n");
        let head = Reader::<StatusLine>::default().read(text.as_bytes(), LIMITS);
        let (head, _, _) = head.ok()??;
        let reason = String::from_utf8_lossy(head.reason()).into_owned();
        Some((head.status.as_u16(), reason))
    };
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.0 404 Not (really) found", 404, "Not (really) found"),
        ("HTTP/1.1 200 ", 200, ""),
        ("HTTP/1.1 200", 200, ""),
        ("HTTP/1.1 999 Odd", 999, "Odd"),
    ] {
        assert_eq!(read(line), Some((status, reason.to_owned())), "{line:?}");
    }
    for line in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1",
        "HTTP/2.0 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 O\0K",
        "GET / HTTP/1.1",
    ] {
        assert_eq!(read(line), None, "{line:?}");
    }
}
