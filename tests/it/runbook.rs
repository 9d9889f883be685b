//! The runbook: ten faults are played for real between the demo's services, and what the log, the
//! status, the page, the doctor and the alerts say of each is what `docs/runbook.md` shows.
//!
//! `WRITE_RUNBOOK=1` writes what they say today into the page.

mod book;
mod faults;
mod prometheus;
mod stable;
mod voices;

use std::{collections::BTreeSet, path::Path};

use tokio::time::Instant;

use self::{
    book::{Book, slug},
    faults::{FAULTS, Scene},
    prometheus::Prometheus,
    stable::Names,
    voices::Voices,
};
use crate::support::{DEADLINE, try_request};

const ALERTS: &str = include_str!("../../deploy/observability/alerts.yml");
const DASHBOARD: &str = include_str!("../../deploy/observability/dashboard.json");

#[tokio::test(flavor = "multi_thread")]
async fn every_voice_names_culprit_beginning_and_remedy_of_each_fault_as_the_runbook_has_it() {
    // All at the same time: most of it is waiting.
    let plays: Vec<_> = FAULTS
        .iter()
        .map(|fault| tokio::spawn((fault.play)()))
        .collect();
    let mut scenes = Vec::new();
    for play in plays {
        scenes.push(play.await.unwrap());
    }
    let targets = FAULTS
        .iter()
        .zip(&scenes)
        .map(|(fault, scene)| (slug(fault.heading), scene.sidecar.admin_url()));
    let prometheus = Prometheus::watching(targets.collect());
    let mut book = Book::read();
    let mut silent = Vec::new();
    for (fault, scene) in FAULTS.iter().zip(&scenes) {
        let mut voices = Voices::of(scene, fault.log).await;
        if let Some(prometheus) = &prometheus {
            voices.alerts = Some(prometheus.alerts(&slug(fault.heading), fault.alerts).await);
        }
        let names = Names::of(scene);
        for (name, said) in voices.all() {
            let said = names.stabilise(&said);
            silent.extend(fault.misses(name, &said));
            book.put(fault.heading, name, &said);
        }
    }
    if let Some(prometheus) = &prometheus {
        silent.extend(unanswered(prometheus, &scenes).await);
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    book.compare();
}

/// Which queries of the dashboard show nothing while requests meet the faults.
async fn unanswered(prometheus: &Prometheus, scenes: &[Scene]) -> Vec<String> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        for scene in scenes {
            // Whatever comes of it.
            drop(try_request("GET", &scene.sidecar.url(), &[], "").await);
        }
        let unanswered = prometheus.unanswered(DASHBOARD).await;
        if unanswered.is_empty() || Instant::now() > deadline {
            return unanswered;
        }
    }
}

#[test]
fn each_alert_has_its_section() {
    let headings: BTreeSet<String> = Book::read().headings().map(slug).collect();
    let alerts = ALERTS.matches("- alert: ").count();
    let urls: Vec<&str> = ALERTS
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: docs/runbook.md#"))
        .collect();
    assert_eq!(urls.len(), alerts, "an alert without a runbook_url");
    for url in urls {
        assert!(headings.contains(url), "no section {url}: {headings:?}");
    }
}

/// Helm reads nothing outside of a chart, so it has copies.
#[test]
fn the_chart_has_the_same_rules_and_the_same_dashboard() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    for (source, copy) in [
        ("alerts.yml", "alerts.yaml"),
        ("dashboard.json", "dashboard.json"),
    ] {
        let source = deploy.join("observability").join(source);
        let copy = deploy.join("helm/auth-sidecar/files").join(copy);
        assert!(
            std::fs::read(&source).unwrap() == std::fs::read(&copy).unwrap(),
            "cp {} {}",
            source.display(),
            copy.display()
        );
    }
}
