//! Who is refused: hosts, browsers, ambiguous requests.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::{
    Connection, FakeService, Reply, Settings, Sidecar, client::Client, eventually, get,
    peer::field, request, send_raw,
};

const TOKEN: &str = "a-static-token";
const SOON: Duration = Duration::from_secs(10);
const GOOD: &str = "GET /good HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn pair() -> (FakeService, Sidecar) {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    (service, sidecar)
}

/// One row of the contract: what is sent, and what it earns.
struct Row {
    request: &'static str,
    status: u16,
    error: &'static str,
    details: &'static str,
    closes: bool,
}

const fn malformed(request: &'static str) -> Row {
    Row {
        request,
        status: 400,
        error: "http_request_error",
        details: "malformed",
        closes: true,
    }
}

const fn coding(request: &'static str) -> Row {
    Row {
        request,
        status: 501,
        error: "http_request_error",
        details: "transfer_coding",
        closes: true,
    }
}

const fn denied(status: u16, details: &'static str, request: &'static str) -> Row {
    Row {
        request,
        status,
        error: "http_request_denied",
        details,
        closes: false,
    }
}

impl Row {
    /// Checks the answer to it, and whether the connection ends.
    async fn check(&self, client: &mut Connection) {
        let request = self.request;
        client.write(request).await;
        let answer = client.read_message().await;
        let (head, body) = answer.unwrap_or_else(|| panic!("no answer to {request:?}"));
        let status = head.split(' ').nth(1);
        assert_eq!(
            status,
            Some(self.status.to_string().as_str()),
            "{request:?}: {head}"
        );
        let proxy_status = format!(
            "auth-sidecar; error={}; details=\"{}\"",
            self.error, self.details
        );
        for (name, value) in [
            ("proxy-status", Some(proxy_status.as_str())),
            ("content-type", Some("application/problem+json")),
            ("cache-control", Some("no-store")),
            ("x-content-type-options", Some("nosniff")),
            ("connection", self.closes.then_some("close")),
        ] {
            assert_eq!(field(&head, name), value, "{request:?}: {head}");
        }
        assert!(
            !head.to_ascii_lowercase().contains("access-control"),
            "{head}"
        );
        assert_eq!(field(&head, "allow").is_some(), self.status == 405);
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], self.status);
        if self.closes {
            assert!(
                client.closes_within(SOON).await,
                "{request:?} leaves it open"
            );
        } else {
            client.write(GOOD).await;
            let (head, _) = client.read_message().await.unwrap();
            assert!(
                head.starts_with("HTTP/1.1 200 "),
                "after {request:?}: {head}"
            );
        }
    }
}

/// Each alone, and as the second request of a connection whose first was good.
async fn all_are_refused(rows: &[Row]) {
    let (service, sidecar) = pair();
    for row in rows {
        let mut fresh = Connection::to(sidecar.proxy_address()).await;
        row.check(&mut fresh).await;
        let mut kept = Connection::to(sidecar.proxy_address()).await;
        kept.write(GOOD).await;
        let (head, _) = kept.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        row.check(&mut kept).await;
    }
    for received in service.requests() {
        assert_eq!(received.target, "/good", "{received:?}");
    }
}

/// Among many, so that the codec has to take a breath between them.
#[tokio::test]
async fn what_is_malformed_is_refused_after_all_that_came_before_it() {
    let (_service, sidecar) = pair();
    for before in [1, 10, 50] {
        let foreign = "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n".repeat(before);
        let answers = send_raw(sidecar.proxy_address(), foreign + "malformed\r\n\r\n").await;
        let answers = String::from_utf8(answers).unwrap();
        let statuses = answers.matches("HTTP/1.1 421 ").count();
        assert_eq!(statuses, before, "{answers}");
        let (_, last) = answers.rsplit_once("HTTP/1.1 ").unwrap();
        assert!(last.starts_with("400 "), "{answers}");
    }
}

