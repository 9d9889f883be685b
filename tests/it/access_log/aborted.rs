//! What the sidecar itself breaks off is neither booked as a client that left, nor as a failure of the
//! service.

use http_body_util::BodyExt as _;
use rustix::process::getuid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::support::Body;

const TOKEN: &str = "the-token";
const GRAFANA: &str = "local-token-of-grafana";

fn get_of(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX-AUTH-TOKEN: {GRAFANA}\r\n\r\n")
}

/// What a line has of who broke off.
fn ended(line: &Value) -> (&str, &str) {
    let field = |name| line[name].as_str().unwrap_or_else(|| panic!("{line}"));
    (field("error.type"), field("level"))
}

#[tokio::test]
async fn what_the_drain_breaks_off_is_no_client_that_left() {
    let log = Log::new();
    let service = FakeService::accepting([TOKEN]);
    let settings = log
        .of(Settings::static_token(TOKEN, &service), "errors")
        .set("listen.drain_timeout", "300ms");
    let mut process = Process::start(&settings).await;
    let at = process.proxy_address();
    let mut waiting = Connection::to(at).await;
    waiting.write(get_of("/slow?ms=60000")).await;
    let mut streaming = Connection::to(at).await;
    streaming.write(get_of("/stream?ms=20")).await;
    assert!(streaming.read_head().await.unwrap().contains(" 200 "));
    let shared = Http2::to(at).await;
    let other = http::Request::get("/stream?ms=20").body(Body::empty());
    let mut other = shared.send(other.unwrap()).await.unwrap().into_body();
    eventually(|| service.in_flight() == 3, SOON).await;
    process.signal(Signal::TERM);
    while let Some(Ok(_)) = other.frame().await {}
    assert_eq!(process.wait().await.code(), Some(0));
    let lines = log.wait(3).await;
    for line in &lines {
        assert_eq!(ended(line), ("drain_timeout", "WARN"), "{line}");
    }
    let statuses = lines
        .iter()
        .filter_map(|line| line["http.response.status_code"].as_u64());
    assert_eq!(statuses.collect::<Vec<_>>(), [200, 200]);
}

#[tokio::test]
async fn a_websocket_that_the_drain_breaks_off_has_the_bytes_that_it_carried() {
    let log = Log::new();
    let (_service, settings) = websockets();
    let settings = settings.set("listen.drain_timeout", "300ms");
    let mut process = Process::start(&log.of(settings, "errors")).await;
    let _client = carried(process.proxy_address()).await;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await.code(), Some(0));
    let line = log.wait(1).await.remove(0);
    assert_eq!(ended(&line), ("drain_timeout", "WARN"), "{line}");
    let sizes = ["http.request.body.size", "http.response.body.size"];
    assert_eq!(sizes.map(|name| line[name].as_u64()), [Some(10), Some(5)]);
}

#[tokio::test]
async fn what_a_revoked_client_had_open_says_so() {
    let log = Log::new();
    let service = FakeService::accepting([TOKEN]);
    let line = |name: &str, token: &str| format!("{name}:{}\n", Hash::of(token.as_bytes()));
    let both = line("grafana", GRAFANA) + &line("telegraf", "another");
    let settings = Settings::static_token(TOKEN, &service).file("listen.client_tokens_file", &both);
    let sidecar = Sidecar::start(&log.of(settings, "errors"));
    let at = sidecar.proxy_address();
    let mut waiting = Connection::to(at).await;
    waiting.write(get_of("/slow?ms=60000")).await;
    let shared = Http2::to(at).await;
    let stream = http::Request::get("/stream?ms=20").header("x-auth-token", GRAFANA);
    let stream = shared.send(stream.body(Body::empty()).unwrap()).await;
    eventually(|| service.in_flight() == 2, SOON).await;
    sidecar.rewrite("listen.client_tokens_file", &line("telegraf", "another"));
    for line in log.wait(2).await {
        assert_eq!(ended(&line), ("revoked", "WARN"), "{line}");
        assert_eq!(line["client.name"], "grafana");
    }
    drop(stream);
    let reply = get(&format!("{}/metrics", sidecar.admin_url())).await;
    let metrics = reply.text();
    let has = |sample: &str| metrics.lines().any(|line| line == sample);
    assert!(
        has(r#"auth_sidecar_requests_aborted_total{reason="revoked"} 2"#),
        "{metrics}"
    );
    assert!(has(
        r#"auth_sidecar_client_disconnects_total{phase="before_response"} 0"#
    ));
    assert!(has(
        r#"auth_sidecar_client_disconnects_total{phase="in_response"} 0"#
    ));
}

#[tokio::test]
async fn a_request_to_the_broker_that_the_drain_breaks_off_says_so_too() {
    let log = Log::new();
    let service = FakeService::accepting([TOKEN]);
    let socket = log.directory.path().join("broker.sock");
    let own = getuid().as_raw().to_string();
    let settings = log
        .of(Settings::static_token(TOKEN, &service), "errors")
        .set("broker.address", format!("unix:{}", socket.display()))
        .set("broker.allow_users", [own.as_str()].as_slice())
        .set("listen.drain_timeout", "300ms");
    let mut process = Process::start(&settings).await;
    eventually(|| socket.exists(), SOON).await;
    let mut client = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    // It is being handled.
    let mut informed = [0; 12];
    client.read_exact(&mut informed).await.unwrap();
    assert_eq!(&informed, b"HTTP/1.1 100");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await.code(), Some(0));
    let line = log.wait(1).await.remove(0);
    assert_eq!(ended(&line), ("drain_timeout", "WARN"), "{line}");
    assert_eq!(line["url.path"], "/oauth2/token");
}
