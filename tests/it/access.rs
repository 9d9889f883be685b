//! Who may use the port: local tokens of clients, and a field that is required.

use std::time::Duration;

use auth_sidecar::client_token::Hash;
use tokio::task::JoinSet;

use crate::support::{
    Connection, FakeService, Process, Reply, Settings, Sidecar, eventually_async, get,
    http2::Http2, logs, pki::Authority, request, try_request,
};

const TOKEN: &str = "the-real-token";
/// How long a changed list may go unnoticed.
const NOTICED: Duration = Duration::from_secs(2);

const GRAFANA: &str = "canary-local-token-grafana";
const TELEGRAF: &str = "canary-local-token-telegraf";

fn list(clients: &[(&str, &str)]) -> String {
    let line = |(name, token): &(&str, &str)| format!("{name}:{}\n", Hash::of(token.as_bytes()));
    clients.iter().map(line).collect()
}

fn settings(service: &FakeService) -> Settings {
    Settings::static_token(TOKEN, service).file(
        "listen.client_tokens_file",
        &list(&[("grafana", GRAFANA), ("telegraf", TELEGRAF)]),
    )
}

fn is_denied(reply: &Reply, details: &str) -> bool {
    let status = format!("auth-sidecar; error=http_request_denied; details=\"{details}\"");
    reply.status == 403 && reply.header("proxy-status") == Some(&status)
}

async fn with_token(url: &str, token: &str) -> Reply {
    request("GET", url, &[("x-auth-token", token)], "").await
}

#[tokio::test]
async fn a_local_token_lets_a_client_in_and_is_replaced_by_the_real_one() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&service));
    let url = format!("{}/x", sidecar.url());
    let bearer = format!("Bearer {GRAFANA}");
    for fields in [
        &[("authorization", bearer.as_str())][..],
        &[("x-auth-token", GRAFANA)],
        &[("csp-auth-token", TELEGRAF)],
        &[("authorization", "Bearer null"), ("x-auth-token", TELEGRAF)],
    ] {
        let reply = request("POST", &url, fields, "body").await;
        assert_eq!(reply.status, 200, "{fields:?}");
    }
    let received = service.requests();
    assert_eq!(received.len(), 4);
    for request in received {
        assert_eq!(request.token(), TOKEN);
        for name in ["x-auth-token", "csp-auth-token"] {
            assert_eq!(request.header(name), None);
        }
    }
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    for line in [
        r#"auth_sidecar_client_requests_total{client="grafana"} 2"#,
        r#"auth_sidecar_client_requests_total{client="telegraf"} 2"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }
    assert!(!metrics.contains("canary"));
}

#[tokio::test]
async fn without_a_local_token_every_request_of_a_connection_is_refused() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&service));
    let url = format!("{}/x", sidecar.url());
    let bearer = format!("Bearer {TOKEN}");
    for fields in [
        &[][..],
        &[("authorization", bearer.as_str())],
        &[("authorization", GRAFANA)],
        &[("x-auth-token", "guess")],
        &[("cookie", GRAFANA)],
    ] {
        let reply = request("GET", &url, fields, "").await;
        assert!(is_denied(&reply, "client_token"), "{fields:?}");
        assert_eq!(reply.header("www-authenticate"), None);
    }
    // Nor does one good request speak for the next of its connection, or a nomination hide it.
    let mut connection = Connection::to(sidecar.proxy_address()).await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    for (fields, status) in [
        (format!("X-AUTH-TOKEN: {GRAFANA}\r\n"), "200"),
        (String::new(), "403"),
        (
            format!("X-AUTH-TOKEN: {GRAFANA}\r\nConnection: x-auth-token\r\n"),
            "200",
        ),
        (upgrade.to_owned(), "403"),
    ] {
        let head = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        connection.write(&head).await;
        let (answer, _) = connection.read_message().await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
    }
    assert_eq!(service.request_count(), 2);
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let line = r#"auth_sidecar_rejected_total{reason="client_token"} 7"#;
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    // The admin listener is no way to the service, and probes have no token.
    assert_eq!(
        get(&format!("{}/livez", sidecar.admin_url())).await.status,
        200
    );
}

