//! Answers that stop in the middle: `upstream.body_idle_timeout`.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{before, in_front_of, upstream};
use crate::support::{
    Connection, FakeService, RawServer, Settings, Sidecar, eventually, get, http2::Http2,
    within_deadline,
};

const KEY: &str = "upstream.body_idle_timeout";
const SOON: Duration = Duration::from_secs(5);
const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// An upstream that says this and then nothing more.
fn stalling(said: &'static str) -> RawServer {
    upstream(move |mut connection| async move {
        connection.read_head().await.unwrap();
        connection.write(said).await;
        connection.read_to_end().await;
    })
}

/// Whether the answer took about as long as it may stall.
fn assert_cut_in_time(asked: Instant) {
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_off_and_not_passed_off_as_whole() {
    for said in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhalf",
        "HTTP/1.1 200 OK\r\n\r\nhalf",
    ] {
        let server = stalling(said);
        let sidecar = Sidecar::start(&before(&server).set(KEY, "1s"));
        let asked = Instant::now();
        let mut client = Connection::to(sidecar.proxy_address()).await;
        client.write(GET).await;
        let answer = String::from_utf8(client.read_to_end().await).unwrap();
        assert_cut_in_time(asked);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{said:?}: {answer}");
        // Not whole by its length, or by the last chunk that is not there.
        let is_whole = answer.ends_with("0\r\n\r\n");
        let has_length = answer.contains("100\r\n");
        let is_chunked = answer
            .to_ascii_lowercase()
            .contains("\r\ntransfer-encoding: chunked\r\n");
        assert!(
            !is_whole && (has_length || is_chunked),
            "{said:?}: {answer}"
        );
        eventually(|| server.open_connections() == 0, SOON).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_slow_but_goes_on_is_not_cut_off() {
    let service = FakeService::accepting_all();
    let settings = Settings::static_token("a-token", &service).set(KEY, "1s");
    let sidecar = Sidecar::start(&settings);
    let reply = get(&format!("{}/stream?chunks=5&ms=500", sidecar.url())).await;
    assert!(reply.text().ends_with("chunk 4\n"), "{}", reply.text());
    // The head has a bound of its own.
    let reply = get(&format!("{}/slow?ms=2000", sidecar.url())).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn the_head_is_bound_by_its_own_time_and_the_body_by_its_own() {
    let server = stalling("");
    let settings = before(&server)
        .set(KEY, "60s")
        .set("upstream.response_timeout", "1s");
    let sidecar = Sidecar::start(&settings);
    let asked = Instant::now();
    assert_eq!(get(&sidecar.url()).await.status, 504);
    assert_cut_in_time(asked);
}

/// Where the client is what everybody waits for, the upstream does not stall.
#[tokio::test]
async fn a_client_that_pauses_is_no_stall_of_the_upstream() {
    let service = FakeService::accepting_all();
    let settings = Settings::static_token("a-token", &service).set(KEY, "1s");
    let sidecar = Sidecar::start(&settings);
    let length = 32 << 20;
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let request = format!("GET /bytes/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.write(request).await;
    client.read_head().await.unwrap();
    sleep(Duration::from_millis(2500)).await;
    let mut left = length;
    while left > 0 {
        left -= client.read_exact(left.min(1 << 20)).await.len();
    }
}

#[tokio::test]
async fn of_a_connection_with_http2_only_the_stream_that_stalls_is_reset() {
    let server = upstream(move |mut connection| async move {
        while let Some(head) = connection.read_head().await {
            if head.starts_with("GET /stalls ") {
                let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
                connection.write(half).await;
                connection.read_to_end().await;
                return;
            }
            connection.write(super::OK).await;
        }
    });
    let sidecar = Sidecar::start(&before(&server).set(KEY, "1s"));
    let client = Http2::to(sidecar.proxy_address()).await;
    let asked = Instant::now();
    let answer = client.try_request("GET", "/stalls", &[], "").await;
    assert!(answer.is_err(), "{answer:?}");
    assert_cut_in_time(asked);
    assert_eq!(client.get("/x").await.text(), "ok");
}

#[tokio::test]
async fn an_answer_to_http_1_0_that_breaks_off_ends_in_a_reset() {
    let server = upstream(|mut service| async move {
        if service.read_head().await.is_some() {
            let part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
            service.write(part).await;
            service.reset();
        }
    });
    let sidecar = in_front_of(&server);
    let mut client = TcpStream::connect(sidecar.proxy_address()).await.unwrap();
    let request = b"GET /x HTTP/1.0\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut response = Vec::new();
    let ended = within_deadline(client.read_to_end(&mut response)).await;
    // Without a framing nothing else says so; or it had not even begun.
    let is_own = response.starts_with(b"HTTP/1.0 502 ");
    assert!(
        ended.unwrap().is_err() || is_own,
        "{}",
        response.escape_ascii()
    );
}
