//! The broker: who gets a token, in which words, and for how long.

mod account;
mod command;
mod files;
mod revocation;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use auth_sidecar::{
    client_token::Hash,
    config::{Config, Loaded, Sources},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Method;
use rustix::process::{Signal, getuid};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Answer, CLIENT_SECRET, Connection, DEADLINE, FakeCsp, FakeService, Process, Reply, Settings,
    Sidecar, TOKEN_CANARY, eventually, eventually_async, request,
};

const NGINX: &str = "canary-broker-token-nginx-+/=";
const TELEGRAF: &str = "canary-broker-token-telegraf";

const TOKEN: &str = "/oauth2/token";
const APP: &str = "/csp/gateway/am/api/auth/authorize";
const API_TOKEN: &str = "/csp/gateway/am/api/auth/api-tokens/authorize";

const GRANT: &str = "grant_type=client_credentials";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn list() -> String {
    let line = |name: &str, token: &str| format!("{name}:{}\n", Hash::of(token.as_bytes()));
    line("nginx", NGINX) + &line("telegraf", TELEGRAF)
}

/// With a broker on a port, for two clients.
fn settings(csp: &FakeCsp, service: &FakeService) -> Settings {
    Settings::new(csp, service)
        .set("broker.address", "127.0.0.1:0")
        .file("broker.client_tokens_file", &list())
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

async fn post(url: &str, fields: &[(&str, &str)], body: &str) -> Reply {
    let fields: Vec<_> = [&[FORM][..], fields].concat();
    request("POST", url, &fields, body.to_owned()).await
}

/// A request for a token of a client that is known.
async fn ask(sidecar: &Sidecar, path: &str) -> Reply {
    let url = format!("{}{path}", sidecar.broker_url());
    match path {
        API_TOKEN => post(&url, &[], &format!("api_token={TELEGRAF}")).await,
        "/auth" => request("GET", &url, &[("x-auth-token", NGINX)], "").await,
        _ => post(&url, &[("authorization", &basic("any", NGINX))], GRANT).await,
    }
}

async fn has_line(sidecar: &Sidecar, line: &str) -> bool {
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    metrics.lines().any(|found| found == line)
}

/// A directory that anybody can look into, with the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("broker.sock");
    (directory, path)
}

