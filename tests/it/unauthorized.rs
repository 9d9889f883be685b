//! An upstream that says 401.

use std::time::Duration;

use bytes::Bytes;
use tokio::{task::JoinSet, time::Instant};

use crate::support::{
    Answer, Body, FakeCsp, FakeService, Settings, Sidecar, eventually, get, request,
};

async fn two_hundred_meet_a_revoked_token(method: &'static str, body: &'static str, length: usize) {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    assert_eq!(csp.call_count(), 1);
    csp.revoke_all();
    let mut requests = JoinSet::new();
    for _ in 0..200 {
        let url = format!("{}/echo", sidecar.url());
        let body = body.repeat(length);
        requests.spawn(async move {
            let reply = request(method, &url, &[], body.clone()).await;
            (reply.status, reply.body == body.as_bytes())
        });
    }
    for (status, is_same) in requests.join_all().await {
        assert_eq!(status, 200);
        assert!(is_same);
    }
    assert_eq!(csp.call_count(), 2);
    assert!(service.unauthorized_count() > 0);
}

#[tokio::test]
async fn two_hundred_gets_with_a_revoked_token_make_one_call_and_nobody_sees_it() {
    two_hundred_meet_a_revoked_token("GET", "", 0).await;
}

#[tokio::test]
async fn two_hundred_posts_with_a_revoked_token_make_one_call_and_nobody_sees_it() {
    two_hundred_meet_a_revoked_token("POST", "0123456789", 1024).await;
}

#[tokio::test]
async fn an_upstream_that_refuses_before_it_reads_the_body_gets_it_all_the_second_time() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    service.refuse_early();
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    csp.revoke_all();
    let (frames, body) = Body::channel();
    let url = format!("{}/echo", sidecar.url());
    let posting = tokio::spawn(async move { request("POST", &url, &[], body).await });
    for part in ["one ", "two ", "three"] {
        let frame = hyper::body::Frame::data(Bytes::from_static(part.as_bytes()));
        frames.send(Ok(frame)).await.unwrap();
        eventually(|| service.unauthorized_count() > 0, Duration::from_secs(5)).await;
    }
    drop(frames);
    let reply = posting.await.unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.text()),
        (200, "one two three")
    );
}

#[tokio::test]
async fn a_second_401_passes_through_unchanged() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    let reply = get(&format!("{}/always401", sidecar.url())).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    assert!(reply.header("proxy-status").is_none());
    assert_eq!(csp.call_count(), 2);
    assert_eq!(service.request_count(), 2);
}

#[tokio::test]
async fn an_upstream_that_always_says_401_does_not_make_a_storm() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    let url = format!("{}/always401", sidecar.url());
    let end = Instant::now() + Duration::from_secs(4);
    let mut requests = 0;
    while Instant::now() < end {
        assert_eq!(get(&url).await.status, 401);
        requests += 1;
    }
    assert!(requests > 50, "{requests}");
    assert!(csp.call_count() <= 5, "{}", csp.call_count());
}

#[tokio::test]
async fn a_body_that_was_too_large_to_keep_earns_a_503_once_the_token_is_new() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("upstream.replay_body_limit", "1KiB");
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    csp.revoke_all();
    let url = format!("{}/echo", sidecar.url());
    let reply = request("POST", &url, &[], "x".repeat(2048)).await;
    assert_eq!(reply.status, 503);
    assert!(
        reply
            .header("proxy-status")
            .unwrap()
            .contains("token_renewed")
    );
    assert_eq!(reply.header("retry-after"), Some("1"));
    let again = request("POST", &url, &[], "x".repeat(2048)).await;
    assert_eq!(again.status, 200);
}

#[tokio::test]
async fn the_buffers_of_all_requests_together_are_bounded() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service)
        .set("upstream.replay_body_limit", "1KiB")
        .set("upstream.replay_buffer_total", "1KiB");
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let url = format!("{}/echo", sidecar.url());
    // What was kept is given back, or the fourth of these would find no room.
    for _ in 0..8 {
        assert_eq!(
            request("POST", &url, &[], "x".repeat(300)).await.status,
            200
        );
    }
    csp.revoke_all();
    assert_eq!(
        request("POST", &url, &[], "x".repeat(300)).await.status,
        200
    );
    csp.revoke_all();
    assert_eq!(
        request("POST", &url, &[], "x".repeat(1300)).await.status,
        503
    );
}

#[tokio::test]
async fn a_refused_token_that_cannot_be_renewed_is_a_503_and_no_401() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.hold_timeout", "300ms");
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    csp.always(Answer::Html503);
    csp.revoke_all();
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn what_is_no_401_passes_through_unchanged() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    for code in [200, 204, 301, 304, 400, 403, 404, 406, 407, 429, 500, 503] {
        let reply = get(&format!("{}/status/{code}", sidecar.url())).await;
        assert_eq!(reply.status, code);
        assert!(reply.header("proxy-status").is_none());
    }
    assert_eq!(csp.call_count(), 1);
}
