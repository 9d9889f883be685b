//! When the credentials themselves end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::{
    API_TOKEN, Answer, FakeCsp, FakeService, Process, Settings, Sidecar, eventually,
    eventually_async, get, logs,
};

const SOON: Duration = Duration::from_secs(10);
const DAY: u64 = 24 * 60 * 60;

fn in_days(days: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_secs() + days * DAY
}

#[tokio::test]
async fn the_end_of_an_api_token_is_told_everywhere_and_ahead_of_time() {
    for milliseconds in [false, true] {
        let csp = FakeCsp::start();
        let service = FakeService::start(csp.validator());
        let end = in_days(5);
        let unit = if milliseconds { 1000 } else { 1 };
        csp.api_token_details(json!({"tokenValue": API_TOKEN, "expiresAt": end * unit}));
        let sidecar = Process::start(&Settings::api_token(&csp, &service)).await;
        let line =
            format!("auth_sidecar_credential_expiry_timestamp_seconds{{kind=\"api_token\"}} {end}");
        let told = async || sidecar.admin_get("/metrics").await.1.contains(&line);
        eventually_async(told, SOON).await;
        let (_, status) = sidecar.admin_get("/status").await;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let credential = &status["credentials"][0];
        assert_eq!(credential["kind"], "api_token");
        let left = credential["expires_in_seconds"].as_f64().unwrap();
        assert!((left - 432_000.0).abs() < 60.0, "{left}");
        eventually(|| sidecar.output().contains("ends soon"), SOON).await;
        assert!(!sidecar.output().contains(API_TOKEN));
    }
}

#[tokio::test]
async fn a_service_that_does_not_tell_is_a_metric_and_no_more() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    csp.api_token_details(json!({"tokenName": "x", "expiresAt": "unknown"}));
    let sidecar = Process::start(&Settings::api_token(&csp, &service)).await;
    let line = r#"auth_sidecar_credential_check_total{kind="api_token",result="failure"} 1"#;
    let counted = async || sidecar.admin_get("/metrics").await.1.contains(line);
    eventually_async(counted, SOON).await;
    assert!(!sidecar.output().contains("WARN"), "{}", sidecar.output());
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn the_end_of_a_trust_file_is_told() {
    let csp = FakeCsp::start_tls();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).file("auth.ca_file", csp.ca_pem());
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let told = async || {
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        metrics.contains("credential_expiry_timestamp_seconds{kind=\"token_service_ca\"}")
    };
    eventually_async(told, SOON).await;
}

#[tokio::test]
async fn each_failed_attempt_says_its_class_and_when_the_next_comes() {
    for (answer, reason) in [
        (Answer::Reset, "network"),
        (Answer::Hang, "timeout"),
        (Answer::Html503, "bad_status"),
        (Answer::Html200, "bad_response"),
        (Answer::CspError(401), "invalid_client"),
        (Answer::rate_limited("2"), "rate_limited"),
    ] {
        let csp = FakeCsp::start();
        csp.script([answer]);
        let service = FakeService::start(csp.validator());
        let settings = Settings::new(&csp, &service).set("auth.request_timeout", "500ms");
        let sidecar = Process::start_with(&settings, &["--log-format", "json"], &[]).await;
        let logged = || {
            let output = sidecar.output();
            let lines = output.lines().filter_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                (line["message"] == "got no token").then_some(line)
            });
            lines.collect::<Vec<_>>().first().cloned()
        };
        eventually(|| logged().is_some(), SOON).await;
        let line = logged().unwrap();
        assert_eq!(line["reason"], reason);
        let next = line["next_attempt_in_seconds"].as_f64().unwrap();
        assert!(next <= 5.0, "{next:?}");
        let (_, status) = sidecar.admin_get("/status").await;
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let attempts = status["refresh"]["last_attempts"].as_array().unwrap();
        assert_eq!(attempts.last().unwrap()["reason"], reason);
        assert!(status["refresh"]["next_attempt_in_seconds"].is_number());
        assert!(status["refresh"]["next_attempt_at"].is_string());
    }
    drop(logs::captured());
}

#[tokio::test]
async fn an_end_that_no_calendar_has_harms_nobody() {
    for never in [
        json!(i64::MAX),
        json!(253_402_300_800_000_u64),
        json!(9e15),
        json!("1e17"),
    ] {
        let csp = FakeCsp::start();
        let service = FakeService::start(csp.validator());
        csp.api_token_details(json!({"tokenValue": API_TOKEN, "expiresAt": never}));
        let settings = Settings::api_token(&csp, &service);
        let sidecar = Sidecar::start(&settings);
        let line = r#"auth_sidecar_credential_check_total{kind="api_token",result="success"} 1"#;
        let checked = async || sidecar.admin_get("/metrics").await.1.contains(line);
        eventually_async(checked, SOON).await;
        for path in ["/status", "/", "/metrics"] {
            assert_eq!(sidecar.admin_get(path).await.0, 200, "{path}");
        }
        let files = tempfile::tempdir().unwrap();
        let config = settings.write(files.path());
        let arguments = ["doctor", "--config", config.to_str().unwrap()];
        let mut doctor = Process::spawn(&arguments, &[]);
        assert_eq!(doctor.wait().await.code(), Some(0), "{}", doctor.output());
        assert!(
            doctor
                .stdout()
                .contains("api token (auth.api_token) does not end by itself")
        );
    }
}
