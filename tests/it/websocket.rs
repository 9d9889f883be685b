//! WebSockets: agreed on by both sides, then bytes.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    Connection, RawServer, Settings, Sidecar, eventually, eventually_async, peer::field, send_raw,
};

const SOON: Duration = Duration::from_secs(10);
const OFFER: &str = "GET /ws?a=b HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer dummy\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// How long it is what clients say.
const WORDS: usize = 4;

/// An upstream that agrees and greets, then sends back what it gets, in capitals, and says goodbye
/// at the end of the client's half.
fn service() -> RawServer {
    RawServer::start(|_, stream| async move {
        let mut connection = Connection::from(stream);
        let Some(head) = connection.read_head().await else {
            return;
        };
        assert!(head.contains("GET /ws?a=b HTTP/1.1"), "{head}");
        assert_eq!(field(&head, "authorization"), Some("Bearer a-token"));
        assert_eq!(field(&head, "connection"), Some("Upgrade"));
        assert_eq!(field(&head, "upgrade"), Some("websocket"));
        connection.write(format!("{AGREED}hello")).await;
        // A client that goes away says nothing.
        if !connection.readable().await {
            return;
        }
        let words = connection.read_exact(WORDS).await;
        connection.write(words.to_ascii_uppercase()).await;
        if connection.read_to_end().await.is_empty() {
            connection.write("goodbye").await;
        }
    })
}

fn settings(service: &RawServer) -> Settings {
    Settings::to(&format!("http://{}", service.address()))
        .set("auth.type", "static-token")
        .set("auth.token", "a-token")
}

async fn open(sidecar: &Sidecar) -> Connection {
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(OFFER).await;
    let head = client.read_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert!(field(&head, "sec-websocket-accept").is_some());
    assert_eq!(client.read_exact(5).await, b"hello");
    client
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways_and_each_half_ends_by_itself() {
    let service = service();
    let sidecar = Sidecar::start(&settings(&service));
    let mut client = open(&sidecar).await;
    client.write("\0\u{1}hi").await;
    assert_eq!(client.read_exact(WORDS).await, b"\0\x01HI");
    client.finish().await;
    assert_eq!(client.read_to_end().await, b"goodbye");
    let (_, status) = sidecar.admin_get("/status").await;
    assert!(status.contains("\"in_flight\": 0"), "{status}");
}

/// Whatever it looks like: a part of it may have been judged as HTTP already.
#[tokio::test]
async fn what_is_sent_before_both_have_agreed_is_for_neither_protocol() {
    let service = service();
    let sidecar = Sidecar::start(&settings(&service));
    for early in [
        "x",
        "\r\n",
        "\u{1}\u{5}hello",
        "hello\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nbody",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ] {
        let answer = send_raw(sidecar.proxy_address(), format!("{OFFER}{early}")).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{early:?}: {answer}");
        assert_eq!(field(&answer, "connection"), Some("close"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_websocket_that_is_silent_for_too_long_ends() {
    let service = service();
    let settings = settings(&service).set("upstream.tunnel_idle_timeout", "300ms");
    let sidecar = Sidecar::start(&settings);
    let began = Instant::now();
    let mut client = open(&sidecar).await;
    client.read_to_end().await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_websocket_is_waited_for_when_the_sidecar_stops() {
    let service = service();
    let mut sidecar = Sidecar::start(&settings(&service));
    let mut client = open(&sidecar).await;
    sidecar.begin_stop();
    let stopping = async || sidecar.admin_get("/readyz").await.0 == 503;
    eventually_async(stopping, SOON).await;
    client.write("last").await;
    assert_eq!(client.read_exact(WORDS).await, b"LAST");
    drop(client);
    sidecar.ended().await.unwrap();
}

#[tokio::test]
async fn nothing_is_tunnelled_that_was_not_offered_or_not_agreed_to() {
    for (offer, answer, status) in [
        // The upstream switches by itself, or to something else.
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", AGREED, 502),
        (
            OFFER,
            "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            502,
        ),
        (OFFER, "HTTP/1.1 101 X\r\n\r\n", 502),
        // It declines.
        (OFFER, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403),
    ] {
        let service = RawServer::start(move |_, stream| async move {
            let mut connection = Connection::from(stream);
            if connection.read_head().await.is_some() {
                connection.write(answer).await;
            }
            connection.read_to_end().await;
        });
        let sidecar = Sidecar::start(&settings(&service));
        let mut client = Connection::to(sidecar.proxy_address()).await;
        client.write(offer).await;
        let (head, _) = client.read_message().await.unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{offer}: {head}"
        );
        drop(client);
        // The one that declined is kept for the next request.
        let kept = usize::from(status == 403);
        eventually(|| service.open_connections() == kept, SOON).await;
    }
}

#[tokio::test]
async fn bytes_before_the_switch_are_not_tunnelled() {
    let service = service();
    let sidecar = Sidecar::start(&settings(&service));
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(format!("{OFFER}\u{1}early\r\n")).await;
    let answer = client.read_to_end().await;
    assert!(!answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
}

#[tokio::test]
async fn an_upgrade_from_a_client_that_goes_away_frees_the_upstream() {
    let service = service();
    let sidecar = Sidecar::start(&settings(&service));
    let client = open(&sidecar).await;
    assert_eq!(service.open_connections(), 1);
    client.reset();
    eventually(|| service.open_connections() == 0, SOON).await;
}
