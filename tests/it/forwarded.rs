//! What the upstream learns of the client, and that it learns nothing without being asked to.

use crate::support::{
    FakeService, Settings, Sidecar, client::Reply, http2::Http2, request, send_raw,
};

const TOKEN: &str = "a-static-token";

fn telling(service: &FakeService) -> Settings {
    Settings::static_token(TOKEN, service).set("upstream.forwarded", true)
}

/// What arrived last.
fn forwarded(service: &FakeService) -> Vec<String> {
    let received = service.requests().pop().unwrap();
    let fields = received.headers.get_all("forwarded").iter();
    fields.map(|f| f.to_str().unwrap().to_owned()).collect()
}

fn good(reply: &Reply) {
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn the_upstream_is_told_the_clients_address_behind_what_others_have_said() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&telling(&service));
    let address = sidecar.proxy_address();
    let ours = format!("for=127.0.0.1;proto=http;host=\"{address}\"");
    good(&request("GET", &sidecar.url(), &[], "").await);
    assert_eq!(forwarded(&service), [&*ours]);
    let theirs = [("forwarded", "for=_a, for=_b"), ("forwarded", "for=_c")];
    good(&request("POST", &sidecar.url(), &theirs, "body").await);
    assert_eq!(
        forwarded(&service),
        ["for=_a, for=_b", "for=_c", ours.as_str()]
    );
    // A client cannot have ours taken off.
    let fields = [("connection", "forwarded"), ("host", "localhost")];
    good(&request("GET", &sidecar.url(), &fields, "").await);
    assert_eq!(
        forwarded(&service),
        ["for=127.0.0.1;proto=http;host=localhost"]
    );
    let absolute =
        "GET http://localhost:1/x HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n";
    send_raw(address, absolute).await;
    assert_eq!(
        forwarded(&service),
        ["for=127.0.0.1;proto=http;host=\"localhost:1\""]
    );
}

#[tokio::test]
async fn streams_of_http2_come_from_the_address_of_their_connection() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&telling(&service));
    let client = Http2::to(sidecar.proxy_address()).await;
    for _ in 0..3 {
        good(&client.request("GET", "/x", &[], "").await);
        let address = sidecar.proxy_address();
        let ours = format!("for=127.0.0.1;proto=http;host=\"{address}\"");
        assert_eq!(forwarded(&service), [ours]);
    }
}

#[tokio::test]
async fn an_address_of_ipv6_is_in_brackets_and_quotes() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&telling(&service).set("listen.address", "[::1]:0"));
    good(&request("GET", &sidecar.url(), &[("host", "localhost")], "").await);
    assert_eq!(
        forwarded(&service),
        ["for=\"[::1]\";proto=http;host=localhost"]
    );
}

#[tokio::test]
async fn nothing_is_told_by_default_and_what_the_client_says_passes() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    good(&request("GET", &sidecar.url(), &[], "").await);
    let received = service.requests().pop().unwrap();
    let port = sidecar.proxy_address().port().to_string();
    for (name, value) in &received.headers {
        let value = value.to_str().unwrap();
        assert!(!value.contains(&port), "{name}: {value}");
        assert!(!name.as_str().contains("forwarded"), "{name}");
    }
    let theirs = [("forwarded", "for=_a"), ("x-forwarded-for", "10.0.0.1")];
    good(&request("GET", &sidecar.url(), &theirs, "").await);
    assert_eq!(forwarded(&service), ["for=_a"]);
    let received = service.requests().pop().unwrap();
    assert_eq!(received.header("x-forwarded-for"), Some("10.0.0.1"));
}
