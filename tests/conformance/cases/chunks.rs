//! Chunks and trailers of a request (RFC 9112 §7.1).

use crate::case::{Case, End, Reply, SMUGGLED, Upstream, case, chunks};

const X: &str = "POST /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    [good(), broken(), trailers()].concat()
}

fn good() -> Vec<Case> {
    let arrives = |name, body: &[u8], content: &str| {
        case("9112 §7.1", name, chunks(body))
            .forwarded(X)
            .content(content)
    };
    vec![
        arrives("no chunk but the last is an empty body", b"0\r\n\r\n", ""),
        arrives("several chunks are one body", b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", "onetwo"),
        arrives("a size may be written in small letters", b"a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        arrives("a size may be written in capitals", b"A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        arrives("a size may begin with zeros", b"00003\r\none\r\n0\r\n\r\n", "one"),
        arrives("the last chunk may have several zeros", b"3\r\none\r\n000\r\n\r\n", "one"),
        arrives("a chunk holds line ends", b"4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n"),
        arrives("a chunk holds what looks like the last one", b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        arrives("an extension goes nowhere", b"3;a=b\r\none\r\n0\r\n\r\n", "one"),
        arrives("an extension without a value goes nowhere", b"3;a\r\none\r\n0\r\n\r\n", "one"),
        arrives("an extension in quotes goes nowhere", b"3;a=\"b;c\"\r\none\r\n0\r\n\r\n", "one"),
        arrives("several extensions go nowhere", b"3;a=b;c=d\r\none\r\n0\r\n\r\n", "one"),
        arrives("an extension of the last chunk goes nowhere", b"3\r\none\r\n0;a=b\r\n\r\n", "one"),
        // §7.1.1 has recipients parse this bad white space; a refusal is as safe.
        arrives("white space before an extension is bad but no part of a size", b"3 ;a=b\r\none\r\n0\r\n\r\n", "one")
            .outcome(Upstream::NothingWhole, vec![Reply::own(&[400])], End::Closed),
        case("9112 §7.1", "chunks may be cut anywhere", chunks("3"))
            .then("\r")
            .then("\non")
            .then("e\r\n")
            .then("3\r\ntwo\r")
            .then("\n0")
            .then("\r\n\r")
            .then("\n")
            .forwarded(X)
            .content("onetwo"),
        case("9112 §7.1", "many small chunks are one body", chunks([b"1\r\na\r\n".repeat(1000), b"0\r\n\r\n".to_vec()].concat()))
            .forwarded(X)
            .content("a".repeat(1000)),
        case("9112 §7.1", "what stands behind the last chunk is the next request", chunks("0\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .forwarded(X)
            .and_forwarded("GET /y HTTP/1.1"),
        case("9112 §7.1", "a GET may have a body in chunks", "GET /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .forwarded("GET /x HTTP/1.1")
            .content("hello"),
    ]
}

/// The upstream must never have a whole request of it, and the client gets a 400 and the end.
fn broken() -> Vec<Case> {
    let broken = |name, body: &[u8]| {
        let bytes = [&chunks(b"3\r\none\r\n"), body, SMUGGLED.as_bytes()].concat();
        case("9112 §7.1", name, bytes).outcome(
            Upstream::NothingWhole,
            vec![Reply::own(&[400])],
            End::Closed,
        )
    };
    // A client that leaves need not be told why.
    let left = |name, body: &[u8]| {
        case("9112 §8", name, chunks([b"3\r\none\r\n", body].concat()))
            .finish()
            .outcome(Upstream::NothingWhole, vec![], End::Closed)
            .outcome(
                Upstream::NothingWhole,
                vec![Reply::own(&[400])],
                End::Closed,
            )
    };
    vec![
        broken(
            "a size that is no number is refused",
            b"x\r\ntwo\r\n0\r\n\r\n",
        ),
        broken("an empty size is refused", b"\r\n0\r\n\r\n"),
        broken("a size with a plus is refused", b"+3\r\ntwo\r\n0\r\n\r\n"),
        broken("a size with a minus is refused", b"-3\r\ntwo\r\n0\r\n\r\n"),
        broken("a size with 0x is refused", b"0x3\r\ntwo\r\n0\r\n\r\n"),
        broken(
            "a size with an underscore is refused",
            b"0_3\r\ntwo\r\n0\r\n\r\n",
        ),
        broken("a size with a comma is refused", b"3,3\r\ntwo\r\n0\r\n\r\n"),
        broken(
            "a size behind a space is refused",
            b" 3\r\ntwo\r\n0\r\n\r\n",
        ),
        broken("a size behind a tab is refused", b"\t3\r\ntwo\r\n0\r\n\r\n"),
        broken(
            "a size in digits of another script is refused",
            b"\xef\xbc\x93\r\ntwo\r\n0\r\n\r\n",
        ),
        broken(
            "a size over 64 bit is refused",
            b"10000000000000003\r\ntwo\r\n0\r\n\r\n",
        ),
        broken(
            "a size of 2^64 - 1 is refused",
            b"ffffffffffffffff\r\ntwo\r\n0\r\n\r\n",
        ),
        broken(
            "a size over 32 bit that is 3 in 32 is not 3",
            b"100000003\r\ntwo\r\n0\r\n\r\n",
        )
        .end(End::Either),
        broken(
            "a chunk longer than its size is refused",
            b"3\r\ntwox\r\n0\r\n\r\n",
        ),
        broken(
            "a chunk without its line end is refused",
            b"3\r\ntwo0\r\n\r\n",
        ),
        broken(
            "a chunk that ends in a bare LF is refused",
            b"3\r\ntwo\n0\r\n\r\n",
        ),
        broken(
            "a chunk that ends in a bare CR is refused",
            b"3\r\ntwo\r0\r\n\r\n",
        ),
        broken(
            "a size that ends in a bare LF is refused",
            b"3\ntwo\r\n0\r\n\r\n",
        ),
        broken(
            "a size that ends in a bare CR is refused",
            b"3\rtwo\r\n0\r\n\r\n",
        ),
        broken(
            "a size that ends in two CR is refused",
            b"3\r\r\ntwo\r\n0\r\n\r\n",
        ),
        broken("a last chunk that ends in a bare LF is refused", b"0\n\r\n"),
        broken(
            "an extension with a bare LF is refused",
            b"3;a\nb\r\ntwo\r\n0\r\n\r\n",
        ),
        broken(
            "an extension with a bare CR is refused",
            b"3;a\rb\r\ntwo\r\n0\r\n\r\n",
        ),
        broken(
            "an extension with a NUL is refused",
            b"3;a=\0\r\ntwo\r\n0\r\n\r\n",
        ),
        broken(
            "an endless extension is refused",
            &[
                b"3;",
                "a".repeat(70_000).as_bytes(),
                b"\r\ntwo\r\n0\r\n\r\n",
            ]
            .concat(),
        ),
        left("a body that ends behind a chunk is never whole", b""),
        left("a body that ends in a chunk is never whole", b"5\r\ntwo"),
        left("a body that ends in a size is never whole", b"5"),
        left(
            "a body that ends before its last line end is never whole",
            b"0\r\n",
        ),
        left(
            "a body that ends in its trailers is never whole",
            b"0\r\nX-A: 1\r\n",
        ),
    ]
    .into_iter()
    .map(|case| match case.name {
        // 4 GiB are announced, so the rest of the bytes is content and the client owes more.
        "a size over 32 bit that is 3 in 32 is not 3" => {
            case.finish()
                .outcome(Upstream::NothingWhole, vec![], End::Closed)
        }
        _ => case,
    })
    .collect()
}

fn trailers() -> Vec<Case> {
    // RFC 9110 §6.5.1: a recipient may drop trailers, and must not merge what it does not know.
    let dropped = |name, trailers: &str| {
        case(
            "9110 §6.5.1",
            name,
            chunks(format!("3\r\none\r\n0\r\n{trailers}\r\n\r\n")),
        )
        .forwarded(X)
        .content("one")
        .never("evil")
    };
    let broken = |name, trailers: &[u8]| {
        let bytes = [
            &chunks(b"3\r\none\r\n0\r\n"),
            trailers,
            b"\r\n\r\n",
            SMUGGLED.as_bytes(),
        ]
        .concat();
        case("9112 §7.1.2", name, bytes).outcome(
            Upstream::NothingWhole,
            vec![Reply::own(&[400])],
            End::Closed,
        )
    };
    vec![
        dropped("a trailer is not merged", "X-Late: evil"),
        dropped(
            "a credential in a trailer goes nowhere",
            "Authorization: Bearer evil-credential",
        ),
        dropped(
            "a length in a trailer goes nowhere",
            "Content-Length: 99\r\nX-Late: evil",
        ),
        dropped("a Host in a trailer goes nowhere", "Host: evil.example"),
        dropped(
            "a coding in a trailer frames nothing",
            "X-Late: evil\r\nX-Later: chunked",
        ),
        broken("a trailer without a colon is refused", b"nonsense"),
        broken(
            "a trailer with white space before its colon is refused",
            b"X-Late : 1",
        ),
        broken("a folded trailer is refused", b"X-Late: 1\r\n 2"),
        broken("a trailer with a NUL is refused", b"X-Late: \0"),
        broken(
            "a trailer with a bare LF is refused",
            b"X-Late: 1\nX-Later: 2",
        ),
        broken(
            "a trailer with a bare CR is refused",
            b"X-Late: 1\rX-Later: 2",
        ),
        case(
            "9112 §7.1.2",
            "endless trailers are refused",
            [
                chunks(b"3\r\none\r\n0\r\n"),
                b"X-Late: 1\r\n".repeat(10_000),
                b"\r\n".to_vec(),
                SMUGGLED.into(),
            ]
            .concat(),
        )
        .outcome(
            Upstream::NothingWhole,
            vec![Reply::own(&[400, 431])],
            End::Closed,
        ),
    ]
}
