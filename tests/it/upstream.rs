//! An upstream that is away, slow or broken.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Frame;
use tokio::time::{Instant, sleep};

use crate::support::{
    Body, Client, Connection, FakeService, RawServer, Reply, Settings, Sidecar, eventually, get,
    next_data, refused_address, request,
    server::{Failures, Tls, serve_http},
    try_request,
};

const TOKEN: &str = "a-static-token";
const SOON: Duration = Duration::from_secs(10);
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn before(upstream: &str) -> Settings {
    Settings::to(upstream)
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
}

/// What a scripted upstream does with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Writes this, and keeps the connection.
    Say(&'static str),
    /// Writes this, and closes.
    SayAndClose(&'static str),
    Close,
    Reset,
}

/// An upstream that does the n-th act with the n-th request of each connection, then closes; it
/// counts the requests.
fn scripted(acts: &'static [Act]) -> (RawServer, Arc<AtomicUsize>) {
    let requests = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&requests);
    let server = RawServer::start(move |_, stream| {
        let counted = Arc::clone(&counted);
        async move {
            let mut connection = Connection::from(stream);
            for act in acts {
                if connection.read_message().await.is_none() {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                match act {
                    Act::Say(text) => connection.write(text).await,
                    Act::SayAndClose(text) => {
                        connection.write(text).await;
                        return;
                    }
                    Act::Close => return,
                    Act::Reset => return connection.reset(),
                }
            }
        }
    });
    (server, requests)
}

fn in_front_of(server: &RawServer) -> Sidecar {
    Sidecar::start(&before(&format!("http://{}", server.address())))
}

fn assert_failure(reply: &Reply, status: u16, error: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    let proxy_status = reply.header("proxy-status").unwrap();
    let expected = format!("auth-sidecar; error={error}; details=");
    assert!(proxy_status.starts_with(&expected), "{proxy_status}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(reply.json()["status"], status);
    assert!(reply.header("retry-after").is_none());
}

#[tokio::test]
async fn one_that_refuses_connections_is_a_bad_gateway_until_it_is_back() {
    let (address, socket) = refused_address();
    let sidecar = Sidecar::start(&before(&format!("http://{address}")));
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..2 {
        let reply = client.request("GET", "/x", &[], "").await;
        assert_failure(&reply, 502, "connection_refused");
    }
    let reply = client.request("POST", "/x", &[], "body").await;
    assert_failure(&reply, 502, "connection_refused");
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let counted = r#"auth_sidecar_upstream_connect_errors_total{reason="connect"} 3"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(sidecar.admin_get("/readyz").await.0, 200);
    drop(socket);
    let _back = FakeService::start_at(address, crate::support::Validator::of([TOKEN]));
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn a_name_without_an_address_is_a_bad_gateway() {
    let sidecar = Sidecar::start(&before("https://nonexistent.invalid"));
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_failure(&reply, 502, "dns_error");
}

#[tokio::test]
async fn one_that_ends_a_new_connection_without_an_answer_is_a_bad_gateway() {
    for act in [&[Act::Reset], &[Act::Close]] {
        let (server, requests) = scripted(act);
        let sidecar = in_front_of(&server);
        for method in ["GET", "POST"] {
            let reply = request(method, &sidecar.url(), &[], "").await;
            assert_failure(&reply, 502, "connection_terminated");
        }
        // A new connection that ends is no accident of reuse: nothing is sent twice.
        assert_eq!(requests.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_or_ambiguous_is_a_bad_gateway() {
    let acts: [&[Act]; 9] = [
        &[Act::SayAndClose("SSH-2.0-OpenSSH_9.2\r\n")],
        &[Act::SayAndClose("HTTP/1.1 2000 Many\r\n\r\n")],
        &[Act::SayAndClose("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")],
        &[Act::SayAndClose(
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        )],
        &[Act::SayAndClose(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        )],
        &[Act::SayAndClose(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )],
        &[Act::SayAndClose(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        )],
        &[Act::SayAndClose(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        )],
        &[Act::SayAndClose("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n")],
    ];
    for act in acts {
        let (server, _requests) = scripted(act);
        let sidecar = in_front_of(&server);
        let reply = get(&sidecar.url()).await;
        assert_eq!(reply.status, 502, "{act:?}");
        assert_failure(&reply, 502, "http_protocol_error");
    }
}

#[tokio::test]
async fn half_a_head_is_a_bad_gateway() {
    let (server, _requests) = scripted(&[Act::SayAndClose("HTTP/1.1 200 OK\r\nContent-Le")]);
    let sidecar = in_front_of(&server);
    let reply = get(&sidecar.url()).await;
    assert_failure(&reply, 502, "connection_terminated");
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
        HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (server, _requests) = scripted(&[Act::Say(INTERIM), Act::Say(INTERIM)]);
    let sidecar = in_front_of(&server);
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..2 {
        let reply = client.request("GET", "/", &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "ok"));
        assert!(reply.header("link").is_none());
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_are_not_the_next_answer() {
    const SURPLUS: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
        HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
    let (server, _requests) = scripted(&[Act::Say(SURPLUS), Act::Say(SURPLUS)]);
    let sidecar = in_front_of(&server);
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..4 {
        assert_eq!(client.request("GET", "/", &[], "").await.text(), "ok");
    }
}

#[tokio::test]
async fn one_that_takes_too_long_to_answer_is_a_gateway_timeout() {
    let service = FakeService::accepting([TOKEN]);
    let settings =
        Settings::static_token(TOKEN, &service).set("upstream.response_timeout", "400ms");
    let sidecar = Sidecar::start(&settings);
    for (method, body) in [("GET", ""), ("POST", "body")] {
        let asked = Instant::now();
        let url = format!("{}/slow?ms=10000", sidecar.url());
        let reply = request(method, &url, &[], body).await;
        assert_failure(&reply, 504, "http_response_timeout");
        assert!(asked.elapsed() >= Duration::from_millis(350));
        assert!(asked.elapsed() < Duration::from_secs(3));
    }
    eventually(|| service.in_flight() == 0, SOON).await;
    assert_eq!(service.request_count(), 2);
    // A stream has no time to be over in, and an upload counts from its last byte.
    let stream = get(&format!("{}/stream?chunks=5&ms=200", sidecar.url())).await;
    assert!(stream.text().ends_with("chunk 4\n"));
    let (frames, body) = Body::channel();
    let url = format!("{}/echo", sidecar.url());
    let posting = tokio::spawn(async move { request("POST", &url, &[], body).await });
    for _ in 0..5 {
        frames
            .send(Ok(Frame::data(Bytes::from("part "))))
            .await
            .unwrap();
        sleep(Duration::from_millis(200)).await;
    }
    drop(frames);
    assert_eq!(posting.await.unwrap().text(), "part ".repeat(5));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_passed_off_as_whole() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    let mut client = Client::connect(&sidecar.url()).await;
    let abort = Request::get("/abort").body(Body::empty()).unwrap();
    let mut answer = client.send(abort).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        next_data(answer.body_mut()).await.unwrap(),
        "the first half"
    );
    let url = format!("{}/abort", sidecar.url());
    assert!(try_request("GET", &url, &[], "").await.is_err());
    let halves: [&[Act]; 3] = [
        &[Act::SayAndClose(
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        )],
        &[Act::SayAndClose(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        )],
        &[Act::SayAndClose(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n",
        )],
    ];
    for half in halves {
        let (server, requests) = scripted(half);
        let sidecar = in_front_of(&server);
        assert!(
            try_request("GET", &sidecar.url(), &[], "").await.is_err(),
            "{half:?}"
        );
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn the_end_of_a_connection_can_be_the_end_of_an_answer() {
    let (server, _requests) = scripted(&[Act::SayAndClose("HTTP/1.1 200 OK\r\n\r\nto the end")]);
    let sidecar = in_front_of(&server);
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..2 {
        assert_eq!(
            client.request("GET", "/", &[], "").await.text(),
            "to the end"
        );
    }
}

#[tokio::test]
async fn a_kept_connection_that_ends_at_its_reuse_costs_no_idempotent_request() {
    for acts in [&[Act::Say(OK), Act::Close], &[Act::Say(OK), Act::Reset]] {
        for (method, body) in [("GET", ""), ("HEAD", ""), ("PUT", "body"), ("DELETE", "")] {
            let (server, requests) = scripted(acts);
            let sidecar = one_worker(&server);
            let mut client = Client::connect(&sidecar.url()).await;
            assert_eq!(client.request("GET", "/", &[], "").await.status, 200);
            let reply = client.request(method, "/", &[], body).await;
            assert_eq!(reply.status, 200, "{method} {acts:?}");
            assert_eq!(requests.load(Ordering::SeqCst), 3);
            assert_eq!(server.connections(), 2);
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_ends_at_its_reuse_does_not_send_a_post_twice() {
    for acts in [&[Act::Say(OK), Act::Close], &[Act::Say(OK), Act::Reset]] {
        for (method, body) in [("POST", "body"), ("POST", ""), ("PATCH", "body")] {
            let (server, requests) = scripted(acts);
            let sidecar = one_worker(&server);
            let mut client = Client::connect(&sidecar.url()).await;
            assert_eq!(client.request("GET", "/", &[], "").await.status, 200);
            let reply = client.request(method, "/", &[], body).await;
            assert_failure(&reply, 502, "connection_terminated");
            assert_eq!(requests.load(Ordering::SeqCst), 2, "{method} {acts:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_costs_nothing_at_all() {
    let (server, requests) = scripted(&[Act::SayAndClose(OK)]);
    let sidecar = one_worker(&server);
    let mut client = Client::connect(&sidecar.url()).await;
    for count in 1..4 {
        let reply = client.request("POST", "/", &[], "body").await;
        assert_eq!(reply.text(), "ok");
        assert_eq!(requests.load(Ordering::SeqCst), count);
        eventually(|| server.open_connections() == 0, SOON).await;
        // So that the sidecar has seen it too.
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn connections_are_reused_and_closed_when_they_are_idle_for_too_long() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.workers", 1)
        .set("upstream.idle_timeout", "500ms");
    let sidecar = Sidecar::start(&settings);
    for _ in 0..10 {
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    }
    assert_eq!((service.connections(), service.open_connections()), (1, 1));
    eventually(|| service.open_connections() == 0, Duration::from_secs(3)).await;
}

fn one_worker(server: &RawServer) -> Sidecar {
    let upstream = format!("http://{}", server.address());
    Sidecar::start(&before(&upstream).set("listen.workers", 1))
}

#[tokio::test]
async fn https_is_trusted_by_the_configured_authority_alone() {
    let service = FakeService::start_tls(crate::support::Validator::of([TOKEN]));
    let trusting = before(&service.url()).file("upstream.ca_file", service.ca_pem());
    let sidecar = Sidecar::start(&trusting);
    let reply = get(&format!("{}/echo", sidecar.url())).await;
    assert_eq!(reply.status, 200);
    let host = format!("localhost:{}", service.address().port());
    assert_eq!(service.requests()[0].header("host"), Some(host.as_str()));

    let other = Tls::new();
    let mistrusting = [
        before(&service.url()).file("upstream.ca_file", &other.ca_pem),
        // The system's authorities.
        before(&service.url()),
    ];
    for settings in mistrusting {
        let sidecar = Sidecar::start(&settings);
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_failure(&reply, 502, "tls_certificate_error");
    }
    assert_eq!(service.request_count(), 1);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_trusted() {
    let tls = Tls::new();
    let ca_pem = tls.ca_pem.clone();
    // Its certificate is for localhost and 127.0.0.1.
    let address = SocketAddr::from(([127, 0, 0, 2], 0));
    let server = RawServer::start_at(address, Failures::default(), move |_, stream| {
        serve_http(stream, Some(tls.clone()), |_| async {
            Ok(Response::new(Body::empty()))
        })
    });
    let url = format!("https://{}", server.address());
    let sidecar = Sidecar::start(&before(&url).file("upstream.ca_file", &ca_pem));
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_failure(&reply, 502, "tls_certificate_error");
}

#[tokio::test]
async fn one_that_speaks_no_tls_is_a_bad_gateway() {
    let service = FakeService::accepting([TOKEN]);
    let url = format!("https://localhost:{}", service.address().port());
    let sidecar = Sidecar::start(&before(&url));
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_failure(&reply, 502, "tls_protocol_error");
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn a_put_that_breaks_off_is_never_completed_for_the_upstream() {
    let service = FakeService::accepting_all();
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    // A connection that is kept, so that the exchange could be blamed on its age.
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    let head = "PUT /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for end in ["3\r\none\r\n", "3\r\none\r\nx\r\n"] {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        client.write(format!("{head}{end}")).await;
        if end.ends_with("x\r\n") {
            let answer = client.read_to_end().await;
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
        } else {
            eventually(|| service.in_flight() == 1, SOON).await;
            client.finish().await;
            client.read_to_end().await;
        }
        eventually(|| service.in_flight() == 0, SOON).await;
    }
    for received in service.requests() {
        assert!(
            received.target == "/x" || !received.complete,
            "{received:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_is_kept_no_longer_than_the_upstream_says_that_it_keeps_it() {
    const SECOND: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=1, max=100\r\n\r\nok";
    const ZERO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=0\r\n\r\nok";
    let (patient, _) = scripted(&[Act::Say(OK), Act::Say(OK)]);
    let (hasty, _) = scripted(&[Act::Say(SECOND), Act::Say(SECOND), Act::Say(SECOND)]);
    let (none, _) = scripted(&[Act::Say(ZERO), Act::Say(ZERO)]);
    let one_worker = |server: &RawServer| {
        let settings = before(&format!("http://{}", server.address()));
        Sidecar::start(&settings.set("listen.workers", 1))
    };
    let sidecars = [&patient, &hasty, &none].map(one_worker);
    for sidecar in &sidecars {
        for _ in 0..2 {
            assert_eq!(get(&format!("{}/x", sidecar.url())).await.text(), "ok");
        }
    }
    assert_eq!(
        (
            patient.connections(),
            hasty.connections(),
            none.connections()
        ),
        (1, 1, 2)
    );
    // Closed by us, long before upstream.idle_timeout.
    let closed = || hasty.open_connections() == 0 && none.open_connections() == 0;
    eventually(closed, Duration::from_secs(3)).await;
    assert_eq!(get(&format!("{}/x", sidecars[1].url())).await.text(), "ok");
    assert_eq!(hasty.connections(), 2);
}
