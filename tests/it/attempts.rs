//! How many calls an attempt to get a token takes: a service that says no is not asked over and over in
//! other words.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use auth_sidecar::{
    config::Credentials,
    token::{FetchError, Reason, TokenResponse, TokenSource as _, endpoint::TokenEndpoint},
};
use serde_json::json;

use crate::support::{
    FakeIssuer, FakeService, Said, Settings, Sidecar,
    csp::{Call, ClientKey},
    eventually_async,
};

const SOON: Duration = Duration::from_secs(10);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn granted() -> Said {
    let said = json!({"access_token": "a", "token_type": "Bearer", "expires_in": 600});
    Said::json(200, &said)
}

/// A service that takes one text of `Authorization`, or none.
fn taking(accepted: &Arc<Mutex<Option<String>>>) -> FakeIssuer {
    let accepted = Arc::clone(accepted);
    FakeIssuer::start(move |call| {
        let given = authorization(call);
        if lock(&accepted).as_ref() == Some(&given) {
            granted()
        } else {
            Said::error(401, "invalid_client")
        }
    })
}

fn authorization(call: &Call) -> String {
    call.headers["authorization"].to_str().unwrap().to_owned()
}

fn settings(issuer: &FakeIssuer) -> Settings {
    Settings::to("http://127.0.0.1:1")
        .set("auth.type", "oauth2-client-credentials")
        .set("auth.token_url", format!("{}/token", issuer.url()))
        .set("auth.client_id", "app")
}

fn endpoint(settings: &Settings, directory: &Path) -> TokenEndpoint {
    let auth = settings.load(directory).unwrap().auth;
    let Credentials::Endpoint(request) = auth.credentials else {
        panic!("no token endpoint");
    };
    TokenEndpoint::new(request, &auth.endpoint).unwrap()
}

/// What an attempt gives, and how many calls it took.
async fn attempt(
    endpoint: &mut TokenEndpoint,
    issuer: &FakeIssuer,
) -> (Result<TokenResponse, FetchError>, usize) {
    let before = issuer.call_count();
    let result = endpoint.fetch().await;
    let calls = issuer.call_count() - before;
    assert_eq!(u32::try_from(calls), Ok(endpoint.calls()));
    (result, calls)
}

/// The texts of `Authorization` since the call of that number.
fn texts(issuer: &FakeIssuer, since: usize) -> BTreeSet<String> {
    issuer.calls()[since..].iter().map(authorization).collect()
}

#[tokio::test]
async fn a_rejected_secret_is_spelled_otherwise_once_and_then_each_attempt_is_one_call() {
    let accepted = Arc::<Mutex<Option<String>>>::default();
    let issuer = taking(&accepted);
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&issuer).file("auth.client_secret_file", "a+b%c");
    let mut endpoint = endpoint(&settings, directory.path());
    let (result, calls) = attempt(&mut endpoint, &issuer).await;
    assert_eq!(result.unwrap_err().reason, Reason::InvalidClient);
    assert_eq!(calls, 2);
    let both = texts(&issuer, 0);
    assert_eq!(both.len(), 2);
    for _ in 0..5 {
        let (result, calls) = attempt(&mut endpoint, &issuer).await;
        assert_eq!(result.unwrap_err().reason, Reason::InvalidClient);
        assert_eq!(calls, 1);
    }
    // The service knows the client again, and reads it in one way or the other.
    for text in &both {
        *lock(&accepted) = Some(text.clone());
        let mut tried = 0;
        while attempt(&mut endpoint, &issuer).await.0.is_err() {
            tried += 1;
            assert!(tried < 2, "{text} is never sent");
        }
        // The way that helped is gone on with.
        assert_eq!(attempt(&mut endpoint, &issuer).await.1, 1);
        *lock(&accepted) = None;
        assert_eq!(attempt(&mut endpoint, &issuer).await.1, 2);
    }
    assert_eq!(texts(&issuer, 0), both);
    // Another secret is tried in both ways at once.
    let before = issuer.call_count();
    fs::write(directory.path().join("auth.client_secret_file"), "d+e").unwrap();
    assert_eq!(attempt(&mut endpoint, &issuer).await.1, 2);
    assert!(texts(&issuer, before).is_disjoint(&both));
}

