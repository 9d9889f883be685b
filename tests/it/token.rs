//! How tokens are got and kept, whatever the token service does.

use std::time::Duration;

use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::support::{
    Answer, CLIENT_SECRET, FakeCsp, FakeService, ORG_ID, Settings, Sidecar, eventually,
    eventually_async, get, request,
};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn two_hundred_requests_before_the_first_token_make_one_call() {
    let csp = FakeCsp::start();
    csp.script([Answer::Default.after(Duration::from_millis(500))]);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    let mut requests = JoinSet::new();
    for _ in 0..200 {
        let url = format!("{}/api/v2/x", sidecar.url());
        requests.spawn(async move { get(&url).await.status });
    }
    for status in requests.join_all().await {
        assert_eq!(status, 200);
    }
    assert_eq!(csp.call_count(), 1);
    assert_eq!(service.request_count(), 200);
    assert_eq!(service.unauthorized_count(), 0);
}

#[tokio::test]
async fn each_kind_of_credential_gets_its_token() {
    let csp = FakeCsp::start();
    csp.expect_org(ORG_ID);
    let service = FakeService::start(csp.validator());
    for settings in [
        Settings::new(&csp, &service).set("auth.org_id", ORG_ID),
        Settings::new(&csp, &service)
            .set("auth.org_id", ORG_ID)
            .unset("auth.client_secret")
            .file("auth.client_secret_file", &format!("{CLIENT_SECRET}\r\n")),
        Settings::api_token(&csp, &service),
        Settings::oauth2(&csp, &service),
        Settings::oauth2(&csp, &service).set("auth.client_auth", "client_secret_post"),
    ] {
        let sidecar = Sidecar::start(&settings);
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 200, "{settings:?}");
    }
    let fixed = FakeService::accepting(["a-static-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-static-token", &fixed));
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn tokens_are_renewed_without_a_client_noticing() {
    let csp = FakeCsp::start();
    csp.lifetime(1);
    csp.really_lives(Duration::from_secs(1));
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    }
    assert_eq!(service.unauthorized_count(), 0);
    assert!((5..=10).contains(&csp.call_count()), "{}", csp.call_count());
}

#[tokio::test]
async fn while_the_service_is_down_the_token_serves_to_its_end_and_then_503_tells_when() {
    let csp = FakeCsp::start();
    csp.lifetime(2);
    csp.really_lives(Duration::from_secs(2));
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let obtained = Instant::now();
    csp.always(Answer::Html503);
    let url = format!("{}/x", sidecar.url());
    let mut failures = 0;
    // Three lifetimes.
    while obtained.elapsed() < Duration::from_secs(6) {
        let asked = obtained.elapsed();
        let reply = get(&url).await;
        if reply.status == 200 {
            assert!(asked < Duration::from_secs(2), "{asked:?}");
        } else {
            assert_eq!(reply.status, 503);
            assert!(asked > Duration::from_millis(1500), "{asked:?}");
            assert!(
                reply
                    .header("proxy-status")
                    .unwrap()
                    .contains("token_unavailable")
            );
            let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=16).contains(&after), "{after}");
            failures += 1;
        }
    }
    assert!(failures > 0);
    let reply = get(&url).await;
    let promised: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    csp.restore();
    let back = Instant::now();
    eventually_async(async || get(&url).await.status == 200, 2 * SOON).await;
    assert!(
        back.elapsed() <= Duration::from_secs(promised + 1),
        "{:?}",
        back.elapsed()
    );
    assert_eq!(service.unauthorized_count(), 0);
}

#[tokio::test]
async fn a_request_is_held_while_a_token_may_still_come() {
    let csp = FakeCsp::start();
    csp.script([Answer::Html503, Answer::Reset]);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(csp.call_count(), 3);
}

#[tokio::test]
async fn holding_has_an_end() {
    let csp = FakeCsp::start();
    csp.always(Answer::Hang);
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "700ms");
    let sidecar = Sidecar::start(&settings);
    let asked = Instant::now();
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 503);
    assert!(asked.elapsed() >= Duration::from_millis(700));
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn rejected_credentials_are_a_503_that_says_so() {
    let csp = FakeCsp::start();
    csp.rotate_secret("another");
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "100ms");
    let sidecar = Sidecar::start(&settings);
    eventually(|| csp.call_count() > 0, SOON).await;
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 503);
    assert!(
        reply
            .header("proxy-status")
            .unwrap()
            .contains("credentials_rejected")
    );
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
}

