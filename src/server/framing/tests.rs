use super::*;

/// Scans it whole, then split at each byte, and expects the same of all.
fn scan(text: &str) -> Result<(), Violation> {
    let whole = Framing::new(64 * 1024).scan(text.as_bytes());
    for at in 1..text.len().min(400) {
        let (first, second) = text.as_bytes().split_at(at);
        let mut framing = Framing::new(64 * 1024);
        let split = framing.scan(first).and_then(|()| framing.scan(second));
        assert_eq!(class(&split), class(&whole), "{text:?} split at {at}");
    }
    whole
}

fn kind(result: &Result<(), Violation>) -> Option<Refusal> {
    match result {
        Ok(()) => None,
        Err(Violation::Head { refusal, .. }) => Some(*refusal),
        Err(Violation::Body { .. }) => Some(Refusal::Malformed("body")),
    }
}

/// The same without the words for it, which may be others before a line is whole.
fn class(result: &Result<(), Violation>) -> Option<std::mem::Discriminant<Refusal>> {
    kind(result).map(|refusal| std::mem::discriminant(&refusal))
}

#[test]
fn what_cannot_become_a_head_is_refused_before_its_line_ends() {
    let refused = |text: &[u8]| kind(&Framing::new(64 * 1024).scan(text));
    for bad in [
        &b"\x16\x03\x01\x02"[..],
        b"\0",
        b" ",
        b"GET\t",
        b"GET  ",
        b"GET /#",
        b"GET /\x7f",
        b"GET /\xff ",
        b"GET / HTTP/1.2",
        b"GET / http",
        b"GET / HTTP/1.1 ",
        b"GET /\xff HTTP/1.1\r",
        b"T a\xc0/x HTTP/1.1\r",
        b"GET / HTTP/1.1\r ",
        b"\r\r",
        b"GET / HTTP/1.1\r\n a",
        b"GET / HTTP/1.1\r\na b",
        b"GET / HTTP/1.1\r\n:",
        b"GET / HTTP/1.1\r\na: \x01",
        b"GET / HTTP/1.1\r\na: b\rc",
        b"GET / HTTP/1.1\r\na: b\r\n\r ",
    ] {
        let text = bad.escape_ascii();
        assert!(
            matches!(refused(bad), Some(Refusal::Malformed(_))),
            "{text}"
        );
    }
    assert_eq!(refused(b"GET / HTTP/2"), Some(Refusal::Version));
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
        b"GET / HTTP/1.1\r\nHost",
        b"GET / HTTP/1.1\r\nHost:",
        b"GET / HTTP/1.1\r\nHost: caf\xe9\tx\r",
    ] {
        assert_eq!(refused(good), None, "{}", good.escape_ascii());
    }
}

#[test]
fn pipelined_messages_of_every_framing_are_followed() {
    let messages = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na\nb\rc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
         a;x=\"y\"\r\n0123456789\r\n1\r\n\n\r\n0\r\nX: y\r\n\r\n",
        "GET /a?b HTTP/1.0\r\nX: caf\u{e9}\t!\r\n\r\n",
    ];
    assert_eq!(scan(&messages.concat()), Ok(()));
    let mut all = Framing::new(64 * 1024);
    for message in messages {
        assert_eq!(all.scan(message.as_bytes()), Ok(()));
        assert_eq!((all.state, all.head.bytes), (State::Head, 0), "{message:?}");
    }
}