#[tokio::test]
async fn each_stream_of_a_connection_with_http2_is_judged_by_itself() {
    const TIMES: usize = 20;
    type Fields = &'static [(&'static str, &'static str)];
    const BEARER: (&str, &str) = ("authorization", "Bearer canary-local-token-grafana");
    const REAL: (&str, &str) = ("authorization", "Bearer the-real-token");
    const FIELD: (&str, &str) = ("x-sidecar", "yes");
    const CLIENT: (&str, &str) = ("x-auth-token", GRAFANA);
    let authority = Authority::new();
    let leaf = authority.leaf();
    let cases: [(&str, &str, Fields, Option<&str>); 9] = [
        ("GET", "/api/v2/alert/1", &[FIELD, CLIENT], None),
        ("GET", "/api/v2/alert/2", &[BEARER, FIELD], None),
        ("POST", "/report", &[FIELD, CLIENT], None),
        ("GET", "/api/v2/alert/1", &[CLIENT], Some("required_field")),
        ("GET", "/api/v2/alert/1", &[FIELD], Some("client_token")),
        (
            "GET",
            "/api/v2/alert/1",
            &[FIELD, REAL],
            Some("client_token"),
        ),
        (
            "GET",
            "/api/v2/user/1",
            &[FIELD, CLIENT],
            Some("not_allowed"),
        ),
        (
            "DELETE",
            "/api/v2/alert/1",
            &[FIELD, CLIENT],
            Some("not_allowed"),
        ),
        (
            "GET",
            "/api/v2/alert/%2e%2e",
            &[FIELD, CLIENT],
            Some("not_allowed"),
        ),
    ];
    for secured in [false, true] {
        let service = FakeService::accepting([TOKEN]);
        let rules = ["GET /api/v2/alert/*", "POST /report"];
        let mut settings = settings(&service)
            .set("listen.require_field", "X-Sidecar: yes")
            .set("listen.allow", rules.as_slice());
        if secured {
            settings = settings
                .set("listen.address", "tls:127.0.0.1:0")
                .file("listen.tls_cert_file", &leaf.cert_pem)
                .file("listen.tls_key_file", &leaf.key_pem);
        }
        let sidecar = Sidecar::start(&settings);
        let client = if secured {
            Http2::secured(sidecar.proxy_address(), authority.roots()).await
        } else {
            Http2::to(sidecar.proxy_address()).await
        };
        let mut exchanges = JoinSet::new();
        for case in (0..TIMES).flat_map(|_| cases) {
            let client = client.clone();
            exchanges.spawn(async move {
                let (method, target, fields, refused) = case;
                let reply = client.request(method, target, fields, "").await;
                match refused {
                    None => assert_eq!(reply.status, 200, "{case:?}"),
                    Some(details) => assert!(is_denied(&reply, details), "{case:?}: {reply:?}"),
                }
            });
        }
        exchanges.join_all().await;
        let received = service.requests();
        assert_eq!(received.len(), 3 * TIMES);
        for request in received {
            assert_eq!(request.token(), TOKEN);
            for name in ["x-auth-token", "x-sidecar"] {
                assert_eq!(request.header(name), None);
            }
        }
    }
}

#[tokio::test]
async fn a_changed_list_comes_into_use_and_a_wrong_one_does_not() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&service));
    let url = format!("{}/x", sidecar.url());
    let file = "listen.client_tokens_file";
    let reloads = async |result: &str| {
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        let line = format!("auth_sidecar_client_tokens_reload_total{{result=\"{result}\"}} 1");
        metrics.lines().any(|found| found == line)
    };
    sidecar.rewrite(file, "grafana:canary-not-a-hash\n");
    eventually_async(async || reloads("failure").await, NOTICED).await;
    assert_eq!(with_token(&url, GRAFANA).await.status, 200);
    sidecar.rewrite(file, &list(&[("telegraf", TELEGRAF), ("new", "new-token")]));
    let is_new = async || with_token(&url, "new-token").await.status == 200;
    eventually_async(is_new, NOTICED).await;
    assert_eq!(with_token(&url, TELEGRAF).await.status, 200);
    assert!(is_denied(&with_token(&url, GRAFANA).await, "client_token"));
    assert!(reloads("success").await);
    // A file of comments is meant; one that is gone or empty may be on its way.
    sidecar.rewrite(file, "# nobody\n");
    let nobody = async || {
        // One that is under way at that moment is broken off.
        let reply = try_request("GET", &url, &[("x-auth-token", TELEGRAF)], "").await;
        reply.is_ok_and(|reply| reply.status == 403)
    };
    eventually_async(nobody, NOTICED).await;
    assert!(!logs::captured().contains("canary-not-a-hash"));
}

