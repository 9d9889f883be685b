//! The end of the process: drains, exit codes.

use std::time::Duration;

use auth_sidecar::client_token::Hash;
use rustix::process::Signal;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::support::{
    Answer, Connection, FakeCsp, FakeService, Process, Settings, Sidecar, eventually,
    eventually_async, get, http2::Http2, peer::field, try_request,
};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn fifty_slow_requests_are_finished_after_sigterm() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let mut sidecar = Process::start(&Settings::new(&csp, &service)).await;
    let mut requests = JoinSet::new();
    for _ in 0..50 {
        let url = format!("{}/slow?ms=1500", sidecar.url());
        requests.spawn(async move { get(&url).await });
    }
    eventually(|| service.in_flight() == 50, SOON).await;
    let admin = format!("{}/readyz", sidecar.admin_url());
    sidecar.signal(Signal::TERM);
    let refuses = async || try_request("GET", &sidecar.url(), &[], "").await.is_err();
    eventually_async(refuses, SOON).await;
    assert_eq!(get(&admin).await.status, 503);
    for reply in requests.join_all().await {
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text(), r#"{"slow":true}"#);
    }
    let ended = Instant::now();
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(ended.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn whoever_waits_for_a_token_of_the_broker_at_the_end_gets_it() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let granted = Answer::grant(FakeCsp::token(1), 1800);
    csp.always(granted.after(Duration::from_secs(3)));
    let line = format!("nginx:{}\n", Hash::of(b"a-local-token"));
    let settings = Settings::new(&csp, &service)
        .set("broker.address", "127.0.0.1:0")
        .file("broker.client_tokens_file", &line);
    let mut sidecar = Sidecar::start(&settings);
    let url = format!("{}/auth", sidecar.broker_url());
    let request = tokio::spawn(async move {
        let token = [("x-auth-token", "a-local-token")];
        try_request("GET", &url, &token, "").await
    });
    let waits = "auth_sidecar_held_requests 1";
    let is_held = async || sidecar.admin_get("/metrics").await.1.contains(waits);
    eventually_async(is_held, SOON).await;
    sidecar.begin_stop();
    assert_eq!(request.await.unwrap().unwrap().status, 200);
    sidecar.ended().await.unwrap();
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("listen.drain_timeout", "500ms");
    let mut sidecar = Process::start(&settings).await;
    let url = format!("{}/slow?ms=15000", sidecar.url());
    let request = tokio::spawn(async move { try_request("GET", &url, &[], "").await });
    eventually(|| service.in_flight() == 1, SOON).await;
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(request.await.unwrap().is_err());
}

/// A sidecar that was asked to stop, and is within its drain delay.
async fn delaying(settings: &Settings) -> Process {
    let sidecar = Process::start(settings).await;
    eventually_async(async || sidecar.admin_get("/readyz").await.0 == 200, SOON).await;
    sidecar.signal(Signal::TERM);
    eventually_async(async || sidecar.admin_get("/readyz").await.0 == 503, SOON).await;
    sidecar
}

#[tokio::test]
async fn whoever_comes_within_the_drain_delay_is_served_until_an_order_ends_it() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service)
        .set("listen.drain_delay", "1h")
        .set("admin.allow_quit", true);
    let mut sidecar = delaying(&settings).await;
    // Tokens are renewed all the while, and a changed configuration is used.
    let calls = csp.call_count();
    csp.revoke_all();
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert!(csp.call_count() > calls);
    sidecar.reconfigure(&settings.clone().set("listen.preset", "read-only"));
    sidecar.signal(Signal::HUP);
    let url = format!("{}/api/v2/alert", sidecar.url());
    let is_read_only = async || {
        let reply = try_request("POST", &url, &[], "").await;
        reply.is_ok_and(|reply| reply.status == 403)
    };
    eventually_async(is_read_only, SOON).await;
    assert_eq!(get(&url).await.status, 200);
    let order = format!("{}/quitquitquit", sidecar.admin_url());
    let ordered = try_request("POST", &order, &[], "").await;
    assert_eq!(ordered.unwrap().status, 200);
    assert_eq!(sidecar.wait().await.code(), Some(0));
}

