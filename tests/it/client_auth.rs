//! Clients without a shared secret: signed assertions (RFC 7523), and certificates (RFC 8705).

use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::{
    Answer, FakeCsp, FakeService, Process, Settings, Sidecar,
    csp::{Call, ClientKey},
    eventually_async, get,
    pki::Authority,
    request,
    server::Tls,
};

const SOON: Duration = Duration::from_secs(10);

/// A client with that key.
fn signing(csp: &FakeCsp, service: &FakeService, key: &ClientKey) -> Settings {
    Settings::oauth2(csp, service)
        .unset("auth.client_secret")
        .set("auth.client_auth", "private_key_jwt")
        .file("auth.private_key_file", &key.pem)
}

async fn status(sidecar: &Sidecar) -> u16 {
    get(&format!("{}/x", sidecar.url())).await.status.as_u16()
}

fn field(call: &Call, name: &str) -> String {
    let mut form = call.form().into_iter();
    form.find(|(key, _)| key == name).unwrap().1
}

fn keys() -> [ClientKey; 4] {
    [
        ClientKey::rsa(),
        ClientKey::p256(),
        ClientKey::p384(),
        ClientKey::ed25519(),
    ]
}

#[tokio::test]
async fn a_signed_assertion_gets_a_token_with_each_algorithm() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    for key in keys() {
        csp.accept_keys([key.clone()]);
        let settings = signing(&csp, &service, &key);
        for algorithm in key.algorithms() {
            let settings = settings.clone().set("auth.assertion_algorithm", *algorithm);
            let sidecar = Sidecar::start(&settings);
            // Often: one number in 256 is shorter than the others.
            for _ in 0..10 {
                assert_eq!(status(&sidecar).await, 200, "{algorithm}");
                csp.revoke_all();
            }
        }
        let sidecar = Sidecar::start(&settings);
        assert_eq!(status(&sidecar).await, 200);
        let assertion = field(csp.calls().last().unwrap(), "client_assertion");
        assert_eq!(algorithm_of(&assertion), key.algorithms()[0]);
    }
    assert!(csp.call_count() >= 50, "{}", csp.call_count());
}

fn algorithm_of(assertion: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let header = assertion.split('.').next().unwrap();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["alg"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_assertion_names_its_key_and_whom_it_is_for() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let key = ClientKey::p256().named("2026-a");
    csp.accept_keys([key.clone()]);
    csp.expect_audience("https://login.example/realm");
    let settings = signing(&csp, &service, &key)
        .set("auth.key_id", "2026-a")
        .set("auth.assertion_audience", "https://login.example/realm");
    assert_eq!(status(&Sidecar::start(&settings)).await, 200);
}

#[tokio::test]
async fn a_key_that_the_service_does_not_know_is_an_invalid_client() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    csp.accept_keys([ClientKey::p256(), ClientKey::rsa().named("another")]);
    for key in [ClientKey::p256(), ClientKey::rsa()] {
        let settings = signing(&csp, &service, &key).set("auth.hold_timeout", "100ms");
        let sidecar = Sidecar::start(&settings);
        assert_eq!(status(&sidecar).await, 503);
        let said = async || sidecar.admin_get("/status").await.1;
        eventually_async(async || said().await.contains("invalid_client"), SOON).await;
    }
}

#[tokio::test]
async fn a_new_key_in_its_file_is_used_without_a_restart() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (old, new) = (ClientKey::p256(), ClientKey::ed25519());
    csp.accept_keys([old.clone()]);
    let settings = signing(&csp, &service, &old).set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    csp.accept_keys([new.clone()]);
    eventually_async(async || status(&sidecar).await == 503, SOON).await;
    sidecar.rewrite("auth.private_key_file", "no key at all");
    let said = async || sidecar.admin_get("/status").await.1;
    eventually_async(
        async || said().await.contains("the private key is none"),
        SOON,
    )
    .await;
    sidecar.rewrite("auth.private_key_file", &new.pem);
    eventually_async(async || status(&sidecar).await == 200, SOON).await;
}

#[tokio::test]
async fn of_two_overlapping_keys_the_next_is_tried_by_its_own_name() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (old, new) = (ClientKey::p256().named("a"), ClientKey::p384().named("b"));
    csp.accept_keys([old.clone()]);
    let settings = signing(&csp, &service, &old)
        .set("auth.key_id", "a")
        .set("auth.key_next_id", "b")
        .file("auth.private_key_next_file", &new.pem);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    assert_eq!(csp.call_count(), 1);
    csp.accept_keys([new]);
    assert_eq!(status(&sidecar).await, 200);
    assert_eq!(csp.call_count(), 3);
}

#[tokio::test]
async fn a_certificate_alone_gets_a_token_where_it_says_who_asks() {
    let (server, clients) = (Authority::new(), Authority::new());
    let csp = FakeCsp::start_behind(Tls::with(&server, &server.leaf(), Some(&clients)));
    csp.accept_certificates();
    let service = FakeService::start(csp.validator());
    let ours = clients.leaf();
    let settings = Settings::oauth2(&csp, &service)
        .unset("auth.client_secret")
        .set("auth.client_auth", "tls_client_auth")
        .file("auth.ca_file", csp.ca_pem())
        .file("auth.client_cert_file", &ours.cert_pem)
        .file("auth.client_key_file", &ours.key_pem);
    let sidecar = Sidecar::start(&settings);
    assert_eq!(status(&sidecar).await, 200);
    let names: Vec<_> = csp.calls()[0].form().into_iter().map(|(n, _)| n).collect();
    assert_eq!(names, ["grant_type", "client_id"]);
}

#[tokio::test]
async fn neither_the_key_nor_an_assertion_shows_anywhere() {
    let mut all = JoinSet::new();
    for key in keys() {
        all.spawn(async move {
            let csp = FakeCsp::start();
            let service = FakeService::start(csp.validator());
            csp.accept_keys([key.clone()]);
            let settings = signing(&csp, &service, &key).set("auth.hold_timeout", "200ms");
            let sidecar = Process::start_with(&settings, &["--log-level", "trace"], &[]).await;
            let url = format!("{}/x", sidecar.url());
            let works = async || get(&url).await.status == 200;
            eventually_async(works, SOON).await;
            let mut shown = String::new();
            let echo = field(csp.calls().last().unwrap(), "client_assertion");
            for answer in [
                Answer::CspError(401),
                Answer::Status(400, format!("{{\"error\":\"{echo}\"}}"), vec![]),
                Answer::Truncated,
            ] {
                csp.always(answer);
                csp.revoke_all();
                let calls = csp.call_count();
                let refresh = format!("{}/refresh", sidecar.admin_url());
                let asked = async || {
                    request("POST", &refresh, &[], "").await;
                    csp.call_count() > calls
                };
                eventually_async(asked, SOON).await;
                shown += get(&url).await.text();
                for path in ["/status", "/readyz", "/metrics", "/"] {
                    shown += &sidecar.admin_get(path).await.1;
                }
            }
            shown += &sidecar.output();
            assert!(shown.contains("got no token"));
            let lines = key.pem.lines().filter(|line| !line.contains(' '));
            for line in lines.filter(|line| line.len() > 16) {
                assert!(!shown.contains(line), "a line of the key shows");
            }
            for call in csp.calls() {
                let assertion = field(&call, "client_assertion");
                let signature = assertion.rsplit('.').next().unwrap();
                assert!(!shown.contains(&signature[..20]), "an assertion shows");
            }
        });
    }
    all.join_all().await;
}
