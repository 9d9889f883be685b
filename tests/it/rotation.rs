//! Secrets that change while the sidecar runs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    outbound::Proxy,
    support::{
        API_TOKEN, Answer, CLIENT_SECRET, Client, FakeCsp, FakeService, Process, Settings, Sidecar,
        eventually, eventually_async, get,
    },
};

const SOON: Duration = Duration::from_secs(10);
const NOTICED: Duration = Duration::from_secs(2);
const NEW: &str = "another-secret-0123456789";

/// A sidecar whose secret is in a file of our own making.
fn with_file(csp: &FakeCsp, service: &FakeService, path: &Path) -> Settings {
    Settings::new(csp, service)
        .unset("auth.client_secret")
        .set("auth.client_secret_file", path.to_str().unwrap())
}

/// Rotates the secret at the service, then changes the file; the next token must come at once.
async fn is_noticed(settings: Settings, csp: &FakeCsp, change: impl FnOnce()) {
    let sidecar = Sidecar::start(&settings.set("auth.hold_timeout", "0s"));
    sidecar.ready().await;
    csp.rotate_secret(NEW);
    // The old secret is rejected, more and more seldom.
    let url = format!("{}/x", sidecar.url());
    let rejected = async || {
        let (_, status) = sidecar.admin_get("/status").await;
        get(&url).await;
        status.contains("invalid_client")
    };
    eventually_async(rejected, SOON).await;
    change();
    let changed = Instant::now();
    eventually_async(async || get(&url).await.status == 200, NOTICED).await;
    assert!(changed.elapsed() < NOTICED);
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let counted = r#"auth_sidecar_secret_reload_total{result="success"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_secret_written_in_place_is_noticed() {
    let (csp, directory) = (FakeCsp::start(), tempfile::tempdir().unwrap());
    let service = FakeService::start(csp.validator());
    let path = directory.path().join("secret");
    fs::write(&path, CLIENT_SECRET).unwrap();
    let settings = with_file(&csp, &service, &path);
    is_noticed(settings, &csp, || fs::write(&path, NEW).unwrap()).await;
}

#[tokio::test]
async fn a_secret_renamed_over_the_old_one_is_noticed() {
    let (csp, directory) = (FakeCsp::start(), tempfile::tempdir().unwrap());
    let service = FakeService::start(csp.validator());
    let path = directory.path().join("secret");
    fs::write(&path, CLIENT_SECRET).unwrap();
    let settings = with_file(&csp, &service, &path);
    is_noticed(settings, &csp, || {
        fs::write(directory.path().join("new"), format!("{NEW}\n")).unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_secret_volume_of_kubernetes_is_noticed() {
    let (csp, directory) = (FakeCsp::start(), tempfile::tempdir().unwrap());
    let service = FakeService::start(csp.validator());
    let at = |name: &str| directory.path().join(name);
    for (version, secret) in [("..1", CLIENT_SECRET), ("..2", NEW)] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("secret"), secret).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    let settings = with_file(&csp, &service, &at("secret"));
    is_noticed(settings, &csp, || {
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..1")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_new_api_token_is_noticed() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::api_token(&csp, &service)
        .unset("auth.api_token")
        .file("auth.api_token_file", API_TOKEN);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    csp.accept_api_token("another-api-token");
    csp.revoke_all();
    sidecar.rewrite("auth.api_token_file", "another-api-token");
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn a_static_token_follows_its_file() {
    let service = FakeService::accepting(["first"]);
    let settings = Settings::static_token("x", &service)
        .unset("auth.token")
        .file("auth.token_file", "first");
    let sidecar = Sidecar::start(&settings);
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    service.accept(crate::support::Validator::of(["second"]));
    sidecar.rewrite("auth.token_file", "second\n");
    // Either it is noticed, or the 401 has the file read again.
    assert_eq!(get(&url).await.status, 200);
    sidecar.rewrite("auth.token_file", "third");
    let third = async || {
        get(&url).await;
        service.requests().last().unwrap().token() == "third"
    };
    eventually_async(third, NOTICED).await;
}

#[tokio::test]
async fn of_two_overlapping_secrets_the_next_is_tried_in_the_same_attempt() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).file("auth.client_secret_next_file", NEW);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    assert_eq!(csp.call_count(), 1);
    csp.rotate_secret(NEW);
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    assert_eq!(csp.call_count(), 3);
    let (_, status) = sidecar.admin_get("/status").await;
    assert!(!status.contains("invalid_client"), "{status}");
    // What worked is tried first the next time.
    csp.revoke_all();
    assert_eq!(get(&url).await.status, 200);
    assert_eq!(csp.call_count(), 4);
}

#[tokio::test]
async fn a_next_secret_that_is_not_there_yet_does_no_harm() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let directory = tempfile::tempdir().unwrap();
    let next = directory.path().join("next");
    let settings =
        Settings::new(&csp, &service).set("auth.client_secret_next_file", next.to_str().unwrap());
    let sidecar = Sidecar::start(&settings);
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    csp.rotate_secret(NEW);
    fs::write(&next, NEW).unwrap();
    assert_eq!(get(&url).await.status, 200);
}

#[tokio::test]
async fn a_dead_secret_costs_at_most_three_calls_a_second_whatever_arrives() {
    let csp = FakeCsp::start();
    csp.rotate_secret(NEW);
    let service = FakeService::start(csp.validator());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, "wrong").unwrap();
    let settings = with_file(&csp, &service, &path)
        .file("auth.client_secret_next_file", "wrong-too")
        .set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    let (url, refresh) = (sidecar.url(), format!("{}/refresh", sidecar.admin_url()));
    let end = Instant::now() + Duration::from_secs(4);
    let mut number = 0;
    while Instant::now() < end {
        assert_eq!(get(&url).await.status, 503);
        crate::support::request("POST", &refresh, &[], "").await;
        number += 1;
        fs::write(&path, format!("wrong-{number}")).unwrap();
    }
    let starts: Vec<_> = csp.calls().iter().map(|call| call.at).collect();
    for (index, start) in starts.iter().enumerate() {
        let second = *start..*start + Duration::from_secs(1);
        let calls = starts[index..].iter().filter(|at| second.contains(at));
        assert!(calls.count() <= 3);
    }
    assert!(starts.len() >= 4, "it goes on trying: {}", starts.len());
}

/// 200 requests a second for some seconds, on kept connections; returns what was not a 200.
async fn load(url: String, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) -> Vec<u16> {
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let (url, stop, count) = (url.clone(), Arc::clone(&stop), Arc::clone(&count));
        tasks.spawn(async move {
            let mut client = Client::connect(&url).await;
            let mut tick = interval(Duration::from_millis(100));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut bad = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                tick.tick().await;
                let reply = client.request("POST", "/echo", &[], "x".repeat(2048)).await;
                count.fetch_add(1, Ordering::Relaxed);
                if reply.status != 200 {
                    bad.push(reply.status.as_u16());
                }
            }
            bad
        });
    }
    tasks.join_all().await.concat()
}

