//! Clients that would make HTTP/2 cost more than their share.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::time::Instant;

use super::{TOKEN, pair};
use crate::support::{
    Body, Connection, DEADLINE, FakeService, Settings, Sidecar, eventually, get,
    http2::{Http2, PREFACE, field, frame, get_x},
    next_data,
};

const SOON: Duration = Duration::from_secs(20);
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Writes until the other side has had enough.
async fn flood(sidecar: &Sidecar, mut next: impl FnMut(u32) -> Vec<u8>) {
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client.write(PREFACE).await;
    let begun = Instant::now();
    let mut number = 0;
    while client.try_write(next(number)).await {
        number += 1;
        assert!(begun.elapsed() < SOON, "still served after {number}");
    }
}

#[tokio::test]
async fn one_who_begins_requests_only_to_break_them_off_is_cut_off() {
    let (service, sidecar) = pair();
    let head = get_x();
    flood(&sidecar, |number| {
        let stream = 2 * number + 1;
        let mut frames = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head);
        frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        frames
    })
    .await;
    assert!(service.connections() < 2000, "{}", service.connections());
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    eventually(|| service.in_flight() == 0, DEADLINE).await;
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let (service, sidecar) = pair();
    let mut head = Some(frame(HEADERS, END_STREAM, 1, &get_x()));
    flood(&sidecar, |_| {
        let more = field("x-more", &"x".repeat(100)).repeat(100);
        head.take()
            .unwrap_or_else(|| frame(CONTINUATION, 0, 1, &more))
    })
    .await;
    assert_eq!(service.request_count(), 0);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_small_only_on_the_wire_is_refused() {
    let (service, sidecar) = pair();
    let client = Http2::to(sidecar.proxy_address()).await;
    let value = "x".repeat(4000);
    let fields: Vec<_> = (0..90).map(|_| ("x-bomb", value.as_str())).collect();
    // The table of the compression makes a byte of each repetition.
    let bombed = client.try_request("GET", "/x", &fields, Bytes::new()).await;
    assert!(bombed.is_err() || bombed.unwrap().status == 431);
    assert_eq!(service.request_count(), 0);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn frames_that_make_us_reset_streams_have_a_bound() {
    let (service, sidecar) = pair();
    let head = get_x();
    flood(&sidecar, |number| {
        let stream = 2 * number + 1;
        let mut frames = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head);
        // Data behind the end of a stream is an error of that stream.
        frames.extend(frame(DATA, 0, stream, b"x"));
        frames
    })
    .await;
    assert!(service.connections() < 2000, "{}", service.connections());
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up_and_its_neighbours_are_not() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service).set("listen.body_idle_timeout", "300ms");
    let sidecar = Sidecar::start(&settings);
    let client = Http2::with_window(sidecar.proxy_address(), 1000).await;
    let large = Request::get("/bytes/3000000").body(Body::empty()).unwrap();
    let mut stalled = client.send(large).await.unwrap().into_body();
    let streaming = Request::get("/stream?ms=50&chunks=40")
        .body(Body::empty())
        .unwrap();
    let mut streamed = client.send(streaming).await.unwrap().into_body();
    let mut chunks = 0;
    while next_data(&mut streamed)
        .await
        .is_some_and(|data| !data.is_empty())
    {
        chunks += 1;
    }
    assert_eq!(chunks, 40);
    // What had come before the stream was reset is still there to read, then comes the end of it.
    let mut read = 0;
    let broken = loop {
        match http_body_util::BodyExt::frame(&mut stalled).await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            other => break other,
        }
    };
    assert!(matches!(broken, Some(Err(_))), "{broken:?}");
    assert!(read < 3_000_000);
    eventually(|| service.in_flight() == 0, DEADLINE).await;
}

#[tokio::test]
async fn no_more_streams_are_open_than_there_may_be() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service).set("listen.max_concurrent_streams", 3);
    let sidecar = Sidecar::start(&settings);
    let client = Http2::to(sidecar.proxy_address()).await;
    assert_eq!(client.get("/x").await.status, 200);
    let exchanges = (0..12).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.get("/slow?ms=50").await.status })
    });
    for exchange in exchanges.collect::<Vec<_>>() {
        assert_eq!(exchange.await.unwrap(), 200);
    }
    assert!(service.in_flight_max() <= 3, "{}", service.in_flight_max());
}

#[tokio::test]
async fn the_shortest_patience_costs_no_request_that_is_being_answered() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service).set("listen.header_read_timeout", "2ms");
    let sidecar = Sidecar::start(&settings);
    let client = Http2::to(sidecar.proxy_address()).await;
    assert_eq!(client.get("/slow?ms=100").await.status, 200);
}
