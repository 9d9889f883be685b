//! A real Prometheus with the rules that are shipped.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use url::form_urlencoded;

use crate::support::{DEADLINE, eventually_async, try_request};

pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _files: TempDir,
}

impl Prometheus {
    /// One that scrapes these sidecars, by the name of their fault. `None` where it is not installed.
    #[expect(clippy::print_stdout, reason = "whoever runs the tests wants to know")]
    pub fn watching(targets: Vec<(String, String)>) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/observability/alerts.yml");
        let mut config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n- job_name: sidecars\n  static_configs:\n",
            rules.display()
        );
        for (fault, url) in targets {
            let address = url.replace("http://", "");
            writeln!(
                config,
                "  - {{targets: ['{address}'], labels: {{fault: '{fault}', instance: 'host-1'}}}}"
            )
            .unwrap();
        }
        let path = files.path().join("prometheus.yml");
        std::fs::write(&path, config).unwrap();
        let address = free_address();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                files.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => Some(Self {
                child,
                address,
                _files: files,
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("the alerts are left out: prometheus is not installed");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// What it says of a fault, once it has these alerts and has rendered them.
    pub async fn alerts(&self, fault: &str, wanted: &[&str]) -> String {
        let mut found = Vec::new();
        let has_all = async || {
            let alerts = self.of(fault).await;
            let is_there = |name: &&str| alerts.iter().any(|alert| name_of(alert) == *name);
            let done = wanted.iter().all(is_there);
            (done, alerts)
        };
        let mut last = Vec::new();
        let told = async || has_all().await.0;
        eventually_async(told, DEADLINE).await;
        last.append(&mut has_all().await.1);
        for alert in last {
            if wanted.contains(&name_of(&alert)) {
                found.push(shown(&alert));
            }
        }
        found.sort();
        found.join("\n")
    }

    /// Which queries of a dashboard have nothing to show, once they had the time for it.
    pub async fn unanswered(&self, dashboard: &str) -> Vec<String> {
        let dashboard: Value = serde_json::from_str(dashboard).unwrap();
        let mut silent = Vec::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let query = target["expr"].as_str().unwrap();
                let whole = [
                    ("$__rate_interval", "1m"),
                    ("$__range", "1m"),
                    ("$job", ".*"),
                ];
                let query = whole
                    .iter()
                    .fold(query.to_owned(), |query, (name, value)| {
                        query.replace(name, value)
                    })
                    .replace("$instance", ".*");
                if !self.has_result(&query).await {
                    silent.push(format!("{}: {query}", panel["title"]));
                }
            }
        }
        silent
    }

    async fn has_result(&self, query: &str) -> bool {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let url = format!("http://{}/api/v1/query?query={query}", self.address);
        let reply = try_request("GET", &url, &[], "").await.unwrap();
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        !reply.json()["data"]["result"]
            .as_array()
            .unwrap()
            .is_empty()
    }

    async fn of(&self, fault: &str) -> Vec<Value> {
        let url = format!("http://{}/api/v1/alerts", self.address);
        let reply = try_request("GET", &url, &[], "").await;
        // It says so with a 503 while it starts.
        let Some(reply) = reply.ok().filter(|reply| reply.status == 200) else {
            return Vec::new();
        };
        let alerts = reply.json()["data"]["alerts"].clone();
        let mut alerts: Vec<Value> = serde_json::from_value(alerts).unwrap_or_default();
        alerts.retain(|alert| alert["labels"]["fault"] == fault);
        alerts
    }
}

fn name_of(alert: &Value) -> &str {
    alert["labels"]["alertname"].as_str().unwrap()
}

fn shown(alert: &Value) -> String {
    let text = |name: &str| alert["annotations"][name].as_str().unwrap();
    let severity = alert["labels"]["severity"].as_str().unwrap();
    format!(
        "{} ({severity}): {}\n  {}\n  {}",
        name_of(alert),
        text("summary"),
        text("description"),
        text("runbook_url")
    )
}

/// Nobody listens there at the moment.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
