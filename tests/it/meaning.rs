//! Messages of HTTP/1.1 keep their meaning: what they say arrives, whatever that is.

use std::{future::poll_fn, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::Instant,
};

use crate::support::{
    Connection, FakeService, RawServer, Settings, Sidecar, peer::field, send_raw, within_deadline,
};

const TOKEN: &str = "a-static-token";

/// A service that sends this to each request once it has its head, and the heads as they came.
fn service(response: &'static [u8]) -> (RawServer, Sidecar, mpsc::UnboundedReceiver<Vec<u8>>) {
    let (seen, heads) = mpsc::unbounded_channel();
    let server = RawServer::start(move |_, mut stream| {
        let seen = seen.clone();
        async move {
            while let Some(head) = raw_head(&mut stream).await {
                drop(seen.send(head));
                if stream.write_all(response).await.is_err() {
                    return;
                }
            }
        }
    });
    let sidecar = before(&server);
    (server, sidecar, heads)
}

fn settings(server: &RawServer) -> Settings {
    Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
}

fn before(server: &RawServer) -> Sidecar {
    Sidecar::start(&settings(server))
}

/// The bytes of a head, which may be no text; `None` at the end.
async fn raw_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(head)
}

fn target(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap()
}

fn get(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()
}

const NOTHING: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn the_commonest_query_of_the_product_arrives_as_it_was_typed() {
    let (_server, sidecar, mut heads) = service(NOTHING);
    let query = b"/api/v2/chart/api?q=ts(\"cpu.usage\") and <`\xc3\xa9\xff>";
    let query: Vec<u8> = query.iter().copied().filter(|byte| *byte != b' ').collect();
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(get(&query)).await;
    assert!(client.read_head().await.unwrap().contains(" 204 "));
    assert_eq!(target(&heads.recv().await.unwrap()), query);
}

#[tokio::test]
async fn ten_thousand_raw_targets_arrive_equal_or_are_refused_by_a_rule_that_is_named() {
    let (_server, sidecar, mut heads) = service(NOTHING);
    let mut random = fastrand::Rng::with_seed(20_261_130);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let mut refused = 0;
    for _ in 0..10_000 {
        let mut target = vec![b'/'];
        target.extend((0..random.usize(0..60)).map(|_| {
            // Printable bytes and those beyond ASCII.
            let byte = random.u8(0x21..=0xfe);
            if byte == 0x7f { 0xff } else { byte }
        }));
        client.write(get(&target)).await;
        let (head, body) = client.read_message().await.unwrap();
        match target.iter().position(|byte| *byte == b'#') {
            None => {
                assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
                let received = heads.recv().await.unwrap();
                assert_eq!(self::target(&received), target);
            }
            Some(position) => {
                assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
                let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let detail = format!("target: byte {position}, '#'");
                assert_eq!(problem["detail"], detail);
                refused += 1;
                client = Connection::to(sidecar.proxy_address()).await;
            }
        }
    }
    assert!((500..3000).contains(&refused), "{refused}");
}

#[tokio::test]
async fn who_waits_to_be_asked_is_asked_by_the_service_and_by_nobody_else() {
    let server = RawServer::start(|_, stream| async move {
        let mut service = Connection::from(stream);
        while let Some(head) = service.read_head().await {
            assert_eq!(field(&head, "expect"), Some("100-continue"));
            service.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert_eq!(service.read_exact(4).await, b"body");
            service
                .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    });
    let sidecar = before(&server);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    for _ in 0..2 {
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\
            Expect: 100-continue\r\n\r\n";
        client.write(head).await;
        let interim = client.read_head().await.unwrap();
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        client.write("body").await;
        let (head, body) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, b"ok");
    }
    let old = "POST /x HTTP/1.0\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n";
    let (_old, sidecar, mut heads) = service(NOTHING);
    assert!(
        send_raw(sidecar.proxy_address(), old)
            .await
            .starts_with(b"HTTP/1.0 204 ")
    );
    let head = String::from_utf8(heads.recv().await.unwrap()).unwrap();
    assert_eq!(field(&head, "expect"), None);
}

/// A service that refuses each upload as soon as it has its head, and ends the connection: by a
/// reset, since what has come of the body is never read.
fn refusing() -> RawServer {
    RawServer::start(|_, mut stream| async move {
        if raw_head(&mut stream).await.is_some() {
            let refusal =
                "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
            drop(stream.write_all(refusal.as_bytes()).await);
        }
    })
}

const UPLOAD: usize = 6 << 20;

