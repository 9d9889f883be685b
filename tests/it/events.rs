//! What the log says of the upstream, the token and the configuration: each change once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    Answer, Connection, FakeCsp, FakeService, Process, RawServer, Settings, Validator, eventually,
    eventually_async, get, pki::Authority, refused_address,
};

const SOON: Duration = Duration::from_secs(15);
const JSON: [&str; 2] = ["--log-format", "json"];

async fn start(settings: &Settings) -> Process {
    let settings = settings.clone().set("log.access", "off");
    Process::start_with(&settings, &JSON, &[]).await
}

fn lines(process: &Process) -> Vec<Value> {
    let output = process.stderr();
    // The last line may be on its way.
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    whole.lines().map(parse).collect()
}

/// The lines whose message begins so.
fn said(process: &Process, message: &str) -> Vec<Value> {
    let mut lines = lines(process);
    lines.retain(|line| line["message"].as_str().unwrap().starts_with(message));
    lines
}

/// Waits for one, and gives it.
async fn hear(process: &Process, message: &str) -> Value {
    eventually(|| !said(process, message).is_empty(), SOON).await;
    said(process, message).remove(0)
}

fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {line}"))
}

#[tokio::test]
async fn the_first_line_says_what_runs_with_what_and_between_whom() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = start(&Settings::new(&csp, &service)).await;
    let first = lines(&sidecar).remove(0);
    assert_eq!(first["message"], "auth-sidecar starts");
    assert_eq!(first["level"], "INFO");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["commit"], auth_sidecar::version::COMMIT);
    assert!(text(&first, "config_file").ends_with("/auth-sidecar.toml"));
    assert_eq!(first["credential"], "csp-oauth-app");
    assert_eq!(first["token_service"], csp.address().to_string());
    assert_eq!(first["upstream"], format!("{}/", service.url()));
    assert_eq!(first["listeners"], "127.0.0.1:0");
    let got = hear(&sidecar, "got a token").await;
    assert_eq!(got["cause"], "start");
    assert_eq!(got["token_service"], csp.address().to_string());
    // Times are numbers of seconds.
    let left = got["expires_in_seconds"].as_f64().unwrap();
    assert!((1790.0..1800.0).contains(&left), "{got}");
    assert!(got["next_attempt_in_seconds"].is_number());
}

#[tokio::test]
async fn an_upstream_that_refuses_a_hundred_requests_is_two_lines() {
    let (address, kept) = refused_address();
    let csp = FakeCsp::start();
    let settings = Settings::new(&csp, &FakeService::accepting_all())
        .set("upstream.url", format!("http://{address}"));
    let sidecar = start(&settings).await;
    let url = format!("{}/x", sidecar.url());
    for _ in 0..100 {
        assert_eq!(get(&url).await.status, 502);
    }
    let line = hear(&sidecar, "the upstream fails").await;
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["upstream"], address.to_string());
    assert_eq!(
        (&line["reason"], &line["status"]),
        (&"connect".into(), &502.into())
    );
    assert!(text(&line, "detail").contains("refused"), "{line}");
    assert!(text(&line, "remedy").contains("upstream.url"), "{line}");
    drop(kept);
    let service = FakeService::start_at(address, csp.validator());
    assert_eq!(get(&url).await.status, 200);
    let back = hear(&sidecar, "the upstream responds again").await;
    assert_eq!(
        (&back["failures"], &back["level"]),
        (&100.into(), &"INFO".into())
    );
    assert!(back["lasted_seconds"].is_number());
    assert_eq!(get(&url).await.status, 200);
    assert_eq!(said(&sidecar, "the upstream").len(), 2);
    drop(service);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_the_operator_s_to_mend() {
    let csp = FakeCsp::start();
    let service = FakeService::start_tls(csp.validator());
    let settings = Settings::new(&csp, &service).file("upstream.ca_file", &Authority::new().ca_pem);
    let sidecar = start(&settings).await;
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 502);
    let line = hear(&sidecar, "the upstream cannot be used").await;
    assert_eq!(
        (&line["level"], &line["reason"]),
        (&"ERROR".into(), &"certificate".into())
    );
    assert!(text(&line, "remedy").contains("upstream.ca_file"), "{line}");
}

