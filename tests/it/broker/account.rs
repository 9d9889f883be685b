//! Who took a token: a line of the access log for each, and the metrics.

use std::{path::PathBuf, time::Duration};

use rustix::process::getuid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    API_TOKEN, APP, GRANT, NGINX, TELEGRAF, TOKEN, ask, basic, has_line, over, place, post,
    settings,
};
use crate::support::{
    Answer, CLIENT_SECRET, Connection, FakeCsp, FakeService, Settings, Sidecar, TOKEN_CANARY,
    eventually, eventually_async, logs, request,
};

const SOON: Duration = Duration::from_secs(10);

/// A file for an access log.
struct Log {
    _directory: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        Self {
            _directory: directory,
            path,
        }
    }

    fn of(&self, settings: Settings) -> Settings {
        settings
            .set("log.format", "json")
            .set("log.access_file", self.path.to_str().unwrap())
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for so many lines.
    async fn wait(&self, count: usize) -> Vec<Value> {
        eventually(|| self.lines().len() >= count, SOON).await;
        let lines = self.lines();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }
}

/// Who took a token, where, and which.
fn taken(line: &Value) -> (String, String, u64) {
    let text = |field: &str| line[field].as_str().unwrap_or("").to_owned();
    let generation = line["token.generation"].as_u64().unwrap_or(0);
    (text("client.name"), text("token.endpoint"), generation)
}

#[tokio::test]
async fn each_token_that_is_handed_out_has_a_line_with_the_name_of_its_taker() {
    let log = Log::new();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    // By default; neither the level of the log nor that of a request that went well matters.
    let sidecar = Sidecar::start(&log.of(settings(&csp, &service)).set("log.level", "trace"));
    for path in [TOKEN, APP, API_TOKEN, TOKEN] {
        assert_eq!(ask(&sidecar, path).await.status, 200);
    }
    let lines = log.wait(4).await;
    let takers: Vec<_> = lines.iter().map(taken).collect();
    let taker = |name: &str, endpoint: &str| (name.to_owned(), endpoint.to_owned(), 1);
    assert_eq!(
        takers,
        [
            taker("nginx", "oauth2"),
            taker("nginx", "csp"),
            taker("telegraf", "csp"),
            taker("nginx", "oauth2"),
        ]
    );
    let line = &lines[2];
    for (field, value) in [
        ("message", json!("request")),
        ("level", json!("INFO")),
        ("client.kind", json!("token")),
        ("client.address", json!("127.0.0.1")),
        ("http.request.method", json!("POST")),
        ("url.path", json!(API_TOKEN)),
        ("http.response.status_code", json!(200)),
        ("origin", json!("broker")),
        (
            "http.request.body.size",
            json!("api_token=".len() + TELEGRAF.len()),
        ),
    ] {
        assert_eq!(line[field], value, "{field} of {line}");
    }
    assert!(line.get("error.type").is_none(), "{line}");
    let kept = line["token.expires_in_seconds"].as_u64().unwrap();
    assert!((1780..1799).contains(&kept), "{kept}");

    // Neither a token nor what is shown for one, here or in the log at any level.
    let url = format!("{}{TOKEN}", sidecar.broker_url());
    post(&url, &[("authorization", &basic("nginx", "guess"))], GRANT).await;
    post(
        &url,
        &[("authorization", &basic("x", CLIENT_SECRET))],
        GRANT,
    )
    .await;
    log.wait(6).await;
    sidecar.stop().await.unwrap();
    let all = logs::captured() + &std::fs::read_to_string(&log.path).unwrap();
    let sent = basic("any", NGINX);
    for secret in [NGINX, TELEGRAF, CLIENT_SECRET, TOKEN_CANARY, &sent] {
        assert!(!all.contains(secret), "a secret is in the log");
    }
}

#[tokio::test]
async fn whoever_asks_before_each_request_has_a_line_for_each_token_or_for_each_request() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let log = Log::new();
    let sidecar = Sidecar::start(&log.of(settings(&csp, &service)));
    let url = format!("{}/auth/x?canary-query", sidecar.broker_url());
    let auth = async |token: &str| {
        let reply = request("GET", &url, &[("x-auth-token", token)], "").await;
        assert_eq!(reply.status, 200);
    };
    for token in [NGINX, NGINX, TELEGRAF, NGINX, TELEGRAF] {
        auth(token).await;
    }
    let of = |name: &str, generation| (name.to_owned(), "auth".to_owned(), generation);
    let lines = log.wait(2).await;
    let takers: Vec<_> = lines.iter().map(taken).collect();
    assert_eq!(takers, [of("nginx", 1), of("telegraf", 1)]);
    assert_eq!(lines[0]["url.path"], "/auth/x");
    assert!(!lines[0].to_string().contains("canary-query"));
    // Another token is taken anew.
    let refresh = format!("{}/refresh", sidecar.admin_url());
    assert_eq!(request("POST", &refresh, &[], "").await.status, 202);
    eventually(|| csp.calls().len() == 2, SOON).await;
    let has_second = async || {
        let (_, status) = sidecar.admin_get("/status").await;
        status.contains("\"generation\":2") || status.contains("\"generation\": 2")
    };
    eventually_async(has_second, SOON).await;
    for _ in 0..3 {
        auth(NGINX).await;
    }
    let lines = log.wait(3).await;
    assert_eq!(taken(&lines[2]), of("nginx", 2));
    drop(sidecar);

    let log = Log::new();
    let all = log.of(settings(&csp, &service)).set("log.access", "all");
    let sidecar = Sidecar::start(&all);
    for _ in 0..3 {
        assert_eq!(ask(&sidecar, "/auth").await.status, 200);
    }
    log.wait(3).await;
    drop(sidecar);

    let log = Log::new();
    let off = log.of(settings(&csp, &service)).set("log.access", "off");
    let sidecar = Sidecar::start(&off);
    for path in [TOKEN, "/auth"] {
        assert_eq!(ask(&sidecar, path).await.status, 200);
    }
    sidecar.stop().await.unwrap();
    log.wait(0).await;
}