/// One exchange over a unix socket.
fn over(path: &Path, head: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: {}\r\nContent-Length: {length}\r\n\r\n{body}",
        FORM.1
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn the_token_endpoint_takes_a_local_token_as_the_client_secret() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let url = format!("{}{TOKEN}", sidecar.broker_url());
    let in_body = format!("{GRANT}&client_id=nginx&client_secret={}", encoded(NGINX));
    let encoded_basic = basic("nginx", &encoded(NGINX));
    for (fields, body) in [
        (&[("authorization", &*basic("nginx", NGINX))][..], GRANT),
        // RFC 6749 §2.3.1 encodes both parts, which not every client does.
        (&[("authorization", &*encoded_basic)], GRANT),
        (&[], &in_body),
        // The name is not judged: the token names the client.
        (&[("authorization", &*basic("somebody-else", NGINX))], GRANT),
        (
            &[("authorization", &*basic("", NGINX))],
            "scope=x&resource=y&grant_type=client_credentials",
        ),
    ] {
        let reply = post(&url, fields, body).await;
        assert_eq!(reply.status, 200, "{body}: {reply:?}");
        let granted = reply.json();
        assert_eq!(granted["access_token"], FakeCsp::token(1), "{granted}");
        assert_eq!(granted["token_type"], "Bearer");
        let expires_in = granted["expires_in"].as_u64().unwrap();
        assert!((1780..1799).contains(&expires_in), "{expires_in}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("pragma"), Some("no-cache"));
        // What it gives is the real one, without the sidecar in between.
        let bearer = format!("Bearer {}", granted["access_token"].as_str().unwrap());
        let direct = format!("{}/x", service.url());
        let used = request("GET", &direct, &[("authorization", &bearer)], "").await;
        assert_eq!(used.status, 200);
    }
    for (client, count) in [("nginx", 5), ("telegraf", 0)] {
        let line = format!(
            "auth_sidecar_broker_tokens_total{{client=\"{client}\",endpoint=\"oauth2\"}} {count}"
        );
        assert!(has_line(&sidecar, &line).await, "{line}");
    }
    assert_eq!(csp.calls().len(), 1);
}

#[tokio::test]
async fn errors_of_the_token_endpoint_are_those_of_the_standard() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let url = format!("{}{TOKEN}", sidecar.broker_url());
    let good = basic("nginx", NGINX);
    let both = format!("{GRANT}&client_secret={}", encoded(NGINX));
    let long = format!("{GRANT}&x={}", "y".repeat(20_000));
    let real = basic("nginx", CLIENT_SECRET);
    let bearer = format!("Bearer {NGINX}");
    for (authorization, body, status, code) in [
        ("", GRANT, 401, "invalid_client"),
        (&*basic("nginx", "guess"), GRANT, 401, "invalid_client"),
        (&*basic("nginx", ""), GRANT, 401, "invalid_client"),
        (&real, GRANT, 401, "invalid_client"),
        (&bearer, GRANT, 401, "invalid_client"),
        ("Basic !", GRANT, 401, "invalid_client"),
        (&good, &both, 400, "invalid_request"),
        (&good, "", 400, "invalid_request"),
        (&good, "grant_type=", 400, "invalid_request"),
        (
            &good,
            "grant_type=client_credentials&grant_type=client_credentials",
            400,
            "invalid_request",
        ),
        (
            &good,
            "grant_type=authorization_code",
            400,
            "unsupported_grant_type",
        ),
        (&good, &long, 400, "invalid_request"),
    ] {
        let fields = [("authorization", authorization)];
        let fields = if authorization.is_empty() {
            &[][..]
        } else {
            &fields
        };
        let reply = post(&url, fields, body).await;
        assert_eq!(reply.status, status, "{authorization} {reply:?}");
        assert_eq!(reply.json()["error"], code, "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let challenge = reply.header("www-authenticate").is_some();
        assert_eq!(challenge, status == 401);
        assert!(!reply.text().contains("canary"), "{reply:?}");
    }
    let json = [
        ("content-type", "application/json"),
        ("authorization", &good),
    ];
    let reply = request("POST", &url, &json, "{}").await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["error"]),
        (400, &json!("invalid_request"))
    );
    let get = request("GET", &url, &[("authorization", &good)], "").await;
    assert_eq!(
        (get.status.as_u16(), get.header("allow")),
        (405, Some("POST"))
    );
    let elsewhere = request("GET", &format!("{}/x", sidecar.broker_url()), &[], "").await;
    assert_eq!(elsewhere.status, 404);
    let line = r#"auth_sidecar_broker_tokens_total{client="nginx",endpoint="oauth2"} 0"#;
    assert!(has_line(&sidecar, line).await);
    let line = r#"auth_sidecar_rejected_total{reason="client_token"} 6"#;
    assert!(has_line(&sidecar, line).await);
}

#[tokio::test]
async fn a_client_of_csp_gets_its_token_in_the_shape_that_it_knows() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let url = |path: &str| format!("{}{path}", sidecar.broker_url());
    let authorization = basic("app-id", TELEGRAF);
    let app = [("authorization", authorization.as_str())];
    let org = format!("{GRANT}&orgId=5c1f0b7e");
    // One of the clients has a base URL that ends in a slash, and sends two.
    for (path, fields, body) in [
        (APP, &app[..], GRANT),
        (APP, &app, &org),
        (&*format!("/{APP}"), &app, GRANT),
        (API_TOKEN, &[], &format!("api_token={TELEGRAF}")),
        (
            API_TOKEN,
            &[],
            &format!("grant_type=api_token&refresh_token={TELEGRAF}"),
        ),
        (
            &*format!("/{API_TOKEN}"),
            &[],
            &format!("grant_type=api_token&api_token={TELEGRAF}"),
        ),
    ] {
        let reply = post(&url(path), fields, body).await;
        assert_eq!(reply.status, 200, "{path} {body} {reply:?}");
        let granted = reply.json();
        assert_eq!(granted["access_token"], FakeCsp::token(1));
        assert_eq!(granted["token_type"], "bearer");
        assert!(granted["expires_in"].as_u64().unwrap() > 1700);
        // A client of it fails at fields that it does not know.
        assert_eq!(granted.as_object().unwrap().len(), 3, "{granted}");
    }
    let line = r#"auth_sidecar_broker_tokens_total{client="telegraf",endpoint="csp"} 6"#;
    assert!(has_line(&sidecar, line).await);
    for (path, fields, body, status) in [
        (APP, &app[..], "grant_type=password", 400),
        (APP, &[], GRANT, 401),
        (API_TOKEN, &[], "api_token=guess", 400),
        (API_TOKEN, &app, "grant_type=api_token", 400),
    ] {
        let reply = post(&url(path), fields, body).await;
        assert_eq!(reply.status, status, "{path} {body}");
        let error = reply.json();
        assert_eq!(error["statusCode"], status);
        assert_eq!(error["moduleCode"], 340);
        for field in ["cspErrorCode", "message", "requestId", "traceId"] {
            assert!(!error[field].as_str().unwrap().is_empty(), "{error}");
        }
        assert_eq!(error.get("error"), None);
    }
}