#[tokio::test]
async fn a_list_that_is_wrong_at_the_start_is_a_mistake_of_the_configuration() {
    let service = FakeService::accepting([TOKEN]);
    let wrong = settings(&service).file("listen.client_tokens_file", "a:canary\nb\n");
    let files = tempfile::tempdir().unwrap();
    let config = wrong.write(files.path());
    let arguments = ["check", "--config", config.to_str().unwrap()];
    let mut process = Process::spawn(&arguments, &[]);
    assert_eq!(process.wait().await.code(), Some(2));
    let said = process.output();
    for part in [
        "listen.client_tokens_file (file ",
        "line 1: the hash must be the SHA-256 of the token",
        "line 2: must be name:sha256",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("canary"), "{said}");
}

#[test]
fn a_list_that_others_can_write_to_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;

    let service = FakeService::accepting([TOKEN]);
    let files = tempfile::tempdir().unwrap();
    // Others would not get to it otherwise.
    std::fs::set_permissions(files.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let path = files.path().join("clients");
    std::fs::write(&path, list(&[("grafana", GRAFANA)])).unwrap();
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.client_tokens_file", path.to_str().unwrap());
    // A group of the owner alone is nobody else.
    let by_group = usize::from(rustix::process::getuid().is_root());
    for (mode, warnings) in [
        (0o600, 0),
        (0o644, 0),
        (0o620, by_group),
        (0o602, 1),
        (0o666, 1),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::set_permissions(elsewhere.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let said = settings.load(elsewhere.path()).unwrap().warnings;
        assert_eq!(said.len(), warnings, "{mode:o}: {said:?}");
        let names_it = |text: &String| text.starts_with("listen.client_tokens_file: others");
        assert!(said.iter().all(names_it), "{said:?}");
    }
}

#[tokio::test]
async fn a_token_made_by_the_command_works_at_once() {
    let service = FakeService::accepting([TOKEN]);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("clients");
    let make = async |name: &str| {
        let arguments = ["local-token", name, "--file", path.to_str().unwrap()];
        let mut process = Process::spawn(&arguments, &[]);
        assert_eq!(process.wait().await.code(), Some(0), "{}", process.output());
        process.stdout().trim_end().to_owned()
    };
    let first = make("first").await;
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.client_tokens_file", path.to_str().unwrap())
        .set("log.level", "trace");
    let sidecar = Process::start(&settings).await;
    let url = format!("{}/x", sidecar.url());
    assert_eq!(with_token(&url, &first).await.status, 200);
    let second = make("second").await;
    let is_in = async || with_token(&url, &second).await.status == 200;
    eventually_async(is_in, NOTICED).await;
    let log = sidecar.output();
    assert!(
        log.contains("client=\"second\"") || log.contains("client=second"),
        "{log}"
    );
    assert!(!log.contains(&first) && !log.contains(&second), "{log}");
}

#[tokio::test]
async fn a_required_field_is_judged_as_received_and_goes_no_further() {
    let service = FakeService::accepting([TOKEN]);
    let settings =
        Settings::static_token(TOKEN, &service).set("listen.require_field", "X-Auth-Sidecar: yes");
    let sidecar = Sidecar::start(&settings);
    let mut connection = Connection::to(sidecar.proxy_address()).await;
    for (fields, status) in [
        ("X-Auth-Sidecar: yes\r\n", "200"),
        ("", "403"),
        ("x-auth-sidecar: no\r\n", "403"),
        // What is nominated is taken off; that must neither let in nor keep out.
        (
            "Connection: x-auth-sidecar\r\nX-AUTH-SIDECAR: yes\r\n",
            "200",
        ),
        ("Connection: x-auth-sidecar\r\n", "403"),
    ] {
        let head = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        connection.write(&head).await;
        let (answer, _) = connection.read_message().await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{head}: {answer}");
        assert_eq!(
            answer.contains("details=\"required_field\""),
            status == "403"
        );
    }
    let received = service.requests();
    assert_eq!(received.len(), 2);
    for request in received {
        assert_eq!(request.header("x-auth-sidecar"), None);
    }
}
