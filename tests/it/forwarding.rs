//! Bytes, fields and methods on their way through.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, header::AUTHORIZATION};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::support::{
    Body, Client, Connection, FakeCsp, FakeService, RawServer, Settings, Sidecar, eventually, get,
    next_data, peer::field, request, send_raw, service::pattern,
};

const TOKEN: &str = "the-token-of-the-sidecar";
const SOON: Duration = Duration::from_secs(10);

fn pair() -> (FakeService, Sidecar) {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    (service, sidecar)
}

/// What arrived at an upstream: a head and its body.
type Arrivals = mpsc::UnboundedReceiver<(String, Vec<u8>)>;

/// An upstream that gives each request the same answer, and shows every byte of its head.
fn wire(answer: &'static str) -> (RawServer, Sidecar, Arrivals) {
    let (seen, arrivals) = mpsc::unbounded_channel();
    let server = RawServer::start(move |_, stream| {
        let seen = seen.clone();
        async move {
            let mut connection = Connection::from(stream);
            while let Some(message) = connection.read_message().await {
                drop(seen.send(message));
                connection.write(answer).await;
            }
        }
    });
    let settings = Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN);
    let sidecar = Sidecar::start(&settings);
    (server, sidecar, arrivals)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The lines of a head that hold this field, as they were spelled.
fn lines<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let is_it = |line: &&str| {
        line.split_once(':')
            .is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
    };
    head.lines().skip(1).filter(is_it).collect()
}

#[tokio::test]
async fn whatever_credential_a_client_sends_the_upstream_gets_ours_and_no_other() {
    let (service, sidecar) = pair();
    let cases: [&[(&str, &str)]; 12] = [
        &[],
        &[("authorization", "Bearer of-the-client")],
        &[("authorization", "Bearer null")],
        &[
            ("authorization", "Bearer one"),
            ("authorization", "Basic dHdv"),
        ],
        &[("x-auth-token", "of-the-client")],
        &[("csp-auth-token", "of-the-client")],
        &[("x_auth_token", "a"), ("csp_auth_token", "b")],
        &[("proxy-authorization", "Basic dHdv")],
        // To a server that hands fields on as variables, these are the same names.
        &[
            ("x-auth_token", "a"),
            ("csp-auth_token", "b"),
            ("proxy_authorization", "c"),
            ("http_authorization", "d"),
        ],
        &[("transfer_encoding", "chunked"), ("content_length", "5")],
        &[("connection", "authorization")],
        &[
            ("connection", "Authorization, X-Auth-Token, close"),
            ("authorization", "Bearer of-the-client"),
            ("x-auth-token", "of-the-client"),
        ],
    ];
    for fields in cases {
        let url = format!("{}/x", sidecar.url());
        assert_eq!(
            request("GET", &url, fields, "").await.status,
            200,
            "{fields:?}"
        );
        let received = service.requests().pop().unwrap();
        let tokens: Vec<_> = received.headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(tokens, [&format!("Bearer {TOKEN}")], "{fields:?}");
        // Neither a way around that, nor anything about the client's address.
        let mut names: Vec<_> = received.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "host", "via"], "{fields:?}");
    }
}

#[tokio::test]
async fn it_is_the_current_token_on_a_connection_that_is_kept_too() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    let mut client = Client::connect(&sidecar.url()).await;
    let stale = FakeCsp::token(9);
    let fields = [("authorization", stale.as_str())];
    assert_eq!(client.request("GET", "/x", &fields, "").await.status, 200);
    assert_eq!(service.requests().pop().unwrap().token(), FakeCsp::token(1));
    csp.revoke_all();
    assert_eq!(client.request("GET", "/x", &fields, "").await.status, 200);
    assert_eq!(service.requests().pop().unwrap().token(), FakeCsp::token(2));
}

