//! Who was let in and would no longer be: what they have open ends, and nobody else's.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use auth_sidecar::client_token::Hash;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rustix::process::getuid;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    Answer, Body, Connection, FakeCsp, FakeService, Process, RawServer, Settings, Sidecar,
    eventually,
    http2::Http2,
    next_data,
    peer::field,
    pki::{Authority, Leaf},
};

const TOKEN: &str = "a-token";
const GRAFANA: &str = "local-token-of-grafana";
const TELEGRAF: &str = "local-token-of-telegraf";
/// How soon what is revoked ends.
const SOON: Duration = Duration::from_secs(2);
/// How long a reload may take that gets a token first.
const RELOAD: Duration = Duration::from_secs(10);
const STREAM: &str = "/stream?ms=20";

fn line(name: &str, token: &str) -> String {
    format!("{name}:{}\n", Hash::of(token.as_bytes()))
}

fn both() -> String {
    line("grafana", GRAFANA) + &line("telegraf", TELEGRAF)
}

fn settings(service: &FakeService) -> Settings {
    Settings::static_token(TOKEN, service).file("listen.client_tokens_file", &both())
}

fn head(target: &str, token: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX-AUTH-TOKEN: {token}\r\n\r\n")
}

/// A stream that has begun.
async fn stream(address: SocketAddr, token: &str) -> Connection {
    let mut client = Connection::to(address).await;
    client.write(head(STREAM, token)).await;
    let head = client.read_head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client
}

/// A connection that rests behind a request.
async fn kept(address: SocketAddr, token: &str) -> Connection {
    let mut client = Connection::to(address).await;
    client.write(head("/x", token)).await;
    let (head, _) = client.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client
}

/// Whether it ends within the time, whatever it sends until then.
async fn ends(client: &mut Connection) -> bool {
    timeout(SOON, client.read_to_end()).await.is_ok()
}

async fn streams_on(client: &mut Connection) -> bool {
    timeout(SOON, client.read_exact(200)).await.is_ok()
}

async fn http2_stream(client: &Http2, token: &str) -> Incoming {
    let request = http::Request::get(STREAM).header("x-auth-token", token);
    let response = client.send(request.body(Body::empty()).unwrap()).await;
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

async fn is_reset(body: &mut Incoming) -> bool {
    let reset = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return true;
            }
        }
        false
    };
    timeout(SOON, reset).await == Ok(true)
}

#[tokio::test]
async fn a_deleted_token_ends_the_streams_and_connections_of_its_client_alone() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&service));
    let at = sidecar.proxy_address();
    let (mut streaming, mut others) = (stream(at, GRAFANA).await, stream(at, TELEGRAF).await);
    let (mut resting, mut rests) = (kept(at, GRAFANA).await, kept(at, TELEGRAF).await);
    let mut uploading = Connection::to(at).await;
    let fields = format!("Host: localhost\r\nX-AUTH-TOKEN: {GRAFANA}\r\nContent-Length: 9\r\n\r\n");
    uploading
        .write(format!("POST /echo HTTP/1.1\r\n{fields}half"))
        .await;
    let shared = Http2::to(at).await;
    let mut revoked = http2_stream(&shared, GRAFANA).await;
    let mut stays = http2_stream(&shared, TELEGRAF).await;
    let (alone, connection) = Http2::open(at, 1 << 20).await;
    alone
        .request("GET", "/x", &[("x-auth-token", GRAFANA)], "")
        .await;
    eventually(|| service.in_flight() == 5, SOON).await;
    sidecar.rewrite("listen.client_tokens_file", &line("telegraf", TELEGRAF));
    assert!(ends(&mut streaming).await, "a stream");
    assert!(ends(&mut resting).await, "a connection at rest");
    assert!(ends(&mut uploading).await, "an upload");
    assert!(is_reset(&mut revoked).await, "a stream of HTTP/2");
    let ended = timeout(SOON, connection).await;
    assert!(ended.is_ok(), "a connection with HTTP/2 at rest");
    assert!(streams_on(&mut others).await);
    assert!(next_data(&mut stays).await.is_some());
    let reply = shared
        .request("GET", "/x", &[("x-auth-token", TELEGRAF)], "")
        .await;
    assert_eq!(reply.status, 200);
    rests.write(head("/x", TELEGRAF)).await;
    assert!(rests.read_message().await.unwrap().0.contains(" 200 "));
    // The upstream hears of it too.
    eventually(|| service.in_flight() == 2, SOON).await;
}

#[tokio::test]
async fn a_token_that_is_replaced_under_its_name_is_revoked() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&service));
    let mut old = stream(sidecar.proxy_address(), GRAFANA).await;
    sidecar.rewrite(
        "listen.client_tokens_file",
        &line("grafana", "its-next-one"),
    );
    assert!(ends(&mut old).await);
}

