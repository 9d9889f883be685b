//! The access log: who asked for what, and what came of it.

mod aborted;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use auth_sidecar::client_token::Hash;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Connection, FakeCsp, FakeService, Process, RawServer, Settings, Sidecar, eventually, get,
    http2::Http2, request, send_raw, try_request,
};

const SOON: Duration = Duration::from_secs(10);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A file for an access log.
struct Log {
    directory: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        Self { directory, path }
    }

    fn of(&self, settings: Settings, mode: &str) -> Settings {
        settings
            .set("log.access", mode)
            .set("log.format", "json")
            .set("log.access_file", self.path.to_str().unwrap())
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        whole.lines().map(parse).collect()
    }

    /// Waits for so many lines.
    async fn wait(&self, count: usize) -> Vec<Value> {
        eventually(|| self.lines().len() >= count, SOON).await;
        let lines = self.lines();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }
}

#[tokio::test]
async fn who_deleted_that_alert_is_a_search_for_a_method_and_a_path() {
    let log = Log::new();
    let service = FakeService::accepting(["the-token"]);
    let list = ["grafana", "terraform"]
        .map(|name| format!("{name}:{}\n", Hash::of(format!("canary-{name}").as_bytes())));
    let settings = Settings::static_token("the-token", &service)
        .file("listen.client_tokens_file", &list.concat());
    let sidecar = Sidecar::start(&log.of(settings, "all"));
    let requests = [
        ("grafana", "GET", "/api/v2/alert/1234"),
        ("terraform", "POST", "/api/v2/alert"),
        ("terraform", "DELETE", "/api/v2/alert/1234?key=canary-query"),
        ("grafana", "GET", "/api/v2/alert/1234"),
    ];
    for (count, (client, method, path)) in (1..).zip(requests) {
        let token = format!("canary-{client}");
        let url = format!("{}{path}", sidecar.url());
        let reply = request(method, &url, &[("x-auth-token", &token)], "").await;
        assert_eq!(reply.status, 200);
        // A line is written behind its response, which another worker could overtake.
        log.wait(count).await;
    }
    let lines = log.lines();
    // What docs/logs.md has as a recipe for jq.
    let writes: Vec<String> = lines
        .iter()
        .filter(|line| !matches!(line["http.request.method"].as_str(), Some("GET" | "HEAD")))
        .map(|line| {
            let field = |name: &str| line[name].as_str().unwrap().to_owned();
            let (who, method) = (field("client.name"), field("http.request.method"));
            format!("{who} {method} {}", field("url.path"))
        })
        .collect();
    assert_eq!(
        writes,
        [
            "terraform POST /api/v2/alert",
            "terraform DELETE /api/v2/alert/1234"
        ]
    );
    // Neither the local tokens nor the real one, nor a query that nobody asked for.
    let text = log.text();
    assert!(
        !text.contains("canary-") && !text.contains("the-token"),
        "{text}"
    );
}

