//! What the sidecar says itself: who responds, why, and what to do.

use serde_json::Value;

use crate::support::{
    Answer, FakeCsp, FakeService, Reply, Settings, Sidecar, get, refused_address, request, send_raw,
};

/// Checks what every response of our own has, and gives its `detail`.
fn detail(reply: &Reply, status: u16, label: &str) -> String {
    assert_eq!(reply.status, status, "{reply:?}");
    let proxy_status = reply.header("proxy-status").unwrap();
    assert!(
        proxy_status.starts_with("auth-sidecar; error="),
        "{proxy_status}"
    );
    assert!(
        proxy_status.ends_with(&format!("details=\"{label}\"")),
        "{proxy_status}"
    );
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    let problem: Value = reply.json();
    assert_eq!(problem["server"], "auth-sidecar");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], format!("urn:auth-sidecar:answer:{label}"));
    assert!(problem["title"].as_str().unwrap().len() > 10);
    assert_eq!(problem["instance"].as_str().unwrap().len(), 32);
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_refused_host_is_named_with_the_key_that_would_let_it_in() {
    let service = FakeService::accepting(["the-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("the-token", &service));
    for url in [sidecar.url(), sidecar.admin_url()] {
        let reply = request("GET", &url, &[("host", "metrics.example:80")], "").await;
        let detail = detail(&reply, 421, "host");
        assert!(
            detail.contains("metrics.example") && !detail.contains(":80"),
            "{detail}"
        );
        assert!(detail.contains("listen.allow_hosts"), "{detail}");
    }
    let long = "x".repeat(200) + ".example";
    let reply = request("GET", &sidecar.url(), &[("host", &long)], "").await;
    assert!(!detail(&reply, 421, "host").contains(&"x".repeat(65)));
}

#[tokio::test]
async fn the_id_of_a_response_is_that_of_the_client_s_trace_or_one_of_its_own() {
    let service = FakeService::accepting(["the-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("the-token", &service));
    let evil = ("host", "evil.example");
    let id = async |fields: &[(&str, &str)]| {
        let reply = request("GET", &sidecar.url(), fields, "").await;
        reply.json()["instance"].as_str().unwrap().to_owned()
    };
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = id(&[evil, ("traceparent", parent)]).await;
    assert_eq!(traced, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_ne!(id(&[evil]).await, id(&[evil]).await);
}

#[tokio::test]
async fn failures_of_the_service_and_of_the_token_say_where_to_look() {
    let (address, _kept) = refused_address();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "0s");
    let away = settings
        .clone()
        .set("upstream.url", format!("http://{address}"));
    let sidecar = Sidecar::start(&away);
    sidecar.ready().await;
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert!(detail(&reply, 502, "connect").contains("upstream.url"));

    csp.always(Answer::CspError(401));
    let sidecar = Sidecar::start(&settings);
    let rejected = || async { get(&format!("{}/x", sidecar.url())).await };
    let is_rejected = async || rejected().await.text().contains("credentials_rejected");
    crate::support::eventually_async(is_rejected, crate::support::DEADLINE).await;
    let reply = rejected().await;
    let detail = detail(&reply, 503, "credentials_rejected");
    assert!(
        detail.contains("doctor") && detail.contains("[auth]"),
        "{detail}"
    );
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn a_malformed_request_is_told_its_flaw_and_the_rule() {
    let service = FakeService::accepting(["the-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("the-token", &service));
    let sent = "GET / HTTP/1.1\r\nBad Name: x\r\nHost: localhost\r\n\r\n";
    let reply = send_raw(sidecar.proxy_address(), sent).await;
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let problem: Value = serde_json::from_str(body).unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("line 2") && detail.contains("two ways"),
        "{detail}"
    );
}
