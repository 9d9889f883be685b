//! Who ends its sending half is still there to read.

use std::time::Duration;

use tokio::time::Instant;

use super::TOKEN;
use crate::support::{Connection, FakeService, Settings, Sidecar, eventually, service::pattern};

const SOON: Duration = Duration::from_secs(10);

fn pair() -> (FakeService, Sidecar) {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    (service, sidecar)
}

/// Sends this and ends the sending half at once; what comes until the other side ends.
async fn send_and_finish(sidecar: &Sidecar, request: &str) -> (String, Vec<u8>) {
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(request).await;
    client.finish().await;
    let message = client.read_message().await;
    let message = message.unwrap_or_else(|| panic!("no answer to {request:?}"));
    assert!(client.closes_within(SOON).await, "{request:?}");
    message
}

#[tokio::test]
async fn a_get_is_answered_whole_however_long_it_takes() {
    let (service, sidecar) = pair();
    for _ in 0..20 {
        let request = "GET /bytes/300000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let (head, body) = send_and_finish(&sidecar, request).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(body == pattern(300_000));
    }
    let asked = Instant::now();
    let request = "GET /slow?ms=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (head, body) = send_and_finish(&sidecar, request).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, br#"{"slow":true}"#);
    assert!(asked.elapsed() >= Duration::from_millis(950));
    let request = "GET /stream?chunks=3&ms=400 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (_, body) = send_and_finish(&sidecar, request).await;
    assert_eq!(body, b"chunk 0\nchunk 1\nchunk 2\n");
    assert_eq!(service.request_count(), 22);
}

#[tokio::test]
async fn a_post_is_answered_whole_however_long_it_takes() {
    let (service, sidecar) = pair();
    let long = "ab".repeat(100_000);
    for target in ["/echo", "/slow?ms=1000"] {
        for (fields, body) in [
            ("Content-Length: 5", "hello".to_owned()),
            (
                "Transfer-Encoding: chunked",
                "5\r\nhello\r\n0\r\n\r\n".to_owned(),
            ),
            ("Content-Length: 200000", long.clone()),
        ] {
            let request =
                format!("POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}");
            let (head, answer) = send_and_finish(&sidecar, &request).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let received = service.requests().pop().unwrap();
            assert!(received.complete, "{target} {fields}");
            assert!([&b"hello"[..], long.as_bytes()].contains(&&received.body[..]));
            if target == "/echo" {
                assert!(answer == received.body, "{fields}");
            } else {
                assert_eq!(answer, br#"{"slow":true}"#);
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_cut_is_never_completed_at_the_upstream() {
    let (service, sidecar) = pair();
    for (fields, body) in [
        ("Content-Length: 10", "hello"),
        ("Content-Length: 10", ""),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhel"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n"),
    ] {
        for method in ["POST", "PUT"] {
            let request =
                format!("{method} /echo HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}");
            let mut client = Connection::to(sidecar.proxy_address()).await;
            client.write(&request).await;
            client.finish().await;
            let answer = client.read_to_end().await;
            let is_refusal = answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 ");
            assert!(is_refusal, "{request:?}: {}", answer.escape_ascii());
            eventually(|| service.in_flight() == 0, SOON).await;
        }
    }
    let received = service.requests();
    assert!(received.iter().all(|one| !one.complete), "{received:?}");
}
