//! What is particular about an upstream with HTTP/2.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Response, Version};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::JoinSet,
};

use super::TOKEN;
use crate::support::{
    Body, Connection, DEADLINE, FakeService, RawServer, Settings, Sidecar, Validator, eventually,
    get, http2::Http2, request, server::Tls,
};

fn speaking(service: &FakeService, version: &str) -> Sidecar {
    let settings = Settings::static_token(TOKEN, service).set("upstream.http_version", version);
    Sidecar::start(&with_trust(settings, service))
}

fn with_trust(settings: Settings, service: &FakeService) -> Settings {
    if service.url().starts_with("https") {
        settings.file("upstream.ca_file", service.ca_pem())
    } else {
        settings
    }
}

#[tokio::test]
async fn clients_of_both_kinds_share_one_connection_to_it() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = speaking(&service, "2");
    let client = Http2::to(sidecar.proxy_address()).await;
    let mut exchanges = JoinSet::new();
    for number in 0..80 {
        let (client, url) = (client.clone(), sidecar.url());
        exchanges.spawn(async move {
            let body = "x".repeat(number * 1000);
            let reply = if number % 2 == 0 {
                client.request("POST", "/echo", &[], body.clone()).await
            } else {
                request("POST", &format!("{url}/echo"), &[], body.clone()).await
            };
            assert_eq!((reply.status.as_u16(), reply.text()), (200, body.as_str()));
        });
    }
    while let Some(done) = exchanges.join_next().await {
        done.unwrap();
    }
    let received = service.requests();
    assert!(
        received
            .iter()
            .all(|request| request.version == Version::HTTP_2)
    );
    assert!(received.iter().all(|request| request.token() == TOKEN));
    // One a worker, however many requests were waiting for it.
    assert!(service.connections() <= 2, "{}", service.connections());
}

#[tokio::test]
async fn with_tls_it_is_what_the_upstream_prefers() {
    let accept = || Validator::of([TOKEN]);
    for (protocols, version, expected) in [
        (&["h2", "http/1.1"][..], "auto", Version::HTTP_2),
        (&["http/1.1"], "auto", Version::HTTP_11),
        (&[], "auto", Version::HTTP_11),
        (&["h2", "http/1.1"], "2", Version::HTTP_2),
        (&["h2", "http/1.1"], "1.1", Version::HTTP_11),
    ] {
        let service = FakeService::start_speaking(protocols, accept());
        let sidecar = speaking(&service, version);
        for _ in 0..3 {
            assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
        }
        let seen: Vec<_> = service
            .requests()
            .iter()
            .map(|request| request.version)
            .collect();
        assert_eq!(seen, [expected; 3], "{protocols:?} {version}");
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_speak_it_is_named_in_the_log() {
    let service = FakeService::start_speaking(&["http/1.1"], Validator::of([TOKEN]));
    let sidecar = speaking(&service, "2");
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 502);
    assert!(reply.header("proxy-status").unwrap().contains("tls"));
}

#[tokio::test]
async fn a_websocket_gets_a_connection_of_its_own_where_http1_is_spoken_too() {
    let tls = Tls::speaking(&["h2", "http/1.1"]);
    let ca_pem = tls.ca_pem.clone();
    let server = RawServer::start(move |_, stream| {
        let acceptor = tls.acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                return answer_http2(stream).await;
            }
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                          Upgrade: websocket\r\n\r\nhello";
            stream.write_all(agreed.as_bytes()).await.unwrap();
            drop(stream.read_u8().await);
        }
    });
    let settings = Settings::to(&format!("https://localhost:{}", server.address().port()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
        .set("upstream.http_version", "auto")
        .file("upstream.ca_file", &ca_pem);
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 204);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
    let head = client.read_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(client.read_exact(5).await, b"hello");
}

/// Answers 204 to everything.
async fn answer_http2(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((_, mut answer))) = connection.accept().await {
        let head = Response::builder().status(204).body(()).unwrap();
        answer.send_response(head, true).unwrap();
    }
}

