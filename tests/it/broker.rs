//! The broker: who gets a token, in which words, and for how long.

mod account;
mod command;
mod csp;
mod file_settings;
mod files;
mod guards;
mod page;
mod reload;
mod revocation;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use auth_sidecar::client_token::Hash;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{
    Answer, CLIENT_SECRET, Connection, DEADLINE, FakeCsp, FakeService, Reply, Settings, Sidecar,
    eventually_async, request,
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
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
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
        // The name counts for nothing: the token names the client.
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
async fn a_client_that_waits_before_it_sends_its_form_is_asked_for_it_at_once() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let address = sidecar.broker_url();
    let address = address.strip_prefix("http://").unwrap().parse().unwrap();
    let mut client = Connection::to(address).await;
    let form = format!("{GRANT}&client_secret={}", encoded(NGINX));
    client
        .write(format!(
            "POST {TOKEN} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            form.len()
        ))
        .await;
    // The broker gives a body ten seconds.
    let interim = timeout(Duration::from_secs(5), client.read_head()).await;
    let interim = interim.unwrap().unwrap();
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    client.write(form).await;
    let (head, _) = client.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
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
async fn without_a_token_every_response_says_when_to_come_back() {
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