#[tokio::test]
async fn path_and_query_arrive_byte_for_byte() {
    let (service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let long = format!("/x?q={}", "a%20".repeat(2048));
    for target in [
        "/",
        "//",
        "/a//b///c/",
        "//evil.example/x",
        "/a/../b/./c",
        "/..",
        "/a%2Fb%5C",
        "/%2e%2E/x",
        "/%zz%",
        "/a;b=c;d",
        "/{\"a\":'b'}",
        "/CamelCase/API/%c3%A9",
        "/\u{e9}?\u{e9}",
        "/x?",
        "/x??",
        "/?",
        "/?q",
        "/x?a=b?c/d&&=;",
        "/x?q='a'+%22b%22&Q=|{}^`\\[]",
        // (The service reads with a library that knows no quotes in a query; see `meaning`.)
        "/x?u=http://evil.example//p",
        "/x/http://evil.example/",
        "/a+b%20c",
        "/*",
        "/x%00y",
        long.as_str(),
    ] {
        client
            .write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let (head, _) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
        assert_eq!(service.requests().pop().unwrap().target, target);
    }
}

#[tokio::test]
async fn absolute_form_becomes_origin_form_and_the_asterisk_stays() {
    let (service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    for (line, target) in [
        ("GET http://127.0.0.1:9797/a//b?c=%2f", "/a//b?c=%2f"),
        ("GET HTTP://LocalHost/", "/"),
        ("GET http://localhost", "/"),
        ("GET http://localhost?q", "/?q"),
        ("OPTIONS *", "*"),
    ] {
        client
            .write(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let (head, _) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{line}: {head}");
        let received = service.requests().pop().unwrap();
        assert_eq!(received.target, target, "{line}");
        assert_eq!(
            received.header("host"),
            Some(&*service.address().to_string())
        );
    }
}

#[tokio::test]
async fn bodies_of_all_sizes_arrive_byte_for_byte_in_both_directions() {
    let (service, sidecar) = pair();
    let url = format!("{}/echo", sidecar.url());
    for length in [0, 1, 1000, 65_536, (1 << 20) + 1, 16 << 20] {
        let whole = Bytes::from(pattern(length));
        let reply = request("POST", &url, &[], whole.clone()).await;
        assert!(reply.body == whole, "{length} with a length");
        assert_eq!(reply.header("content-length"), Some(&*length.to_string()));

        let (frames, body) = Body::channel();
        let url = url.clone();
        let posting = tokio::spawn(async move { request("POST", &url, &[], body).await });
        let mut rest = whole.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(70_001));
            frames.send(Ok(Frame::data(piece))).await.unwrap();
        }
        drop(frames);
        assert!(posting.await.unwrap().body == whole, "{length} in chunks");
        let received = service.requests().pop().unwrap();
        assert!(received.complete && received.body == whole);
        assert_eq!(received.header("content-length"), None, "{length}");
    }
}

#[tokio::test]
async fn an_empty_post_is_whole_with_and_without_a_length() {
    let (service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    for framing in [
        "",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let body = if framing.contains("chunked") {
            "0\r\n\r\n"
        } else {
            ""
        };
        let request = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n{body}");
        client.write(request).await;
        let (head, body) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{framing}: {head}");
        assert_eq!(body, b"");
        let received = service.requests().pop().unwrap();
        assert!(received.complete && received.body.is_empty(), "{framing}");
    }
}

#[tokio::test]
async fn what_a_content_coding_says_of_a_body_is_not_our_business() {
    let (_server, sidecar, mut arrivals) = wire(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nplain",
    );
    let fields = [
        ("content-encoding", "gzip"),
        ("accept-encoding", "br;q=1, gzip"),
    ];
    let reply = request("POST", &sidecar.url(), &fields, "no gzip").await;
    assert_eq!(reply.text(), "plain");
    assert_eq!(reply.header("content-encoding"), Some("gzip"));
    assert_eq!(reply.header("etag"), Some("\"x\""));
    let (head, body) = arrivals.recv().await.unwrap();
    assert_eq!(body, b"no gzip");
    assert_eq!(field(&head, "accept-encoding"), Some("br;q=1, gzip"));
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_usable() {
    let (service, sidecar) = pair();
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..2 {
        let head = client.request("HEAD", "/bytes/1000", &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some("1000"));
        for code in [204, 304] {
            let reply = client
                .request("GET", &format!("/status/{code}"), &[], "")
                .await;
            assert_eq!((reply.status.as_u16(), reply.body.len()), (code, 0));
        }
        let whole = client.request("GET", "/bytes/1000", &[], "").await;
        assert_eq!(whole.body, pattern(1000));
    }
    assert_eq!(service.connections(), 1);
}

#[tokio::test]
async fn the_length_in_a_304_is_not_waited_for() {
    let (_server, sidecar, _arrivals) =
        wire("HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\nETag: \"x\"\r\n\r\n");
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..2 {
        let reply = client.request("GET", "/", &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (304, 0));
        assert_eq!(reply.header("etag"), Some("\"x\""));
        assert_eq!(reply.header("content-length"), Some("1234"));
    }
}

#[tokio::test]
async fn the_parts_of_a_stream_arrive_while_it_goes_on() {
    let (service, sidecar) = pair();
    let mut client = Client::connect(&sidecar.url()).await;
    let endless = Request::get("/stream?ms=100").body(Body::empty()).unwrap();
    let mut answer = client.send(endless).await.unwrap();
    for index in 0..3 {
        let data = next_data(answer.body_mut()).await.unwrap();
        assert_eq!(data, format!("chunk {index}\n"));
        assert_eq!(service.in_flight(), 1);
    }
    drop((answer, client));
    eventually(|| service.in_flight() == 0, SOON).await;
}

#[tokio::test]
async fn both_directions_stream_at_the_same_time() {
    let (service, sidecar) = pair();
    let mut client = Client::connect(&sidecar.url()).await;
    let (frames, body) = Body::channel();
    let mut answer = client
        .send(Request::post("/duplex").body(body).unwrap())
        .await
        .unwrap();
    for part in ["one", "two", "three"] {
        frames
            .send(Ok(Frame::data(Bytes::from(part))))
            .await
            .unwrap();
        assert_eq!(next_data(answer.body_mut()).await.unwrap(), part);
    }
    drop(frames);
    assert_eq!(next_data(answer.body_mut()).await, None);
    assert!(service.requests().pop().unwrap().complete);
}

#[tokio::test]
async fn fields_keep_their_spelling_and_the_repeated_ones_their_order() {
    let (_server, sidecar, mut arrivals) = wire(
        "HTTP/1.1 200 Fine\r\nX-MixedCase: a  b\r\nx-lower: 1\r\nX-Many: 1\r\nx-many: 2\r\n\
         X-MANY: 3\r\nX-Empty:\r\nX-Text: \u{e9}\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let request = "GET / HTTP/1.1\r\nhOsT: localhost\r\nX-MixedCase: a  b\r\nx-lower: 1\r\n\
        X-Many: b\r\nx-many: a\r\nX-MANY: c\r\nX-Empty:\r\nX-Text: \u{e9}\r\nCookie: a=1\r\n\
        Cookie: b=2\r\nX-Forwarded-For: 192.0.2.1\r\nUser-Agent: curl/8\r\n\r\n";
    client.write(request).await;
    let (answer, _) = client.read_message().await.unwrap();
    let (arrived, _) = arrivals.recv().await.unwrap();
    for (name, expected) in [
        ("x-mixedcase", &["X-MixedCase: a  b"][..]),
        ("x-lower", &["x-lower: 1"]),
        // A character for each of the two bytes that were sent.
        ("x-text", &["X-Text: \u{c3}\u{a9}"]),
    ] {
        assert_eq!(lines(&arrived, name), expected, "{arrived}");
        assert_eq!(lines(&answer, name), expected, "{answer}");
    }
    assert_eq!(
        lines(&arrived, "x-many"),
        ["X-Many: b", "x-many: a", "X-MANY: c"]
    );
    assert_eq!(lines(&arrived, "cookie"), ["Cookie: a=1", "Cookie: b=2"]);
    assert_eq!(lines(&arrived, "user-agent"), ["User-Agent: curl/8"]);
    // A client's own word about itself is neither extended nor taken away.
    assert_eq!(
        lines(&arrived, "x-forwarded-for"),
        ["X-Forwarded-For: 192.0.2.1"]
    );
    assert_eq!(
        lines(&answer, "x-many"),
        ["X-Many: 1", "x-many: 2", "X-MANY: 3"]
    );
    assert_eq!(
        lines(&answer, "set-cookie"),
        ["Set-Cookie: a=1", "set-cookie: b=2"]
    );
    assert_eq!(field(&arrived, "x-empty"), Some(""));
    assert_eq!(field(&answer, "x-empty"), Some(""));
}

#[tokio::test]
async fn what_would_change_a_browser_beyond_this_port_ends_here() {
    let (_server, sidecar, _arrivals) = wire(
        "HTTP/1.1 103 Early Hints\r\nStrict-Transport-Security: max-age=1\r\nX-Hint: 1\r\n\r\n\
         HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
         Clear-Site-Data: \"*\"\r\nPublic-Key-Pins: max-age=1\r\n\
         public-key-pins-report-only: max-age=1\r\nExpect-CT: max-age=1\r\n\
         NEL: {}\r\nReport-To: {}\r\nAlt-Svc: h3=\":443\"\r\n\
         Refresh: 5\r\nReporting-Endpoints: a=\"/r\"\r\nReport_To: 1\r\n\
         Set-Cookie: a=1; Domain=example.com\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write("GET /x HTTP/1.1\r\nHost: localhost\r\nReport-To: mine\r\n\r\n")
        .await;
    let hint = client.read_head().await.unwrap();
    assert_eq!(names(&hint), ["x-hint"]);
    let (head, _) = client.read_message().await.unwrap();
    assert_eq!(
        names(&head),
        [
            "refresh",
            "reporting-endpoints",
            "report_to",
            "set-cookie",
            "content-length",
            "date"
        ]
    );
}

/// The names of the fields of a head, in small letters.
fn names(head: &str) -> Vec<String> {
    head.lines()
        .skip(1)
        .filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase()))
        .collect()
}

#[tokio::test]
async fn what_is_about_one_connection_ends_there_in_both_directions() {
    let (_server, sidecar, mut arrivals) = wire(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: x\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n\
         Alt-Svc: h3=\":443\"\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let fields = [
        ("connection", "X-Private, x-other"),
        (
            "connection",
            "Keep-Alive, TE, Trailer, Host, Content-Length",
        ),
        ("x-private", "1"),
        ("x-other", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers, deflate"),
        ("trailer", "x-late"),
        ("x-end", "1"),
    ];
    let reply = request("POST", &sidecar.url(), &fields, "body").await;
    let (head, body) = arrivals.recv().await.unwrap();
    assert_eq!(body, b"body");
    let mut names = names(&head);
    names.sort_unstable();
    assert_eq!(
        names,
        ["authorization", "content-length", "host", "via", "x-end"]
    );
    let mut names: Vec<_> = reply.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "x-end"]);
}

#[tokio::test]
async fn the_end_of_an_upstream_connection_is_not_the_end_of_the_client_s() {
    let (server, sidecar, _arrivals) =
        wire("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..3 {
        let reply = client.request("GET", "/", &[], "").await;
        assert_eq!(reply.text(), "ok");
        assert_eq!(reply.header("connection"), None);
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn an_offer_of_http2_is_ignored_and_the_request_served() {
    let (service, sidecar) = pair();
    for (request, body) in [
        // curl --http2
        (
            "GET /x HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
             Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
            r#"{"path":"/x"}"#,
        ),
        // java.net.http
        (
            "POST /echo HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 4\r\n\
             Host: localhost\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n\
             Upgrade: h2c\r\nUser-Agent: Java-http-client/21\r\n\r\nbody",
            "body",
        ),
    ] {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        for _ in 0..2 {
            client.write(request).await;
            let (head, received) = client.read_message().await.unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert_eq!(received, body.as_bytes());
        }
    }
    for received in service.requests() {
        assert!(!received.headers.contains_key("http2-settings"));
    }
}

#[tokio::test]
async fn http_1_0_with_keep_alive_gets_a_second_answer_on_the_connection() {
    let (service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let request = "GET /bytes/100 HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: localhost\r\n\
        User-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n";
    for _ in 0..3 {
        client.write(request).await;
        let (head, body) = client.read_message().await.unwrap();
        assert!(head.contains(" 200 OK\r\n"), "{head}");
        let connection = field(&head, "connection").unwrap_or_default();
        assert!(connection.eq_ignore_ascii_case("keep-alive"), "{head}");
        assert_eq!(body, pattern(100));
    }
    let received = service.requests().pop().unwrap();
    assert_eq!(received.header("via"), Some("1.0 auth-sidecar"));
}

#[tokio::test]
async fn http_1_0_without_keep_alive_gets_its_answer_and_the_end() {
    let (_service, sidecar) = pair();
    let address = sidecar.proxy_address();
    let answer = send_raw(address, "GET /bytes/3 HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with(b"HTTP/1."));
    assert!(answer.ends_with(b"\r\n\r\n\x00\x01\x02"));
    // It knows no chunks: the end of the connection is the end of the answer.
    let answer = send_raw(address, "GET /stream?chunks=2&ms=1 HTTP/1.0\r\n\r\n").await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(field(head, "transfer-encoding"), None);
    assert_eq!(body, "chunk 0\nchunk 1\n");
}

#[tokio::test]
async fn whoever_asks_before_it_sends_a_body_is_told_to_go_on_by_the_service() {
    let (service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\
        Expect: 100-continue\r\n\r\n";
    client.write(head).await;
    let interim = client.read_head().await.unwrap();
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    client.write("body").await;
    let (answer, body) = client.read_message().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(body, b"body");
    let received = service.requests().pop().unwrap();
    assert_eq!(received.header("expect"), Some("100-continue"));
    // One that is refused is not asked for its body.
    let refused = head.replace("localhost", "evil.example");
    let answer = send_raw(sidecar.proxy_address(), refused).await;
    assert!(answer.starts_with(b"HTTP/1.1 421 "));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let requests = "GET /slow?ms=200 HTTP/1.1\r\nHost: localhost\r\n\r\n\
        POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\none\
        POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\ntwo\r\n0\r\n\r\n\
        GET /status/404 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write(requests).await;
    for (status, body) in [
        (200, r#"{"slow":true}"#),
        (200, "one"),
        (200, "two"),
        (404, r#"{"code":404}"#),
    ] {
        let (head, received) = client.read_message().await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(received, body.as_bytes());
    }
    assert_eq!(service.request_count(), 4);
}

#[tokio::test]
async fn via_is_ours_behind_that_of_others_and_can_be_turned_off() {
    let (service, sidecar) = pair();
    let fields = [("via", "1.0 fred"), ("via", "1.1 p.example")];
    request("GET", &sidecar.url(), &fields, "").await;
    let received = service.requests().pop().unwrap();
    let via: Vec<_> = received.headers.get_all("via").iter().collect();
    assert_eq!(via, ["1.0 fred", "1.1 p.example", "1.1 auth-sidecar"]);
    let settings = Settings::static_token(TOKEN, &service).set("upstream.via", false);
    let silent = Sidecar::start(&settings);
    let reply = get(&format!("{}/x", silent.url())).await;
    assert_eq!((reply.status.as_u16(), reply.header("via")), (200, None));
    assert!(
        !service
            .requests()
            .pop()
            .unwrap()
            .headers
            .contains_key("via")
    );
}

#[tokio::test]
async fn two_cookies_stay_two_fields() {
    let (_service, sidecar) = pair();
    let reply = get(&format!("{}/headers", sidecar.url())).await;
    let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[tokio::test]
async fn redirects_are_the_client_s_business() {
    let (server, sidecar, _arrivals) = wire(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://evil.example/?a=b\r\n\
         Content-Length: 0\r\n\r\n",
    );
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 307);
    assert_eq!(reply.header("location"), Some("https://evil.example/?a=b"));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_whole() {
    let (_service, sidecar) = pair();
    let mut client = Client::connect(&sidecar.url()).await;
    let (frames, body) = Body::channel();
    frames
        .send(Ok(Frame::data(Bytes::from("part"))))
        .await
        .unwrap();
    let mut answer = client
        .send(Request::post("/early").body(body).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        next_data(answer.body_mut()).await.unwrap(),
        r#"{"early":true}"#
    );
    drop(frames);
    let again = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(again.status, 200);
}

#[tokio::test]
async fn trailers_of_a_request_go_nowhere() {
    // The server does not know trailers, and would fail at one.
    let (_server, sidecar, mut arrivals) = wire(OK);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let request = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
        Trailer: Authorization, X-Late\r\n\r\n3;ext=1\r\none\r\n3\r\ntwo\r\n0\r\n\
        Authorization: Bearer late\r\nX-Late: 1\r\n\r\n";
    for _ in 0..2 {
        client.write(request).await;
        let (head, _) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let (head, body) = arrivals.recv().await.unwrap();
        assert_eq!(body, b"onetwo");
        assert_eq!(field(&head, "trailer"), None);
    }
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_arrives_with_it() {
    let (service, sidecar) = pair();
    let request = "GET /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
        Connection: close\r\n\r\n5\r\nquery\r\n0\r\n\r\n";
    let answer = send_raw(sidecar.proxy_address(), request).await;
    assert!(answer.ends_with(b"query"), "{answer:?}");
    assert_eq!(service.requests()[0].body, b"query");
}