#[tokio::test]
async fn a_head_request_that_is_refused_gets_no_body() {
    let (_service, sidecar) = pair();
    for request in [
        "HEAD / HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "HEAD /#fragment HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let answer = send_raw(sidecar.proxy_address(), request).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_served_is_misdirected() {
    all_are_refused(&[
        denied(421, "host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        denied(
            421,
            "host",
            "GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\n",
        ),
        denied(
            421,
            "host",
            "GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
        ),
        denied(
            421,
            "host",
            "GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
        ),
        denied(421, "host", "GET / HTTP/1.1\r\nHost: 0.0.0.0\r\n\r\n"),
        denied(
            421,
            "host",
            "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        denied(
            421,
            "host",
            "GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        ),
        denied(
            421,
            "host",
            "GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n\r\n",
        ),
    ])
    .await;
}

#[tokio::test]
async fn cross_site_requests_of_browsers_are_forbidden_and_preflights_never_granted() {
    all_are_refused(&[
        denied(403, "cross_site", "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n"),
        denied(403, "cross_site", "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n"),
        denied(403, "cross_site", "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1\r\n\r\n"),
        denied(
            403,
            "cross_site",
            "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example\r\n\r\n",
        ),
        denied(403, "cross_site", "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n"),
        denied(403, "cross_site", "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-site\r\n\r\n"),
        denied(
            403,
            "cross_site",
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: origin\r\nOrigin: http://evil.example\r\n\r\n",
        ),
        denied(
            403,
            "cross_site",
            "OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Private-Network: true\r\n\r\n",
        ),
        denied(
            403,
            "cross_site",
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        ),
    ])
    .await;
}

#[tokio::test]
async fn methods_that_show_the_credential_or_tunnel_past_it_are_not_allowed() {
    all_are_refused(&[
        denied(
            405,
            "method",
            "TRACE / HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 5\r\n\r\n",
        ),
        denied(405, "method", "TRACK / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ])
    .await;
    let (service, sidecar) = pair();
    for connect in [
        "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\nbytes of a tunnel",
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\nGET / HTTP/1.1\r\n",
    ] {
        let answer = send_raw(sidecar.proxy_address(), connect).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(field(&answer, "proxy-status").is_some(), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn a_host_or_target_that_is_malformed_is_a_bad_request() {
    all_are_refused(&[
        malformed("GET / HTTP/1.1\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost:\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: localhost, evil.example\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: localhost:port\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: localhost:65536\r\n\r\n"),
        malformed("GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n"),
        malformed("GET http://user@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        malformed("GET http://localhost@evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        malformed("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ])
    .await;
    let (service, sidecar) = pair();
    let two = "GET / HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    let answer = send_raw(sidecar.proxy_address(), two).await;
    assert!(answer.starts_with(b"HTTP/1.0 400 "));
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn authority_form_belongs_to_connect() {
    all_are_refused(&[
        malformed("GET localhost:9797 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        malformed("GET localhost HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        malformed("GET bad HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn a_fragment_has_no_place_in_a_target() {
    all_are_refused(&[malformed(
        "GET /good#fragment HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )])
    .await;
}

#[tokio::test]
async fn a_coding_other_than_one_plain_chunked_is_not_implemented() {
    all_are_refused(&[
        coding("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        coding("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: cow, chunked\r\n\r\n0\r\n\r\n"),
        coding("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
        coding("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        coding(
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        coding(
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_request_that_passed_here_before_is_a_loop() {
    all_are_refused(&[Row {
        request: "GET / HTTP/1.1\r\nHost: localhost\r\nVia: 1.1 a, 1.1 auth-sidecar\r\n\r\n",
        status: 502,
        error: "proxy_loop_detected",
        details: "loop",
        closes: false,
    }])
    .await;
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_not_read_as_the_next_one() {
    let (service, sidecar) = pair();
    for head in [
        "POST / HTTP/1.1\r\nHost: evil.example\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n",
        "TRACE / HTTP/1.1\r\nHost: localhost\r\n",
    ] {
        let smuggled = format!("{head}Content-Length: {}\r\n\r\n{GOOD}", GOOD.len());
        let answer = send_raw(sidecar.proxy_address(), smuggled).await;
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head}: {answer}");
        assert_eq!(
            field(&answer, "connection"),
            Some("close"),
            "{head}: {answer}"
        );
    }
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn names_and_origins_that_are_configured_are_served() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.allow_hosts", ["sidecar.example"].as_slice())
        .set("listen.require_field", "X-Sidecar")
        .set("listen.allow_origins", ["https://tools.example"].as_slice());
    let sidecar = Sidecar::start(&settings);
    let mut client = Client::connect(&sidecar.url()).await;
    let own = sidecar.url();
    for fields in [
        &[("host", "sidecar.example:9797")][..],
        &[("host", "LOCALHOST")],
        &[("host", "[::1]:9797")],
        &[("host", "127.0.0.1")],
        &[("origin", own.as_str())],
        &[
            ("origin", "https://tools.example"),
            ("sec-fetch-site", "cross-site"),
        ],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        let fields = [fields, &[("x-sidecar", "yes")]].concat();
        let reply = client.request("GET", "/x", &fields, "").await;
        assert_eq!(reply.status, 200, "{fields:?}");
        assert!(reply.header("access-control-allow-origin").is_none());
    }
    let by_tls = own.replace("http:", "https:");
    for fields in [
        [("host", "other.example"), ("x-sidecar", "yes")],
        [("origin", by_tls.as_str()), ("x-sidecar", "yes")],
        [
            ("origin", "https://tools.example.evil"),
            ("x-sidecar", "yes"),
        ],
        [("origin", "http://tools.example"), ("x-sidecar", "yes")],
    ] {
        let reply: Reply = request("GET", &sidecar.url(), &fields, "").await;
        assert!([403, 421].contains(&reply.status.as_u16()), "{fields:?}");
    }
}

/// Sends it, alone and as the second request, and checks that it is refused and the connection
/// closed, with nothing after it read as a request.
async fn closes_with(sidecar: &Sidecar, request: &str, statuses: &[u16]) {
    for before in ["", GOOD] {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        if !before.is_empty() {
            client.write(before).await;
            client.read_message().await.unwrap();
        }
        client.write(format!("{request}{GOOD}")).await;
        let answer = client.read_to_end().await;
        let answer = String::from_utf8(answer).unwrap();
        let refused = statuses
            .iter()
            .any(|status| answer.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(refused, "{request:?}: {answer:?}");
        let proxy_status = field(&answer, "proxy-status").unwrap_or_default();
        assert!(
            proxy_status.starts_with("auth-sidecar; error="),
            "{request:?}: {answer:?}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn ambiguous_and_malformed_heads_are_refused_and_closed() {
    let (service, sidecar) = pair();
    for fields in [
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5,6\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chun\tked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: \u{a0}chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X: a\0b\r\n",
        "X: a\r\n b\r\n",
        "X(y): a\r\n",
        "X y: a\r\n",
        ": a\r\n",
        "no colon\r\n",
    ] {
        let request = format!("POST /bad HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        closes_with(&sidecar, &request, &[400, 501]).await;
    }
    for line in [
        "GET  /bad HTTP/1.1",
        "GET /bad  HTTP/1.1",
        "GET /b ad HTTP/1.1",
        "GET\t/bad HTTP/1.1",
        "GET /bad HTTP/1.2",
        "GET /bad HTTP/3.0",
        "GET /bad http/1.1",
        "GET /bad",
        "G(T /bad HTTP/1.1",
        "GET /b\u{1}ad HTTP/1.1",
    ] {
        let request = format!("{line}\r\nHost: localhost\r\n\r\n");
        closes_with(&sidecar, &request, &[400, 505]).await;
    }
    closes_with(
        &sidecar,
        "POST /bad HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    )
    .await;
    for received in service.requests() {
        assert_eq!(received.target, "/good", "{received:?}");
    }
}

#[tokio::test]
async fn what_came_before_a_malformed_request_is_answered_first() {
    let (service, sidecar) = pair();
    let before = "GET /slow?ms=300 HTTP/1.1\r\nHost: localhost\r\n\r\n\
        POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody";
    let after = format!("GET /bad HTTP/1.1\r\nX y: z\r\n\r\n{GOOD}");
    for pieces in [
        vec![before.to_owned() + &after],
        vec![before.to_owned(), after.clone()],
        vec![
            before.to_owned() + "GET /bad HT",
            "TP/1.1\r\nX y: z\r\n\r\n".to_owned(),
        ],
    ] {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        for piece in pieces {
            client.write(piece).await;
            sleep(Duration::from_millis(50)).await;
        }
        for (status, body) in [(200, r#"{"slow":true}"#), (200, "body")] {
            let (head, received) = client.read_message().await.unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!(received, body.as_bytes());
        }
        let (head, _) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(client.closes_within(SOON).await);
    }
    assert_eq!(service.request_count(), 6);
}

#[tokio::test]
async fn a_request_with_two_framings_is_refused_in_either_order() {
    let (service, sidecar) = pair();
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "content-length: 4\r\ntransfer-encoding: Chunked\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4, 4\r\n",
    ] {
        let request = format!("POST /bad HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n0\r\n\r\n");
        closes_with(&sidecar, &request, &[400]).await;
    }
    for received in service.requests() {
        assert_eq!(received.target, "/good", "{received:?}");
    }
}

#[tokio::test]
async fn a_broken_chunk_ends_the_request_and_the_upstream_never_sees_it_whole() {
    let (service, sidecar) = pair();
    for body in [
        "3\r\none\r\nx\r\n",
        "3\r\none\r\n+3\r\ntwo\r\n0\r\n\r\n",
        "3\r\none\r\n0x3\r\ntwo\r\n0\r\n\r\n",
        "3\r\none\r\n-1\r\ntwo\r\n0\r\n\r\n",
        "3\r\none\r\n11111111111111111\r\ntwo\r\n0\r\n\r\n",
        "3\r\nonetwo\r\n0\r\n\r\n",
        "3\r\none\r\n3;a\nb\r\ntwo\r\n0\r\n\r\n",
        "3\r\none\r\n\r\n0\r\n\r\n",
    ] {
        let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = send_raw(sidecar.proxy_address(), format!("{head}{body}{GOOD}")).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(!answer.contains(" 200 "), "{body:?}: {answer}");
        assert!(
            answer.matches("HTTP/1.1 ").count() <= 1,
            "{body:?}: {answer}"
        );
    }
    eventually(|| service.in_flight() == 0, SOON).await;
    for received in service.requests() {
        assert!(
            !received.complete && received.target == "/echo",
            "{received:?}"
        );
    }
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn a_broken_chunk_is_the_client_s_fault_and_not_the_upstream_s() {
    let (_service, sidecar) = pair();
    let request = "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\none\r\nx\r\n";
    let answer = send_raw(sidecar.proxy_address(), request).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    let status = field(&answer, "proxy-status").unwrap_or_default();
    assert!(status.contains("http_request_error"), "{answer}");
}