#[tokio::test]
async fn a_stream_without_framing_is_not_passed_off_as_whole() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&service));
    let mut old = TcpStream::connect(sidecar.proxy_address()).await.unwrap();
    let request = head(STREAM, GRAFANA).replace("HTTP/1.1", "HTTP/1.0");
    old.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    old.read_exact(&mut begun).await.unwrap();
    sidecar.rewrite("listen.client_tokens_file", &line("telegraf", TELEGRAF));
    let mut rest = Vec::new();
    let ended = timeout(SOON, old.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_websocket_of_a_revoked_client_ends_on_both_sides() {
    const OFFER: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let (tell, mut ended) = tokio::sync::mpsc::channel(1);
    let service = RawServer::start(move |_, stream| {
        let tell = tell.clone();
        async move {
            let mut connection = Connection::from(stream);
            if connection.read_head().await.is_some() {
                connection.write(AGREED).await;
                connection.read_to_end().await;
                tell.send(()).await.unwrap();
            }
        }
    });
    let settings = Settings::to(&format!("http://{}", service.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
        .file("listen.client_tokens_file", &both());
    let sidecar = Sidecar::start(&settings);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    let offer = head("/ws", GRAFANA).replace("\r\n\r\n", "\r\n") + OFFER + "\r\n";
    client.write(offer).await;
    let head = client.read_head().await.unwrap();
    assert_eq!(field(&head, "upgrade"), Some("websocket"), "{head}");
    sidecar.rewrite("listen.client_tokens_file", &line("telegraf", TELEGRAF));
    assert!(ends(&mut client).await);
    timeout(SOON, ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn tokens_that_are_newly_asked_for_end_what_came_without_one() {
    let service = FakeService::accepting([TOKEN]);
    let process = Process::start(&Settings::static_token(TOKEN, &service)).await;
    let mut without = stream(process.proxy_address(), "none").await;
    // Has asked for nothing yet, and so was not let in as anybody.
    let mut fresh = Connection::to(process.proxy_address()).await;
    process.reconfigure(&settings(&service));
    let ended = timeout(RELOAD, without.read_to_end()).await;
    assert!(ended.is_ok());
    fresh.write(head("/x", TELEGRAF)).await;
    assert!(fresh.read_message().await.unwrap().0.contains(" 200 "));
}

/// Copies a stream to nowhere as another user.
fn streaming_as(user: u32, socket: &Path) -> Child {
    Command::new("curl")
        .args(["--silent", "--max-time", "30", "--output", "/dev/null"])
        .arg("--unix-socket")
        .arg(socket)
        .arg(format!("http://localhost{STREAM}"))
        .stdout(Stdio::null())
        .uid(user)
        .gid(user)
        .spawn()
        .unwrap()
}

async fn unix_stream(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream
        .write_all(head(STREAM, "none").as_bytes())
        .await
        .unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    stream
}

/// Reads until it ends; false when it still streams at the end of the time.
async fn io_ends(io: &mut (impl AsyncRead + Unpin), within: Duration) -> bool {
    let mut piece = [0; 4096];
    let read = async { while !matches!(io.read(&mut piece).await, Ok(0) | Err(_)) {} };
    timeout(within, read).await.is_ok()
}

#[tokio::test]
async fn a_user_that_is_taken_out_loses_what_is_open_and_others_do_not() {
    const NOBODY: u32 = 65534;
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let (path, admin) = (directory.path().join("s"), directory.path().join("a"));
    let own = getuid().as_raw().to_string();
    let settings = Settings::new(&csp, &service)
        .set(
            "listen.address",
            [format!("unix:{}", path.display()), "127.0.0.1:0".to_owned()].as_slice(),
        )
        .set("admin.address", format!("unix:{}", admin.display()))
        .set("listen.unix_mode", "0666");
    let users = |key: &str, ids: &[&str]| settings.clone().set(key, ids);
    let process =
        Process::start_without_admin(&users("listen.allow_users", &[&own, "65534"])).await;
    let mut ours = unix_stream(&path).await;
    // Who is locked out does not wait for a token service that is away.
    csp.always(Answer::Html503);
    // Whoever comes by a port is judged by other rules.
    let mut by_port = stream(process.proxy_address(), "none").await;
    if getuid().is_root() {
        let mut theirs = streaming_as(NOBODY, &path);
        eventually(|| service.in_flight() == 3, SOON).await;
        process.reconfigure(&users("listen.allow_users", &[&own]));
        eventually(|| theirs.try_wait().unwrap().is_some(), RELOAD).await;
        assert!(!io_ends(&mut ours, Duration::from_millis(300)).await);
    }
    // Groups are of that kind, and so is the admin listener.
    let mut operator = UnixStream::connect(&admin).await.unwrap();
    process.reconfigure(&users("listen.allow_groups", &["4242"]));
    assert!(io_ends(&mut ours, RELOAD).await);
    assert!(io_ends(&mut operator, SOON).await);
    assert!(streams_on(&mut by_port).await);
}

async fn tls_stream(at: SocketAddr, authority: &Authority, own: &Leaf) -> TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key) = own.der();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(chain, key)
        .unwrap();
    let socket = TcpStream::connect(at).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = "localhost".try_into().unwrap();
    let mut stream = connector.connect(name, socket).await.unwrap();
    stream
        .write_all(head(STREAM, "none").as_bytes())
        .await
        .unwrap();
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn a_replaced_client_authority_ends_the_connections_of_its_certificates_alone() {
    let service = FakeService::accepting([TOKEN]);
    let (server, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let leaf = server.leaf();
    let client = |authority: &Authority| {
        authority.leaf_with(|parameters| {
            parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        })
    };
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.address", "tls:127.0.0.1:0")
        .file("listen.tls_cert_file", &leaf.cert_pem)
        .file("listen.tls_key_file", &leaf.key_pem)
        .file(
            "listen.tls_client_ca_file",
            &format!("{}{}", old.ca_pem, new.ca_pem),
        );
    let sidecar = Sidecar::start(&settings);
    let at = sidecar.proxy_address();
    let mut of_old = tls_stream(at, &server, &client(&old)).await;
    let mut of_new = tls_stream(at, &server, &client(&new)).await;
    // Another certificate of ours is nobody's end.
    sidecar.rewrite("listen.tls_cert_file", &leaf.cert_pem);
    assert!(!io_ends(&mut of_old, Duration::from_secs(1)).await);
    sidecar.rewrite("listen.tls_client_ca_file", &new.ca_pem);
    assert!(io_ends(&mut of_old, SOON).await);
    assert!(!io_ends(&mut of_new, Duration::from_millis(300)).await);
}