#[tokio::test]
async fn what_csp_clients_are_told_makes_none_of_them_loop_and_others_are_told_the_truth() {
    for (lifetime, csp_says, oauth2_says) in [
        (3, 31..=31, 1..=2),
        (40, 31..=36, 16..=36),
        (60, 31..=55, 25..=55),
    ] {
        let csp = FakeCsp::start();
        csp.lifetime(lifetime);
        let service = FakeService::start(csp.validator());
        let sidecar = Sidecar::start(&settings(&csp, &service));
        for path in [APP, API_TOKEN] {
            let said = ask(&sidecar, path).await.json()["expires_in"].as_u64();
            assert!(csp_says.contains(&said.unwrap()), "{lifetime}: {said:?}");
        }
        let said = ask(&sidecar, TOKEN).await.json()["expires_in"].as_u64();
        assert!(oauth2_says.contains(&said.unwrap()), "{lifetime}: {said:?}");
    }
    // A token that does not end can be replaced in its file at any time.
    let service = FakeService::accepting(["fixed"]);
    let fixed = Settings::static_token("fixed", &service)
        .set("broker.address", "127.0.0.1:0")
        .file("broker.client_tokens_file", &list());
    let sidecar = Sidecar::start(&fixed);
    assert_eq!(ask(&sidecar, APP).await.json()["expires_in"], 300);
    assert_eq!(ask(&sidecar, TOKEN).await.json()["expires_in"], 300);
}

#[tokio::test]
async fn whoever_asks_before_each_request_gets_the_field_to_put_on_it() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let url = |path: &str| format!("{}{path}", sidecar.broker_url());
    let bearer = format!("Bearer {NGINX}");
    let dummy = ("authorization", "Bearer of-the-client");
    for (method, path, fields) in [
        ("GET", "/auth", &[("x-auth-token", NGINX)][..]),
        ("GET", "/auth", &[("authorization", &*bearer)]),
        ("HEAD", "/auth", &[dummy, ("csp-auth-token", NGINX)]),
        // As Envoy asks: the method and the path of the request, behind a prefix.
        ("POST", "/auth/api/v2/x?q=1", &[("x-auth-token", NGINX)]),
        ("DELETE", "/auth/", &[dummy, ("x-auth-token", NGINX)]),
    ] {
        let reply = request(method, &url(path), fields, "").await;
        assert_eq!(reply.status, 200, "{method} {path}");
        let expected = format!("Bearer {}", FakeCsp::token(1));
        assert_eq!(reply.header("authorization"), Some(expected.as_str()));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(reply.body.is_empty());
    }
    for fields in [&[][..], &[dummy], &[("x-auth-token", "guess")]] {
        let reply = request("GET", &url("/auth"), fields, "").await;
        assert_eq!(reply.status, 403, "{fields:?}");
        assert_eq!(reply.header("authorization"), None);
    }
    let line = r#"auth_sidecar_broker_tokens_total{client="nginx",endpoint="auth"} 5"#;
    assert!(has_line(&sidecar, line).await);
}

#[tokio::test]
async fn without_a_token_everybody_is_told_when_to_come_back() {
    let csp = FakeCsp::start();
    csp.always(Answer::CspError(500));
    let service = FakeService::start(csp.validator());
    let settings = settings(&csp, &service).set("auth.hold_timeout", "100ms");
    let sidecar = Sidecar::start(&settings);
    for path in [TOKEN, APP, API_TOKEN, "/auth"] {
        let reply = ask(&sidecar, path).await;
        assert_eq!(reply.status, 503, "{path}");
        let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
        assert_eq!(reply.header("authorization"), None);
    }
    assert_eq!(
        ask(&sidecar, TOKEN).await.json()["error"],
        "temporarily_unavailable"
    );
    assert_eq!(ask(&sidecar, APP).await.json()["statusCode"], 503);
    // Whoever can wait is held until there is one, as requests are.
    csp.restore();
    let got_one = async || ask(&sidecar, "/auth").await.status == 200;
    eventually_async(got_one, DEADLINE).await;
}

