use super::{reader::MAX_TRAILERS, *};

fn whole(bytes: &[u8]) -> Request {
    match request(bytes, Sender::Any) {
        Read::Whole(request, length) if length == bytes.len() => request,
        other => panic!("{}: {other:?}", shown(bytes)),
    }
}

fn answer(bytes: &str, method: &[u8], is_over: bool) -> Read<Response> {
    response(bytes.as_bytes(), method, is_over, Sender::Proxy)
}

/// A request with this behind its first field line.
fn post(behind: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{behind}")
}

#[test]
fn a_request_is_read_as_it_was_spelled_and_what_follows_is_left() {
    let bytes = b"GET /a?b HTTP/1.1\r\nhOsT: x\r\nX-Empty:\r\nX-Many: 1 \t\r\nx-many:2\r\n\r\nGET";
    let Read::Whole(request, length) = request(bytes, Sender::Proxy) else {
        panic!();
    };
    assert_eq!(length, bytes.len() - 3);
    assert_eq!(
        (&*request.method, &*request.target),
        (&b"GET"[..], &b"/a?b"[..])
    );
    assert_eq!(request.fields.0[0], (b"hOsT".to_vec(), b"x".to_vec()));
    assert_eq!(request.fields.all("x-empty"), [b""]);
    assert_eq!(request.fields.all("X-MANY"), [b"1", b"2"]);
    assert!(request.body.is_empty() && !request.is_http_10);
}

#[test]
fn bytes_beyond_ascii_and_delimiters_are_kept_as_they_are() {
    let odd: Vec<u8> = b"\"<>`\\^{|}".iter().copied().chain(0x80..=0xff).collect();
    let bytes = [b"GET /", &odd[..], b" HTTP/1.1\r\nX: ", &odd, b"\r\n\r\n"].concat();
    let request = whole(&bytes);
    assert_eq!(request.target, [b"/", &odd[..]].concat());
    assert_eq!(request.fields.all("x"), [odd.as_slice()]);
    let bytes = [
        b"HTTP/1.1 200 ",
        &odd[..],
        b"\r\nContent-Length: 0\r\nX: ",
        &odd,
        b"\r\n\r\n",
    ];
    let Read::Whole(response, _) = response(&bytes.concat(), b"GET", false, Sender::Proxy) else {
        panic!();
    };
    assert_eq!(response.fields.all("x"), [odd.as_slice()]);
    assert_eq!(latin1(&[b'a', 0xe9]), "a\u{e9}");
}

#[test]
fn a_body_is_as_long_as_the_fields_say() {
    assert_eq!(
        whole(post("Content-Length: 3\r\n\r\none").as_bytes()).body,
        b"one"
    );
    let chunked = post(
        "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n0A\r\n0123456789\r\n000\r\nX: 1\r\n\r\n",
    );
    let request = whole(chunked.as_bytes());
    assert_eq!(request.body, b"one0123456789");
    assert_eq!(request.trailers.all("x"), [b"1"]);
    assert!(!request.fields.has("x"));
}

