//! Methods and versions (RFC 9110 §9, RFC 9112 §2.3).

use crate::case::{Case, End, OK, Part, Reply, SMUGGLED, Upstream, case, line};

pub fn cases() -> Vec<Case> {
    [methods(), versions()].concat()
}

fn methods() -> Vec<Case> {
    let goes_on = |name, method: &str| {
        let line = format!("{method} /x HTTP/1.1");
        case("9110 §9.1", name, crate::case::line(&line)).forwarded(&line)
    };
    let denied = |name, bytes: &str| case("9110 §9.3.8", name, line(bytes)).denied(405);
    // RFC 9110 §9.3.6. What is behind it would be in the tunnel, so the connection ends.
    let connect = |name, bytes: &str| {
        case("9110 §9.3.6", name, [bytes, SMUGGLED].concat()).outcome(
            Upstream::Nothing,
            vec![Reply::own(&[400, 405])],
            End::Closed,
        )
    };
    vec![
        goes_on("PUT goes on", "PUT"),
        goes_on("PATCH goes on", "PATCH"),
        goes_on("DELETE goes on", "DELETE"),
        goes_on("OPTIONS goes on", "OPTIONS"),
        goes_on("a method of WebDAV goes on", "PROPFIND"),
        goes_on("a method with a hyphen goes on", "M-SEARCH"),
        goes_on("a method that nobody knows goes on", "BREW"),
        goes_on("a method in small letters goes on as another method", "get"),
        goes_on("a method of odd characters goes on", "!#$%&'*+.^_`|~9"),
        case("9110 §9.3.2", "HEAD goes on", line("HEAD /x HTTP/1.1"))
            .head(0)
            .forwarded("HEAD /x HTTP/1.1"),
        denied("TRACE would show the credential", "TRACE /x HTTP/1.1"),
        denied("TRACE in small letters would, too", "trace /x HTTP/1.1"),
        denied("TRACK would, too", "TRACK /x HTTP/1.1"),
        case(
            "9110 §7.6.2",
            "TRACE with Max-Forwards is refused all the same",
            "TRACE /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 0\r\n\r\n",
        )
        .denied(405),
        case(
            "9110 §9.3.8",
            "TRACE with a body is refused and its body is no request",
            format!(
                "TRACE /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
                SMUGGLED.len()
            ),
        )
        .outcome(Upstream::Nothing, vec![Reply::own(&[405])], End::Either),
        connect(
            "CONNECT is refused",
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
        ),
        connect(
            "CONNECT to another host is refused",
            "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        ),
        connect(
            "CONNECT with a path is refused",
            "CONNECT /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        connect(
            "CONNECT with a whole address is refused",
            "CONNECT http://localhost/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        connect(
            "CONNECT with a length is refused",
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\nContent-Length: 5\r\n\r\nhello",
        ),
        connect(
            "CONNECT in HTTP/1.0 is refused",
            "CONNECT localhost:443 HTTP/1.0\r\n\r\n",
        ),
    ]
}

fn versions() -> Vec<Case> {
    let refused =
        |name, bytes: &str, status: &[u16]| case("9112 §2.3", name, line(bytes)).refused(status);
    let old = |name, fields: &str| {
        case(
            "9112 §9.3",
            name,
            format!("GET /x HTTP/1.0\r\n{fields}\r\n"),
        )
        .forwarded("GET /x HTTP/1.1")
        .body("/x")
        .reply_without(&["transfer-encoding"])
    };
    vec![
        // RFC 9110 §15.6.6 names 505 for another major version.
        refused("HTTP/2.0 is not this protocol", "GET /x HTTP/2.0", &[505]),
        refused("HTTP/3.0 is not this protocol", "GET /x HTTP/3.0", &[505]),
        refused("HTTP/0.9 with a version is not this protocol", "GET /x HTTP/0.9", &[400, 505]),
        // RFC 9110 §2.5: should be taken for the highest version known; a refusal is as safe.
        case("9110 §2.5", "HTTP/1.2 is taken for HTTP/1.1 or refused", line("GET /x HTTP/1.2"))
            .forwarded("GET /x HTTP/1.1")
            .or_refused(&[400, 505]),
        refused("a version in small letters is refused", "GET /x http/1.1", &[400]),
        refused("a version of two digits is refused", "GET /x HTTP/1.10", &[400]),
        refused("a version with zeros is refused", "GET /x HTTP/01.1", &[400]),
        refused("a version without a minor is refused", "GET /x HTTP/1", &[400]),
        refused("a version with a comma is refused", "GET /x HTTP/1,1", &[400]),
        refused("a version without a number is refused", "GET /x HTTP/", &[400]),
        refused("another protocol is refused", "GET /x HTCPCP/1.0", &[400, 505]),
        refused("no version is refused", "GET /x", &[400]),
        case("9112 §2.3", "HTTP/0.9 is refused", b"GET /x\r\n").refused(&[400]),
        old("HTTP/1.0 is answered, and its connection ends", "Host: localhost\r\n").end(End::Closed),
        // RFC 9112 §3.2 asks for Host from HTTP/1.1 on.
        old("HTTP/1.0 needs no Host", "").end(End::Closed),
        old("HTTP/1.0 with keep-alive goes on", "Host: localhost\r\nConnection: keep-alive\r\n")
            .reply_with("connection", &["keep-alive"]),
        old("HTTP/1.0 with Keep-Alive in capitals goes on", "Connection: Keep-Alive\r\nKeep-Alive: 300\r\n"),
        case("9112 §7", "HTTP/1.0 gets no chunks", "GET /x HTTP/1.0\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
            .gives(&[200])
            .body("onetwo")
            .reply_without(&["transfer-encoding"])
            .end(End::Closed),
        case("9112 §7", "HTTP/1.0 with keep-alive gets no chunks", "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n")
            .gives(&[200])
            .body("one")
            .reply_without(&["transfer-encoding"])
            .end(End::Closed),
        case("9112 §6.2", "HTTP/1.0 may have a body of a length", "POST /x HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
            .forwarded("POST /x HTTP/1.1")
            .content("hello")
            .end(End::Closed),
        case("9110 §10.1.1", "HTTP/1.0 is not told to continue", "POST /x HTTP/1.0\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
            .forwarded("POST /x HTTP/1.1")
            .content("hello")
            .without(&["expect"])
            .no_interim()
            .end(End::Closed),
        case("9110 §10.1.1", "HTTP/1.0 is not told to continue, whatever the upstream says", "POST /x HTTP/1.0\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
            .answers_early([Part::Say(b"HTTP/1.1 100 Continue\r\n\r\n".into()), Part::Body, Part::Say(OK.into())])
            .forwarded("POST /x HTTP/1.1")
            .content("hello")
            .without(&["expect"])
            .body("ok")
            .no_interim()
            .end(End::Closed),
    ]
}
