//! Lengths and codings of a request (RFC 9112 §6).

use crate::case::{Case, End, Upstream, case, post};

pub fn cases() -> Vec<Case> {
    [lengths(), codings(), both()].concat()
}

const X: &str = "POST /x HTTP/1.1";

fn lengths() -> Vec<Case> {
    let malformed = |name, value: &str| {
        let fields = format!("Content-Length:{value}");
        case("9112 §6.3", name, post(fields, "hello")).refused(&[400])
    };
    vec![
        case(
            "9112 §6.2",
            "a body of a length arrives with it",
            post("Content-Length: 5", "hello"),
        )
        .forwarded(X)
        .content("hello")
        .with("content-length", &["5"])
        .without(&["transfer-encoding"]),
        case(
            "9112 §6.2",
            "a length of 0 is a body of nothing",
            post("Content-Length: 0", ""),
        )
        .forwarded(X)
        .with("content-length", &["0"]),
        case(
            "9112 §6.3",
            "a POST without framing has no body",
            post("X-A: 1", ""),
        )
        .forwarded(X),
        case(
            "9112 §6.2",
            "a GET may have a body",
            "GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        )
        .forwarded("GET /x HTTP/1.1")
        .content("hello"),
        case(
            "9112 §6.2",
            "a DELETE may have a body",
            "DELETE /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        )
        .forwarded("DELETE /x HTTP/1.1")
        .content("hello"),
        case(
            "9112 §6.2",
            "a body that comes in pieces is one body",
            post("Content-Length: 10", "hel"),
        )
        .then("lo")
        .then("hello")
        .forwarded(X)
        .content("hellohello"),
        case(
            "9112 §6.2",
            "a body holds any byte",
            post("Content-Length: 6", b"\0\r\n\xff\r\n"),
        )
        .forwarded(X)
        .content(b"\0\r\n\xff\r\n"),
        case(
            "9112 §6.2",
            "a body that looks like a request is a body",
            post("Content-Length: 31", "GET /y HTTP/1.1\r\nHost: localhos"),
        )
        .forwarded(X)
        .content("GET /y HTTP/1.1\r\nHost: localhos"),
        case(
            "9110 §8.6",
            "zeros before a length are digits like others",
            post("Content-Length: 0005", "hello"),
        )
        .forwarded(X)
        .content("hello")
        .with("content-length", &["5"]),
        case(
            "9110 §8.6",
            "a length of zeros is one zero",
            post("Content-Length: 000", ""),
        )
        .forwarded(X)
        .with("content-length", &["0"]),
        case(
            "9112 §5.1",
            "white space around a length is no part of it",
            post("Content-Length: \t 5 \t", "hello"),
        )
        .forwarded(X)
        .content("hello"),
        malformed("a length with a plus is refused", " +5"),
        malformed("a length with a minus is refused", " -5"),
        malformed("a length in hexadecimal is refused", " 0x5"),
        malformed("a length with a fraction is refused", " 5.0"),
        malformed("a length in two words is refused", " 5 5"),
        malformed("an empty length is refused", ""),
        malformed("a length in quotes is refused", " \"5\""),
        malformed("a length with a unit is refused", " 5b"),
        malformed("a length list of two numbers is refused", " 5, 6"),
        malformed("a length list that ends in a comma is refused", " 5,"),
        malformed("a length of 2^63 is refused", " 9223372036854775808"),
        malformed("a length over 64 bit is refused", " 18446744073709551621"),
        malformed(
            "a length that is 5 modulo 2^32 and no number is refused",
            " 4294967301x",
        ),
        case(
            "9112 §6.3",
            "a length in digits of another script is refused",
            post(b"Content-Length: \xef\xbc\x95", "hello"),
        )
        .refused(&[400]),
        case(
            "9112 §6.3",
            "two lengths are refused",
            post("Content-Length: 5\r\nContent-Length: 6", "hello"),
        )
        .refused(&[400]),
        case(
            "9112 §6.3",
            "two lengths far from each other are refused",
            post("Content-Length: 5\r\nX-A: 1\r\ncontent-length: 0", "hello"),
        )
        .refused(&[400]),
        // §6.3 lets a recipient take the number that is repeated. Ours: one length, once.
        case(
            "9112 §6.3",
            "the same length twice is refused",
            post("Content-Length: 5\r\nContent-Length: 5", "hello"),
        )
        .refused(&[400]),
        case(
            "9112 §6.3",
            "the same length twice in a list is refused",
            post("Content-Length: 5, 5", "hello"),
        )
        .refused(&[400]),
        case(
            "9112 §8",
            "a body that ends before its length is never whole",
            post("Content-Length: 10", "hello"),
        )
        .finish()
        .outcome(Upstream::NothingWhole, vec![], End::Closed)
        .outcome(
            Upstream::NothingWhole,
            vec![crate::case::Reply::own(&[400])],
            End::Closed,
        ),
        case(
            "9112 §6.3",
            "what stands behind a body of no bytes is the next request",
            post(
                "Content-Length: 0",
                "GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ),
        )
        .forwarded(X)
        .and_forwarded("GET /y HTTP/1.1"),
        case(
            "9112 §6.3",
            "what stands behind a GET without framing is the next request",
            "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
        .forwarded("GET /x HTTP/1.1")
        .and_forwarded("GET /y HTTP/1.1"),
        // A field of another name frames nothing. A program behind the upstream may take it for this
        // one, so it ends here.
        case(
            "9112 §6.2",
            "a length with an underscore is no length",
            post(
                "Content_Length: 31",
                "GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ),
        )
        .forwarded(X)
        .without(&["content_length"])
        .and_forwarded("GET /y HTTP/1.1"),
    ]
}

fn codings() -> Vec<Case> {
    const END: &str = "5\r\nhello\r\n0\r\n\r\n";
    // 501 says that the coding is not known, 400 that chunked is not the last one: both are named
    // by §6.1 and §6.3, and the connection ends in either case.
    let refused = |name, fields: &[u8], status: &[u16]| {
        case("9112 §6.1", name, post(fields, END)).refused(status)
    };
    let obscure = |name, fields: &[u8]| refused(name, fields, &[400, 501]);
    vec![
        case(
            "9112 §7.1",
            "a body in chunks arrives whole",
            post("Transfer-Encoding: chunked", END),
        )
        .forwarded(X)
        .content("hello"),
        case(
            "9112 §7",
            "chunked is chunked in any case",
            post("transfer-ENCODING: ChunkeD", END),
        )
        .forwarded(X)
        .content("hello"),
        case(
            "9112 §5.1",
            "white space around chunked is no part of it",
            post("Transfer-Encoding:\t chunked \t", END),
        )
        .forwarded(X)
        .content("hello"),
        refused(
            "a coding before chunked is not implemented",
            b"Transfer-Encoding: gzip, chunked",
            &[501],
        ),
        refused(
            "an unknown coding before chunked is not implemented",
            b"Transfer-Encoding: cow, chunked",
            &[501],
        ),
        refused(
            "an unknown coding alone is refused",
            b"Transfer-Encoding: cow",
            &[400, 501],
        ),
        refused(
            "gzip alone is refused",
            b"Transfer-Encoding: gzip",
            &[400, 501],
        ),
        refused(
            "identity is refused",
            b"Transfer-Encoding: identity",
            &[400, 501],
        ),
        refused(
            "chunked before another coding is refused",
            b"Transfer-Encoding: chunked, gzip",
            &[400, 501],
        ),
        refused(
            "chunked before identity is refused",
            b"Transfer-Encoding: chunked, identity",
            &[400, 501],
        ),
        refused(
            "chunked twice in a list is refused",
            b"Transfer-Encoding: chunked, chunked",
            &[400, 501],
        ),
        refused(
            "chunked twice in two fields is refused",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            &[400, 501],
        ),
        refused(
            "codings in two fields are refused",
            b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            &[400, 501],
        ),
        refused(
            "chunked and then identity in two fields is refused",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            &[400, 501],
        ),
        refused(
            "an empty coding is refused",
            b"Transfer-Encoding:",
            &[400, 501],
        ),
        obscure(
            "a comma before chunked is refused",
            b"Transfer-Encoding: ,chunked",
        ),
        obscure(
            "a comma behind chunked is refused",
            b"Transfer-Encoding: chunked,",
        ),
        obscure(
            "a coding that ends in chunked is refused",
            b"Transfer-Encoding: xchunked",
        ),
        obscure(
            "a coding that begins with chunked is refused",
            b"Transfer-Encoding: chunkedx",
        ),
        obscure(
            "chunked with a parameter is refused",
            b"Transfer-Encoding: chunked;q=1",
        ),
        obscure(
            "chunked in quotes is refused",
            b"Transfer-Encoding: \"chunked\"",
        ),
        obscure(
            "chunked with a tab in it is refused",
            b"Transfer-Encoding: chun\tked",
        ),
        obscure(
            "chunked behind a vertical tab is refused",
            b"Transfer-Encoding: \x0bchunked",
        ),
        obscure(
            "chunked behind a form feed is refused",
            b"Transfer-Encoding: \x0cchunked",
        ),
        obscure(
            "chunked behind a no-break space is refused",
            b"Transfer-Encoding: \xa0chunked",
        ),
        obscure(
            "chunked behind a byte order mark is refused",
            b"Transfer-Encoding: \xef\xbb\xbfchunked",
        ),
        obscure(
            "chunked before a NUL is refused",
            b"Transfer-Encoding: chunked\0",
        ),
        obscure(
            "chunked before a bare CR is refused",
            b"Transfer-Encoding: chunked\r",
        ),
        obscure(
            "chunked with a colon before it is refused",
            b"Transfer-Encoding:: chunked",
        ),
        obscure(
            "a coding with white space before its colon is refused",
            b"Transfer-Encoding : chunked",
        ),
        obscure(
            "a coding with a vertical tab before its colon is refused",
            b"Transfer-Encoding\x0b: chunked",
        ),
        obscure(
            "a coding behind white space is refused",
            b" Transfer-Encoding: chunked",
        ),
        obscure(
            "a folded coding is refused",
            b"Transfer-Encoding:\r\n chunked",
        ),
        obscure(
            "a coding behind a bare CR is refused",
            b"X-A: 1\rTransfer-Encoding: chunked",
        ),
        obscure(
            "a coding behind a bare LF is refused",
            b"X-A: 1\nTransfer-Encoding: chunked",
        ),
        case(
            "9112 §6.1",
            "a coding in HTTP/1.0 is refused",
            format!(
                "POST /x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{END}"
            ),
        )
        .refused(&[400]),
        // As for a length: another name is another field.
        case(
            "9112 §6.1",
            "a coding with an underscore is no coding",
            post(
                "Transfer_Encoding: chunked",
                "GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n",
            ),
        )
        .forwarded(X)
        .without(&["transfer_encoding"])
        .and_forwarded("GET /y HTTP/1.1"),
    ]
}

fn both() -> Vec<Case> {
    let refused =
        |name, fields: &str| case("9112 §6.1", name, post(fields, "0\r\n\r\n")).refused(&[400]);
    vec![
        refused(
            "a length before a coding is refused",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        refused(
            "a length behind a coding is refused",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
        ),
        refused(
            "a length of 0 beside a coding is refused",
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
        ),
        refused(
            "lengths on both sides of a coding are refused",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        ),
        refused(
            "a length beside a coding in other case is refused",
            "content-length: 5\r\nTRANSFER-ENCODING: CHUNKED",
        ),
        case(
            "9112 §6.1",
            "a length beside an obscure coding is refused",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: xchunked",
                "0\r\n\r\n",
            ),
        )
        .refused(&[400, 501]),
        case(
            "9112 §6.1",
            "a nominated length beside a coding is refused",
            post(
                "Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
        )
        .refused(&[400]),
        case(
            "9112 §6.1",
            "a nominated coding beside a length is refused",
            post(
                "Connection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
        )
        .refused(&[400]),
        case(
            "9112 §6.1",
            "a length and a coding in HTTP/1.0 are refused",
            "POST /x HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .refused(&[400]),
    ]
}
