//! A collector that is away, slow or wrong: requests do not notice, and the log says so once.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind::Server;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use super::{SOON, served, traced};
use crate::support::{
    Client, FakeCollector, FakeService, Process, RawServer, Settings, Verdict, eventually,
    eventually_async, get, refused_address,
};

async fn start(settings: &Settings) -> Process {
    Process::start_with(settings, &["--log-format", "json"], &[]).await
}

/// The lines about the collector.
fn said(process: &Process) -> Vec<Value> {
    let output = process.stderr();
    let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line.get("collector").is_some())
        .collect()
}

/// The value of a series of `/metrics`.
async fn metric(process: &Process, series: &str) -> u64 {
    let (_, text) = process.admin_get("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("no {series}"));
    value.trim().parse().unwrap()
}

const EXPORTED: &str = "auth_sidecar_spans_exported_total ";

fn dropped(reason: &str) -> String {
    format!("auth_sidecar_spans_dropped_total{{reason=\"{reason}\"}} ")
}

#[tokio::test]
async fn a_collector_that_is_away_is_named_once_and_gets_what_waited_when_it_is_back() {
    let (address, kept) = refused_address();
    let service = FakeService::accepting(["the-token"]);
    let settings = Settings::static_token("the-token", &service)
        .set("telemetry.otlp_endpoint", format!("http://{address}"));
    let sidecar = start(&settings).await;
    for path in ["/x", "/x", "/waits"] {
        let reply = get(&format!("{}{path}", sidecar.url())).await;
        assert_eq!(reply.status, 200);
    }
    eventually(|| !said(&sidecar).is_empty(), SOON).await;
    let line = &said(&sidecar)[0];
    let message = line["message"].as_str().unwrap();
    assert!(
        message.starts_with("the collector takes no spans"),
        "{line}"
    );
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["collector"], address.to_string());
    assert_eq!(line["reason"], "network");
    let remedy = line["remedy"].as_str().unwrap();
    assert!(remedy.contains("telemetry.otlp_endpoint"), "{line}");
    drop(kept);
    let collector = FakeCollector::start_at(address);
    // Nothing is lost of an outage that is short.
    served(&collector, "/waits").await;
    eventually(|| said(&sidecar).len() == 2, SOON).await;
    let back = &said(&sidecar)[1];
    assert_eq!(back["message"], "the collector takes spans again");
    assert_eq!(back["level"], "INFO");
    assert!(back["failures"].as_u64() >= Some(1), "{back}");
    assert!(back["lasted_seconds"].is_number());
    assert_eq!(collector.of_kind(Server).len(), 3);
    assert_eq!(metric(&sidecar, EXPORTED).await, 6);
    assert_eq!(metric(&sidecar, &dropped("not_exported")).await, 0);
}

#[tokio::test]
async fn each_wrong_response_of_a_collector_costs_spans_and_nothing_else() {
    for (verdict, level, reason) in [
        (Verdict::Status(500, vec![]), "WARN", "bad_status"),
        (Verdict::Status(401, vec![]), "ERROR", "bad_status"),
        (Verdict::Status(404, vec![]), "ERROR", "bad_status"),
        (
            Verdict::Status(307, vec![("location", "http://127.0.0.1:1/v1/traces")]),
            "ERROR",
            "bad_status",
        ),
        (Verdict::Page, "ERROR", "bad_response"),
        (Verdict::Rubbish, "ERROR", "bad_response"),
    ] {
        let collector = FakeCollector::start();
        collector.always(verdict.clone());
        let service = FakeService::accepting(["the-token"]);
        let settings = traced(Settings::static_token("the-token", &service), &collector);
        let sidecar = start(&settings).await;
        let url = format!("{}/x", sidecar.url());
        assert_eq!(get(&url).await.status, 200);
        let lost = dropped("not_exported");
        let is_lost = async || metric(&sidecar, &lost).await == 2;
        eventually_async(is_lost, SOON).await;
        eventually(|| !said(&sidecar).is_empty(), SOON).await;
        let lines = said(&sidecar);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!(
            (&lines[0]["level"], &lines[0]["reason"]),
            (&level.into(), &reason.into()),
            "{verdict:?}"
        );
        // What it says itself is not repeated.
        assert!(!sidecar.output().contains("canary"));
        // It is tried with the next batch, and no sooner.
        assert_eq!(collector.exports().len(), 1);
        collector.always(Verdict::Accept);
        assert_eq!(get(&format!("{}/good", sidecar.url())).await.status, 200);
        served(&collector, "/good").await;
        eventually(|| said(&sidecar).len() == 2, SOON).await;
    }
}