#[tokio::test]
async fn a_web_page_gets_no_token_and_no_other_host_does() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(
        &settings(&csp, &service).set("broker.allow_hosts", ["gate.example"].as_slice()),
    );
    let address = sidecar.broker_url();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let secret = format!("X-AUTH-TOKEN: {NGINX}\r\n");
    for (host, fields, status) in [
        ("localhost", "", "200"),
        ("gate.example", "", "200"),
        ("rebound.example", "", "421"),
        ("localhost", "Origin: https://evil.example\r\n", "403"),
        ("localhost", "Origin: null\r\n", "403"),
        ("localhost", "Sec-Fetch-Site: cross-site\r\n", "403"),
    ] {
        let mut connection = Connection::to(address).await;
        let head = format!("GET /auth HTTP/1.1\r\nHost: {host}\r\n{secret}{fields}\r\n");
        connection.write(&head).await;
        let (answer, _) = connection.read_message().await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
        assert_eq!(answer.contains(TOKEN_CANARY), status == "200");
        assert!(!answer.to_lowercase().contains("access-control-"));
        let mut connection = Connection::to(address).await;
        let body = format!("{GRANT}&client_secret={}", encoded(NGINX));
        let head = format!(
            "POST {TOKEN} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
             {fields}\r\n{body}",
            FORM.1,
            body.len()
        );
        connection.write(&head).await;
        let (answer, _) = connection.read_message().await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
    }
    for method in [Method::TRACE, Method::CONNECT] {
        let mut connection = Connection::to(address).await;
        let target = if method == Method::CONNECT {
            "localhost:1"
        } else {
            "/auth"
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{secret}\r\n");
        connection.write(&head).await;
        let (answer, _) = connection.read_message().await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some("405"), "{answer}");
    }
}

#[tokio::test]
async fn only_those_whom_the_unix_socket_lets_in_need_no_local_token() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (_directory, path) = place();
    let own = getuid().as_raw();
    let settings = Settings::new(&csp, &service)
        .set("broker.address", format!("unix:{}", path.display()))
        .set("listen.unix_mode", "0666");
    let mine = settings
        .clone()
        .set("broker.allow_users", [own.to_string()].as_slice());
    let sidecar = Sidecar::start(&mine);
    let answer = over(&path, &format!("POST {TOKEN}"), GRANT);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&FakeCsp::token(1)), "{answer}");
    let answer = over(&path, "GET /auth", "");
    assert!(answer.contains(&format!("Bearer {}", FakeCsp::token(1))));
    for endpoint in ["oauth2", "auth"] {
        let line = format!(
            "auth_sidecar_broker_tokens_total{{client=\"uid:{own}\",endpoint=\"{endpoint}\"}} 1"
        );
        assert!(has_line(&sidecar, &line).await, "{line}");
    }
    sidecar.stop().await.unwrap();
    assert!(!path.exists());

    let theirs = settings.set("broker.allow_users", [(own + 1).to_string()].as_slice());
    let sidecar = Sidecar::start(&theirs);
    let answer = over(&path, &format!("POST {TOKEN}"), GRANT);
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    // That is about the broker alone.
    assert_eq!(
        crate::support::get(&format!("{}/x", sidecar.url()))
            .await
            .status,
        200
    );
    drop(sidecar);

    // Who is named, and has to show a local token besides.
    let both = mine.file("broker.client_tokens_file", &list());
    let _sidecar = Sidecar::start(&both);
    let answer = over(&path, &format!("POST {TOKEN}"), GRANT);
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let body = format!("{GRANT}&client_secret={}", encoded(NGINX));
    let answer = over(&path, &format!("POST {TOKEN}"), &body);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Becoming another user needs root, as in a container that builds.
