//! Token services of the same family that want something a little different.

use crate::{
    outbound::Proxy,
    support::{API_TOKEN, FakeCsp, FakeService, Settings, Sidecar, get},
};

#[tokio::test]
async fn an_older_server_gets_the_field_that_it_knows() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::api_token(&csp, &service).set("auth.api_token_field", "refresh_token");
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    let form = csp.calls()[0].form();
    let sent = |name: &str| {
        form.iter()
            .any(|(found, value)| found == name && value == API_TOKEN)
    };
    assert!(sent("refresh_token") && !sent("api_token"));
}

#[tokio::test]
async fn the_general_grant_endpoint_and_a_base_with_a_slash_work() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service)
        .set("auth.base_url", format!("{}/", csp.base_url()))
        .set("auth.token_path", "/csp/gateway/am/api/auth/token");
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(csp.calls()[0].target, "/csp/gateway/am/api/auth/token");
}

#[tokio::test]
async fn the_token_leg_goes_through_a_proxy_of_its_own_and_around_it_where_it_must() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let proxy = Proxy::to(csp.address());
    let url = proxy
        .url()
        .replace("http://", "http://user:canary-proxy-password@");
    let settings = Settings::new(&csp, &service).set("auth.proxy_url", url.as_str());
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    // By a tunnel for http:// too: the proxy is not to read the credential.
    let head = proxy.heads()[0].to_ascii_lowercase();
    assert!(
        head.starts_with(&format!("connect {} http/1.1\r\n", csp.address())),
        "{head}"
    );
    assert!(head.contains("\r\nproxy-authorization: basic "), "{head}");
    drop(sidecar);
    let around = settings.set("auth.no_proxy", "example.com,127.0.0.1");
    let sidecar = Sidecar::start(&around);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(proxy.heads().len(), 1);
}
