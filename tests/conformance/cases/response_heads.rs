//! Heads of answers, and interim ones (RFC 9112 §4, §5, RFC 9110 §15).

use crate::case::{Case, Content, End, OK, Part, Reply, Step, Upstream, case, get, post};

pub fn cases() -> Vec<Case> {
    [lines(), fields(), interim(), none()].concat()
}

fn asked(section: &'static str, name: &'static str) -> Case {
    case(section, name, get("X-A: 1"))
}

fn lines() -> Vec<Case> {
    let bad = |name, line: &[u8]| {
        asked("9112 §4", name)
            .answer_and_close([line, b"\r\nContent-Length: 2\r\n\r\nok"].concat())
            .bad_gateway()
    };
    let good = |name, line: &str, status: u16| {
        asked("9112 §4", name)
            .answer([line, "\r\nContent-Length: 2\r\n\r\nok"].concat())
            .gives(&[status])
            .body("ok")
    };
    let odd = |name, line: &str, status: u16| {
        let passed = Reply {
            body: Content::Is("ok".to_owned()),
            ..Reply::status(&[status])
        };
        asked("9112 §4", name)
            .answer_and_close([line, "\r\nContent-Length: 2\r\n\r\nok"].concat())
            .bad_gateway()
            .outcome(Upstream::Anything, vec![passed], End::Usable)
    };
    vec![
        good(
            "a reason may be anything",
            "HTTP/1.1 200 All is well (really)",
            200,
        ),
        good("a reason may be empty", "HTTP/1.1 200 ", 200),
        good("a status that nobody knows passes", "HTTP/1.1 299 Odd", 299),
        good(
            "a status of a known class passes",
            "HTTP/1.1 418 I'm a teapot",
            418,
        ),
        odd(
            "a missing reason and its space are supplied, or bad",
            "HTTP/1.1 200",
            200,
        ),
        // RFC 9110 §15: outside of the five classes.
        odd(
            "a status above the classes passes or is bad",
            "HTTP/1.1 600 Odd",
            600,
        ),
        odd(
            "a status far above the classes passes or is bad",
            "HTTP/1.1 999 Odd",
            999,
        ),
        bad("a status of two digits is bad", b"HTTP/1.1 20 OK"),
        bad("a status of four digits is bad", b"HTTP/1.1 2000 OK"),
        bad("a status of letters is bad", b"HTTP/1.1 abc OK"),
        bad("a status with a sign is bad", b"HTTP/1.1 +20 OK"),
        bad("a status below the classes is bad", b"HTTP/1.1 099 OK"),
        bad("a status of zero is bad", b"HTTP/1.1 000 OK"),
        bad("a missing status is bad", b"HTTP/1.1"),
        odd(
            "two spaces before a status are bad or one",
            "HTTP/1.1  200 OK",
            200,
        ),
        bad("another major version is bad", b"HTTP/2.0 200 OK"),
        bad("a version that nobody knows is bad", b"HTTP/3.7 200 OK"),
        bad("another protocol is bad", b"ICY 200 OK"),
        bad("a version in small letters is bad", b"http/1.1 200 OK"),
        bad(
            "a greeting of another service is bad",
            b"SSH-2.0-OpenSSH_9.2",
        ),
        bad("a request is a bad answer", b"GET / HTTP/1.1"),
        bad("a NUL in a reason is bad", b"HTTP/1.1 200 O\0K"),
        asked("9112 §4", "an answer of HTTP/0.9 is bad")
            .answer_and_close("<html>hello</html>")
            .bad_gateway(),
        asked("9112 §4", "binary is bad")
            .answer_and_close(b"\x15\x03\x01\x00\x02\x02\x46")
            .bad_gateway(),
        // An empty line before a status line is no part of §4; hyper passes over it.
        asked(
            "9112 §2.2",
            "an empty line before a status line is bad or nothing",
        )
        .answer_and_close(["\r\n", OK].concat())
        .bad_gateway()
        .outcome(
            Upstream::Anything,
            vec![Reply {
                body: Content::Is("ok".to_owned()),
                ..Reply::status(&[200])
            }],
            End::Usable,
        ),
    ]
}

/// As the wire shows it.
fn high() -> String {
    (0x80..=0xff_u8).map(char::from).collect()
}

