//! Every series of `/metrics`: the page that describes them, and the rules and the dashboard that read
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use auth_sidecar::client_token::Hash;

use crate::support::{
    FakeCsp, FakeService, Process, Settings, eventually_async, get, pki::Authority,
};

const PAGE: &str = include_str!("../../docs/metrics.md");
const ALERTS: &str = include_str!("../../deploy/observability/alerts.yml");
const DASHBOARD: &str = include_str!("../../deploy/observability/dashboard.json");
const SOON: Duration = Duration::from_secs(10);

/// A family's kind and labels, by its name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// A scrape of a sidecar that has everything there can be a series for.
async fn scrape() -> String {
    let csp = FakeCsp::start_tls();
    let service = FakeService::start(csp.validator());
    let authority = Authority::new();
    let leaf = authority.leaf();
    let settings = Settings::new(&csp, &service)
        .file("auth.ca_file", csp.ca_pem())
        .file("listen.tls_cert_file", &leaf.cert_pem)
        .file("listen.tls_key_file", &leaf.key_pem)
        .file(
            "listen.client_tokens_file",
            &format!("grafana:{}\n", Hash::of(b"a-token")),
        )
        .set("broker.address", "127.0.0.1:0")
        .file(
            "broker.client_tokens_file",
            &format!("nginx:{}\n", Hash::of(b"another-token")),
        );
    let sidecar = Process::start(&settings).await;
    let ready = async || sidecar.admin_get("/readyz").await.0 == 200;
    eventually_async(ready, SOON).await;
    let url = format!("{}/x", sidecar.url());
    let fields = [("x-auth-token", "a-token")];
    let reply = crate::support::request("GET", &url, &fields, "").await;
    assert_eq!(reply.status, 200);
    assert_eq!(get(&url).await.status, 403);
    let known = async || {
        sidecar
            .admin_get("/metrics")
            .await
            .1
            .contains("expiry_timestamp_seconds{")
    };
    eventually_async(known, SOON).await;
    sidecar.admin_get("/metrics").await.1
}

fn families_of(scrape: &str) -> Families {
    let mut families = Families::new();
    for line in scrape.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (name, labels) = line.split_once('{').unwrap_or((line, ""));
            let labels = labels.split_once('}').map_or("", |(labels, _)| labels);
            let Some((_, family)) = families
                .iter_mut()
                .filter(|(family, _)| name.starts_with(family.as_str()))
                .max_by_key(|(family, _)| family.len())
            else {
                panic!("{line} is of no family");
            };
            let names = labels.split(',').filter_map(|label| label.split_once('='));
            let names = names.map(|(name, _)| name).filter(|name| *name != "le");
            family.1.extend(names.map(str::to_owned));
        }
    }
    families
}

fn families_of_page() -> Families {
    let mut families = Families::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = columns[1].trim_matches('`').to_owned();
        let labels = columns[3].split(", ").filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.trim_matches('`').to_owned());
        assert!(!columns[4].is_empty() && !columns[5].is_empty(), "{line}");
        families.insert(name, (columns[2].to_owned(), labels.collect()));
    }
    families
}

#[tokio::test]
async fn the_page_describes_exactly_the_series_that_there_are() {
    let scrape = scrape().await;
    assert_eq!(families_of(&scrape), families_of_page());
    for line in scrape.lines().filter(|line| line.starts_with("process_")) {
        let value: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value > 0.0, "{line}");
    }
    check_with_promtool(&scrape);
}

#[expect(clippy::print_stdout, reason = "whoever runs the tests wants to know")]
fn skip() {
    println!("skipped: promtool is not installed (Debian: apt-get install prometheus)");
}

/// Prometheus' own judgement of names, types and the format.
fn check_with_promtool(scrape: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip();
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(scrape.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_alert_rules_do_what_their_tests_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/observability");
    let output = Command::new("promtool")
        .args(["test", "rules", "alerts.test.yml"])
        .current_dir(directory)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip();
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn rules_and_dashboard_read_series_that_there_are() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 10);
    let families = families_of_page();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (what, text) in [("alerts", ALERTS), ("dashboard", DASHBOARD)] {
        let names = text
            .split(|c| !is_part(c))
            .filter(|name| name.starts_with("auth_sidecar_") || name.starts_with("process_"));
        let mut count = 0;
        for name in names {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(families.contains_key(family), "{what} reads {name}");
            count += 1;
        }
        assert!(count > 10, "{what}: {count}");
    }
}