#[tokio::test]
async fn a_user_of_the_socket_is_named_by_its_number() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let log = Log::new();
    let (_directory, path) = place();
    let own = getuid().as_raw().to_string();
    let settings = Settings::new(&csp, &service)
        .set("broker.address", format!("unix:{}", path.display()))
        .set("broker.allow_users", [own.as_str()].as_slice());
    let _sidecar = Sidecar::start(&log.of(settings));
    over(&path, &format!("POST {TOKEN}"), GRANT);
    let lines = log.wait(1).await;
    assert_eq!(lines[0]["client.kind"], "user", "{}", lines[0]);
    assert_eq!(taken(&lines[0]), (own, "oauth2".to_owned(), 1));
}

#[tokio::test]
async fn each_token_that_is_written_to_a_file_has_a_line() {
    let csp = FakeCsp::start();
    csp.lifetime(3);
    let service = FakeService::start(csp.validator());
    let log = Log::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let file = json!({ "path": path.to_str().unwrap() });
    let settings = Settings::new(&csp, &service).set("broker.file", vec![file]);
    let sidecar = Sidecar::start(&log.of(settings));
    eventually(|| log.lines().len() >= 3, SOON).await;
    for (line, generation) in log.lines().iter().zip(1..) {
        assert_eq!(line["message"], "token file", "{line}");
        assert_eq!(line["file.path"], path.to_str().unwrap());
        assert_eq!(line["token.generation"], generation);
        let left = line["token.expires_in_seconds"].as_f64().unwrap();
        assert!(left > 2.0 && left <= 3.0, "{line}");
        assert!(!line.to_string().contains(TOKEN_CANARY));
    }
    drop(sidecar);
}

#[tokio::test]
async fn a_request_that_gets_no_token_has_a_line_with_the_reason() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let log = Log::new();
    let settings = log.of(settings(&csp, &service));
    let sidecar = Sidecar::start(&settings.set("auth.hold_timeout", "100ms"));
    sidecar.ready().await;
    let url = |path: &str| format!("{}{path}", sidecar.broker_url());
    post(&url(TOKEN), &[], GRANT).await;
    post(&url(API_TOKEN), &[], "api_token=guess").await;
    request("GET", &url("/auth"), &[], "").await;
    let foreign = [("host", "evil.example")];
    request("GET", &url("/auth"), &foreign, "").await;
    request("GET", &url("/nowhere"), &[], "").await;
    let address = sidecar.broker_url();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let mut connection = Connection::to(address).await;
    connection
        .write("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n")
        .await;
    connection.read_to_end().await;
    let lines = log.wait(6).await;
    let reasons: Vec<_> = lines
        .iter()
        .map(|line| {
            let status = line["http.response.status_code"].as_u64().unwrap();
            (status, line["error.type"].as_str().unwrap_or(""))
        })
        .collect();
    assert_eq!(
        reasons,
        [
            (401, "invalid_client"),
            (400, "invalid_grant"),
            (403, "client_token"),
            (421, "host"),
            (404, ""),
            (400, "malformed"),
        ]
    );
    for line in &lines {
        assert_eq!(line["origin"], "broker", "{line}");
        assert_eq!(line["level"], "INFO", "{line}");
        assert!(line.get("token.generation").is_none(), "{line}");
    }
    for line in [
        r#"auth_sidecar_rejected_total{reason="client_token"} 3"#,
        r#"auth_sidecar_rejected_total{reason="host"} 1"#,
        r#"auth_sidecar_rejected_total{reason="malformed"} 1"#,
        r#"auth_sidecar_responses_total{code="421",reason="host"} 1"#,
    ] {
        assert!(has_line(&sidecar, line).await, "{line}");
    }
}

#[tokio::test]
async fn whoever_waits_at_the_broker_counts_among_those_that_wait() {
    let csp = FakeCsp::start();
    csp.always(Answer::Hang);
    let service = FakeService::start(csp.validator());
    let log = Log::new();
    let settings = log.of(settings(&csp, &service));
    let sidecar = Sidecar::start(&settings.set("auth.hold_timeout", "700ms"));
    let (reply, ()) = tokio::join!(ask(&sidecar, "/auth"), async {
        let is_held = async || has_line(&sidecar, "auth_sidecar_held_requests 1.0").await;
        eventually_async(is_held, SOON).await;
    });
    assert_eq!(reply.status, 503);
    assert_eq!(ask(&sidecar, TOKEN).await.status, 503);
    for line in [
        "auth_sidecar_held_requests 0.0",
        r#"auth_sidecar_responses_total{code="503",reason="token_unavailable"} 2"#,
        r#"auth_sidecar_broker_tokens_total{client="nginx",endpoint="auth"} 0"#,
    ] {
        assert!(has_line(&sidecar, line).await, "{line}");
    }
    let lines = log.wait(2).await;
    for (line, error) in lines
        .iter()
        .zip(["token_unavailable", "temporarily_unavailable"])
    {
        assert_eq!(line["error.type"], error, "{line}");
        assert_eq!(line["client.name"], "nginx");
        assert!(line["held_seconds"].as_f64().unwrap() >= 0.6, "{line}");
    }
}