#[test]
fn a_violation_says_how_much_before_it_was_good() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let bad = "GET / HTTP/1.1\r\nHost : a\r\n\r\n";
    let result = Framing::new(1000).scan(format!("{good}{good}{bad}{good}").as_bytes());
    let refusal = Refusal::Malformed("field name");
    let before = 2 * good.len();
    assert_eq!(result, Err(Violation::Head { before, refusal }));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (head, why) in [
        ("GET / HTTP/1.1\nHost: a\r\n", "a line without CRLF"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "a line without CRLF"),
        ("GET / HTTP/1.1\r\nA: b\rc\r\n", "field value"),
        ("GET / HTTP/1.1\r\nA: b\0\r\n", "field value"),
        ("GET / HTTP/1.1\r\n A: b\r\n", "field name"),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n", "field line"),
        ("GET / HTTP/1.1\r\nA\r\n", "field line"),
        ("GET / HTTP/1.1\r\n: b\r\n", "field name"),
        ("GET / HTTP/1.1 \r\n", "request line"),
        ("GET /\r\n", "request line"),
        ("GET /#a HTTP/1.1\r\n", "target"),
        ("GET /\u{1} HTTP/1.1\r\n", "target"),
        ("G\tT / HTTP/1.1\r\n", "method"),
        ("GET / HTTP/1.2\r\n", "version"),
        ("GET / http/1.1\r\n", "version"),
        ("P / HTTP/1.1\r\nContent-Length: +1\r\n", "Content-Length"),
        ("P / HTTP/1.1\r\nContent-Length: 1,1\r\n", "Content-Length"),
        ("P / HTTP/1.1\r\nContent-Length:\r\n", "Content-Length"),
        (
            "P / HTTP/1.1\r\nConnection: \u{e9}, close\r\n",
            "Connection",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n",
            "Content-Length",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n",
            "several Content-Length fields",
        ),
        (
            "P / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "two framings",
        ),
        (
            "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "two framings",
        ),
        (
            "P / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding in HTTP/1.0",
        ),
    ] {
        assert_eq!(kind(&scan(head)), Some(Refusal::Malformed(why)), "{head:?}");
    }
    for coding in [
        "gzip, chunked",
        "chunked, chunked",
        "xchunked",
        "",
        "chunked;q=1",
    ] {
        let head = format!("P / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert_eq!(
            kind(&scan(&head)),
            Some(Refusal::TransferCoding),
            "{coding}"
        );
    }
}

#[test]
fn broken_chunks_are_found() {
    for body in [
        "x\r\n",
        "\r\n",
        "+3\r\n",
        "0x3\r\n",
        "-1\r\n",
        "3 \r\n",
        " 3\r\n",
        "3\n",
        "1234567890123456\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "3;a\nb\r\n",
        "3;a\u{0}\r\n",
        "0\r\nX y\r\n",
        "0\r\n y\r\n",
    ] {
        let text = format!("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let result = scan(&text);
        assert!(matches!(result, Err(Violation::Body { .. })), "{body:?}");
    }
}

#[test]
fn trailers_are_fields_that_mean_nothing() {
    for trailer in ["Content-Length: =9", "Transfer-Encoding: x", "X-Late: evil"] {
        let body = format!("1\r\na\r\n0\r\n{trailer}\r\n\r\n");
        let text = format!("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(scan(&text), Ok(()), "{trailer}");
    }
}

#[test]
fn everything_has_a_bound() {
    let field = "X: y\r\n".repeat(101);
    let many = format!("GET / HTTP/1.1\r\n{field}");
    assert_eq!(kind(&scan(&many)), Some(Refusal::HeadTooLarge));
    let large = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(65 * 1024));
    assert_eq!(kind(&scan(&large)), Some(Refusal::HeadTooLarge));
    let long = format!("GET /{} HTTP/1.1\r\n", "y".repeat(17 * 1024));
    assert_eq!(kind(&scan(&long)), Some(Refusal::TargetTooLong));
    let endless = format!("GET /{}", "y".repeat(65 * 1024));
    assert_eq!(kind(&scan(&endless)), Some(Refusal::TargetTooLong));
    let chunk = "P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("{chunk}1;{}", "x".repeat(5 * 1024));
    assert!(matches!(scan(&extension), Err(Violation::Body { .. })));
    let with_trailers = |count| format!("{chunk}0\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(scan(&with_trailers(MAX_FIELDS)), Ok(()));
    let violated = scan(&with_trailers(MAX_FIELDS + 1));
    assert!(matches!(violated, Err(Violation::Body { .. })));
    let trailers = format!("{chunk}0\r\n{}", "X: y\r\n".repeat(3000));
    assert!(matches!(scan(&trailers), Err(Violation::Body { .. })));
}

#[test]
fn a_head_request_is_known_as_one_wherever_its_line_is_refused() {
    for (text, is_for_head) in [
        (&b"HEAD /\xb4 HTTP/1.1\r\n"[..], true),
        (b"GET /\xb4 HTTP/1.1\r\n", false),
    ] {
        for end in text.len() - 10..=text.len() {
            let mut framing = Framing::new(1024);
            assert!(framing.scan(&text[..end]).is_err());
            assert_eq!(framing.is_for_head(), is_for_head, "{end}");
        }
    }
}