#[tokio::test]
async fn a_token_that_ends_is_told_of_at_its_end_and_its_return_says_what_it_cost() {
    let csp = FakeCsp::start();
    csp.lifetime(2);
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "0s");
    let sidecar = start(&settings).await;
    hear(&sidecar, "got a token").await;
    csp.always(Answer::CspError(500));
    // Nobody asks for anything: the line comes by itself.
    let lost = hear(&sidecar, "no usable token").await;
    assert_eq!(
        (&lost["level"], &lost["reason"]),
        (&"WARN".into(), &"bad_status".into())
    );
    assert_eq!(lost["token_service"], csp.address().to_string());
    assert!(text(&lost, "remedy").len() > 20);
    let url = format!("{}/x", sidecar.url());
    for _ in 0..3 {
        assert_eq!(get(&url).await.status, 503);
    }
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let line = r#"auth_sidecar_responses_total{code="503",reason="token_unavailable"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
    csp.always(Answer::Default);
    let back = hear(&sidecar, "there is a usable token again").await;
    assert_eq!((&back["refused"], &back["held"]), (&3.into(), &3.into()));
    assert!(back["lasted_seconds"].as_f64().unwrap() > 0.0);
    // The same failure, over and over, was one line.
    assert_eq!(said(&sidecar, "got no token").len(), 1);
    assert_eq!(said(&sidecar, "no usable token").len(), 1);
}

#[tokio::test]
async fn a_credential_that_is_refused_from_the_start_is_the_operator_s_to_mend() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.client_id", "nobody");
    let sidecar = start(&settings).await;
    let lost = hear(&sidecar, "no usable token").await;
    assert_eq!(
        (&lost["level"], &lost["reason"]),
        (&"ERROR".into(), &"invalid_client".into())
    );
    assert!(text(&lost, "remedy").contains("auth.client_id"), "{lost}");
    let got = said(&sidecar, "got no token").remove(0);
    assert_eq!(
        (&got["level"], &got["remedy"]),
        (&"ERROR".into(), &lost["remedy"])
    );
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_the_operator_s_to_mend() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("secret");
    std::fs::write(&file, crate::support::CLIENT_SECRET).unwrap();
    let settings = Settings::new(&csp, &service)
        .unset("auth.client_secret")
        .set("auth.client_secret_file", file.to_str().unwrap());
    let sidecar = start(&settings).await;
    hear(&sidecar, "got a token").await;
    std::fs::remove_file(&file).unwrap();
    let failed = hear(&sidecar, "got no token").await;
    assert_eq!(
        (&failed["level"], &failed["reason"]),
        (&"ERROR".into(), &"secret_unreadable".into())
    );
}

#[tokio::test]
async fn an_upstream_that_says_401_to_everything_is_named_and_each_renewal_has_its_cause() {
    let csp = FakeCsp::start();
    let service = FakeService::start(Validator::new(|_| false));
    let sidecar = start(&Settings::new(&csp, &service)).await;
    let url = format!("{}/x", sidecar.url());
    for _ in 0..20 {
        assert_eq!(get(&url).await.status, 401);
    }
    let refused = hear(&sidecar, "the upstream refuses a fresh token").await;
    assert_eq!(
        (&refused["level"], &refused["status"]),
        (&"WARN".into(), &401.into())
    );
    assert_eq!(refused["upstream"], service.address().to_string());
    assert!(refused["generation"].as_u64().unwrap() > 1, "{refused}");
    assert!(text(&refused, "remedy").contains("doctor"), "{refused}");
    let causes: Vec<Value> = said(&sidecar, "got a token")
        .iter()
        .map(|line| line["cause"].clone())
        .collect();
    assert_eq!(causes[0], "start");
    assert!(causes.len() > 1 && causes[1..].iter().all(|cause| cause == "unauthorized"));
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert!(
        metrics.contains("auth_sidecar_token_refused 1"),
        "{metrics}"
    );
    service.accept(Validator::new(|_| true));
    assert_eq!(get(&url).await.status, 200);
    let back = hear(&sidecar, "the upstream accepts the token again").await;
    assert!(back["refusals"].as_u64().unwrap() > 10, "{back}");
    assert_eq!(said(&sidecar, "the upstream refuses").len(), 1);
}