#[tokio::test]
async fn a_line_has_what_an_operator_asks_for() {
    let log = Log::new();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = log
        .of(Settings::new(&csp, &service), "all")
        .set("log.access_query", true);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let fields = [("traceparent", parent.as_str())];
    let url = format!("{}/echo?a=b", sidecar.url());
    assert_eq!(
        request("POST", &url, &fields, "0123456789").await.status,
        200
    );
    csp.revoke_all();
    assert_eq!(
        get(&format!("{}/slow?ms=60", sidecar.url())).await.status,
        200
    );
    let lines = log.wait(2).await;
    let line = &lines[0];
    for (field, value) in [
        ("level", Value::from("INFO")),
        ("message", "request".into()),
        ("request_id", TRACE.into()),
        ("client.kind", "address".into()),
        ("client.address", "127.0.0.1".into()),
        ("http.request.method", "POST".into()),
        ("url.path", "/echo".into()),
        ("url.query", "a=b".into()),
        ("network.protocol.version", "1.1".into()),
        ("http.response.status_code", 200.into()),
        ("origin", "upstream".into()),
        ("http.request.body.size", 10.into()),
        ("http.response.body.size", 10.into()),
        ("token.generation", 1.into()),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(line.get("replayed").is_none() && line.get("error.type").is_none());
    let again = &lines[1];
    assert_eq!(
        (&again["replayed"], &again["token.generation"]),
        (&true.into(), &2.into())
    );
    let seconds = |field: &str| again[field].as_f64().unwrap();
    assert!(seconds("held_seconds") > 0.0);
    assert!(seconds("upstream_seconds") >= 0.06);
    assert!(seconds("first_byte_seconds") >= seconds("upstream_seconds"));
    assert!(seconds("duration_seconds") >= seconds("first_byte_seconds"));
}

#[tokio::test]
async fn by_default_there_is_a_line_for_what_went_wrong_and_none_for_the_rest() {
    let csp = FakeCsp::start();
    let mut service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service);
    let sidecar = Process::start_with(&settings, &["--log-format", "json"], &[]).await;
    let url = sidecar.url();
    for path in ["/x", "/status/404", "/status/503"] {
        get(&format!("{url}{path}")).await;
    }
    let evil = [("host", "evil.example")];
    let refused = request("GET", &format!("{url}/x"), &evil, "").await;
    let id = refused.json()["instance"].as_str().unwrap().to_owned();
    // It breaks off in the middle.
    assert!(
        try_request("GET", &format!("{url}/abort"), &[], "")
            .await
            .is_err()
    );
    send_raw(
        sidecar.proxy_address(),
        "GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
    )
    .await;
    service.stop();
    assert_eq!(get(&format!("{url}/x")).await.status, 502);
    let lines = || -> Vec<Value> {
        let output = sidecar.stderr();
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["target"] == "auth_sidecar::access")
            .collect()
    };
    eventually(|| lines().len() >= 5, SOON).await;
    let lines = lines();
    let told: Vec<(u64, &str, &str, &str)> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or("");
            let status = line["http.response.status_code"].as_u64().unwrap();
            (status, text("origin"), text("error.type"), text("level"))
        })
        .collect();
    assert_eq!(
        told,
        [
            (503, "upstream", "", "WARN"),
            (421, "sidecar", "host", "INFO"),
            (200, "upstream", "broken_off", "WARN"),
            (400, "sidecar", "malformed", "INFO"),
            (502, "sidecar", "connect", "WARN"),
        ]
    );
    // Under the id that the client was told.
    assert_eq!(lines[1]["request_id"], id);
    assert_eq!(lines[1]["proxy_status"], "http_request_denied");
    // Nothing of a request that could not be read is guessed.
    assert!(lines[3].get("url.path").is_none());
    assert_eq!(lines[3]["client.address"], "127.0.0.1");
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    for counted in [
        r#"auth_sidecar_responses_total{code="400",reason="malformed"} 1"#,
        r#"auth_sidecar_responses_total{code="421",reason="host"} 1"#,
        r#"auth_sidecar_responses_total{code="502",reason="connect"} 1"#,
        r#"auth_sidecar_upstream_errors_total{reason="broken_off"} 1"#,
        r#"auth_sidecar_upstream_errors_total{reason="connect"} 1"#,
        r#"auth_sidecar_requests_total{method="other",code_class="4xx",origin="sidecar"} 1"#,
        "auth_sidecar_upstream_up 0",
    ] {
        assert!(metrics.contains(counted), "{counted} in {metrics}");
    }
}

#[tokio::test]
async fn requests_of_http2_are_there_with_those_that_are_refused() {
    let log = Log::new();
    let service = FakeService::accepting(["the-token"]);
    let settings = log.of(Settings::static_token("the-token", &service), "all");
    let sidecar = Sidecar::start(&settings);
    let client = Http2::to(sidecar.proxy_address()).await;
    assert_eq!(client.request("GET", "/x", &[], "").await.status, 200);
    let two = [("content-length", "1"), ("content-length", "1")];
    let refused = client.try_request("GET", "/y", &two, "").await;
    let lines = log.wait(1 + usize::from(refused.is_ok())).await;
    assert_eq!(lines[0]["network.protocol.version"], "2");
    assert_eq!(lines[0]["url.path"], "/x");
    if let Ok(reply) = refused {
        assert_eq!(reply.status, 400);
        assert_eq!(lines[1]["error.type"], "malformed");
    }
}

#[tokio::test]
async fn refusals_and_orders_of_the_admin_listener_are_there_and_its_probes_are_not() {
    let log = Log::new();
    let service = FakeService::accepting(["the-token"]);
    let list = format!("grafana:{}\n", Hash::of(b"canary-token"));
    let settings =
        Settings::static_token("the-token", &service).file("listen.client_tokens_file", &list);
    let sidecar = Sidecar::start(&log.of(settings, "all"));
    sidecar.ready().await;
    let order = async |path: &str, fields: &[(&str, &str)]| {
        let url = format!("{}{path}", sidecar.admin_url());
        request("POST", &url, fields, "").await.status.as_u16()
    };
    let token = ("x-auth-token", "canary-token");
    assert_eq!(order("/refresh", &[("host", "evil.example")]).await, 421);
    assert_eq!(order("/refresh", &[]).await, 403);
    assert_eq!(
        order("/refresh", &[token, ("origin", "http://localhost")]).await,
        403
    );
    assert_eq!(order("/quitquitquit?q=canary-query", &[token]).await, 403);
    assert_eq!(order("/refresh", &[token]).await, 202);
    assert_eq!(sidecar.admin_get("/nowhere").await.0, 404);
    let lines = log.wait(6).await;
    let told: Vec<(u64, &str, &str)> = lines
        .iter()
        .map(|line| {
            assert_eq!(line["listener"], "admin", "{line}");
            assert_eq!(line["client.address"], "127.0.0.1");
            let text = |name: &str| line[name].as_str().unwrap_or("");
            let status = line["http.response.status_code"].as_u64().unwrap();
            (status, text("error.type"), text("client.name"))
        })
        .collect();
    assert_eq!(
        told,
        [
            (421, "host", ""),
            (403, "order", ""),
            (403, "cross_site", ""),
            (403, "order", "grafana"),
            (202, "", "grafana"),
            (404, "not_found", ""),
        ]
    );
    assert!(!log.text().contains("canary"), "{}", log.text());
}