#[tokio::test]
async fn within_the_drain_delay_each_response_is_the_last_of_its_connection() {
    let service = FakeService::accepting_all();
    let settings = Settings::static_token("token", &service).set("listen.drain_delay", "1h");
    let sidecar = Process::start(&settings).await;
    let kept = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut before = Connection::to(sidecar.proxy_address()).await;
    before.write(kept).await;
    assert!(before.read_message().await.unwrap().0.contains(" 200 "));
    let (old, old_connection) = Http2::open(sidecar.proxy_address(), 1 << 20).await;
    assert_eq!(old.get("/x").await.status, 200);
    sidecar.signal(Signal::TERM);
    // The one that had a request is sent away, without another one.
    let ended = timeout(SOON, old_connection).await;
    assert!(
        ended.is_ok(),
        "a connection with HTTP/2 that was there before"
    );
    for mut connection in [before, Connection::to(sidecar.proxy_address()).await] {
        connection.write(kept).await;
        let (head, _) = connection.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(field(&head, "connection"), Some("close"), "{head}");
        assert!(connection.read_to_end().await.is_empty());
    }
    let (new, new_connection) = Http2::open(sidecar.proxy_address(), 1 << 20).await;
    assert_eq!(new.get("/x").await.status, 200);
    assert!(
        timeout(SOON, new_connection).await.is_ok(),
        "one that came later"
    );
    sidecar.signal(Signal::TERM);
}

#[tokio::test]
async fn after_the_drain_delay_the_sidecar_drains() {
    const DELAY: Duration = Duration::from_secs(1);
    let service = FakeService::accepting_all();
    let settings = Settings::static_token("token", &service).set("listen.drain_delay", "1s");
    let mut sidecar = Process::start(&settings).await;
    eventually_async(async || sidecar.admin_get("/readyz").await.0 == 200, SOON).await;
    let asked = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(asked.elapsed() >= DELAY);
}

#[tokio::test]
async fn a_second_signal_or_the_lack_of_a_token_leaves_no_drain_delay() {
    let mut csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("listen.drain_delay", "1h");
    let mut sidecar = delaying(&settings).await;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(1));
    csp.stop();
    let mut sidecar = Process::start(&settings).await;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let mut sidecar = Process::start(&Settings::new(&csp, &service)).await;
    let url = format!("{}/slow?ms=15000", sidecar.url());
    let request = tokio::spawn(async move { try_request("GET", &url, &[], "").await });
    eventually(|| service.in_flight() == 1, SOON).await;
    sidecar.signal(Signal::TERM);
    eventually(|| sidecar.output().contains("stopping"), SOON).await;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(1));
    assert!(request.await.unwrap().is_err());
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let mut sidecar = Process::start(&Settings::new(&csp, &service)).await;
    let mut client = crate::support::Client::connect(&sidecar.url()).await;
    assert_eq!(client.request("GET", "/x", &[], "").await.status, 200);
    let asked = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_connection_without_its_first_request_does_not_delay_the_end() {
    let service = FakeService::accepting_all();
    let mut sidecar = Process::start(&Settings::static_token("token", &service)).await;
    let mut silent = Connection::to(sidecar.proxy_address()).await;
    // The second is accepted after the first.
    let mut client = crate::support::Client::connect(&sidecar.url()).await;
    assert_eq!(client.request("GET", "/x", &[], "").await.status, 200);
    let asked = Instant::now();
    sidecar.signal(Signal::TERM);
    assert!(silent.read_to_end().await.is_empty());
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_failure_that_names_the_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let arguments = ["--listen", &address, "--upstream", "http://127.0.0.1:1"];
    let environment = [("WAVEFRONT_TOKEN", "a-token")];
    let mut sidecar = Process::spawn(&arguments, &environment);
    assert_eq!(sidecar.wait().await.code(), Some(1));
    assert!(
        sidecar.stderr().contains("listen.address"),
        "{}",
        sidecar.stderr()
    );
}