#[tokio::test]
async fn of_two_rejected_secrets_each_is_one_call_an_attempt_and_each_spelling_has_its_turn() {
    let accepted = Arc::<Mutex<Option<String>>>::default();
    let issuer = taking(&accepted);
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&issuer)
        .file("auth.client_secret_file", "a+b")
        .file("auth.client_secret_next_file", "c+d");
    let mut endpoint = endpoint(&settings, directory.path());
    assert_eq!(attempt(&mut endpoint, &issuer).await.1, 4);
    let all = texts(&issuer, 0);
    assert_eq!(all.len(), 4);
    let before = issuer.call_count();
    for _ in 0..2 {
        assert_eq!(attempt(&mut endpoint, &issuer).await.1, 2);
    }
    assert_eq!(texts(&issuer, before), all);
}

#[tokio::test]
async fn a_rejected_assertion_is_made_by_the_clock_of_the_service_once_and_then_in_turns() {
    let issuer = FakeIssuer::start(|_| {
        let ahead = SystemTime::now() + Duration::from_secs(1000);
        Said::error(401, "invalid_client").with("date", httpdate::fmt_http_date(ahead))
    });
    let directory = tempfile::tempdir().unwrap();
    let settings = settings(&issuer)
        .set("auth.client_auth", "private_key_jwt")
        .file("auth.private_key_file", &ClientKey::p256().pem);
    let mut endpoint = endpoint(&settings, directory.path());
    assert_eq!(attempt(&mut endpoint, &issuer).await.1, 2);
    for _ in 0..4 {
        assert_eq!(attempt(&mut endpoint, &issuer).await.1, 1);
    }
}

#[tokio::test]
async fn a_look_at_the_metadata_that_fails_counts_as_its_calls_and_keeps_its_wishes() {
    for (first, second, calls) in [(429, 404, 1), (503, 404, 2), (503, 429, 2)] {
        let issuer = FakeIssuer::start(move |call| {
            if call.target.starts_with("/.well-known") {
                Said::json(first, &json!({})).with("retry-after", "120")
            } else {
                Said::json(second, &json!({})).with("retry-after", "60")
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&issuer)
            .unset("auth.token_url")
            .set("auth.issuer", format!("{}/realm", issuer.url()))
            .set("auth.client_secret", "secret");
        let mut endpoint = endpoint(&settings, directory.path());
        let (result, made) = attempt(&mut endpoint, &issuer).await;
        let error = result.unwrap_err();
        assert_eq!(made, calls);
        assert_eq!(error.retry_after, Some(Duration::from_secs(120)));
        let is_limited = error.reason == Reason::RateLimited;
        assert_eq!(is_limited, first == 429 || second == 429, "{error}");
        let status = endpoint.status().unwrap().as_u16();
        assert_eq!(status, if is_limited { 429 } else { 404 });
    }
}

#[tokio::test]
async fn an_issuer_that_asks_for_time_at_one_place_is_left_alone_at_both() {
    let issuer = FakeIssuer::start(|call| match call.target.as_str() {
        target if target.starts_with("/.well-known") => {
            Said::json(503, &json!({})).with("retry-after", "120")
        }
        _ => Said::json(404, &json!({})),
    });
    let service = FakeService::accepting_all();
    let settings = settings(&issuer)
        .unset("auth.token_url")
        .set("upstream.url", service.url())
        .set("auth.issuer", format!("{}/realm", issuer.url()))
        .set("auth.client_secret", "secret");
    let sidecar = Sidecar::start(&settings);
    let status = async || {
        let text = sidecar.admin_get("/status").await.1;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    eventually_async(async || status().await["refresh"]["attempts"] == 1, SOON).await;
    let next = &status().await["refresh"]["next_attempt_in_seconds"];
    assert!(next.as_f64().unwrap() > 100.0, "{next}");
    assert_eq!(issuer.call_count(), 2);
}