/// Every answer that is no token, and what `/status` calls it.
fn bad_answers() -> Vec<(&'static str, Answer, &'static str)> {
    vec![
        ("html 200", Answer::Html200, "bad_response"),
        ("html 503", Answer::Html503, "bad_status"),
        ("html 403", Answer::Html403, "bad_status"),
        ("empty", Answer::Empty200, "bad_response"),
        ("truncated", Answer::Truncated, "bad_response"),
        ("endless", Answer::Endless, "bad_response"),
        ("dripping", Answer::Drip, "timeout"),
        ("hanging", Answer::Hang, "timeout"),
        ("reset", Answer::Reset, "network"),
        ("closed", Answer::Close, "network"),
        (
            "not http",
            Answer::Raw(b"SSH-2.0-x\r\n".to_vec()),
            "network",
        ),
        ("zero", Answer::grant("tok-zero", 0), "bad_response"),
        (
            "negative",
            Answer::grant("tok-negative", -5),
            "bad_response",
        ),
        (
            "no field value",
            Answer::grant("a\r\nb: c", 60),
            "bad_response",
        ),
        (
            "no token",
            Answer::Json(json!({"token_type": "bearer"})),
            "bad_response",
        ),
        ("an array", Answer::Json(json!([1, 2])), "bad_response"),
        ("400", Answer::CspError(400), "invalid_client"),
        ("401", Answer::CspError(401), "invalid_client"),
        ("404", Answer::CspError(404), "invalid_client"),
        ("409", Answer::CspError(409), "invalid_client"),
        ("429", Answer::rate_limited("1"), "rate_limited"),
        ("500", Answer::CspError(500), "bad_status"),
    ]
}

#[tokio::test]
async fn every_bad_answer_is_classed_and_healed_by_the_next_good_one() {
    let mut all = JoinSet::new();
    for (name, answer, reason) in bad_answers() {
        all.spawn(async move {
            let csp = FakeCsp::start();
            csp.script([answer]);
            let service = FakeService::start(csp.validator());
            let settings = Settings::new(&csp, &service).set("auth.request_timeout", "1s");
            let sidecar = Sidecar::start(&settings);
            let reply = get(&format!("{}/x", sidecar.url())).await;
            assert_eq!(reply.status, 200, "{name}");
            let (_, status) = sidecar.admin_get("/status").await;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let first = status["refresh"]["last_attempts"]
                .as_array()
                .unwrap()
                .last()
                .unwrap();
            assert_eq!(first["reason"], reason, "{name}: {first}");
            let (_, metrics) = sidecar.admin_get("/metrics").await;
            let line = format!(
                "auth_sidecar_token_refresh_total{{result=\"failure\",reason=\"{reason}\"}} 1"
            );
            assert!(metrics.contains(&line), "{name}: {metrics}");
        });
    }
    assert_eq!(all.join_all().await.len(), 22);
}

#[tokio::test]
async fn odd_but_usable_answers_give_a_token() {
    let mut all = JoinSet::new();
    for (name, expires_in) in [
        ("a string", json!("60")),
        ("a fraction", json!(59.5)),
        ("null", json!(null)),
        ("huge", json!(1e15)),
        ("one", json!(1)),
    ] {
        all.spawn(async move {
            let csp = FakeCsp::start();
            csp.lifetime(expires_in);
            let service = FakeService::accepting_all();
            let sidecar = Sidecar::between(&csp, &service);
            let reply = get(&format!("{}/x", sidecar.url())).await;
            assert_eq!(reply.status, 200, "{name}");
            assert_eq!(csp.call_count(), 1, "{name}");
        });
    }
    all.spawn(async {
        let csp = FakeCsp::start();
        csp.no_lifetime();
        let service = FakeService::accepting_all();
        let sidecar = Sidecar::between(&csp, &service);
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    });
    all.join_all().await;
}