#[tokio::test]
async fn a_reload_is_told_of_with_its_result() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("log.access", "off");
    let sidecar = start(&settings).await;
    hear(&sidecar, "got a token").await;
    let metric = async |line: &str| sidecar.admin_get("/metrics").await.1.contains(line);
    assert!(metric("config_last_reload_success 1.0\n").await);
    sidecar.reconfigure(&settings.clone().set("auth.client_id", "nobody"));
    let waits = hear(&sidecar, "the new configuration gives no token").await;
    assert_eq!(waits["level"], "WARN");
    assert!(metric("config_last_reload_success 0.0\n").await);
    // Clients have a token, so nothing is said of a loss.
    assert!(said(&sidecar, "no usable token").is_empty());
    sidecar.reconfigure(&settings.clone().set("auth.hold_timeout", "soon"));
    hear(&sidecar, "the new configuration is wrong").await;
    eventually_async(
        async || metric("config_last_reload_success 0.0\n").await,
        SOON,
    )
    .await;
    sidecar.reconfigure(&settings.clone().set("auth.hold_timeout", "7s"));
    hear(&sidecar, "the new configuration is in use").await;
    eventually_async(
        async || metric("config_last_reload_success 1.0\n").await,
        SOON,
    )
    .await;
    sidecar.signal(Signal::HUP);
    hear(&sidecar, "SIGHUP: the configuration is the same").await;
    let causes = || said(&sidecar, "got a token");
    let asked = || causes().iter().any(|line| line["cause"] == "asked");
    eventually(asked, SOON).await;
}

#[tokio::test]
async fn a_configuration_that_is_put_back_ends_the_trouble_with_the_one_that_was_tried() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("log.access", "off");
    let sidecar = start(&settings).await;
    hear(&sidecar, "got a token").await;
    let state = async || {
        let (_, json) = sidecar.admin_get("/status").await;
        let json: Value = serde_json::from_str(&json).unwrap();
        json["state"].as_str().unwrap().to_owned()
    };
    for (broken, message) in [
        (
            settings.clone().set("auth.hold_timeout", "soon"),
            "the new configuration is wrong",
        ),
        // It is still being tried.
        (
            settings.clone().set("auth.client_id", "nobody"),
            "the new configuration gives no token",
        ),
    ] {
        sidecar.reconfigure(&broken);
        let line = hear(&sidecar, message).await;
        assert!(line["failing_for_seconds"].is_number(), "{line}");
        eventually_async(async || state().await == "degraded", SOON).await;
        let told = said(&sidecar, "the configuration is again").len();
        sidecar.reconfigure(&settings);
        eventually_async(async || state().await == "ready", SOON).await;
        // The log has a thread of its own.
        let is_told = || said(&sidecar, "the configuration is again").len() == told + 1;
        eventually(is_told, SOON).await;
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        assert!(
            metrics.contains("config_last_reload_success 1.0\n"),
            "{metrics}"
        );
    }
}

/// An upstream that forbids one path, until it no longer does.
fn forbidding(forbids: &Arc<AtomicBool>) -> RawServer {
    let forbids = Arc::clone(forbids);
    RawServer::start(move |_, stream| {
        let forbids = Arc::clone(&forbids);
        async move {
            let mut connection = Connection::from(stream);
            while let Some(head) = connection.read_head().await {
                let is_forbidden =
                    head.starts_with("GET /forbidden") && forbids.load(Ordering::SeqCst);
                let status = if is_forbidden { "403 No" } else { "200 OK" };
                let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                connection.write(response).await;
            }
        }
    })
}