#[tokio::test]
async fn an_upstream_that_restarts_costs_no_request_that_may_be_repeated() {
    let mut service = FakeService::accepting([TOKEN]);
    let sidecar = speaking(&service, "2");
    let url = format!("{}/x", sidecar.url());
    for _ in 0..10 {
        assert_eq!(get(&url).await.status, 200);
        let address = service.address();
        service.stop();
        service = FakeService::start_at(address, Validator::of([TOKEN]));
        assert_eq!(get(&url).await.status, 200);
    }
}

#[tokio::test]
async fn a_request_that_the_upstream_refuses_to_look_at_is_sent_again_whatever_it_is() {
    let streams = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&streams);
    let server = RawServer::start(move |_, stream| {
        let streams = Arc::clone(&counted);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut answer))) = connection.accept().await {
                if streams.fetch_add(1, Ordering::SeqCst) == 0 {
                    answer.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    let head = Response::builder().status(204).body(()).unwrap();
                    answer.send_response(head, true).unwrap();
                }
            }
        }
    });
    let settings = Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
        .set("upstream.http_version", "2");
    let sidecar = Sidecar::start(&settings);
    let reply = request("POST", &format!("{}/x", sidecar.url()), &[], "a body").await;
    assert_eq!(reply.status, 204);
    assert_eq!(streams.load(Ordering::SeqCst), 2);
}

/// An upstream with HTTP/2 that takes so many requests at a time, and answers each after a moment.
fn narrow(limit: u32) -> RawServer {
    RawServer::start(move |_, stream| async move {
        let mut builder = h2::server::Builder::new();
        let mut connection = builder
            .max_concurrent_streams(limit)
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .unwrap();
        while let Some(Ok((_, mut answer))) = connection.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                let head = Response::builder().status(204).body(()).unwrap();
                drop(answer.send_response(head, true));
            });
        }
    })
}

fn to(server: &RawServer) -> Settings {
    Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
        .set("upstream.http_version", "2")
}

#[tokio::test]
async fn a_burst_meets_an_upstream_that_takes_few_requests_at_a_time() {
    let server = narrow(10);
    let sidecar = Sidecar::start(&to(&server));
    let mut exchanges = JoinSet::new();
    for _ in 0..100 {
        let url = format!("{}/x", sidecar.url());
        exchanges.spawn(async move { request("POST", &url, &[], "").await.status });
    }
    while let Some(status) = exchanges.join_next().await {
        assert_eq!(status.unwrap(), 204);
    }
}

#[tokio::test]
async fn slow_readers_do_not_stop_the_answers_of_others() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service)
        .set("upstream.http_version", "2")
        .set("listen.workers", 1);
    let sidecar = Sidecar::start(&settings);
    let client = Http2::with_window(sidecar.proxy_address(), 1000).await;
    let mut unread = Vec::new();
    for _ in 0..8 {
        let large = http::Request::get("/bytes/8000000");
        let answer = client.send(large.body(Body::empty()).unwrap()).await;
        unread.push(answer.unwrap());
    }
    assert_eq!(
        get(&format!("{}/bytes/100000", sidecar.url())).await.status,
        200
    );
}

#[tokio::test]
async fn a_client_that_takes_nothing_and_sends_nothing_leaves_nothing_behind() {
    let resets = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&resets);
    let server = RawServer::start(move |_, stream| {
        let resets = Arc::clone(&counted);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut answer))) = connection.accept().await {
                let resets = Arc::clone(&resets);
                tokio::spawn(async move {
                    let head = Response::builder().body(()).unwrap();
                    let mut body = answer.send_response(head, false).unwrap();
                    body.send_data(bytes::Bytes::from(vec![0; 1 << 20]), false)
                        .unwrap();
                    if std::future::poll_fn(|cx| body.poll_reset(cx)).await.is_ok() {
                        resets.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        }
    });
    let sidecar = Sidecar::start(&to(&server).set("listen.body_idle_timeout", "300ms"));
    let client = Http2::with_window(sidecar.proxy_address(), 1000).await;
    let (frames, body) = Body::channel();
    let answer = client
        .send(http::Request::post("/x").body(body).unwrap())
        .await
        .unwrap();
    eventually(|| resets.load(Ordering::SeqCst) == 1, DEADLINE).await;
    drop((frames, answer));
}