#[tokio::test]
async fn a_redirect_of_the_token_service_is_not_followed() {
    let elsewhere = FakeCsp::start();
    let csp = FakeCsp::start();
    let target = format!("{}/csp/gateway/am/api/auth/authorize", elsewhere.base_url());
    csp.script([Answer::Redirect(target)]);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_token_of_eight_kib_fits() {
    let csp = FakeCsp::start();
    let long = "x".repeat(8 * 1024);
    csp.always(Answer::grant(long.clone(), 60));
    let service = FakeService::accepting([long]);
    let sidecar = Sidecar::between(&csp, &service);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn the_token_service_is_reached_over_tls_with_a_private_ca() {
    let csp = FakeCsp::start_tls();
    let service = FakeService::start(csp.validator());
    let trusting = Settings::new(&csp, &service).file("auth.ca_file", csp.ca_pem());
    let sidecar = Sidecar::start(&trusting);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    let other = FakeCsp::start_tls();
    let mistrusting = Settings::new(&csp, &service)
        .file("auth.ca_file", other.ca_pem())
        .set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&mistrusting);
    let says_why = async || sidecar.admin_get("/readyz").await.1.contains("certificate");
    eventually_async(says_why, SOON).await;
    assert_eq!(request("GET", &sidecar.url(), &[], "").await.status, 503);
}

fn compressed(coding: &'static str, text: &str) -> Answer {
    use std::io::Write as _;

    use flate2::{Compression, write};

    let level = Compression::default();
    let body = match coding {
        "gzip" | "x-gzip" | "GZIP" => {
            let mut gzip = write::GzEncoder::new(Vec::new(), level);
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        }
        "deflate" => {
            let mut zlib = write::ZlibEncoder::new(Vec::new(), level);
            zlib.write_all(text.as_bytes()).unwrap();
            zlib.finish().unwrap()
        }
        // As some servers understood the word.
        _ => {
            let mut raw = write::DeflateEncoder::new(Vec::new(), level);
            raw.write_all(text.as_bytes()).unwrap();
            raw.finish().unwrap()
        }
    };
    let coding = coding.trim_start_matches("raw ");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Answer::Raw([head.into_bytes(), body].concat())
}

#[tokio::test]
async fn a_token_answer_that_comes_compressed_is_read() {
    let grant = json!({"access_token": "a-token", "expires_in": 60}).to_string();
    for coding in ["gzip", "x-gzip", "GZIP", "deflate", "raw deflate"] {
        let csp = FakeCsp::start();
        csp.always(compressed(coding, &grant));
        let service = FakeService::accepting(["a-token"]);
        let sidecar = Sidecar::between(&csp, &service);
        assert_eq!(
            get(&format!("{}/x", sidecar.url())).await.status,
            200,
            "{coding}"
        );
        let call = &csp.calls()[0];
        assert_eq!(call.headers["accept-encoding"], "identity");
    }
}

#[tokio::test]
async fn a_compressed_answer_is_read_within_a_bound_and_others_not_at_all() {
    let long = json!({"access_token": "a-token", "x": "x".repeat(100 << 20)}).to_string();
    let broken = Answer::Status(
        200,
        "no gzip".to_owned(),
        vec![("content-encoding", "gzip".to_owned())],
    );
    let grant = json!({"access_token": "a-token"}).to_string();
    let strange = Answer::Status(200, grant, vec![("content-encoding", "br".to_owned())]);
    for (answer, word) in [
        (compressed("gzip", &long), "larger than 256 KiB"),
        (broken, "compressed"),
        (strange, "content coding that was not asked for"),
    ] {
        let csp = FakeCsp::start();
        csp.always(answer);
        let service = FakeService::accepting(["a-token"]);
        let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "0s");
        let sidecar = Sidecar::start(&settings);
        let said = async || {
            let (_, status) = sidecar.admin_get("/status").await;
            status.contains("bad_response") && status.contains(word)
        };
        eventually_async(said, SOON).await;
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 503);
    }
}

#[tokio::test]
async fn a_firewall_is_not_taken_for_the_service() {
    let page = "<html><h1>Access denied by policy</h1></html>".to_owned();
    for status in [400, 401, 403, 404, 451] {
        let csp = FakeCsp::start();
        csp.always(Answer::Status(status, page.clone(), vec![]));
        let service = FakeService::start(csp.validator());
        let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "0s");
        let sidecar = Sidecar::start(&settings);
        let line = r#"auth_sidecar_token_refresh_total{result="failure",reason="bad_status"}"#;
        let counted = async || sidecar.admin_get("/metrics").await.1.contains(line);
        eventually_async(counted, SOON).await;
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        assert!(!metrics.contains("invalid_client\"} 1"), "{metrics}");
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 503);
        let why = reply.header("proxy-status").unwrap();
        assert!(!why.contains("credentials_rejected"), "{status}: {why}");
        csp.restore();
        sidecar.ready().await;
    }
}

#[tokio::test]
async fn a_type_of_token_that_a_key_names_is_taken_for_a_bearer_token() {
    let answer = || Answer::Json(json!({"access_token": "a-token", "token_type": "N_A"}));
    let csp = FakeCsp::start();
    csp.always(answer());
    let service = FakeService::accepting(["a-token"]);
    let settings = Settings::oauth2(&csp, &service).set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    let refused = async || {
        sidecar
            .admin_get("/status")
            .await
            .1
            .contains("auth.token_type")
    };
    eventually_async(refused, SOON).await;
    for settings in [
        settings.set("auth.token_type", "n_a"),
        Settings::new(&csp, &service).set("auth.token_type", "N_A"),
    ] {
        let sidecar = Sidecar::start(&settings);
        sidecar.ready().await;
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    }
}

#[tokio::test]
async fn the_longest_token_reaches_the_service() {
    let token = "x".repeat(64 * 1024);
    let csp = FakeCsp::start();
    csp.always(Answer::Json(
        json!({"access_token": token, "expires_in": 60}),
    ));
    let service = FakeService::accepting([token.as_str()]);
    let sidecar = Sidecar::between(&csp, &service);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    let settings = Settings::static_token("x", &service)
        .unset("auth.token")
        .file("auth.token_file", &format!("\u{feff}{token}\r\n"));
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}