fn fields() -> Vec<Case> {
    let with = |name, field: &[u8]| {
        asked("9112 §5", name).answer_and_close(
            [
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
                field,
                b"\r\n\r\nok",
            ]
            .concat(),
        )
    };
    let bad = |name, field: &[u8]| with(name, field).bad_gateway();
    // Bad, or made good: what the client gets is read as strictly as ever.
    let mended = |name, field: &[u8]| {
        bad(name, field).outcome(
            Upstream::Anything,
            vec![Reply {
                body: Content::Is("ok".to_owned()),
                ..Reply::status(&[200])
            }],
            End::Usable,
        )
    };
    vec![
        bad("a field of an answer without a colon is bad", b"nonsense"),
        bad("a field of an answer without a name is bad", b": 1"),
        bad("a field of an answer with a NUL is bad", b"X-B: a\0b"),
        bad(
            "a field of an answer with a bare CR is bad",
            b"X-B: a\rX-C: c",
        ),
        bad("a name in an answer with a bad byte is bad", b"X(B): 1"),
        bad("a name in an answer with a NUL is bad", b"X\0B: 1"),
        // §5.1 has a proxy take white space before the colon away.
        mended(
            "white space before a colon of an answer is taken away or bad",
            b"X-B : 1",
        ),
        mended(
            "a folded field of an answer is unfolded or bad",
            b"X-B: a\r\n b",
        ),
        mended(
            "white space before the first field of an answer is bad or nothing",
            b" X-B: 1",
        ),
        mended(
            "a control in a value of an answer is bad or nothing",
            b"X-B: a\x01b",
        ),
        // §2.2 lets a recipient take a bare LF for a line end; then two fields are two fields.
        mended(
            "a bare LF in an answer is a line end or bad",
            b"X-B: a\nX-C: c",
        ),
        asked(
            "9112 §2.2",
            "an answer of lines that end in LF is made good or bad",
        )
        .answer_and_close("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")
        .bad_gateway()
        .outcome(
            Upstream::Anything,
            vec![Reply {
                body: Content::Is("ok".to_owned()),
                ..Reply::status(&[200])
            }],
            End::Usable,
        ),
        with(
            "a value of an answer may have bytes that are no ASCII",
            b"X-B: \xe9\xff",
        )
        .gives(&[200])
        .reply_with("x-b", &["\u{e9}\u{ff}"]),
        with("a value of an answer may be empty", b"X-B:")
            .gives(&[200])
            .reply_with("x-b", &[""]),
        with(
            "repeated fields of an answer keep their order",
            b"X-B: 1\r\nX-C: 2\r\nx-b: 3",
        )
        .gives(&[200])
        .reply_with("x-b", &["1", "3"]),
        with(
            "a field of an answer of 16 KiB passes",
            &[b"X-B: ".to_vec(), b"b".repeat(16 * 1024)].concat(),
        )
        .gives(&[200])
        .reply_with("x-b", &[&"b".repeat(16 * 1024)]),
        with(
            "three hundred fields of an answer pass",
            (1..=300)
                .map(|number| format!("X-{number}: {number}"))
                .collect::<Vec<_>>()
                .join("\r\n")
                .as_bytes(),
        )
        .gives(&[200])
        .body("ok")
        .reply_with("x-1", &["1"])
        .reply_with("x-101", &["101"])
        .reply_with("x-300", &["300"]),
        with(
            "three hundred equal fields of an answer pass",
            &[b"X-B: 1\r\n".repeat(299), b"X-B: 1".to_vec()].concat(),
        )
        .gives(&[200])
        .body("ok")
        .reply_with("x-b", &["1"; 300]),
        with(
            "every high byte of a value of an answer passes",
            &[b"X-B: ".to_vec(), (0x80..=0xff).collect()].concat(),
        )
        .gives(&[200])
        .reply_with("x-b", &[&high()]),
        bad(
            "a head of an answer over 1 MiB is bad",
            &[b"X-B: ".to_vec(), b"b".repeat(1024 * 1024)].concat(),
        ),
        mended(
            "a thousand fields of an answer pass or are bad",
            &[b"X-B: 1\r\n".repeat(999), b"X-B: 1".to_vec()].concat(),
        ),
        asked("9112 §8", "half a head of an answer is bad")
            .answer_and_close("HTTP/1.1 200 OK\r\nContent-Le")
            .bad_gateway()
            .or_again(),
        asked("9112 §8", "half a status line is bad")
            .answer_and_close("HTTP/1.1 2")
            .bad_gateway()
            .or_again(),
    ]
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";

/// RFC 9110 §15.2: a proxy forwards them, and the fields of each stay with it.
fn interim() -> Vec<Case> {
    let passed = |name, interim: &str| {
        asked("9110 §15.2", name)
            .answer([interim, OK].concat())
            .gives(&[200])
            .body("ok")
            .reply_without(&["link"])
    };
    vec![
        passed("a 100 is not the answer", "HTTP/1.1 100 Continue\r\n\r\n").interim(100),
        passed("a 102 is not the answer", "HTTP/1.1 102 Processing\r\n\r\n").interim(102),
        passed(
            "a 103 is not the answer, and its fields are not the answer's",
            HINTS,
        )
        .interim(103)
        .interim_with("link", &["</x>"]),
        passed(
            "a 199 is not the answer",
            "HTTP/1.1 199 Odd\r\nLink: </x>\r\n\r\n",
        )
        .interim(199)
        .interim_with("link", &["</x>"]),
        passed(
            "several interim answers are not the answer",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
        )
        .interim(100)
        .interim(103)
        .interim_with("link", &["</x>"])
        .interim(102),
        passed(
            "several early hints keep their fields and their order",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nlink: </b>; rel=preload\r\nX-A: \r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </c>\r\n\r\n",
        )
        .interim(103)
        .interim_with("link", &["</a>", "</b>; rel=preload"])
        .interim_with("x-a", &[""])
        .interim(103)
        .interim_with("link", &["</c>"])
        .interim_without(&["x-a"]),
        passed(
            "connection fields of an interim answer end here",
            "HTTP/1.1 103 Early Hints\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nLink: </x>\r\n\r\n",
        )
        .interim(103)
        .interim_with("link", &["</x>"])
        .interim_without(&["connection", "x-hop", "keep-alive", "proxy-connection", "upgrade"]),
        // The body comes only when the hints have come, so they cannot have waited for the answer.
        case(
            "8297 §2",
            "early hints come before the answer is there",
            post("Content-Length: 5", ""),
        )
        .answers_early([
            Part::Say(HINTS.into()),
            Part::Body,
            Part::Say(OK.into()),
        ])
        .step(Step::Interim(103))
        .send("hello")
        .forwarded("POST /x HTTP/1.1")
        .content("hello")
        .body("ok")
        .interim(103)
        .interim_with("link", &["</x>"]),
        case(
            "9110 §15.2",
            "an answer to HEAD may have interim ones before it",
            "HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
        .head(0)
        .answer([HINTS, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"].concat())
        .gives(&[200])
        .reply_with("content-length", &["2"])
        .interim(103)
        .interim_with("link", &["</x>"]),
        case(
            "9110 §15.2",
            "interim answers stay with their request",
            [get("X-A: 1"), get("X-A: 2")].concat(),
        )
        .answer([HINTS, OK].concat())
        .answer(OK)
        .outcome(
            Upstream::Anything,
            vec![Reply::status(&[200]), Reply::status(&[200])],
            End::Usable,
        )
        .interim(103)
        .interim_with("link", &["</x>"]),
        // A bound is welcome, none is required.
        asked(
            "9110 §15.2",
            "ten thousand interim answers are skipped or bad",
        )
        .answer([&"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000), OK].concat())
        .gives(&[200])
        .body("ok")
        .outcome(Upstream::Anything, vec![Reply::own(&[502])], End::Usable),
        asked("9110 §15.2", "an interim answer and then nothing is bad")
            .answer_and_close("HTTP/1.1 100 Continue\r\n\r\n")
            .bad_gateway()
            .or_again(),
        // RFC 9112 §6.3: no body, so what is there is the next answer, and none.
        asked(
            "9112 §6.3",
            "an interim answer with a body is bad, or its body is",
        )
        .answer_and_close(
            [
                "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello",
                OK,
            ]
            .concat(),
        )
        .bad_gateway(),
        asked(
            "9110 §15.2",
            "an interim answer that goes on in pieces is not the answer",
        )
        .answers([
            Part::Say(b"HTTP/1.1 10".into()),
            Part::Pause,
            Part::Say(b"0 Continue\r\n".into()),
            Part::Pause,
            Part::Say(b"\r\n".into()),
            Part::Pause,
            Part::Say(OK.into()),
        ])
        .gives(&[200])
        .body("ok")
        .interim(100),
        // RFC 9110 §15.2: none to HTTP/1.0.
        case(
            "9110 §15.2",
            "HTTP/1.0 gets no interim answer",
            "GET /x HTTP/1.0\r\n\r\n",
        )
        .answer([HINTS, OK].concat())
        .gives(&[200])
        .body("ok")
        .no_interim()
        .end(End::Closed),
        case(
            "9110 §15.2",
            "HTTP/1.0 with keep-alive gets no interim answer either",
            "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        )
        .answer([HINTS, "HTTP/1.1 100 Continue\r\n\r\n", OK].concat())
        .gives(&[200])
        .body("ok")
        .no_interim(),
    ]
}

fn none() -> Vec<Case> {
    vec![
        asked("9110 §15.6.3", "an end without an answer is a bad gateway")
            .answers([Part::Close])
            .bad_gateway(),
        asked("9110 §15.6.3", "a reset without an answer is a bad gateway")
            .answers([Part::Reset])
            .bad_gateway(),
        asked(
            "9110 §15.6.3",
            "an end after a while without an answer is a bad gateway",
        )
        .answers([Part::Pause, Part::Close])
        .bad_gateway(),
    ]
    .into_iter()
    .map(Case::only_first)
    .collect()
}