/// Uploads as curl does: reads while it writes, and stops writing once there is a response.
async fn upload(address: std::net::SocketAddr, head: &str, waits: bool) -> Option<Vec<u8>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    writing.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let piece = vec![b'x'; 64 * 1024];
    let mut left = if waits { 0 } else { UPLOAD };
    loop {
        let mut bytes = [0; 1024];
        tokio::select! {
            biased;
            read = reading.read(&mut bytes) => {
                match read {
                    Ok(0) => break,
                    Ok(count) => response.extend_from_slice(&bytes[..count]),
                    Err(_) if response.is_empty() => return None,
                    Err(_) => break,
                }
                left = 0;
            }
            written = writing.write(&piece[..left.min(piece.len())]), if left > 0 => {
                left = written.map_or(0, |count| left - count);
            }
        }
    }
    Some(response)
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_upload_is_whole_is_read_by_each_client() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how often is up to whoever runs it"
    )]
    let times = std::env::var("AUTH_SIDECAR_UPLOADS");
    let times = times.map_or(100, |times| times.parse().unwrap());
    let server = refusing();
    let sidecar = before(&server);
    let length = format!("Content-Length: {UPLOAD}\r\n");
    for (fields, waits) in [
        (format!("{length}Expect: 100-continue\r\n"), true),
        (length, false),
    ] {
        let host = format!("Host: localhost\r\n{fields}");
        let head = format!("POST /x HTTP/1.1\r\n{host}\r\n");
        let (mut read, mut direct) = (0, 0);
        for _ in 0..times {
            let response = within_deadline(upload(sidecar.proxy_address(), &head, waits));
            if let Some(response) = response.await.unwrap() {
                let text = String::from_utf8_lossy(&response).into_owned();
                assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
                assert!(text.ends_with("\r\n\r\nno"), "{text}");
                read += 1;
            }
            let response = within_deadline(upload(server.address(), &head, waits));
            direct += usize::from(response.await.unwrap().is_some());
        }
        println!("{times} uploads, waiting {waits}: {read} read 413, {direct} without us");
        assert_eq!(read, times, "{direct} without us");
    }
}

