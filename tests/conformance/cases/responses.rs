//! Answers of the upstream: their framing (RFC 9112 §6, §7, §8).

use crate::case::{Case, Content, End, Part, Reply, Upstream, case, get};

pub fn cases() -> Vec<Case> {
    [good(), trailers(), bad(), surplus(), cut()].concat()
}

fn asked(name: &'static str) -> Case {
    case("9112 §6.3", name, get("X-A: 1"))
}

fn good() -> Vec<Case> {
    let ok = |name, answer: &str, body: &str| asked(name).answer(answer).gives(&[200]).body(body);
    let closing = |name, answer: &str, body: &str| {
        asked(name)
            .answer_and_close(answer)
            .gives(&[200])
            .body(body)
    };
    vec![
        ok("an answer of a length arrives", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello")
            .reply_with("content-length", &["5"]),
        ok("zeros before a length of an answer go no further", "HTTP/1.1 200 OK\r\nContent-Length: 005\r\n\r\nhello", "hello")
            .reply_with("content-length", &["5"]),
        ok("a length of an answer of zeros is one zero", "HTTP/1.1 200 OK\r\nContent-Length: 000\r\n\r\n", "")
            .reply_with("content-length", &["0"]),
        ok("an answer of no bytes arrives", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ok("an answer in chunks arrives", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", "onetwo"),
        ok("an answer in Chunks arrives", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\none\r\n0\r\n\r\n", "one"),
        ok("extensions of an answer's chunks go nowhere", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\none\r\n0;c\r\n\r\n", "one"),
        ok("trailers of an answer are not merged", "HTTP/1.1 200 OK\r\nTrailer: X-Late\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\nX-Late: 1\r\nSet-Cookie: late=1\r\n\r\n", "one")
            .reply_without(&["x-late", "set-cookie"]),
        closing("an answer without framing goes to the end", "HTTP/1.1 200 OK\r\n\r\nto the end", "to the end").end(End::Either),
        closing("an empty answer without framing goes to the end", "HTTP/1.1 200 OK\r\n\r\n", "").end(End::Either),
        closing("an answer of HTTP/1.0 goes to the end", "HTTP/1.0 200 OK\r\n\r\nto the end", "to the end").end(End::Either),
        closing("an answer of HTTP/1.0 with a length arrives", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ok("an answer of HTTP/1.0 with keep-alive arrives", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "ok"),
        asked("an answer in pieces arrives")
            .answers([
                Part::Say(b"HTTP/1.1 200 OK\r\nTransfer-Enc".into()), Part::Pause,
                Part::Say(b"oding: chunked\r\n\r".into()), Part::Pause,
                Part::Say(b"\n3\r\non".into()), Part::Pause,
                Part::Say(b"e\r".into()), Part::Pause,
                Part::Say(b"\n0\r\n\r".into()), Part::Pause,
                Part::Say(b"\n".into()),
            ])
            .gives(&[200])
            .body("one"),
        case("9112 §6.3", "an answer to HEAD has no body", "HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .head(0)
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            .gives(&[200])
            .reply_with("content-length", &["1000"])
            .body(""),
        case("9112 §6.3", "an answer to HEAD in chunks has no body", "HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .head(0)
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .gives(&[200])
            .body(""),
        case("9112 §6.3", "an answer to HEAD without framing has no body", "HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .head(0)
            .answer("HTTP/1.1 200 OK\r\n\r\n")
            .gives(&[200])
            .body(""),
        asked("a 204 has no body").answer("HTTP/1.1 204 No Content\r\n\r\n").gives(&[204]).body("")
            .reply_without(&["content-length", "transfer-encoding"]),
        // Its length is that of the answer to come without the condition (RFC 9110 §8.6).
        asked("a 304 has no body, whatever its length says")
            .answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"a\"\r\n\r\n")
            .gives(&[304])
            .reply_with("content-length", &["1000"])
            .reply_with("etag", &["\"a\""])
            .body(""),
        asked("a 304 in chunks has no body")
            .answer("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n")
            .gives(&[304])
            .reply_without(&["transfer-encoding"])
            .body(""),
    ]
}

/// RFC 9110 §6.5.1: trailers go to who said that it takes them, and to nobody else.
fn trailers() -> Vec<Case> {
    const TRAILED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n";
    let trailed = |name, request: Vec<u8>, trailers: &str| {
        case("9110 §6.5.1", name, request)
            .answer(format!("{TRAILED}{trailers}\r\n\r\n"))
            .gives(&[200])
            .body("one")
    };
    let takes = || get("TE: trailers\r\nConnection: TE");
    vec![
        trailed("trailers of an answer reach who takes them", takes(), "X-Late: 1\r\nx-later: 2\r\nX-Late: 3")
            .trailers(&[("x-late", "1"), ("x-later", "2"), ("x-late", "3")])
            .reply_without(&["x-late", "x-later"]),
        trailed("trailers may be taken among other codings and in any case", get("TE: gzip;q=0.5, Trailers\r\nConnection: te"), "X-Late: 1")
            .trailers(&[("x-late", "1")]),
        trailed(
            "of the trailers of an answer only those that may be there reach the client",
            takes(),
            "X-Late: 1\r\nSet-Cookie: late=1\r\nContent-Length: 9\r\nHost: evil.example\r\nTransfer-Encoding: chunked\r\n\
             Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTE: gzip\r\nX-Later: 2",
        )
        .trailers(&[("x-late", "1"), ("x-later", "2")]),
        trailed("an answer may have no trailer that may be there", takes(), "Set-Cookie: late=1"),
        trailed("trailers of an answer do not reach who takes other codings", get("TE: gzip\r\nConnection: TE"), "X-Late: 1"),
        trailed("trailers of an answer do not reach HTTP/1.0", b"GET /x HTTP/1.0\r\nTE: trailers\r\nConnection: TE\r\n\r\n".to_vec(), "X-Late: 1")
            .reply_without(&["x-late", "transfer-encoding"])
            .end(End::Closed),
        case("9110 §6.5.1", "trailers that are taken are those of one answer", [takes(), get("X-A: 1")].concat())
            .answer(format!("{TRAILED}X-Late: 1\r\n\r\n"))
            .answer(format!("{TRAILED}X-Late: 2\r\n\r\n"))
            .outcome(Upstream::Anything, vec![Reply::status(&[200])], End::Usable)
            .trailers(&[("x-late", "1")])
            .body("one")
            .and_replies(200)
            .body("one"),
    ]
}

/// A 502 of ours, the connection to the upstream is not used again, the client's is.
fn bad() -> Vec<Case> {
    let bad = |name, framing: &str, body: &str| {
        asked(name)
            .answer(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}"))
            .bad_gateway()
    };
    // RFC 9112 §6.3 lets a recipient take the number that is repeated.
    let repeated = |name, framing: &str| {
        bad(name, framing, "hello").outcome(
            Upstream::Anything,
            vec![Reply {
                body: Content::Is("hello".to_owned()),
                ..Reply::status(&[200])
            }],
            End::Usable,
        )
    };
    vec![
        bad(
            "two lengths of an answer are bad",
            "Content-Length: 5\r\nContent-Length: 6",
            "hello!",
        ),
        bad(
            "a list of two lengths of an answer is bad",
            "Content-Length: 5, 6",
            "hello!",
        ),
        bad(
            "a length of an answer with a plus is bad",
            "Content-Length: +5",
            "hello",
        ),
        bad(
            "a length of an answer with a minus is bad",
            "Content-Length: -5",
            "hello",
        ),
        bad(
            "a length of an answer in hexadecimal is bad",
            "Content-Length: 0x5",
            "hello",
        ),
        bad(
            "a length of an answer in two words is bad",
            "Content-Length: 5 5",
            "hello",
        ),
        bad(
            "an empty length of an answer is bad",
            "Content-Length:",
            "hello",
        ),
        bad(
            "a length of an answer over 64 bit is bad",
            "Content-Length: 18446744073709551621",
            "hello",
        ),
        bad(
            "a length of an answer of 2^63 is bad",
            "Content-Length: 9223372036854775808",
            "hello",
        ),
        bad(
            "a length of an answer just below 2^64 is bad",
            "Content-Length: 18440000001410158088",
            "hello",
        ),
        repeated(
            "the same length of an answer twice is one or bad",
            "Content-Length: 5\r\nContent-Length: 5",
        ),
        repeated(
            "the same length of an answer twice in a list is one or bad",
            "Content-Length: 5, 5",
        ),
        bad(
            "a length and a coding of an answer are bad",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
        ),
        bad(
            "a coding and a length of an answer are bad",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        bad(
            "a coding of an answer before chunked is bad",
            "Transfer-Encoding: gzip, chunked",
            "0\r\n\r\n",
        ),
        bad(
            "a coding of an answer behind chunked is bad",
            "Transfer-Encoding: chunked, gzip",
            "0\r\n\r\n",
        ),
        bad(
            "a coding of an answer that nobody knows is bad",
            "Transfer-Encoding: xchunked",
            "0\r\n\r\n",
        ),
        bad(
            "identity of an answer is bad",
            "Transfer-Encoding: identity",
            "0\r\n\r\n",
        ),
        bad(
            "an empty coding of an answer is bad",
            "Transfer-Encoding:",
            "0\r\n\r\n",
        ),
        bad(
            "chunked of an answer twice is bad",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
        ),
        asked("a coding of an answer of HTTP/1.0 is bad")
            .answer_and_close(
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
            )
            .bad_gateway(),
    ]
}

/// Bytes behind an answer are nobody's. The runner's next requests show whether they were taken
/// for an answer.
fn surplus() -> Vec<Case> {
    const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let surplus = |name, answer: &str, status: u16, body: &str| {
        case("9112 §9.2", name, get("X-A: 1"))
            .answer([answer, POISON].concat())
            .gives(&[status])
            .body(body)
    };
    let head = "HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    vec![
        surplus(
            "bytes behind a length are no answer",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        surplus(
            "bytes behind the last chunk are no answer",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
        ),
        surplus(
            "bytes behind a 204 are no answer",
            "HTTP/1.1 204 No Content\r\n\r\n",
            204,
            "",
        ),
        surplus(
            "bytes behind a 304 are no answer",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 45\r\n\r\n",
            304,
            "",
        )
        .reply_with("content-length", &["45"]),
        surplus(
            "bytes behind an empty answer are no answer",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            200,
            "",
        ),
        // RFC 9110 §8.6: no length in a 204, and none is passed on.
        surplus(
            "a body of a 204 is no answer",
            "HTTP/1.1 204 No Content\r\nContent-Length: 45\r\n\r\n",
            204,
            "",
        )
        .reply_without(&["content-length"]),
        surplus(
            "chunks of a 204 are no answer",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            204,
            "",
        )
        .reply_without(&["transfer-encoding"])
        .outcome(Upstream::Anything, vec![Reply::own(&[502])], End::Usable),
        case("9112 §9.2", "a body for HEAD is no answer", head)
            .head(0)
            .answer(["HTTP/1.1 200 OK\r\nContent-Length: 45\r\n\r\n", POISON].concat())
            .gives(&[200]),
        case(
            "9112 §9.2",
            "bytes on an idle connection are no answer",
            get("X-A: 1"),
        )
        .answers([
            Part::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into()),
            Part::Pause,
            Part::Say(POISON.into()),
        ])
        .gives(&[200])
        .body("ok"),
        case(
            "9112 §9.2",
            "an interim answer on an idle connection is no answer",
            get("X-A: 1"),
        )
        .answers([
            Part::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into()),
            Part::Pause,
            Part::Say(b"HTTP/1.1 100 Continue\r\n\r\n".into()),
        ])
        .gives(&[200])
        .body("ok"),
        case(
            "9112 §9.2",
            "a timeout on an idle connection is no answer",
            get("X-A: 1"),
        )
        .answers([
            Part::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into()),
            Part::Pause,
            Part::Say(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    .into(),
            ),
            Part::Close,
        ])
        .gives(&[200])
        .body("ok"),
        case(
            "9112 §9.2",
            "line ends behind an answer are no answer",
            get("X-A: 1"),
        )
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n\r\n")
        .gives(&[200])
        .body("ok"),
    ]
}

/// What has begun cannot become a 502: it breaks off.
fn cut() -> Vec<Case> {
    let cut = |name, answer: &[u8]| {
        case("9112 §8", name, get("X-A: 1"))
            .answer_and_close(answer)
            .gives(&[200])
            .breaks_off()
            // Or it is not even begun.
            .outcome(Upstream::Anything, vec![Reply::own(&[502])], End::Usable)
            // Or it breaks off before its head is out.
            .outcome(Upstream::Anything, vec![], End::Closed)
    };
    let chunks = |name, body: &[u8]| {
        cut(
            name,
            &[
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
                body,
            ]
            .concat(),
        )
    };
    vec![
        cut(
            "an answer shorter than its length breaks off",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        ),
        cut(
            "an answer without anything of its length breaks off",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        ),
        chunks("an answer without its last chunk breaks off", b""),
        chunks("an answer that ends in a chunk breaks off", b"5\r\nha"),
        chunks("an answer that ends in its last chunk breaks off", b"0\r\n"),
        chunks(
            "an answer with a bad chunk size breaks off",
            b"x\r\ntwo\r\n0\r\n\r\n",
        ),
        chunks(
            "an answer with a chunk size with a sign breaks off",
            b"+3\r\ntwo\r\n0\r\n\r\n",
        ),
        chunks(
            "an answer with a chunk size with 0x breaks off",
            b"0x3\r\ntwo\r\n0\r\n\r\n",
        ),
        chunks(
            "an answer with a chunk size over 64 bit breaks off",
            b"10000000000000003\r\ntwo\r\n0\r\n\r\n",
        ),
        chunks(
            "an answer with a chunk longer than its size breaks off",
            b"3\r\ntwox\r\n0\r\n\r\n",
        ),
        chunks(
            "an answer with a chunk without its line end breaks off",
            b"3\r\ntwo0\r\n\r\n",
        ),
        case(
            "9112 §8",
            "an answer that ends in a reset breaks off",
            get("X-A: 1"),
        )
        .answers([
            Part::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".into()),
            Part::Pause,
            Part::Reset,
        ])
        .gives(&[200])
        .breaks_off(),
        case(
            "9112 §8",
            "an answer without framing that ends in a reset breaks off",
            get("X-A: 1"),
        )
        .answers([
            Part::Say(b"HTTP/1.1 200 OK\r\n\r\nhalf".into()),
            Part::Pause,
            Part::Reset,
        ])
        .gives(&[200])
        .breaks_off(),
    ]
}