/// A service that agrees to a WebSocket, and has settings that lead to it.
fn websockets() -> (RawServer, Settings) {
    let service = RawServer::start(|_, stream| async move {
        let mut connection = Connection::from(stream);
        connection.read_head().await.unwrap();
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        connection.write(agreed).await;
        connection.read_exact(10).await;
        connection.write("hello").await;
        connection.read_to_end().await;
    });
    let settings = Settings::to(&format!("http://{}", service.address()))
        .set("auth.type", "static-token")
        .set("auth.token", "the-token");
    (service, settings)
}

/// A WebSocket that has carried ten bytes there and five back.
async fn carried(address: SocketAddr) -> Connection {
    let mut client = Connection::to(address).await;
    let offer = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write(offer).await;
    assert!(client.read_head().await.unwrap().contains(" 101 "));
    client.write("0123456789").await;
    assert_eq!(client.read_exact(5).await, b"hello");
    client
}

#[tokio::test]
async fn a_websocket_is_a_line_with_the_bytes_of_both_directions() {
    let log = Log::new();
    let (_service, settings) = websockets();
    let sidecar = Sidecar::start(&log.of(settings, "all"));
    drop(carried(sidecar.proxy_address()).await);
    let line = log.wait(1).await.remove(0);
    assert_eq!(line["http.response.status_code"], 101);
    assert_eq!(
        (
            &line["http.request.body.size"],
            &line["http.response.body.size"]
        ),
        (&10.into(), &5.into()),
        "{line}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_before_its_response_is_a_line_without_a_status() {
    let log = Log::new();
    let service = FakeService::accepting(["the-token"]);
    let settings = log.of(Settings::static_token("the-token", &service), "errors");
    let sidecar = Sidecar::start(&settings);
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write("GET /slow?ms=60000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    eventually(|| service.in_flight() == 1, SOON).await;
    drop(client);
    let line = log.wait(1).await.remove(0);
    assert!(line.get("http.response.status_code").is_none(), "{line}");
    assert_eq!(
        (&line["error.type"], &line["level"]),
        (&"client_gone".into(), &"INFO".into())
    );
    assert_eq!(line["url.path"], "/slow");
}

#[tokio::test]
async fn a_client_of_a_unix_socket_is_named_by_its_user() {
    let log = Log::new();
    let service = FakeService::accepting(["the-token"]);
    let socket = log.directory.path().join("proxy.sock");
    let settings = log
        .of(Settings::static_token("the-token", &service), "all")
        .set("listen.address", format!("unix:{}", socket.display()));
    let _sidecar = Sidecar::start(&settings);
    let reply = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        let asked = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(asked).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    });
    assert!(reply.await.unwrap().starts_with("HTTP/1.1 200"));
    let line = log.wait(1).await.remove(0);
    let user = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(
        (&line["client.kind"], &line["client.name"]),
        (&"user".into(), &user.into())
    );
    assert!(line.get("client.address").is_none());
}

#[tokio::test]
async fn a_file_that_a_rotation_has_moved_away_is_followed_by_a_new_one_in_the_sandbox_too() {
    let log = Log::new();
    let service = FakeService::accepting(["the-token"]);
    let settings = log.of(Settings::static_token("the-token", &service), "all");
    let sidecar = Process::start(&settings).await;
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    log.wait(1).await;
    let old = log.directory.path().join("access.log.1");
    std::fs::rename(&log.path, &old).unwrap();
    sidecar.signal(Signal::HUP);
    eventually(
        || sidecar.stderr().contains("the access log is open anew"),
        SOON,
    )
    .await;
    assert_eq!(get(&url).await.status, 200);
    let line = log.wait(1).await.remove(0);
    assert_eq!(line["url.path"], "/x");
    assert_eq!(std::fs::read_to_string(old).unwrap().lines().count(), 1);
    // What goes to the file goes nowhere else.
    assert!(!sidecar.stderr().contains("url.path"));
}

#[tokio::test]
async fn a_file_that_somebody_could_have_planted_ends_the_start() {
    let log = Log::new();
    std::os::unix::fs::symlink("/dev/null", &log.path).unwrap();
    let service = FakeService::accepting(["the-token"]);
    let settings = log.of(Settings::static_token("the-token", &service), "all");
    let error = Sidecar::try_start(&settings).unwrap_err();
    assert!(format!("{error:#}").contains("symbolic link"), "{error:#}");
}

#[tokio::test]
async fn a_reload_changes_which_requests_are_logged() {
    let log = Log::new();
    let service = FakeService::accepting(["the-token"]);
    let settings = Settings::static_token("the-token", &service);
    let sidecar = Process::start(&log.of(settings.clone(), "off")).await;
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    sidecar.reconfigure(&log.of(settings, "all"));
    eventually(
        || sidecar.stderr().contains("configuration is in use"),
        SOON,
    )
    .await;
    assert_eq!(get(&url).await.status, 200);
    assert_eq!(log.wait(1).await.len(), 1);
}