#[tokio::test]
async fn a_batch_that_may_be_taken_later_is_sent_again() {
    let collector = FakeCollector::start();
    let busy = |status| Verdict::Status(status, vec![("retry-after", "1")]);
    collector.script([busy(503), busy(429), Verdict::Close]);
    let service = FakeService::accepting(["the-token"]);
    let settings = traced(Settings::static_token("the-token", &service), &collector);
    let sidecar = start(&settings).await;
    assert_eq!(get(&format!("{}/again", sidecar.url())).await.status, 200);
    served(&collector, "/again").await;
    let bodies: Vec<_> = collector
        .exports()
        .into_iter()
        .map(|one| one.body)
        .collect();
    assert!(bodies.len() >= 4, "{}", bodies.len());
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    let is_counted = async || metric(&sidecar, EXPORTED).await == 2;
    eventually_async(is_counted, SOON).await;
    assert_eq!(metric(&sidecar, &dropped("not_exported")).await, 0);
}

#[tokio::test]
async fn spans_that_a_collector_rejects_are_counted() {
    let collector = FakeCollector::start();
    collector.always(Verdict::Reject(1));
    let service = FakeService::accepting(["the-token"]);
    let settings = traced(Settings::static_token("the-token", &service), &collector);
    let sidecar = start(&settings).await;
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    let is_counted = async || metric(&sidecar, EXPORTED).await == 1;
    eventually_async(is_counted, SOON).await;
    assert_eq!(metric(&sidecar, &dropped("rejected")).await, 1);
    assert!(said(&sidecar).is_empty() && !sidecar.output().contains("canary"));
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_neither_requests_nor_the_end() {
    let collector = FakeCollector::start();
    collector.always(Verdict::Hang);
    let service = FakeService::accepting(["the-token"]);
    let settings = traced(Settings::static_token("the-token", &service), &collector);
    let mut sidecar = start(&settings).await;
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    eventually(|| !collector.exports().is_empty(), SOON).await;
    // The one that is on its way, and as many as there is room for, and more.
    let mut client = Client::connect(&sidecar.url()).await;
    for _ in 0..1500 {
        assert_eq!(client.request("GET", "/x", &[], "").await.status, 200);
    }
    assert_eq!(
        metric(&sidecar, &dropped("queue_full")).await,
        2 * 1500 - 2048
    );
    // It hangs still.
    assert_eq!(collector.exports().len(), 1);
    let before = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(before.elapsed() < Duration::from_secs(5));
    let output = sidecar.output();
    assert!(output.contains("too slow for the last spans"), "{output}");
}

#[tokio::test]
async fn a_collector_that_speaks_no_http_is_told_of_in_our_words() {
    let noise = RawServer::start(|_, mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        // A response to something: what comes before the request has another name.
        drop(stream.read_u8().await);
        drop(stream.write_all(b"canary: no HTTP\r\n\r\n").await);
        std::future::pending::<()>().await;
    });
    let service = FakeService::accepting(["the-token"]);
    let settings = Settings::static_token("the-token", &service).set(
        "telemetry.otlp_endpoint",
        format!("http://{}", noise.address()),
    );
    let sidecar = start(&settings).await;
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    eventually(|| !said(&sidecar).is_empty(), SOON).await;
    let line = &said(&sidecar)[0];
    assert_eq!(line["detail"], "its response is no HTTP");
    assert!(!sidecar.output().contains("canary"));
}
