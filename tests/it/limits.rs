//! Bounds of number and time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use hyper::body::Frame;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{
    Body, Client, Connection, FakeCsp, FakeService, Process, Settings, Sidecar, eventually,
    eventually_async, get, next_data, peer::field, request, send_raw, try_request,
};

const TOKEN: &str = "a-static-token";
const SOON: Duration = Duration::from_secs(10);
const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn pair(key: &str, value: impl Into<serde_json::Value>) -> (FakeService, Sidecar) {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service).set(key, value);
    let sidecar = Sidecar::start(&settings);
    (service, sidecar)
}

/// A number that `/status` tells.
async fn status(sidecar: &Sidecar, pointer: &str) -> u64 {
    let (_, status) = sidecar.admin_get("/status").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status.pointer(pointer).unwrap().as_u64().unwrap()
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_closed() {
    let (service, sidecar) = pair("listen.max_connections", 2);
    let mut first = Connection::to(sidecar.proxy_address()).await;
    let mut second = Connection::to(sidecar.proxy_address()).await;
    for client in [&mut first, &mut second] {
        client.write(GET).await;
        client.read_message().await.unwrap();
    }
    for _ in 0..3 {
        let mut third = Connection::to(sidecar.proxy_address()).await;
        third.write(GET).await;
        let (head, body) = third.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert_eq!(field(&head, "retry-after"), Some("1"));
        assert_eq!(field(&head, "connection"), Some("close"));
        let proxy_status = field(&head, "proxy-status").unwrap();
        assert!(proxy_status.contains("too_many_connections"), "{head}");
        assert_eq!(
            field(&head, "content-type"),
            Some("application/problem+json")
        );
        serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        assert!(third.closes_within(SOON).await);
    }
    assert_eq!(service.request_count(), 2);
    // The others do not notice, and a place that is free again is taken again.
    first.write(GET).await;
    assert!(first.read_message().await.unwrap().0.contains(" 200 "));
    drop(second);
    let url = format!("{}/x", sidecar.url());
    // The refusal can come before the request, which is an error to this client.
    let is_served = async || {
        let reply = try_request("GET", &url, &[], "").await;
        reply.is_ok_and(|reply| reply.status == 200)
    };
    eventually_async(is_served, SOON).await;
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let counted = r#"auth_sidecar_rejected_total{reason="too_many_connections"}"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_request_too_many_is_told_so() {
    let (service, sidecar) = pair("listen.max_in_flight", 2);
    let mut slow = JoinSet::new();
    for _ in 0..2 {
        let url = format!("{}/slow?ms=1000", sidecar.url());
        slow.spawn(async move { get(&url).await.status });
    }
    eventually(|| service.in_flight() == 2, SOON).await;
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(
        reply
            .header("proxy-status")
            .unwrap()
            .contains("too_many_requests")
    );
    assert_eq!(service.request_count(), 2);
    for status in slow.join_all().await {
        assert_eq!(status, 200);
    }
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    eventually_async(
        async || status(&sidecar, "/requests/in_flight").await == 0,
        SOON,
    )
    .await;
}

#[tokio::test]
async fn a_head_has_its_time_from_its_first_byte_to_its_last() {
    let (service, sidecar) = pair("listen.header_read_timeout", "400ms");
    for dripping in [false, true] {
        for before in ["", GET] {
            let mut client = Connection::to(sidecar.proxy_address()).await;
            if !before.is_empty() {
                client.write(before).await;
                client.read_message().await.unwrap();
            }
            let began = Instant::now();
            client.write("GET /x HTTP/1.1\r\nHost: local").await;
            for _ in 0..4 {
                sleep(Duration::from_millis(50)).await;
                if dripping {
                    client.write("h").await;
                }
            }
            let (head, _) = client.read_message().await.unwrap();
            assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
            assert!(field(&head, "proxy-status").is_some(), "{head}");
            assert_eq!(field(&head, "connection"), Some("close"));
            assert!(client.closes_within(SOON).await);
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(350), "{took:?}");
            assert!(took < Duration::from_secs(3), "{took:?}");
        }
    }
    // Slow, but in time.
    let mut client = Connection::to(sidecar.proxy_address()).await;
    for piece in ["GET /x HT", "TP/1.1\r\nHost: localhost\r", "\n\r\n"] {
        client.write(piece).await;
        sleep(Duration::from_millis(50)).await;
    }
    assert!(client.read_message().await.unwrap().0.contains(" 200 "));
    assert_eq!(service.request_count(), 3);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_in_silence() {
    let (_service, sidecar) = pair("listen.keep_alive_timeout", "400ms");
    for before in ["", GET] {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        if !before.is_empty() {
            client.write(before).await;
            client.read_message().await.unwrap();
        }
        let began = Instant::now();
        assert_eq!(client.read_to_end().await, b"");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(350), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    // It counts the time without a request, and not that of a request.
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..2 {
        let reply = client.request("GET", "/slow?ms=900", &[], "").await;
        assert_eq!(reply.status, 200);
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (service, sidecar) = pair("listen.max_header_size", "8KiB");
    let with = |length: usize| {
        let long = "x".repeat(length);
        format!("GET /x HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n")
    };
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(with(7000)).await;
    assert!(client.read_message().await.unwrap().0.contains(" 200 "));
    client.write(with(9000)).await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{answer:?}");
    let many = "x: y\r\n".repeat(200);
    let many = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    let answer = send_raw(sidecar.proxy_address(), many).await;
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{answer:?}");
    let answer = String::from_utf8(answer).unwrap();
    assert!(field(&answer, "proxy-status").is_some(), "{answer}");
    let target = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(9000)
    );
    let answer = send_raw(sidecar.proxy_address(), target).await;
    assert!(answer.starts_with(b"HTTP/1.1 414 "), "{answer:?}");
    assert_eq!(service.request_count(), 1);
}

/// Runs a request that is fine beside a client that misbehaves, and checks that it stays so.
async fn neighbour(sidecar: &Sidecar) -> Client {
    let mut client = Client::connect(&sidecar.url()).await;
    assert_eq!(client.request("GET", "/x", &[], "").await.status, 200);
    client
}

#[tokio::test]
async fn a_client_that_stops_sending_is_cut_off_and_the_upstream_freed() {
    let (service, sidecar) = pair("listen.body_idle_timeout", "500ms");
    let mut fine = neighbour(&sidecar).await;
    for head in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let began = Instant::now();
        let mut client = Connection::to(sidecar.proxy_address()).await;
        let request = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\n{head}\r\n3\r\none\r\n");
        client.write(request).await;
        eventually(|| service.in_flight() == 1, SOON).await;
        let answer = client.read_to_end().await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(450), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        eventually(|| service.in_flight() == 0, SOON).await;
        assert!(!service.requests().pop().unwrap().complete);
        assert_eq!(
            fine.request("GET", "/status/200", &[], "").await.status,
            200
        );
    }
    eventually_async(
        async || status(&sidecar, "/requests/in_flight").await == 0,
        SOON,
    )
    .await;
}

#[tokio::test]
async fn a_client_that_was_cut_off_while_it_sent_is_told_why() {
    let (_service, sidecar) = pair("listen.body_idle_timeout", "300ms");
    let request = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx";
    let answer = send_raw(sidecar.proxy_address(), request).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_has_begun_does_not_excuse_a_client_that_stops_sending() {
    let (service, sidecar) = pair("listen.body_idle_timeout", "500ms");
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let request = "POST /duplex HTTP/1.1\r\nHost: localhost\r\n\
        Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
    client.write(request).await;
    let head = client.read_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(client.read_exact(8).await, b"3\r\none\r\n");
    eventually(|| service.in_flight() == 0, Duration::from_secs(3)).await;
    assert!(!service.requests()[0].complete);
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn a_client_that_sends_slowly_is_not_cut_off() {
    let (service, sidecar) = pair("listen.body_idle_timeout", "500ms");
    let (frames, body) = Body::channel();
    let url = format!("{}/echo", sidecar.url());
    let posting = tokio::spawn(async move { request("POST", &url, &[], body).await });
    for _ in 0..6 {
        frames
            .send(Ok(Frame::data(Bytes::from("part "))))
            .await
            .unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    drop(frames);
    assert_eq!(posting.await.unwrap().text(), "part ".repeat(6));
    assert!(service.requests()[0].complete);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off_and_the_upstream_freed() {
    let (service, sidecar) = pair("listen.body_idle_timeout", "500ms");
    let mut fine = neighbour(&sidecar).await;
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write("GET /bytes/67108864 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    eventually(|| service.request_count() == 2, SOON).await;
    assert_eq!(status(&sidecar, "/requests/in_flight").await, 1);
    let freed = async || status(&sidecar, "/requests/in_flight").await == 0;
    eventually_async(freed, SOON).await;
    // The neighbour's; the other was closed.
    eventually(|| service.open_connections() <= 1, SOON).await;
    assert_eq!(fine.request("GET", "/x", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_cut_off() {
    let (_service, sidecar) = pair("listen.body_idle_timeout", "500ms");
    let length = 8 << 20;
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let request = format!("GET /bytes/{length} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.write(request).await;
    client.read_head().await.unwrap();
    let mut read = 0;
    while read < length {
        let piece = (length - read).min(1 << 20);
        read += client.read_exact(piece).await.len();
        sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn the_silence_of_a_stream_is_not_the_client_s_fault() {
    let (_service, sidecar) = pair("listen.body_idle_timeout", "300ms");
    let reply = get(&format!("{}/stream?chunks=3&ms=800", sidecar.url())).await;
    assert_eq!(reply.text(), "chunk 0\nchunk 1\nchunk 2\n");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_upstream_at_once() {
    let (service, sidecar) = pair("listen.body_idle_timeout", "60s");
    let mut fine = neighbour(&sidecar).await;
    let watching = Request::get("/stream?ms=20").body(Body::empty()).unwrap();
    let mut stream = fine.send(watching).await.unwrap();
    let host = "HTTP/1.1\r\nHost: localhost\r\n";
    for (request, by_reset) in [
        (format!("GET /stream?ms=20 {host}\r\n"), false),
        (format!("GET /stream?ms=20 {host}\r\n"), true),
        (format!("GET /slow?ms=15000 {host}\r\n"), false),
        (format!("GET /slow?ms=15000 {host}\r\n"), true),
        (
            format!("POST /echo {host}Content-Length: 1000\r\n\r\npart"),
            false,
        ),
        (
            format!("POST /echo {host}Content-Length: 1000\r\n\r\npart"),
            true,
        ),
        (
            format!("POST /echo {host}Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
            false,
        ),
        (
            format!("POST /duplex {host}Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
            false,
        ),
    ] {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        client.write(&request).await;
        eventually(|| service.in_flight() == 2, SOON).await;
        sleep(Duration::from_millis(50)).await;
        if by_reset {
            client.reset();
        } else {
            drop(client);
        }
        eventually(|| service.in_flight() == 1, Duration::from_secs(2)).await;
        next_data(stream.body_mut()).await.unwrap();
    }
    let uploads = service.requests();
    let broken = uploads.iter().filter(|received| received.method == "POST");
    assert!(broken.clone().count() == 4 && broken.clone().all(|received| !received.complete));
    drop((stream, fine));
    eventually_async(async || status(&sidecar, "/connections").await == 0, SOON).await;
    assert_eq!(status(&sidecar, "/requests/in_flight").await, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_for_a_token_leaves_nothing_behind() {
    let csp = FakeCsp::start();
    csp.always(crate::support::Answer::Hang);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    let held = async || {
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        let held = metrics
            .lines()
            .find_map(|line| line.strip_prefix("auth_sidecar_held_requests "));
        held.unwrap().parse::<f64>().unwrap() > 0.5
    };
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(GET).await;
    eventually_async(held, SOON).await;
    drop(client);
    eventually_async(async || !held().await, Duration::from_secs(2)).await;
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn ten_idle_connections_do_not_hold_up_a_request() {
    let (_service, sidecar) = pair("listen.workers", 1);
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        client.write("GET /x HTTP/1.1\r\nHo").await;
        idle.push(client);
    }
    let url = format!("{}/x", sidecar.url());
    let reply = timeout(Duration::from_secs(5), get(&url)).await.unwrap();
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn an_upload_may_outlast_its_answer_and_is_not_told_that_it_is_too_slow() {
    let service = FakeService::accepting_all();
    let settings = Settings::static_token("a-token", &service)
        .set("listen.header_read_timeout", "300ms")
        .set("listen.body_idle_timeout", "5s");
    let sidecar = Sidecar::start(&settings);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let head = "POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n";
    client.write(head).await;
    let (head, _) = client.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for _ in 0..10 {
        client.write("part").await;
        sleep(Duration::from_millis(100)).await;
    }
    client.finish().await;
    let rest = client.read_to_end().await;
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn connections_that_are_being_made_leave_the_last_descriptors_to_token_calls_and_operators() {
    let csp = FakeCsp::start();
    let hole = BlackHole::new();
    let settings = Settings::new(&csp, &FakeService::accepting_all())
        .set("upstream.url", format!("http://{}", hole.address))
        .set("upstream.connect_timeout", "60s");
    let sidecar = Process::start_through(&settings, &[], |_| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 96 && exec \"$0\" \"$@\""]);
        command.arg(env!("CARGO_BIN_EXE_auth-sidecar"));
        command
    })
    .await;
    let ready = async || sidecar.admin_get("/readyz").await.0 == 200;
    eventually_async(ready, SOON).await;
    assert_eq!(csp.call_count(), 1);
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Connection::to(sidecar.proxy_address()).await);
    }
    let mut is_refused = false;
    for client in &mut clients {
        client.write(GET).await;
        match timeout(Duration::from_millis(300), client.read_head()).await {
            Ok(head) => {
                assert!(head.is_none_or(|head| head.starts_with("HTTP/1.1 503 ")));
                is_refused = true;
            }
            // The connection that this one waits for is in the place of one that was refused.
            Err(_) if is_refused => break,
            Err(_) => {}
        }
    }
    assert!(is_refused, "nobody was refused");
    sidecar.signal(Signal::HUP);
    eventually(|| csp.call_count() == 2, SOON).await;
    eventually(
        || sidecar.output().matches("got a token").count() == 2,
        SOON,
    )
    .await;
    drop(clients);
}

/// A socket that takes no connection: its queue is full, and nobody accepts.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<Socket>,
}

impl BlackHole {
    fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = socket();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        let mut is_full = false;
        while !is_full {
            assert!(queued.len() < 16, "the queue takes everything");
            let socket = socket();
            let connected = socket.connect_timeout(&address.into(), Duration::from_millis(200));
            is_full = connected.is_err();
            queued.push(socket);
        }
        Self {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}
