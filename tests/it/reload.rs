//! A configuration that changes while the sidecar runs.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::timeout;

use crate::support::{
    Answer, Client, FakeCsp, FakeService, Process, Settings, eventually, eventually_async, get,
    try_request,
};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_changed_file_is_validated_and_comes_into_use_whole() {
    let (csp, other_csp) = (FakeCsp::start(), FakeCsp::start());
    let service = FakeService::start(csp.validator());
    let other = FakeService::start(other_csp.validator());
    let sidecar = Process::start(&Settings::new(&csp, &service)).await;
    let mut kept = Client::connect(&sidecar.url()).await;
    assert_eq!(kept.request("GET", "/x", &[], "").await.status, 200);
    sidecar.reconfigure(&Settings::new(&other_csp, &other));
    let changed = async || {
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 200);
        other.request_count() > 0
    };
    eventually_async(changed, SOON).await;
    // A connection that was open before goes on, and to the new place.
    let before = service.request_count();
    assert_eq!(kept.request("GET", "/x", &[], "").await.status, 200);
    assert_eq!(service.request_count(), before);
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let counted = r#"auth_sidecar_config_reload_total{result="success"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_wrong_configuration_is_reported_and_the_old_one_stays() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service);
    let sidecar = Process::start(&settings).await;
    sidecar.reconfigure(&settings.clone().set("auth.hold_timeout", "soon"));
    eventually(|| sidecar.output().contains("auth.hold_timeout"), SOON).await;
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 200);
    // Credentials that give no token are no better: the old ones serve on.
    sidecar.reconfigure(&settings.clone().set("auth.client_id", "nobody"));
    eventually(|| sidecar.output().contains("invalid_client"), SOON).await;
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    csp.revoke_all();
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert!(!sidecar.output().contains("is in use"));
}

#[tokio::test]
async fn a_configuration_whose_files_hang_is_rejected_and_holds_nothing_up() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("process.sandbox", false);
    // Nobody writes to it, so whoever opens it waits. What the configuration names is opened without waiting;
    // the system's authorities, which services behind https need, are not.
    let directory = tempfile::tempdir().unwrap();
    let hanging = directory.path().join("authorities");
    let made = std::process::Command::new("mkfifo").arg(&hanging).status();
    assert!(made.unwrap().success());
    let environment = [("SSL_CERT_FILE", hanging.to_str().unwrap())];
    let mut sidecar = Process::start_with(&settings, &[], &environment).await;
    let hangs = settings.clone().set("upstream.url", "https://localhost:1");
    sidecar.reconfigure(&hangs);
    let rejected = async || {
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
        let (_, status) = sidecar.admin_get("/status").await;
        status.contains("cannot be read within 10s")
    };
    eventually_async(rejected, 2 * SOON).await;
    let path = sidecar.config();
    let named = format!("{}, or a file that it names", path.display());
    eventually(|| sidecar.output().contains(&named), SOON).await;
    // One that can be read is used all the same, and nothing waits for the other at the end.
    sidecar.reconfigure(&settings.clone().set("listen.max_connections", 77));
    eventually(|| sidecar.output().contains("is in use"), SOON).await;
    sidecar.reconfigure(&hangs);
    sidecar.signal(Signal::HUP);
    sidecar.signal(Signal::TERM);
    let ended = timeout(SOON, sidecar.wait()).await;
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_wrong_configuration_also_ends_the_wait_for_one_that_was_right() {
    let (csp, other_csp) = (FakeCsp::start(), FakeCsp::start());
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service);
    let sidecar = Process::start(&settings).await;
    other_csp.always(Answer::Hang);
    // Long enough that no call ends by itself meanwhile.
    let waiting = Settings::new(&other_csp, &service).set("auth.request_timeout", "60s");
    sidecar.reconfigure(&waiting);
    eventually(|| other_csp.in_flight() == 1, SOON).await;
    sidecar.reconfigure(&settings.clone().set("auth.hold_timeout", "soon"));
    eventually(|| sidecar.output().contains("auth.hold_timeout"), SOON).await;
    // Its token call is given up, so nothing can bring it into use.
    eventually(|| other_csp.in_flight() == 0, SOON).await;
    assert_eq!(other_csp.call_count(), 1);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert!(!sidecar.output().contains("is in use"));
}

#[tokio::test]
async fn sighup_reads_the_secrets_again_though_the_file_is_wrong() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service);
    let sidecar = Process::start(&settings).await;
    eventually_async(async || sidecar.admin_get("/readyz").await.0 == 200, SOON).await;
    sidecar.reconfigure(&settings.set("auth.hold_timeout", "soon"));
    eventually(|| sidecar.output().contains("auth.hold_timeout"), SOON).await;
    assert_eq!(csp.call_count(), 1);
    sidecar.signal(Signal::HUP);
    eventually(|| csp.call_count() == 2, SOON).await;
}

#[tokio::test]
async fn listeners_come_and_go_with_the_configuration() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service);
    let sidecar = Process::start(&settings).await;
    let first = sidecar.proxy_address();
    let second = free_address();
    let both = serde_json::json!(["127.0.0.1:0", second]);
    sidecar.reconfigure(&settings.clone().set("listen.address", both));
    let url = format!("http://{second}/x");
    let serves = async || {
        let reply = try_request("GET", &url, &[], "").await;
        reply.is_ok_and(|reply| reply.status == 200)
    };
    eventually_async(serves, SOON).await;
    assert_eq!(get(&format!("http://{first}/x")).await.status, 200);
    sidecar.reconfigure(&settings.set("listen.address", second.as_str()));
    let is_gone = async || {
        let reply = try_request("GET", &format!("http://{first}/x"), &[], "").await;
        reply.is_err()
    };
    eventually_async(is_gone, SOON).await;
    assert_eq!(get(&url).await.status, 200);
}

#[tokio::test]
async fn what_is_open_on_an_address_that_is_given_up_ends_with_the_drain_time() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("listen.drain_timeout", "500ms");
    let sidecar = Process::start(&settings).await;
    let slow = format!("{}/slow?ms=60000", sidecar.url());
    let slow = tokio::spawn(async move { try_request("GET", &slow, &[], "").await });
    eventually(|| service.in_flight() == 1, SOON).await;
    sidecar.reconfigure(&settings.set("listen.address", free_address()));
    let ended = timeout(SOON, slow).await.expect("it is still open");
    assert!(ended.unwrap().is_err());
    let is_said = || sidecar.output().contains("the drain time is over");
    eventually(is_said, SOON).await;
    eventually(|| service.in_flight() == 0, SOON).await;
}

#[tokio::test]
async fn a_start_whose_first_call_fails_at_once_is_no_change_of_the_configuration() {
    let mut csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service);
    csp.stop();
    // The call may fail before or after the first request could be served.
    for _ in 0..30 {
        let sidecar = Process::start(&settings).await;
        eventually(|| sidecar.output().contains("got no token"), SOON).await;
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        let current = "auth_sidecar_config_last_reload_success 1";
        assert!(metrics.contains(current), "{}", sidecar.output());
        assert!(!sidecar.output().contains("new configuration"));
    }
}

fn free_address() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn sighup_reads_the_file_and_the_secrets_again() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let mut sidecar = Process::start(&Settings::new(&csp, &service)).await;
    eventually_async(async || sidecar.admin_get("/readyz").await.0 == 200, SOON).await;
    assert_eq!(csp.call_count(), 1);
    sidecar.signal(Signal::HUP);
    eventually(|| csp.call_count() == 2, SOON).await;
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
}