#[test]
fn every_beginning_of_a_message_is_cut_and_has_its_head_once_that_is_whole() {
    for behind in [
        "Content-Length: 3\r\n\r\none",
        "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\nX: 1\r\n\r\n",
    ] {
        let bytes = post(behind).into_bytes();
        let head = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4;
        for end in 0..bytes.len() {
            match request(&bytes[..end], Sender::Proxy) {
                Read::Cut(begun) => assert_eq!(begun.is_some(), end >= head, "{end}"),
                other => panic!("{end}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_no_sender_may_write_is_bad() {
    for bytes in [
        "GET  / HTTP/1.1\r\n",
        "GET /\r\n",
        "GET / HTTP/1.1 \r\n",
        " GET / HTTP/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        "GET /# HTTP/1.1\r\n",
        "GET /\x7f HTTP/1.1\r\n",
        "GET /\t HTTP/1.1\r\n",
        "GET / HTTP/1.2\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\r\n",
        "GET / HTTP/1.1\r\nHost\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n",
        "GET / HTTP/1.1\r\n: x\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n folded\r\n",
        "GET / HTTP/1.1\r\nX: \0\r\n",
        "GET / HTTP/1.1\r\nX: a\rb\r\n",
        "GET / HTTP/1.1\r\nX: a\x0bb\r\n",
        "GET / HTTP/1.1\r\nX: a\x7fb\r\n",
        "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let read = request(bytes.as_bytes(), Sender::Any);
        assert!(matches!(read, Read::Bad(None, _)), "{bytes:?}: {read:?}");
    }
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(MAX_TRAILERS + 1));
    for chunks in [
        "\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "+1\r\n",
        "0000000000000001\r\n",
        "1;a=\0\r\n",
        "1\n",
        "1\r\nab",
        "1\r\na\n",
        "0\r\nX\r\n",
        &many,
    ] {
        let bytes = post(&format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"));
        let read = request(bytes.as_bytes(), Sender::Any);
        assert!(
            matches!(read, Read::Bad(Some(_), _)),
            "{chunks:?}: {read:?}"
        );
    }
}

#[test]
fn a_proxy_writes_only_the_plainest_form() {
    for bytes in [
        "\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        post("Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\n1;a=\"b\"\r\nx\r\n0;c\r\n\r\n"),
    ] {
        whole(bytes.as_bytes());
        let read = request(bytes.as_bytes(), Sender::Proxy);
        assert!(matches!(read, Read::Bad(..)), "{bytes:?}: {read:?}");
    }
}

#[test]
fn requests_are_read_one_after_another() {
    let two = [post("\r\n"), post("Content-Length: 1\r\n\r\nx")];
    let bytes = format!("{}{}GET", two[0], two[1]);
    let (whole, behind) = requests(bytes.as_bytes(), Sender::Proxy);
    let lengths: Vec<_> = whole.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths, two.map(|one| one.len()));
    assert_eq!(behind, Read::Cut(None));
}

#[test]
fn a_response_has_content_unless_its_status_or_its_request_says_otherwise() {
    let body = |head: &str, method: &[u8], is_over| {
        let bytes = format!("HTTP/1.1 {head}\r\n\r\nbody");
        match answer(&bytes, method, is_over) {
            Read::Whole(response, length) => {
                let behind = &bytes[length..];
                assert!(behind.is_empty() || behind == "body", "{behind}");
                Some(latin1(&response.body))
            }
            Read::Cut(_) => None,
            Read::Bad(_, why) => panic!("{head}: {why}"),
        }
    };
    for (head, method, is_over, expected) in [
        ("200 OK\r\nContent-Length: 4", "GET", false, Some("body")),
        ("200 OK\r\nContent-Length: 5", "GET", true, None),
        ("200 OK\r\nContent-Length: 5", "HEAD", false, Some("")),
        (
            "200 OK\r\nTransfer-Encoding: chunked",
            "HEAD",
            false,
            Some(""),
        ),
        ("200 ", "HEAD", false, Some("")),
        ("200 OK", "GET", false, None),
        ("200 OK", "GET", true, Some("body")),
        ("100 Continue", "GET", false, Some("")),
        ("101 Switching Protocols", "GET", false, Some("")),
        ("204 No Content", "GET", false, Some("")),
        (
            "304 Not Modified\r\nContent-Length: 5",
            "GET",
            false,
            Some(""),
        ),
    ] {
        let body = body(head, method.as_bytes(), is_over);
        assert_eq!(body.as_deref(), expected, "{method}: {head}");
    }
}

#[test]
fn a_response_that_no_server_may_write_is_bad() {
    for bytes in [
        "HTTP/1.1 200\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/2.0 200 OK\r\n",
        "HTTP/1.1 200 O\0K\r\n",
        "\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 100 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
    ] {
        let read = answer(bytes, b"GET", false);
        assert!(matches!(read, Read::Bad(None, _)), "{bytes:?}: {read:?}");
    }
}

#[test]
fn a_list_is_read_from_all_lines_in_any_case() {
    let request = whole(post("Connection: Close, ,\tX-a\r\nconnection: TE\r\n\r\n").as_bytes());
    assert_eq!(
        request.fields.list("connection"),
        [&b"close"[..], b"x-a", b"te"]
    );
    assert!(request.fields.connection("te") && !request.fields.connection("upgrade"));
}
