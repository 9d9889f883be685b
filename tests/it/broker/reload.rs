//! The broker while the configuration, or the list of its clients, changes.

use std::{path::Path, time::Duration};

use auth_sidecar::client_token::Hash;
use rustix::process::{Signal, getuid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{API_TOKEN, TELEGRAF, TOKEN, ask, list, over, place, settings};
use crate::support::{
    Answer, DEADLINE, FakeCsp, FakeService, Process, Settings, Sidecar, eventually,
    eventually_async,
};

#[tokio::test]
async fn a_reload_moves_the_broker_and_changes_whom_it_serves() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, first) = place();
    let second = directory.path().join("second.sock");
    let base = Settings::new(&csp, &service);
    let own = getuid().as_raw().to_string();
    let at = |path: &Path| format!("unix:{}", path.display());
    let settings = base
        .clone()
        .set("broker.address", at(&first))
        .set("broker.allow_users", [own.as_str()].as_slice());
    let mut process = Process::start(&settings).await;
    eventually(|| first.exists(), DEADLINE).await;
    assert!(over(&first, "GET /auth", "").starts_with("HTTP/1.1 200 "));
    let moved = settings
        .set("broker.address", at(&second))
        .file("broker.client_tokens_file", &list());
    process.reconfigure(&moved);
    process.signal(Signal::HUP);
    eventually(|| second.exists() && !first.exists(), DEADLINE).await;
    assert!(over(&second, "GET /auth", "").starts_with("HTTP/1.1 403 "));
    process.reconfigure(&base);
    process.signal(Signal::HUP);
    eventually(|| !second.exists(), DEADLINE).await;
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_changed_list_of_clients_counts_at_once() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    assert_eq!(ask(&sidecar, TOKEN).await.status, 200);
    let only = format!("telegraf:{}\n", Hash::of(TELEGRAF.as_bytes()));
    sidecar.rewrite("broker.client_tokens_file", &only);
    let is_out = async || ask(&sidecar, TOKEN).await.status == 401;
    eventually_async(is_out, Duration::from_secs(3)).await;
    assert_eq!(ask(&sidecar, API_TOKEN).await.status, 200);
}

#[tokio::test]
async fn a_request_that_was_begun_gets_no_token_once_there_is_no_broker() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let base = Settings::new(&csp, &service);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let settings = base
        .clone()
        .set("broker.address", address.to_string())
        .file("broker.client_tokens_file", &list());
    let process = Process::start(&settings).await;
    let connected = async || tokio::net::TcpStream::connect(address).await.is_ok();
    eventually_async(connected, DEADLINE).await;
    let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET /auth HTTP/1.1\r\nHost: localhost\r\n")
        .await
        .unwrap();
    process.reconfigure(&base);
    process.signal(Signal::HUP);
    let changed = || process.output().contains("the new configuration is in use");
    eventually(changed, DEADLINE).await;
    // It may be closed by now.
    drop(half.write_all(b"\r\n").await);
    let mut said = Vec::new();
    drop(half.read_to_end(&mut said).await);
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 403 "),
        "{said}"
    );
}

#[tokio::test]
async fn what_a_broker_has_open_when_it_is_given_up_ends_with_its_drain_time() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let base = Settings::new(&csp, &service);
    let (_directory, socket) = place();
    let own = getuid().as_raw().to_string();
    let settings = base
        .clone()
        .set("broker.address", format!("unix:{}", socket.display()))
        .set("broker.allow_users", [own.as_str()].as_slice());
    let process = Process::start(&settings).await;
    eventually(|| socket.exists(), DEADLINE).await;
    let mut waiting = tokio::net::UnixStream::connect(&socket).await.unwrap();
    // The broker waits for this body for ten seconds.
    let head = "POST /oauth2/token HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n";
    waiting.write_all(head.as_bytes()).await.unwrap();
    process.reconfigure(&base);
    process.signal(Signal::HUP);
    let changed = || process.output().contains("the new configuration is in use");
    eventually(changed, DEADLINE).await;
    let mut said = Vec::new();
    let end = timeout(Duration::from_secs(5), waiting.read_to_end(&mut said)).await;
    assert!(end.is_ok(), "the connection is still open");
    let said = String::from_utf8_lossy(&said);
    assert_eq!(said, "", "it was ended, not responded to");
}

#[tokio::test]
async fn all_addresses_of_the_broker_begin_their_end_at_once() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let granted = Answer::grant(FakeCsp::token(1), 1800);
    csp.always(granted.after(Duration::from_secs(6)));
    let (_directory, first) = place();
    let (_other, second) = place();
    let own = getuid().as_raw().to_string();
    let addresses = [&first, &second].map(|path| format!("unix:{}", path.display()));
    let settings = Settings::new(&csp, &service)
        .set(
            "broker.address",
            addresses.each_ref().map(String::as_str).as_slice(),
        )
        .set("broker.allow_users", [own.as_str()].as_slice());
    let process = Process::start(&settings).await;
    eventually(|| second.exists(), DEADLINE).await;
    let mut waiting = tokio::net::UnixStream::connect(&first).await.unwrap();
    let head = "GET /auth HTTP/1.1\r\nHost: localhost\r\n\r\n";
    waiting.write_all(head.as_bytes()).await.unwrap();
    let is_held = async || {
        let (_, metrics) = process.admin_get("/metrics").await;
        metrics.contains("auth_sidecar_held_requests 1")
    };
    eventually_async(is_held, DEADLINE).await;
    process.signal(Signal::TERM);
    // Well before the one that waits at the first has its token.
    let is_closed = || std::os::unix::net::UnixStream::connect(&second).is_err();
    eventually(is_closed, Duration::from_secs(3)).await;
    let mut response = [0; 12];
    waiting.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 200");
}
