//! Issuers that name their own token endpoint (RFC 8414, OpenID Connect Discovery).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    FakeIssuer, FakeService, Process, Said, Settings, Sidecar, csp::Call, eventually_async, get,
};

const SOON: Duration = Duration::from_secs(10);
const TOKEN: &str = "canary-access-token-of-an-issuer";

const OAUTH: &str = "/.well-known/oauth-authorization-server/realm";
const OPENID: &str = "/realm/.well-known/openid-configuration";

/// The issuer's own address, as the client has reached it.
fn own(call: &Call) -> String {
    format!("http://{}", call.headers["host"].to_str().unwrap())
}

fn metadata(call: &Call, more: &Value) -> Said {
    let mut all = json!({
        "issuer": format!("{}/realm", own(call)),
        "token_endpoint": format!("{}/realm/token", own(call)),
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    Said::json(200, &all)
}

fn granted() -> Said {
    Said::json(
        200,
        &json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 600}),
    )
}

fn not_found() -> Said {
    Said::json(404, &json!({}))
}

fn settings(issuer: &FakeIssuer, service: &FakeService) -> Settings {
    Settings::to(&service.url())
        .set("auth.type", "oauth2-client-credentials")
        .set("auth.issuer", format!("{}/realm", issuer.url()))
        .set("auth.client_id", "app")
        .set("auth.client_secret", "secret")
        .set("auth.hold_timeout", "5s")
}

async fn status(sidecar: &Sidecar) -> u16 {
    get(&format!("{}/x", sidecar.url())).await.status.as_u16()
}

fn targets(issuer: &FakeIssuer) -> Vec<String> {
    let calls = issuer.calls().into_iter();
    calls.map(|call| call.target).collect()
}

#[tokio::test]
async fn the_token_endpoint_is_where_the_issuer_says_at_either_of_two_places() {
    for (place, expected) in [(OAUTH, vec![OAUTH]), (OPENID, vec![OAUTH, OPENID])] {
        let issuer = FakeIssuer::start(move |call| match call.target.as_str() {
            target if target == place => metadata(call, &json!({})),
            "/realm/token" => {
                assert_eq!(call.method, "POST");
                granted()
            }
            _ => not_found(),
        });
        let service = FakeService::accepting([TOKEN]);
        let sidecar = Sidecar::start(&settings(&issuer, &service));
        assert_eq!(status(&sidecar).await, 200);
        let expected: Vec<&str> = expected.into_iter().chain(["/realm/token"]).collect();
        assert_eq!(targets(&issuer), expected);
    }
}

#[tokio::test]
async fn what_is_not_the_metadata_of_this_issuer_gets_no_credential() {
    for (more, words) in [
        (json!({"issuer": "https://other.example"}), "another issuer"),
        (
            json!({"token_endpoint": "http://other.example/token"}),
            "begins with http://",
        ),
        (json!({"token_endpoint": null}), "no token_endpoint"),
    ] {
        let issuer = FakeIssuer::start(move |call| metadata(call, &more));
        let service = FakeService::accepting([TOKEN]);
        let settings = settings(&issuer, &service).set("auth.hold_timeout", "0s");
        let sidecar = Sidecar::start(&settings);
        let told = async || sidecar.admin_get("/status").await.1.contains(words);
        eventually_async(told, SOON).await;
        for call in issuer.calls() {
            assert_eq!(call.method, "GET");
            assert!(call.headers.get("authorization").is_none() && call.body.is_empty());
        }
    }
}

#[tokio::test]
async fn an_issuer_that_is_away_at_first_is_asked_again_and_one_that_is_away_later_is_not_needed() {
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let issuer = FakeIssuer::start(move |call| match call.target.as_str() {
        "/realm/token" => granted(),
        _ if away.load(Ordering::SeqCst) => Said::json(503, &json!({})),
        OPENID => metadata(call, &json!({})),
        _ => not_found(),
    });
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&issuer, &service).set("auth.hold_timeout", "0s"));
    crate::support::eventually(|| issuer.call_count() >= 2, SOON).await;
    assert_eq!(status(&sidecar).await, 503);
    is_away.store(false, Ordering::SeqCst);
    eventually_async(async || status(&sidecar).await == 200, SOON).await;
    is_away.store(true, Ordering::SeqCst);
    let asked = issuer.call_count();
    let url = format!("{}/refresh", sidecar.admin_url());
    crate::support::request("POST", &url, &[("x-auth-sidecar", "1")], "").await;
    crate::support::eventually(|| issuer.call_count() > asked, SOON).await;
    assert_eq!(targets(&issuer)[asked..], ["/realm/token"]);
}

#[tokio::test]
async fn metadata_without_an_end_and_ones_that_never_come_are_given_up() {
    let huge = FakeIssuer::start(|_| Said {
        status: 200,
        fields: Vec::new(),
        body: "x".repeat(300 * 1024),
    });
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&settings(&huge, &service).set("auth.hold_timeout", "0s"));
    let told = async || {
        sidecar
            .admin_get("/status")
            .await
            .1
            .contains("larger than 256 KiB")
    };
    eventually_async(told, SOON).await;

    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let silent = FakeIssuer::start(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(600));
        not_found()
    });
    let settings = settings(&silent, &service)
        .set("auth.hold_timeout", "0s")
        .set("auth.request_timeout", "200ms");
    let sidecar = Sidecar::start(&settings);
    let told = async || {
        sidecar
            .admin_get("/status")
            .await
            .1
            .contains("no response in time")
    };
    eventually_async(told, SOON).await;
    assert!(calls.load(Ordering::SeqCst) >= 1);
}

async fn doctor(settings: &Settings) -> String {
    let files = tempfile::tempdir().unwrap();
    let config = settings.write(files.path());
    let mut process = Process::spawn(&["doctor", "--config", config.to_str().unwrap()], &[]);
    process.wait().await;
    process.stdout()
}

#[tokio::test]
async fn the_doctor_says_what_came_of_it_and_check_where_it_will_be_looked_for() {
    let service = FakeService::accepting([TOKEN]);
    let answer = |methods: Value| {
        move |call: &Call| match call.target.as_str() {
            OAUTH => metadata(
                call,
                &json!({"token_endpoint_auth_methods_supported": methods}),
            ),
            _ => granted(),
        }
    };
    let issuer = FakeIssuer::start(answer(json!(["client_secret_basic"])));
    let told = doctor(&settings(&issuer, &service)).await;
    let line = told
        .lines()
        .find(|line| line.contains("discovery"))
        .unwrap();
    assert!(
        line.starts_with("ok") && line.contains("/realm/token"),
        "{line}"
    );

    let issuer = FakeIssuer::start(answer(json!(["private_key_jwt"])));
    let told = doctor(&settings(&issuer, &service)).await;
    let line = told
        .lines()
        .find(|line| line.contains("discovery"))
        .unwrap();
    assert!(line.starts_with("warning"), "{line}");
    assert!(
        line.contains("takes private_key_jwt, and auth.client_auth is client_secret_basic"),
        "{line}"
    );

    let files = tempfile::tempdir().unwrap();
    let config = settings(&issuer, &service).write(files.path());
    let mut process = Process::spawn(&["check", "--config", config.to_str().unwrap()], &[]);
    assert_eq!(process.wait().await.code(), Some(0));
    let shown = process.stdout();
    let line = shown
        .lines()
        .find(|line| line.starts_with("auth.token_url"))
        .unwrap();
    assert!(line.contains(OAUTH) && line.contains(OPENID), "{line}");
}
