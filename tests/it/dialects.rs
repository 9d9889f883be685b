//! Token services of the same family that want something a little different.

use crate::support::{
    API_TOKEN, FakeCsp, FakeService, RawServer, Settings, Sidecar, get, peer::Connection,
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

/// An HTTP proxy that forwards one request each to wherever it asks for, and counts.
fn outbound_proxy(csp: &FakeCsp) -> RawServer {
    let target = csp.address();
    RawServer::start(move |_, stream| async move {
        let mut client = Connection::from(stream);
        let Some((head, body)) = client.read_message().await else {
            return;
        };
        assert!(head.starts_with("POST http://"), "{head}");
        let authorized = head
            .to_ascii_lowercase()
            .contains("proxy-authorization: basic ");
        assert!(authorized, "{head}");
        let mut upstream = Connection::to(target).await;
        let path = head.split(' ').nth(1).unwrap();
        let path = &path[path.find("/csp").unwrap()..];
        let rest: Vec<&str> = head
            .split_inclusive('\n')
            .skip(1)
            .filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"))
            .collect();
        let rest = rest.concat();
        upstream
            .write(format!("POST {path} HTTP/1.1\r\n{rest}"))
            .await;
        upstream.write(body).await;
        let (head, body) = upstream.read_message().await.unwrap();
        client.write(head).await;
        client.write(body).await;
    })
}

#[tokio::test]
async fn the_token_leg_goes_through_a_proxy_of_its_own_and_around_it_where_it_must() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let proxy = outbound_proxy(&csp);
    let url = format!("http://user:canary-proxy-password@{}", proxy.address());
    let settings = Settings::new(&csp, &service).set("auth.proxy_url", url.as_str());
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(proxy.connections(), 1);
    drop(sidecar);
    let around = settings.set("auth.no_proxy", "example.com,127.0.0.1");
    let sidecar = Sidecar::start(&around);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(proxy.connections(), 1);
}
