//! Bodies of requests that wait for a token, and the memory that they take meanwhile.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{
    Answer, Client, DEADLINE, FakeCsp, FakeService, Process, Reply, Settings, eventually_async,
    http2::Http2, memory::anonymous, service::pattern,
};

const REQUESTS: usize = 200;
const BODY: usize = 240 * 1024;
/// How long it is looked at them once all of them wait.
const LOOK: Duration = Duration::from_secs(1);
/// What they may take together, in KiB: the bound of what is buffered, and what 200 connections and
/// their requests need besides. The manifests in `deploy/` give the process 64 MiB.
const MOST: u64 = 24 * 1024;

/// What became of the requests.
struct Waited {
    served: usize,
    /// Told to come back, since there was no room for their bodies.
    refused: usize,
    /// Memory beyond that of the process without them, in KiB, while all of them waited.
    took: u64,
}

/// Sends all requests while there is no token. `ask` sends one of them, by its number.
async fn wait<F>(ask: impl AsyncFn(&Process) -> Vec<F>) -> Waited
where
    F: Future<Output = Reply> + Send + 'static,
{
    let csp = FakeCsp::start();
    csp.always(Answer::Hang);
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service)
        .set("auth.request_timeout", "1s")
        .set("auth.hold_timeout", "2m");
    let process = Process::start(&settings).await;
    let before = anonymous(process.pid()).unwrap_or_default();
    let mut asking = JoinSet::new();
    for request in ask(&process).await {
        asking.spawn(request);
    }
    let waiting = async || {
        let (_, metrics) = process.admin_get("/metrics").await;
        let number = |line: &str| {
            let value = metrics.lines().find_map(|found| found.strip_prefix(line));
            value.map_or(0.0, |value| value.trim().parse::<f64>().unwrap())
        };
        number("auth_sidecar_held_requests ")
            + number("auth_sidecar_rejected_total{reason=\"too_many_requests\"} ")
    };
    eventually_async(async || (waiting().await - 200.0).abs() < 0.5, DEADLINE).await;
    // What is on its way arrives.
    let mut most = 0;
    let end = Instant::now() + LOOK;
    while Instant::now() < end {
        most = most.max(anonymous(process.pid()).unwrap_or_default());
        sleep(Duration::from_millis(20)).await;
    }
    csp.restore();
    let mut waited = Waited {
        served: 0,
        refused: 0,
        took: most.saturating_sub(before),
    };
    for reply in asking.join_all().await {
        match reply.status.as_u16() {
            200 => {
                assert_eq!(reply.body, pattern(BODY));
                waited.served += 1;
            }
            503 => {
                assert_eq!(reply.header("retry-after"), Some("1"));
                let why = reply.header("proxy-status").unwrap();
                assert!(why.contains("too_many_requests"), "{why}");
                waited.refused += 1;
            }
            _ => panic!("{reply:?}"),
        }
    }
    assert!(
        waited.took < MOST,
        "{} KiB, {} served, {} refused",
        waited.took,
        waited.served,
        waited.refused
    );
    waited
}

/// Requests over so many connections with HTTP/2.
async fn over_http2(connections: usize) -> Waited {
    let body = Bytes::from(pattern(BODY));
    wait(async |process| {
        let mut asking = Vec::new();
        for _ in 0..connections {
            let client = Arc::new(Http2::to(process.proxy_address()).await);
            for _ in 0..REQUESTS / connections {
                let (client, body) = (Arc::clone(&client), body.clone());
                asking.push(async move { client.request("POST", "/echo", &[], body).await });
            }
        }
        asking
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_wait_over_few_connections_with_http2_are_all_served() {
    let waited = over_http2(2).await;
    assert_eq!((waited.served, waited.refused), (REQUESTS, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_wait_over_many_connections_with_http2_are_served_within_a_bound() {
    let waited = over_http2(REQUESTS).await;
    assert!(waited.served >= REQUESTS / 2, "{}", waited.served);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_wait_with_http1_are_all_served() {
    let body = Bytes::from(pattern(BODY));
    let waited = wait(async |process| {
        let mut asking = Vec::new();
        for _ in 0..REQUESTS {
            let mut client = Client::connect(&process.url()).await;
            let body = body.clone();
            asking.push(async move { client.request("POST", "/echo", &[], body).await });
        }
        asking
    })
    .await;
    assert_eq!((waited.served, waited.refused), (REQUESTS, 0));
}