#[tokio::test]
async fn a_403_of_the_upstream_is_told_of_until_the_same_request_is_allowed() {
    let forbids = Arc::new(AtomicBool::new(true));
    let service = forbidding(&forbids);
    let settings = Settings::to(&format!("http://{}", service.address()))
        .set("auth.type", "static-token")
        .set("auth.token", "a-token");
    let sidecar = start(&settings).await;
    let ask = async |path: &str| get(&format!("{}{path}", sidecar.url())).await.status;
    for _ in 0..20 {
        assert_eq!(ask("/forbidden?secret=canary").await, 403);
    }
    let line = hear(&sidecar, "the upstream forbids").await;
    assert_eq!(
        (&line["level"], &line["request"]),
        (&"WARN".into(), &"GET /forbidden".into())
    );
    assert!(text(&line, "remedy").contains("role"), "{line}");
    let status = async || -> Value {
        let (_, json) = sidecar.admin_get("/status").await;
        serde_json::from_str(&json).unwrap()
    };
    let trouble = &status().await["troubles"][0];
    assert_eq!(
        (&trouble["kind"], &trouble["count"]),
        (&"forbidden".into(), &20.into())
    );
    assert!(!sidecar.stderr().contains("canary"));
    let metric = async |line: &str| sidecar.admin_get("/metrics").await.1.contains(line);
    assert!(metric("auth_sidecar_upstream_forbidden_total 20\n").await);
    // Another request says nothing of this one.
    assert_eq!(ask("/x").await, 200);
    assert_eq!(status().await["state"], "degraded");
    assert_eq!(said(&sidecar, "the upstream").len(), 1);
    forbids.store(false, Ordering::SeqCst);
    assert_eq!(ask("/forbidden").await, 200);
    let back = hear(&sidecar, "the upstream allows").await;
    assert_eq!(back["refusals"], 20, "{back}");
    assert_eq!(status().await["state"], "ready");
    assert!(metric(r#"trouble_since_timestamp_seconds{kind="forbidden"} 0.0"#).await);
}

#[tokio::test]
async fn clients_that_are_refused_are_told_of_once_with_the_last_of_them_and_what_to_do() {
    let service = FakeService::accepting(["a-token"]);
    let settings = Settings::static_token("a-token", &service);
    let settings = settings.set("listen.require_field", "X-Here: yes");
    let sidecar = start(&settings).await;
    for _ in 0..50 {
        assert_eq!(get(&sidecar.url()).await.status, 403);
    }
    let line = hear(&sidecar, "requests are refused").await;
    assert_eq!(
        (&line["level"], &line["reason"], &line["client"]),
        (
            &"INFO".into(),
            &"required_field".into(),
            &"127.0.0.1".into()
        )
    );
    assert!(
        text(&line, "remedy").contains("listen.require_field"),
        "{line}"
    );
    assert_eq!(said(&sidecar, "requests are refused").len(), 1);
    let (_, json) = sidecar.admin_get("/status").await;
    let json: Value = serde_json::from_str(&json).unwrap();
    // It is for the client to mend.
    assert_eq!(
        (&json["state"], &json["remedy"]),
        (&"ready".into(), &Value::Null)
    );
    assert_eq!(
        (&json["troubles"][0]["kind"], &json["troubles"][0]["count"]),
        (&"clients".into(), &50.into())
    );
}

#[tokio::test]
async fn a_loss_that_outlives_a_change_of_the_configuration_is_told_of_once() {
    let csp = FakeCsp::start();
    csp.always(Answer::CspError(500));
    let services = [csp.validator(), csp.validator()].map(FakeService::start);
    let settings = Settings::new(&csp, &services[0])
        .set("auth.hold_timeout", "0s")
        .set("log.access", "off");
    let sidecar = start(&settings).await;
    hear(&sidecar, "no usable token").await;
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 503);
    // The credentials are the same, so the token path goes on, to whatever upstream.
    let other = format!("http://{}", services[1].address());
    sidecar.reconfigure(&settings.clone().set("upstream.url", other));
    hear(&sidecar, "the new configuration is in use").await;
    assert_eq!(get(&url).await.status, 503);
    csp.always(Answer::Default);
    let back = hear(&sidecar, "there is a usable token again").await;
    assert_eq!(back["refused"], 2, "{back}");
    assert_eq!(said(&sidecar, "no usable token").len(), 1);
    assert!(said(&sidecar, "the new configuration gives no token").is_empty());
}

#[tokio::test]
async fn an_outage_that_outlives_a_change_of_the_configuration_is_told_of_once() {
    let (address, kept) = refused_address();
    let csp = FakeCsp::start();
    let settings = Settings::new(&csp, &FakeService::accepting_all())
        .set("upstream.url", format!("http://{address}"))
        .set("log.access", "off");
    let sidecar = start(&settings).await;
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 502);
    hear(&sidecar, "the upstream fails").await;
    sidecar.reconfigure(&settings.clone().set("upstream.via", false));
    hear(&sidecar, "the new configuration is in use").await;
    assert_eq!(get(&url).await.status, 502);
    drop(kept);
    let service = FakeService::start_at(address, csp.validator());
    assert_eq!(get(&url).await.status, 200);
    let back = hear(&sidecar, "the upstream responds again").await;
    assert_eq!(back["failures"], 2, "{back}");
    assert_eq!(said(&sidecar, "the upstream fails").len(), 1);
    drop(service);
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_an_error_with_its_key_and_file() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let ended = Authority::new().leaf_for(&["localhost"], 2020);
    let settings = Settings::new(&csp, &service).file("auth.ca_file", &ended.cert_pem);
    let sidecar = start(&settings).await;
    let line = hear(&sidecar, "a credential has ended").await;
    assert_eq!(
        (&line["level"], &line["key"]),
        (&"ERROR".into(), &"auth.ca_file".into())
    );
    assert!(text(&line, "file").ends_with("/auth.ca_file"), "{line}");
    assert!(text(&line, "ended_at").starts_with("20"), "{line}");
    assert!(line["days_since"].as_u64().unwrap() > 300, "{line}");
    assert!(said(&sidecar, "a credential ends soon").is_empty());
}
