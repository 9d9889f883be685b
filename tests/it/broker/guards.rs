//! Who gets a token, and who does not.

use std::{os::unix::process::CommandExt as _, process::Command};

use http::Method;
use rustix::process::getuid;

use super::{FORM, GRANT, NGINX, TOKEN, ask, encoded, has_line, list, over, place, settings};
use crate::support::{
    Connection, FakeCsp, FakeService, Settings, Sidecar, TOKEN_CANARY, get, request,
};

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
        let (response, _) = connection.read_message().await.unwrap();
        assert_eq!(
            response.split(' ').nth(1),
            Some(status),
            "{head}: {response}"
        );
        assert_eq!(response.contains(TOKEN_CANARY), status == "200");
        assert!(!response.to_lowercase().contains("access-control-"));
        let mut connection = Connection::to(address).await;
        let body = format!("{GRANT}&client_secret={}", encoded(NGINX));
        let head = format!(
            "POST {TOKEN} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
             {fields}\r\n{body}",
            FORM.1,
            body.len()
        );
        connection.write(&head).await;
        let (response, _) = connection.read_message().await.unwrap();
        assert_eq!(
            response.split(' ').nth(1),
            Some(status),
            "{head}: {response}"
        );
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
        let (response, _) = connection.read_message().await.unwrap();
        assert_eq!(response.split(' ').nth(1), Some("405"), "{response}");
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
    let zero =
        format!("auth_sidecar_broker_tokens_total{{client=\"uid:{own}\",endpoint=\"csp\"}} 0");
    assert!(has_line(&sidecar, &zero).await);
    let response = over(&path, &format!("POST {TOKEN}"), GRANT);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    assert!(response.contains(&FakeCsp::token(1)), "{response}");
    let response = over(&path, "GET /auth", "");
    assert!(response.contains(&format!("Bearer {}", FakeCsp::token(1))));
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
    let response = over(&path, &format!("POST {TOKEN}"), GRANT);
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    // That is about the broker alone.
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    drop(sidecar);

    // Who is named, and has to show a local token besides.
    let both = mine.file("broker.client_tokens_file", &list());
    let _sidecar = Sidecar::start(&both);
    let response = over(&path, &format!("POST {TOKEN}"), GRANT);
    assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
    let body = format!("{GRANT}&client_secret={}", encoded(NGINX));
    let response = over(&path, &format!("POST {TOKEN}"), &body);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
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
