//! Fields that end here and fields that go on (RFC 9110 §7.6, §10.1).

use crate::case::{Case, End, OK, Part, Reply, SMUGGLED, Step, Upstream, case, get, post};

const X: &str = "GET /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    [connection(), going_on(), via(), max_forwards(), expect()].concat()
}

fn connection() -> Vec<Case> {
    let ends = |name, fields: &str, gone: &[&'static str]| {
        case("9110 §7.6.1", name, get(fields))
            .forwarded(X)
            .without(gone)
    };
    vec![
        ends("a nominated field ends here", "Connection: X-A\r\nX-A: 1\r\nX-B: 2", &["x-a"]).with("x-b", &["2"]),
        ends("nominated fields end here, in any case and all of them", "Connection: x-A, , X-b\r\nX-A: 1\r\nx-a: 2\r\nX-B: 3", &["x-a", "x-b"]),
        ends("nominations in several fields count", "Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\nConnection: keep-alive, x-b", &["x-a", "x-b"]),
        ends("a nomination behind a tab counts", "Connection: keep-alive,\tx-a\r\nX-A: 1", &["x-a"]),
        case("9110 §7.6.1", "a nomination beside bytes that are no UTF-8 counts", get(b"Connection: \xff, x-a\r\nX-A: 1"))
            .forwarded(X)
            .without(&["x-a"])
            .or_refused(&[400]),
        case("9112 §9.6", "nothing is read behind a close beside bytes that are no UTF-8", [get(b"Connection: \xff, close"), SMUGGLED.into()].concat())
            .forwarded(X)
            .end(End::Closed)
            .or_refused(&[400]),
        ends("Keep-Alive ends here", "Keep-Alive: timeout=5", &["keep-alive"]),
        ends("Proxy-Connection ends here", "Proxy-Connection: keep-alive", &["proxy-connection"]),
        ends("TE ends here", "Connection: TE\r\nTE: gzip;q=0.5", &["te"]),
        // RFC 9110 §10.1.4: TE is about this connection; trailers may be asked for on the next one.
        case("9110 §10.1.4", "trailers of the client are asked for by us or by nobody", get("TE: trailers\r\nConnection: TE")).forwarded(X),
        case("9110 §10.1.4", "TE without its nomination ends here", get("TE: deflate")).forwarded(X).without(&["te"]),
        ends("Trailer ends here with the trailers", "Trailer: X-Late", &["trailer"]),
        ends("a nominated length is no field of the connection", "Connection: content-length", &["x-a"]),
        case("9110 §7.6.1", "Connection cannot take the length away", post("Connection: content-length\r\nContent-Length: 5", "hello"))
            .forwarded("POST /x HTTP/1.1")
            .content("hello"),
        case("9110 §7.6.1", "Connection cannot take the coding away", post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"))
            .forwarded("POST /x HTTP/1.1")
            .content("hello"),
        case("9112 §9.6", "close ends the connection behind the answer", get("Connection: close"))
            .forwarded(X)
            .end(End::Closed),
        case("9112 §9.6", "close in capitals and in a list ends it, too", get("Connection: x-a, CLOSE\r\nX-A: 1"))
            .forwarded(X)
            .without(&["x-a"])
            .end(End::Closed),
        case("9112 §9.6", "nothing behind close is read", [get("Connection: close"), SMUGGLED.into()].concat())
            .forwarded(X)
            .end(End::Closed),
        case("9112 §9.3", "keep-alive is the custom of HTTP/1.1", get("Connection: keep-alive")).forwarded(X),
        case("9110 §7.6.1", "connection fields of an answer end here", get("X-A: 1"))
            .answer("HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nAlt-Svc: h3=\":443\"\r\nStrict-Transport-Security: max-age=1\r\nClear-Site-Data: \"*\"\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok")
            .gives(&[200])
            .body("ok")
            .reply_with("x-end", &["1"])
            .reply_without(&["x-hop", "keep-alive", "proxy-connection", "proxy-authenticate", "upgrade", "alt-svc", "strict-transport-security", "clear-site-data"]),
        case("9110 §7.6.1", "close of the upstream is not close of the client", get("X-A: 1"))
            .answer_and_close("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .gives(&[200])
            .body("ok")
            .reply_without(&["connection"]),
        case("9110 §7.6.1", "an answer cannot take its length away", get("X-A: 1"))
            .answer("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nok")
            .gives(&[200])
            .body("ok"),
    ]
}

fn going_on() -> Vec<Case> {
    vec![
        case("9110 §5.1", "unknown fields go on", get("X-A: 1\r\nFoo: bar"))
            .forwarded(X)
            .with("x-a", &["1"])
            .with("foo", &["bar"]),
        case("9110 §5.1", "an ordinary name with an underscore goes on", get("X_Custom: 1\r\nx_auth_token_hint: 2"))
            .forwarded(X)
            .with("x_custom", &["1"])
            .with("x_auth_token_hint", &["2"]),
        case("9110 §12", "what the client accepts goes on, and nothing is added", get("Accept-Encoding: br;q=1, gzip\r\nAccept: */*"))
            .forwarded(X)
            .with("accept-encoding", &["br;q=1, gzip"])
            .with("accept", &["*/*"])
            .without(&["user-agent", "accept-language"]),
        case("6265 §5.4", "two cookies stay two fields", get("Cookie: a=1\r\nCookie: b=2"))
            .forwarded(X)
            .with("cookie", &["a=1", "b=2"]),
        case("9110 §13", "conditions go on", get("If-None-Match: \"a\", W/\"b\"\r\nIf-Modified-Since: Sat, 29 Oct 1994 19:43:31 GMT\r\nRange: bytes=0-1"))
            .forwarded(X)
            .with("if-none-match", &["\"a\", W/\"b\""])
            .with("range", &["bytes=0-1"]),
        case("contract", "nothing is said of the client's address", get("X-A: 1"))
            .forwarded(X)
            .without(&["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"]),
        case("contract", "what the client says of itself goes on as it is", get("X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1"))
            .forwarded(X)
            .with("x-forwarded-for", &["192.0.2.1"])
            .with("forwarded", &["for=192.0.2.1"]),
        case("6265 §3", "two cookies of an answer stay two fields", get("X-A: 1"))
            .answer("HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2, c\r\nContent-Length: 2\r\n\r\nok")
            .gives(&[200])
            .reply_with("set-cookie", &["a=1", "b=2, c"]),
        case("9110 §6.6.1", "Date and Server of an answer stay", get("X-A: 1"))
            .answer("HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: them/1\r\nContent-Length: 2\r\n\r\nok")
            .gives(&[200])
            .reply_with("date", &["Sun, 06 Nov 1994 08:49:37 GMT"])
            .reply_with("server", &["them/1"]),
        case("9110 §11.6.1", "a 401 and its challenge pass", get("X-A: 1"))
            .answer("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno")
            .gives(&[401])
            .body("no")
            .reply_with("www-authenticate", &["Bearer"])
            .reply_without(&["proxy-status"]),
        case("9110 §15.4", "a redirect is the client's business", get("X-A: 1"))
            .answer("HTTP/1.1 307 Temporary Redirect\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n")
            .gives(&[307])
            .reply_with("location", &["https://evil.example/"]),
        case("9110 §8.4", "an encoded body stays encoded", get("Accept-Encoding: gzip"))
            .answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\0\xff")
            .gives(&[200])
            .body(b"\x1f\x8b\0\xff")
            .reply_with("content-encoding", &["gzip"]),
        case("9209 §2", "Proxy-Status of others passes", get("X-A: 1"))
            .answer("HTTP/1.1 502 Bad Gateway\r\nProxy-Status: cdn; error=dns_error\r\nContent-Length: 2\r\n\r\nno")
            .gives(&[502])
            .body("no")
            .reply_with("proxy-status", &["cdn; error=dns_error"]),
    ]
}

fn via() -> Vec<Case> {
    vec![
        case("9110 §7.6.3", "Via says that we were here", get("X-A: 1"))
            .forwarded(X)
            .with("via", &["1.1 auth-sidecar"]),
        case(
            "9110 §7.6.3",
            "Via of others stays before ours",
            get("Via: 1.0 fred\r\nVia: 1.1 p.example (x)"),
        )
        .forwarded(X)
        .with(
            "via",
            &["1.0 fred", "1.1 p.example (x)", "1.1 auth-sidecar"],
        ),
        case(
            "9110 §7.6.3",
            "Via names the version that was received",
            "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        )
        .forwarded(X)
        .with("via", &["1.0 auth-sidecar"]),
        case(
            "9110 §7.6.3",
            "Connection cannot take Via away",
            get("Connection: via\r\nVia: 1.1 fred"),
        )
        .forwarded(X)
        .with("via", &["1.1 fred", "1.1 auth-sidecar"]),
        case(
            "9110 §7.6.3",
            "a request that was here before is a loop",
            get("Via: 1.1 fred, 1.1 auth-sidecar"),
        )
        .denied(502),
        case(
            "9110 §7.6.3",
            "a loop in another case and with a comment is one, too",
            get("Via: HTTP/1.1 AUTH-SIDECAR (x)"),
        )
        .denied(502),
        case(
            "9110 §7.6.3",
            "a loop behind two spaces or a tab is one, too",
            get("Via: 1.0 fred,, 1.1 \t  auth-sidecar"),
        )
        .denied(502),
        case(
            "9110 §7.6.3",
            "a loop whose comment follows at once is one, too",
            get("Via: 1.1 auth-sidecar(x)"),
        )
        .denied(502),
        case(
            "9110 §7.6.3",
            "an open comment hides no loop",
            get("Via: 1.1 fred (x, 1.1 auth-sidecar"),
        )
        .denied(502),
        case(
            "9110 §7.6.3",
            "our name in a comment is no loop",
            get("Via: 1.1 fred (auth-sidecar)"),
        )
        .forwarded(X)
        .with("via", &["1.1 fred (auth-sidecar)", "1.1 auth-sidecar"]),
        case(
            "9110 §7.6.3",
            "a nominated loop is a loop",
            get("Connection: via\r\nVia: 1.1 auth-sidecar"),
        )
        .denied(502),
        case(
            "9110 §7.6.3",
            "a name like ours is another",
            get("Via: 1.1 auth-sidecar-2"),
        )
        .forwarded(X)
        .with("via", &["1.1 auth-sidecar-2", "1.1 auth-sidecar"]),
    ]
}

fn max_forwards() -> Vec<Case> {
    let options =
        |fields: &str| format!("OPTIONS /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
    let malformed = |name, fields: &str| case("9110 §7.6.2", name, options(fields)).refused(&[400]);
    vec![
        case(
            "9110 §7.6.2",
            "OPTIONS that may not go further is answered here",
            options("Max-Forwards: 0"),
        )
        .outcome(
            Upstream::Nothing,
            vec![Reply::status(&[200, 204])],
            End::Usable,
        ),
        case(
            "9110 §7.6.2",
            "OPTIONS about the server that may not go further is answered here",
            "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 0\r\n\r\n",
        )
        .outcome(
            Upstream::Nothing,
            vec![Reply::status(&[200, 204])],
            End::Usable,
        ),
        case(
            "9110 §7.6.2",
            "OPTIONS goes on with one less",
            options("Max-Forwards: 7"),
        )
        .forwarded("OPTIONS /x HTTP/1.1")
        .with("max-forwards", &["6"]),
        case(
            "9110 §7.6.2",
            "OPTIONS with more than a number holds goes on with the most that one does",
            options("Max-Forwards: 99999999999999999999"),
        )
        .forwarded("OPTIONS /x HTTP/1.1")
        .with("max-forwards", &["18446744073709551614"]),
        // The RFC says nothing of these. A hop that reads them otherwise would count otherwise.
        malformed(
            "a number with a plus is no Max-Forwards",
            "Max-Forwards: +5",
        ),
        malformed("an empty Max-Forwards is none", "Max-Forwards:"),
        malformed("a word is no Max-Forwards", "Max-Forwards: a=b"),
        malformed("a list is no Max-Forwards", "Max-Forwards: 7, 6"),
        malformed(
            "two Max-Forwards are none",
            "Max-Forwards: 7\r\nMax-Forwards: 7",
        ),
        malformed(
            "a number behind a word is no Max-Forwards",
            "Max-Forwards: a=b\r\nMax-Forwards: 7",
        ),
        case(
            "9110 §7.6.2",
            "OPTIONS goes on with nothing left",
            options("Max-Forwards: 1"),
        )
        .forwarded("OPTIONS /x HTTP/1.1")
        .with("max-forwards", &["0"]),
        case(
            "9110 §7.6.2",
            "Connection cannot take Max-Forwards away",
            options("Connection: max-forwards\r\nMax-Forwards: 0"),
        )
        .outcome(
            Upstream::Nothing,
            vec![Reply::status(&[200, 204])],
            End::Usable,
        ),
        case(
            "9110 §7.6.2",
            "Max-Forwards of other methods goes on",
            get("Max-Forwards: 0"),
        )
        .forwarded(X)
        .with("max-forwards", &["0"]),
    ]
}

/// RFC 9110 §10.1.1: the expectation is the service's to meet, and the 100 its to send.
fn expect() -> Vec<Case> {
    const GO_ON: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const NO: &str = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    const POST: &str = "POST /x HTTP/1.1";
    let head = "Expect: 100-continue\r\nContent-Length: 5";
    let goes_on = || [Part::Say(GO_ON.into()), Part::Body, Part::Say(OK.into())];
    vec![
        case("9110 §10.1.1", "who waits is told to continue by the upstream", post(head, ""))
            .answers_early(goes_on())
            .step(Step::Interim(100))
            .send("hello")
            .forwarded(POST)
            .content("hello")
            .with("expect", &["100-continue"])
            .body("ok")
            .interim(100),
        case("9110 §10.1.1", "who waits with chunks is told to continue by the upstream", post("Expect: 100-Continue\r\nTransfer-Encoding: chunked", ""))
            .answers_early(goes_on())
            .step(Step::Interim(100))
            .send("5\r\nhello\r\n0\r\n\r\n")
            .forwarded(POST)
            .content("hello")
            .with("expect", &["100-Continue"])
            .interim(100),
        case("9110 §10.1.1", "who waits is told once, however slow the upstream is", post(head, ""))
            .answers_early([Part::Pause, Part::Say(GO_ON.into()), Part::Body, Part::Pause, Part::Say(OK.into())])
            .step(Step::Interim(100))
            .send("hello")
            .forwarded(POST)
            .content("hello")
            .with("expect", &["100-continue"])
            .interim(100),
        case("9110 §10.1.1", "who does not wait need not be told", post(head, "hello"))
            .forwarded(POST)
            .content("hello")
            .with("expect", &["100-continue"])
            .no_interim(),
        case("9110 §10.1.1", "who does not wait is told what the upstream says", post(head, "hello"))
            .answers_early(goes_on())
            .forwarded(POST)
            .content("hello")
            .with("expect", &["100-continue"])
            .body("ok")
            .interim(100),
        case("9110 §10.1.1", "who waits with nothing to send is just served", get("Expect: 100-continue")).forwarded(X),
        // 417 is what §10.1.1 offers; to take no notice is what most do.
        case("9110 §10.1.1", "another expectation is ignored or fails", get("Expect: miracles"))
            .forwarded(X)
            .outcome(Upstream::Nothing, vec![Reply::own(&[417])], End::Either),
        // The body may come or not, so it can only be waited for or cut off.
        case("9110 §10.1.1", "who is refused is not asked for its body", "POST /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .outcome(Upstream::Nothing, vec![Reply::own(&[403])], End::Closed)
            .no_interim(),
        case("9110 §10.1.1", "an answer of the upstream before the body is the client's", post(head, ""))
            .answers_early([Part::Say(NO.into()), Part::Close])
            .gives(&[413])
            .body("no")
            .no_interim()
            .end(End::Either),
        case("9110 §10.1.1", "an answer of the upstream before the chunks is the client's", post("Expect: 100-continue\r\nTransfer-Encoding: chunked", ""))
            .answers_early([Part::Say(NO.into()), Part::Close])
            .gives(&[413])
            .body("no")
            .no_interim()
            .end(End::Either),
        // It does not close, so only the client's body or its end can end the exchange.
        case("9110 §10.1.1", "who is answered by an upstream that goes on is not asked for its body either", post(head, ""))
            .answers_early([Part::Say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno".into())])
            .step(Step::Reply)
            .finish()
            .outcome(Upstream::NothingWhole, vec![Reply::status(&[417])], End::Closed)
            .body("no")
            .no_interim(),
        case("9110 §10.1.1", "100 of the upstream is not the answer", post(head, "hello"))
            .answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .gives(&[200])
            .body("ok")
            .interim(100),
    ]
}