#[tokio::test]
async fn a_rotation_under_load_loses_no_request() {
    let (csp, directory) = (FakeCsp::start(), tempfile::tempdir().unwrap());
    let service = FakeService::start(csp.validator());
    let path = directory.path().join("secret");
    fs::write(&path, CLIENT_SECRET).unwrap();
    let sidecar = Sidecar::start(&with_file(&csp, &service, &path));
    sidecar.ready().await;
    let (stop, count) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let load = tokio::spawn(load(sidecar.url(), Arc::clone(&stop), Arc::clone(&count)));
    for round in 1..=4 {
        let reached = || count.load(Ordering::Relaxed) >= round * 200;
        eventually(reached, 2 * SOON).await;
        let secret = format!("{NEW}-{round}");
        // Half of the time the file is first, half of the time the service.
        if round % 2 == 0 {
            fs::write(&path, &secret).unwrap();
            csp.rotate_secret(&secret);
        } else {
            csp.rotate_secret(&secret);
            fs::write(&path, &secret).unwrap();
        }
    }
    let reached = || count.load(Ordering::Relaxed) >= 1000;
    eventually(reached, 2 * SOON).await;
    stop.store(true, Ordering::Relaxed);
    let bad = load.await.unwrap();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(csp.call_count() <= 20, "{}", csp.call_count());
}

#[tokio::test]
async fn what_the_service_asked_for_is_kept_even_when_the_file_changes() {
    let (csp, directory) = (FakeCsp::start(), tempfile::tempdir().unwrap());
    let service = FakeService::start(csp.validator());
    let path = directory.path().join("secret");
    fs::write(&path, CLIENT_SECRET).unwrap();
    csp.script([Answer::rate_limited("3")]);
    let settings = with_file(&csp, &service, &path).set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    eventually(|| csp.call_count() == 1, SOON).await;
    let first = csp.calls()[0].at;
    fs::write(&path, CLIENT_SECRET).unwrap();
    eventually(|| csp.call_count() == 2, SOON).await;
    assert!(csp.calls()[1].at - first >= Duration::from_secs(3));
    drop(sidecar);
}

#[tokio::test]
async fn the_next_secret_is_tried_also_where_a_refusal_says_nothing() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    // A token service that answers 401 without a word; then the next secret is asked with.
    csp.script([Answer::Status(401, String::new(), vec![])]);
    let settings = Settings::new(&csp, &service)
        .set("auth.client_secret", "of-yesterday")
        .file("auth.client_secret_next_file", CLIENT_SECRET);
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(csp.call_count(), 2);
}

#[tokio::test]
async fn quotation_marks_around_a_secret_that_is_put_in_later_are_warned_of() {
    let csp = FakeCsp::start_tls();
    let service = FakeService::start(csp.validator());
    let proxy = Proxy::to(csp.address());
    let settings = Settings::new(&csp, &service)
        .file("auth.ca_file", csp.ca_pem())
        .unset("auth.client_secret")
        .file("auth.client_secret_file", CLIENT_SECRET)
        .set(
            "auth.proxy_url",
            proxy.url().replace("http://", "http://user@"),
        )
        .file("auth.proxy_password_file", "p4ssw0rd");
    let fixed = Settings::to(&service.url())
        .set("auth.type", "static-token")
        .file("auth.token_file", "c4n4ry");
    for (settings, key) in [
        (&settings, "auth.client_secret_file"),
        (&settings, "auth.proxy_password_file"),
        (&fixed, "auth.token_file"),
    ] {
        let sidecar = Process::start(settings).await;
        let ready = async || sidecar.admin_get("/readyz").await.0 == 200;
        eventually_async(ready, SOON).await;
        let is_told = |line: &&str| line.contains("quotation marks") && line.contains(key);
        assert!(
            !sidecar.output().lines().any(|line| is_told(&line)),
            "{key}"
        );
        sidecar.rewrite(key, "\"c4n4ry\"\n");
        let told = || sidecar.output().lines().filter(is_told).count();
        eventually(|| told() > 0, SOON).await;
        assert_eq!(told(), 1, "{}", sidecar.output());
        assert!(!sidecar.output().contains("c4n4ry"), "{}", sidecar.output());
    }
}
