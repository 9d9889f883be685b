//! HTTP/2 from the client, to the upstream, and on both sides.

mod abuse;
mod malformed;
mod upstream;

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::{net::TcpStream, sync::Notify, task::JoinSet, time::timeout};

use crate::support::{
    Body, Connection, FakeCsp, FakeService, RawServer, Settings, Sidecar, eventually,
    http2::{Http2, PREFACE, frame},
    next_data,
    peer::field,
    service::pattern,
    within_deadline,
};

const TOKEN: &str = "a-static-token";

fn pair() -> (FakeService, Sidecar) {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    (service, sidecar)
}

#[tokio::test]
async fn a_client_with_http2_is_served_by_an_upstream_with_http1() {
    let (service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let fields = [
        ("authorization", "Bearer mine"),
        ("x-auth-token", "mine"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-a", "1"),
        ("x-a", "2"),
        ("te", "trailers"),
    ];
    let reply = client
        .request("GET", "/api//x%2F..;y?q=%20", &fields, "")
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-fake-service"), Some("yes"));
    let [received] = &service.requests()[..] else {
        panic!()
    };
    assert_eq!(received.version, Version::HTTP_11);
    assert_eq!(received.target, "/api//x%2F..;y?q=%20");
    assert_eq!(received.token(), TOKEN);
    assert_eq!(received.header("cookie"), Some("a=1; b=2"));
    assert_eq!(received.header("via"), Some("2.0 auth-sidecar"));
    assert_eq!(received.headers.get_all("x-a").iter().count(), 2);
}

#[tokio::test]
async fn many_requests_share_one_connection_of_the_client() {
    let (service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let mut exchanges = JoinSet::new();
    for number in 0..300_usize {
        let client = client.clone();
        exchanges.spawn(async move {
            let body = pattern(number * 1000);
            let reply = client.request("POST", "/echo", &[], body.clone()).await;
            assert_eq!(
                (reply.status.as_u16(), reply.body),
                (200, Bytes::from(body))
            );
        });
    }
    while let Some(done) = exchanges.join_next().await {
        done.unwrap();
    }
    assert_eq!(service.request_count(), 300);
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert!(
        metrics.contains("auth_sidecar_connections 1.0\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn head_no_content_and_not_modified_have_no_body() {
    let (_service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let head = client.request("HEAD", "/bytes/1000", &[], "").await;
    assert_eq!(head.header("content-length"), Some("1000"));
    assert!(head.body.is_empty());
    for status in [204, 304] {
        let reply = client.get(&format!("/status/{status}")).await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (status, 0));
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_sent_again() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    let client = Http2::to(sidecar.proxy_address()).await;
    client.get("/x").await;
    csp.revoke_all();
    let reply = client.request("POST", "/echo", &[], "a body").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "a body"));
    assert_eq!(service.unauthorized_count(), 1);
}

#[tokio::test]
async fn who_comes_from_where_it_must_not_is_refused() {
    let (service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let refused = |method, target, fields, status, details| {
        let client = client.clone();
        async move {
            let reply = client.request(method, target, fields, "").await;
            assert_eq!(reply.status, status, "{method} {target} {fields:?}");
            let proxy_status = reply.header("proxy-status").unwrap();
            assert!(proxy_status.contains(details), "{proxy_status}");
            assert_eq!(reply.header("connection"), None);
        }
    };
    refused("GET", "http://evil.example/x", &[][..], 421, "host").await;
    refused(
        "GET",
        "/x",
        &[("host", "evil.example")][..],
        400,
        "malformed",
    )
    .await;
    refused(
        "GET",
        "/x",
        &[("origin", "http://evil.example")][..],
        403,
        "cross_site",
    )
    .await;
    refused(
        "GET",
        "/x",
        &[("sec-fetch-site", "cross-site")][..],
        403,
        "cross_site",
    )
    .await;
    refused("TRACE", "/x", &[][..], 405, "method").await;
    let lengths = [("content-length", "0"), ("content-length", "0")];
    refused("GET", "/x", &lengths[..], 400, "malformed").await;
    let names: Vec<_> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let reply = client.request("GET", "/x", &many, "").await;
    assert_eq!(reply.status, 431);
    assert_eq!(service.request_count(), 0);
    // The connection is as good as before.
    assert_eq!(client.get("/x").await.status, 200);
}

#[tokio::test]
async fn without_a_token_the_answer_says_when_to_come_back() {
    let csp = FakeCsp::start();
    csp.always(crate::support::Answer::rate_limited("7"));
    let service = FakeService::accepting_all();
    let sidecar = Sidecar::start(&Settings::new(&csp, &service).set("auth.hold_timeout", "50ms"));
    let client = Http2::to(sidecar.proxy_address()).await;
    let reply = client.get("/x").await;
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some());
    assert!(
        reply
            .header("proxy-status")
            .unwrap()
            .contains("token_unavailable")
    );
}

#[tokio::test]
async fn both_directions_of_an_exchange_flow_at_the_same_time() {
    let (service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let (frames, body) = Body::channel();
    let request = Request::post("/duplex").body(body).unwrap();
    let mut answer = client.send(request).await.unwrap().into_body();
    for word in ["one", "two", "three"] {
        frames.send(Ok(Frame::data(word.into()))).await.unwrap();
        assert_eq!(next_data(&mut answer).await.unwrap(), word);
    }
    drop(frames);
    assert!(
        next_data(&mut answer)
            .await
            .is_none_or(|data| data.is_empty())
    );
    eventually(|| service.requests()[0].complete, crate::support::DEADLINE).await;
}

#[tokio::test]
async fn a_client_that_breaks_off_one_stream_keeps_the_others() {
    let (service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let endless = Request::get("/stream?ms=10").body(Body::empty()).unwrap();
    let mut answer = client.send(endless).await.unwrap().into_body();
    next_data(&mut answer).await.unwrap();
    drop(answer);
    eventually(|| service.in_flight() == 0, crate::support::DEADLINE).await;
    assert_eq!(client.get("/x").await.status, 200);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_resets_the_stream_and_not_the_connection() {
    let (_service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let answer = client.try_request("GET", "/abort", &[], "").await;
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(client.get("/x").await.status, 200);
}

#[tokio::test]
async fn trailers_of_the_upstream_arrive_without_what_may_not_be_there() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service).set("upstream.http_version", "2");
    let sidecar = Sidecar::start(&settings);
    let client = Http2::to(sidecar.proxy_address()).await;
    let request = Request::post("/trailers").header("te", "trailers");
    let answer = client
        .send(request.body("x".into()).unwrap())
        .await
        .unwrap();
    let whole = within_deadline(answer.into_body().collect())
        .await
        .unwrap()
        .unwrap();
    let trailers = whole.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(whole.to_bytes(), "content");
    assert_eq!(service.requests()[0].header("te"), Some("trailers"));
}

#[tokio::test]
async fn early_hints_of_an_upstream_with_http1_come_before_its_answer() {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\nLink: </y>\r\n\
        Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\r\n";
    let heard = Arc::new(Notify::new());
    let hearing = Arc::clone(&heard);
    let server = RawServer::start(move |_, stream| {
        let heard = Arc::clone(&hearing);
        async move {
            let mut connection = Connection::from(stream);
            if connection.read_head().await.is_some() {
                connection.write(HINT).await;
                heard.notified().await;
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                connection.write(answer).await;
                connection.read_to_end().await;
            }
        }
    });
    let settings = Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN);
    let sidecar = Sidecar::start(&settings);
    let stream = TcpStream::connect(sidecar.proxy_address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("http://{}/x", sidecar.proxy_address()));
    let (mut answer, _) = client
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    let hint = timeout(
        Duration::from_secs(5),
        poll_fn(|cx| answer.poll_informational(cx)),
    );
    let hint = hint.await.expect("no early hints").unwrap().unwrap();
    assert_eq!(hint.status(), 103);
    let links: Vec<_> = hint.headers().get_all("link").iter().collect();
    assert_eq!(links, ["</x>; rel=preload", "</y>"]);
    assert_eq!(hint.headers().len(), 2, "{hint:?}");
    heard.notify_one();
    let answer = within_deadline(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("link"), "{answer:?}");
    let body = within_deadline(answer.into_body().data()).await.unwrap();
    assert_eq!(body.unwrap().unwrap(), "ok");
    drop(client);
    connection.abort();
}

#[tokio::test]
async fn names_that_a_program_would_take_for_a_credential_or_a_framing_end_here() {
    let (service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let fields = [
        ("x_auth_token", "mine"),
        ("x-auth_token", "mine"),
        ("csp_auth_token", "mine"),
        ("csp-auth_token", "mine"),
        ("proxy_authorization", "mine"),
        ("http_authorization", "mine"),
        ("content_length", "5"),
        ("transfer_encoding", "chunked"),
        ("x_custom", "1"),
    ];
    let reply = client.request("POST", "/echo", &fields, "body").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "body"));
    let received = service.requests().pop().unwrap();
    assert_eq!(received.header("x_custom"), Some("1"));
    let has_underscore = |name: &&http::HeaderName| name.as_str().contains('_');
    assert_eq!(received.headers.keys().filter(has_underscore).count(), 1);
}

#[tokio::test]
async fn the_preface_may_come_in_pieces_and_its_beginning_may_be_another_method() {
    let (service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    for piece in ["P", "RI", "VATE /x HTTP/1.1\r\nHost: localhost\r\n", "\r\n"] {
        client.write(piece).await;
        tokio::task::yield_now().await;
    }
    let (head, _) = client.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(service.requests()[0].method, "PRIVATE");

    let mut client = Connection::to(sidecar.proxy_address()).await;
    for piece in PREFACE.chunks(5) {
        client.write(piece).await;
        tokio::task::yield_now().await;
    }
    // Its settings come back: a frame of kind 4 on stream 0.
    let head = client.read_exact(9).await;
    assert_eq!((head[3], &head[5..]), (4, &[0, 0, 0, 0][..]));

    // Later on a connection it is what it looks like: a request of a version that is not served.
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    client.read_message().await.unwrap();
    client.write(PREFACE).await;
    let (head, _) = client.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 505 "), "{head}");
    assert!(field(&head, "proxy-status").is_some());
}

#[tokio::test]
async fn a_drain_lets_the_streams_finish_and_then_closes() {
    let (service, mut sidecar) = pair();
    let (client, connection) = Http2::open(sidecar.proxy_address(), 1 << 20).await;
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { client.get("/slow?ms=300").await.status })
    };
    eventually(|| service.in_flight() == 1, crate::support::DEADLINE).await;
    sidecar.begin_stop();
    assert_eq!(slow.await.unwrap(), 200);
    within_deadline(connection).await.unwrap().unwrap().unwrap();
    sidecar.ended().await.unwrap();
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let service = FakeService::accepting([TOKEN]);
    let settings =
        Settings::static_token(TOKEN, &service).set("listen.keep_alive_timeout", "300ms");
    let sidecar = Sidecar::start(&settings);
    let (client, connection) = Http2::open(sidecar.proxy_address(), 1 << 20).await;
    assert_eq!(client.get("/slow?ms=900").await.status, 200);
    within_deadline(connection).await.unwrap().unwrap().unwrap();
}

/// The length says that a body is whole before the frame that ends the stream does.
#[tokio::test]
async fn an_answer_that_overtakes_the_end_of_a_body_does_not_reset_the_stream() {
    let (_service, sidecar) = pair();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(PREFACE).await;
    let head: Vec<u8> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/echo"),
        (":authority", "localhost"),
        ("content-length", "5"),
    ]
    .iter()
    .flat_map(|(name, value)| crate::support::http2::field(name, value))
    .collect();
    for number in 0..200 {
        let stream = 2 * number + 1;
        client.write(frame(1, 4, stream, &head)).await;
        client.write(frame(0, 0, stream, b"hello")).await;
        loop {
            let frame = client.read_exact(9).await;
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
            let payload = client.read_exact(length.try_into().unwrap()).await;
            // RST_STREAM and GOAWAY.
            assert!(
                ![3, 7].contains(&frame[3]),
                "{number}: {frame:?} {payload:?}"
            );
            let is_answer = frame[3] <= 1 && frame[5..9] == stream.to_be_bytes();
            if is_answer && frame[4] & 1 == 1 {
                break;
            }
        }
        client.write(frame(0, 1, stream, b"")).await;
    }
}