#[tokio::test]
async fn interim_responses_arrive_in_their_order_but_not_in_http_1_0() {
    const EARLY: &[u8] =
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n\
        HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (_server, sidecar, _heads) = service(EARLY);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    for _ in 0..2 {
        client.write(get(b"/x")).await;
        let early = client.read_head().await.unwrap();
        assert!(early.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{early}");
        assert_eq!(field(&early, "link"), Some("</a>"));
        assert_eq!(field(&early, "x-hop"), None);
        let second = client.read_head().await.unwrap();
        assert!(second.starts_with("HTTP/1.1 102 "), "{second}");
        let (head, body) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, b"ok");
    }
    let old = send_raw(sidecar.proxy_address(), "GET /x HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with(b"HTTP/1.0 200 OK\r\n"));
}

#[tokio::test]
async fn an_early_hint_reaches_a_client_with_http2() {
    let (_server, sidecar, _heads) =
        service(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
    let stream = TcpStream::connect(sidecar.proxy_address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://localhost/x").body(()).unwrap();
    let (mut response, _) = client.send_request(request, true).unwrap();
    let early = within_deadline(poll_fn(|cx| response.poll_informational(cx))).await;
    let early = early.unwrap().unwrap().unwrap();
    assert_eq!(
        (early.status().as_u16(), &early.headers()["link"]),
        (103, &"</a>".parse().unwrap())
    );
    assert_eq!(
        within_deadline(response).await.unwrap().unwrap().status(),
        204
    );
}

#[tokio::test]
async fn a_client_that_closes_its_half_gets_its_response() {
    let service = FakeService::accepting_all();
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    for request in [
        "GET /slow?ms=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /slow?ms=2000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let mut client = Connection::to(sidecar.proxy_address()).await;
        client.write(request).await;
        client.finish().await;
        let response = client.read_to_end().await;
        let response = String::from_utf8(response).unwrap();
        // Who is silent for long is asked whether it is still there.
        let last = response.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n");
        let last = last.unwrap_or(&response);
        assert!(last.starts_with("HTTP/1.1 200 "), "{response}");
    }
    // What is cut off is not completed for the service.
    let cut = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nbody";
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(cut).await;
    client.finish().await;
    client.read_to_end().await;
    let mut requests = service.requests().into_iter();
    assert!(!requests.any(|one| one.complete && one.header("content-length") == Some("9")));
}

#[tokio::test]
async fn the_length_of_a_304_and_of_a_response_to_head_stays() {
    let (_server, sidecar, _heads) =
        service(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n");
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(get(b"/x")).await;
    let head = client.read_head().await.unwrap();
    assert_eq!(field(&head, "content-length"), Some("1000"));
    let (_server, sidecar, _heads) = service(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    let mut client = Connection::to(sidecar.proxy_address()).await;
    for _ in 0..2 {
        client
            .write("HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let head = client.read_head().await.unwrap();
        assert_eq!(field(&head, "content-length"), Some("1000"));
    }
}

#[tokio::test]
async fn three_hundred_fields_and_text_that_is_no_ascii_pass() {
    let server = RawServer::start(|_, mut stream| async move {
        while let Some(head) = raw_head(&mut stream).await {
            let name = head.windows(6).position(|at| at == b"X-Name");
            let value = &head[name.unwrap()..];
            assert!(value.starts_with(b"X-Name: caf\xe9\r\n"));
            let many = b"X-One: caf\xe9\r\n".repeat(300);
            let head = [b"HTTP/1.1 204 No Content\r\n".as_slice(), &many, b"\r\n"].concat();
            drop(stream.write_all(&head).await);
        }
    });
    let sidecar = before(&server);
    let request =
        b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Name: caf\xe9\r\n\r\n";
    let response = send_raw(sidecar.proxy_address(), request).await;
    assert!(response.starts_with(b"HTTP/1.1 204 "));
    let lines = response.split(|byte| *byte == b'\n');
    assert_eq!(
        lines.filter(|line| *line == b"X-One: caf\xe9\r").count(),
        300
    );
}

#[tokio::test]
async fn trailers_reach_the_client_that_asks_for_them_and_no_other() {
    const LATE: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\
        X-Late: 1\r\nSet-Cookie: a=1\r\nContent-Length: 3\r\n\r\n";
    let (_server, sidecar, _heads) = service(LATE);
    for (fields, has_trailers) in [("TE: trailers\r\nConnection: TE\r\n", true), ("", false)] {
        let request = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let mut client = Connection::to(sidecar.proxy_address()).await;
        client.write(request).await;
        client.finish().await;
        let response = client.read_to_end().await;
        let response = String::from_utf8(response).unwrap();
        let end = if has_trailers {
            "X-Late: 1\r\n\r\n"
        } else {
            ""
        };
        let body = format!("\r\n\r\n3\r\none\r\n0\r\n{end}");
        assert!(
            response.contains(&body) && response.ends_with("\r\n\r\n"),
            "{response}"
        );
        assert_eq!(response.contains("X-Late"), has_trailers);
        assert!(!response.contains("Set-Cookie"));
    }
}

#[tokio::test]
async fn leading_zeros_of_a_length_are_not_passed_on() {
    let server = RawServer::start(|_, stream| async move {
        let mut service = Connection::from(stream);
        while let Some((head, body)) = service.read_message().await {
            assert_eq!(field(&head, "content-length"), Some("5"));
            assert_eq!(body, b"hello");
            let response = "HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\nok";
            service.write(response).await;
        }
    });
    let sidecar = before(&server);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 005\r\n\r\nhello")
        .await;
    let (head, body) = client.read_message().await.unwrap();
    assert_eq!(field(&head, "content-length"), Some("2"));
    assert_eq!(body, b"ok");
}

#[tokio::test]
async fn names_that_frame_or_authorise_in_disguise_end_here() {
    let (_server, sidecar, mut heads) = service(NOTHING);
    let disguises = [
        "Transfer_Encoding",
        "Content_Length",
        "X_AUTH_TOKEN",
        "X-AUTH_TOKEN",
        "CSP_AUTH_TOKEN",
        "csp-auth_token",
        "Proxy_Authorization",
        "HTTP_AUTHORIZATION",
    ];
    let fields: String = disguises.map(|name| format!("{name}: evil\r\n")).concat();
    let request = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{fields}X_Custom: fine\r\n\r\n");
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(request).await;
    client.read_head().await.unwrap();
    let head = String::from_utf8(heads.recv().await.unwrap()).unwrap();
    assert!(!head.contains("evil"), "{head}");
    assert_eq!(field(&head, "x_custom"), Some("fine"));
}

#[tokio::test]
async fn a_response_that_stalls_is_broken_off_where_that_is_wanted() {
    let server = RawServer::start(|_, stream| async move {
        let mut service = Connection::from(stream);
        if service.read_head().await.is_some() {
            let part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
            service.write(part).await;
            service.read_to_end().await;
        }
    });
    let settings = settings(&server).set("upstream.body_idle_timeout", "300ms");
    let sidecar = Sidecar::start(&settings);
    let began = Instant::now();
    let response = send_raw(sidecar.proxy_address(), get(b"/x")).await;
    let took = began.elapsed();
    let response = String::from_utf8(response).unwrap();
    assert!(response.ends_with("\r\n\r\n3\r\none\r\n"), "{response}");
    assert!(took >= Duration::from_millis(250), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_response_of_http_1_0_that_breaks_off_ends_in_a_reset() {
    let server = RawServer::start(|_, mut stream| async move {
        if raw_head(&mut stream).await.is_some() {
            let part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
            stream.write_all(part.as_bytes()).await.unwrap();
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    });
    let sidecar = before(&server);
    let mut client = TcpStream::connect(sidecar.proxy_address()).await.unwrap();
    client.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    let ended = within_deadline(client.read_to_end(&mut response))
        .await
        .unwrap();
    let is_own = response.starts_with(b"HTTP/1.0 502 ");
    assert!(ended.is_err() || is_own, "{}", response.escape_ascii());
}