#[tokio::test]
async fn another_user_of_the_machine_gets_no_token_from_the_socket() {
    const NOBODY: u32 = 65534;
    if !getuid().is_root() {
        println!("skipped: only root can start a process of another user");
        return;
    }
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (_directory, path) = place();
    let settings = Settings::new(&csp, &service)
        .set("broker.address", format!("unix:{}", path.display()))
        .set("listen.unix_mode", "0666");
    for (users, status) in [("root", "403"), ("root, nobody", "200")] {
        let _sidecar = Sidecar::start(&settings.clone().set("broker.allow_users", users));
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "10", "--unix-socket"])
            .arg(&path)
            .args(["--write-out", "%{http_code}", "http://localhost/auth"])
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.ends_with(status), "{users}: {said}");
    }
}

#[test]
fn a_broker_that_would_serve_whoever_reaches_it_is_a_mistake() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let base = Settings::new(&csp, &service);
    let at = |address: &str| base.clone().set("broker.address", address);
    let users = |settings: Settings| settings.set("broker.allow_users", ["0"].as_slice());
    let unix = "unix:/tmp/broker.sock";
    let directory = tempfile::tempdir().unwrap();
    for (settings, part) in [
        (at("127.0.0.1:9799"), "hand tokens to whoever reaches it"),
        (at(unix), "hand tokens to whoever reaches it"),
        // The kernel vouches for nobody who comes by TCP.
        (
            users(at("127.0.0.1:9799")),
            "hand tokens to whoever reaches it",
        ),
        (
            users(at("127.0.0.1:9799, unix:/tmp/broker.sock")),
            "127.0.0.1:9799 would hand tokens",
        ),
        // Nor do the guards of the data listener count.
        (
            at(unix).set("listen.allow_users", ["0"].as_slice()),
            "hand tokens to whoever reaches it",
        ),
        (
            at("192.0.2.1:1").file("broker.client_tokens_file", &list()),
            "must be loopback addresses",
        ),
        (
            at("tls:127.0.0.1:1").file("broker.client_tokens_file", &list()),
            "must be IP:port or localhost:port",
        ),
        (
            at("127.0.0.1:7").set("listen.address", "127.0.0.1:7"),
            "must not be one of listen.address",
        ),
        (
            at("127.0.0.1:7").file("broker.client_tokens_file", "canary\n"),
            "line 1: must be name:sha256",
        ),
    ] {
        let error = settings.load(directory.path()).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
        assert!(error.starts_with("broker."), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    for right in [
        base.clone(),
        at("off"),
        users(at(unix)),
        at("127.0.0.1:9799, unix:/tmp/broker.sock").file("broker.client_tokens_file", &list()),
    ] {
        assert!(right.load(directory.path()).is_ok(), "{right:?}");
    }
}

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

/// What the threat model says of a token that has left the process.
#[tokio::test]
async fn a_token_that_has_left_is_bound_by_no_rule_of_the_data_listener() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service).set("listen.preset", "read-only"));
    sidecar.ready().await;
    let proxied = format!("{}/report", sidecar.url());
    assert_eq!(request("POST", &proxied, &[], "x").await.status, 403);
    let granted = ask(&sidecar, TOKEN).await.json();
    let bearer = format!("Bearer {}", granted["access_token"].as_str().unwrap());
    let direct = format!("{}/report", service.url());
    let reply = request("POST", &direct, &[("authorization", &bearer)], "x").await;
    assert_eq!(reply.status, 200);
}

const PAGE: &str = include_str!("../../docs/broker.md");

/// `tests/broker/run` drives the other blocks of the page.
#[test]
fn the_configuration_of_the_page_is_right_and_gives_no_warning() {
    let (_, block) = PAGE.split_once("run: sidecar.toml -->\n```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let files = tempfile::tempdir().unwrap();
    let clients = files.path().join("clients");
    fs::write(&clients, list()).unwrap();
    let block = block
        .replace(
            "/etc/auth-sidecar/broker-clients",
            clients.to_str().unwrap(),
        )
        .replace("/run/auth-sidecar", files.path().to_str().unwrap());
    let base = Settings::to("https://h.example")
        .set("auth.type", "static-token")
        .set("auth.token", "x");
    let config = base.write(files.path());
    let whole = format!("{}\n{block}", fs::read_to_string(&config).unwrap());
    fs::write(&config, whole).unwrap();
    let loaded = Config::load(&Sources::of_file(config)).unwrap_or_else(|error| panic!("{error}"));
    let Loaded { config, .. } = loaded;
    assert_eq!(config.broker.addresses.len(), 2);
    assert_eq!(config.broker.files.len(), 1);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}
