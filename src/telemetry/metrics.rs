//! Every series of `/metrics`, as a method with a name. What the state says already (the token,
//! the connections) is read from there at each scrape and not counted a second time.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        info::Info,
    },
    registry::Registry,
};

use super::histogram::Histogram;

/// Who made an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The service behind us.
    Upstream,
    /// We.
    Sidecar,
}

/// What is read at each scrape.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Whether a token may be sent now.
    pub token_usable: bool,
    /// When the newest token ends, in seconds since 1970; `None`: there is none, or it never ends.
    pub token_expiry: Option<f64>,
    /// When it was issued.
    pub token_issued: Option<f64>,
    /// Failed token calls since the last good one.
    pub consecutive_failures: u32,
    /// Requests in flight.
    pub in_flight: usize,
    /// Open connections of clients.
    pub connections: usize,
    /// When the credentials end, in seconds since 1970, by kind.
    pub credential_ends: Vec<(&'static str, f64)>,
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// All counters. Shared by all workers; nothing here takes a lock on the request path.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Requests,
    request_duration: Histogram,
    token_refresh: Family<Labels<2>, Counter>,
    token_refresh_duration: Histogram,
    unauthorized: Counter,
    replays: Family<Labels<1>, Counter>,
    rejected: Family<Labels<1>, Counter>,
    connect_errors: Family<Labels<1>, Counter>,
    secret_reloads: Family<Labels<1>, Counter>,
    config_reloads: Family<Labels<1>, Counter>,
    credential_checks: Family<Labels<2>, Counter>,
    client_requests: Family<[(&'static str, String); 1], Counter>,
    client_tokens_reloads: Family<Labels<1>, Counter>,
    held: AtomicI64,
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, method: &Method, status: StatusCode, origin: Origin, took: Duration) {
        if let Some(counter) = self.requests.cell(method, status, origin) {
            counter.get_or_init(Counter::default).inc();
        }
        self.request_duration.observe(took);
    }

    /// How many answers were made by somebody.
    #[must_use]
    pub fn answers(&self, origin: Origin) -> u64 {
        self.requests.total(origin)
    }

    /// Counts a token call: `success` has no reason.
    pub fn token_refreshed(&self, failure: Option<&'static str>, took: Duration) {
        let labels = match failure {
            None => [("result", result(true)), ("reason", "")],
            Some(reason) => [("result", result(false)), ("reason", reason)],
        };
        self.token_refresh.get_or_create(&labels).inc();
        self.token_refresh_duration.observe(took);
    }

    /// Counts a 401 of the upstream to one of our tokens.
    pub fn unauthorized(&self) {
        self.unauthorized.inc();
    }

    /// Counts what came of a request that met a 401.
    pub fn replayed(&self, result: &'static str) {
        self.replays.get_or_create(&[("result", result)]).inc();
    }

    /// Counts a request or a connection that we refused.
    pub fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts a connection to the upstream that could not be made.
    pub fn connect_failed(&self, reason: &'static str) {
        self.connect_errors
            .get_or_create(&[("reason", reason)])
            .inc();
    }

    /// Counts a changed secret, by whether it gave a token.
    pub fn secret_reloaded(&self, accepted: bool) {
        let labels = [("result", result(accepted))];
        self.secret_reloads.get_or_create(&labels).inc();
    }

    /// Counts a changed configuration, by whether it came into use.
    pub fn config_reloaded(&self, accepted: bool) {
        let labels = [("result", result(accepted))];
        self.config_reloads.get_or_create(&labels).inc();
    }

    /// Counts a look at when a credential ends, by whether that could be found out.
    pub fn credential_checked(&self, kind: &'static str, known: bool) {
        let labels = [("kind", kind), ("result", result(known))];
        self.credential_checks.get_or_create(&labels).inc();
    }

    /// What counts the requests of a client. Its name comes from the list of clients, which bounds
    /// how many there are.
    pub fn client_requests(&self, client: &str) -> Counter {
        let labels = [("client", client.to_owned())];
        self.client_requests.get_or_create_owned(&labels)
    }

    /// Counts a changed list of clients, by whether it came into use.
    pub fn client_tokens_reloaded(&self, accepted: bool) {
        let labels = [("result", result(accepted))];
        self.client_tokens_reloads.get_or_create(&labels).inc();
    }

    /// Adds to the requests that wait for a token.
    pub fn held(&self, change: i64) {
        self.held.fetch_add(change, Ordering::Relaxed);
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// None that a `String` as the sink could cause.
    pub fn encode(self: &Arc<Self>, sources: Sources) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("auth_sidecar");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program that runs", build);
        registry.register(
            "token_refresh",
            "Calls of the token service",
            self.token_refresh.clone(),
        );
        registry.register(
            "upstream_unauthorized",
            "Answers 401 of the upstream to our token",
            self.unauthorized.clone(),
        );
        registry.register(
            "replays",
            "Requests that met a 401, by what came of sending them again",
            self.replays.clone(),
        );
        registry.register(
            "rejected",
            "Requests and connections refused by the sidecar",
            self.rejected.clone(),
        );
        registry.register(
            "upstream_connect_errors",
            "Connections to the upstream that could not be made",
            self.connect_errors.clone(),
        );
        registry.register(
            "secret_reload",
            "Changed secrets, by whether they gave a token",
            self.secret_reloads.clone(),
        );
        registry.register(
            "config_reload",
            "Changed configurations, by whether they came into use",
            self.config_reloads.clone(),
        );
        registry.register(
            "credential_check",
            "Looks at when a credential ends, by whether that could be found out",
            self.credential_checks.clone(),
        );
        registry.register(
            "client_requests",
            "Requests that a local token let in, by whose it was",
            self.client_requests.clone(),
        );
        registry.register(
            "client_tokens_reload",
            "Changed lists of client tokens, by whether they came into use",
            self.client_tokens_reloads.clone(),
        );
        registry.register_collector(Box::new(Scrape {
            metrics: Arc::clone(self),
            sources,
        }));
        let mut open_metrics = String::new();
        text::encode(&mut open_metrics, &registry)?;
        Ok(prometheus_text(&open_metrics))
    }
}

/// One scrape's view of what is not kept in the registry.
#[derive(Debug)]
struct Scrape {
    metrics: Arc<Metrics>,
    sources: Sources,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Sources {
            token_usable,
            token_expiry,
            token_issued,
            consecutive_failures,
            in_flight,
            connections,
            ref credential_ends,
        } = self.sources;
        self.metrics.requests.encode(&mut encoder)?;
        for (name, help, histogram) in [
            (
                "request_duration_seconds",
                "Time from the head of a request to the end of its answer",
                &self.metrics.request_duration,
            ),
            (
                "token_refresh_duration_seconds",
                "Time of a call of the token service",
                &self.metrics.token_refresh_duration,
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, histogram.metric_type())?;
            EncodeMetric::encode(histogram, metric)?;
        }
        let mut family = encoder.encode_descriptor(
            "credential_expiry_timestamp_seconds",
            "When a credential ends",
            None,
            MetricType::Gauge,
        )?;
        for (kind, at) in credential_ends {
            let labels = [("kind", *kind)];
            ConstGauge::new(*at).encode(family.encode_family(&labels)?)?;
        }
        let held = self.metrics.held.load(Ordering::Relaxed);
        for (name, help, value) in [
            (
                "token_usable",
                "1 while a token may be sent",
                Some(f64::from(u8::from(token_usable))),
            ),
            (
                "token_expiry_timestamp_seconds",
                "When the newest token ends",
                token_expiry,
            ),
            (
                "token_issued_timestamp_seconds",
                "When the newest token was asked for",
                token_issued,
            ),
            (
                "token_refresh_consecutive_failures",
                "Failed token calls since the last good one",
                Some(f64::from(consecutive_failures)),
            ),
            (
                "in_flight_requests",
                "Requests in flight",
                Some(count(in_flight)),
            ),
            (
                "connections",
                "Open connections of clients",
                Some(count(connections)),
            ),
            (
                "held_requests",
                "Requests that wait for a token",
                Some(count(held)),
            ),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(metric)?;
            }
        }
        Ok(())
    }
}

/// The format of `OpenMetrics`, which the library writes, as the older text format (0.0.4), which every scraper
/// reads: there a family is named like its samples, the type `info` is unknown and nothing follows
/// the last line.
fn prometheus_text(open_metrics: &str) -> String {
    let lines = || open_metrics.lines().filter(|line| *line != "# EOF");
    let kinds: HashMap<&str, &str> = lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| {
            let (keyword, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((keyword, name, rest))
        });
        if let Some((keyword, name, rest)) = comment {
            let (suffix, kind) = match kinds.get(name).copied() {
                Some("counter") => ("_total", "counter"),
                Some("info") => ("_info", "gauge"),
                other => ("", other.unwrap_or("untyped")),
            };
            let rest = if keyword == "TYPE" { kind } else { rest };
            text.extend(["# ", keyword, " ", name, suffix, " ", rest, "\n"]);
        } else {
            text.extend([line, "\n"]);
        }
    }
    text
}

fn result(good: bool) -> &'static str {
    if good { "success" } else { "failure" }
}

/// A count as a gauge. Counts of open things are far below what a float holds exactly.
fn count(value: impl TryInto<u32>) -> f64 {
    f64::from(value.try_into().unwrap_or(0))
}

const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const ORIGINS: [&str; 2] = ["upstream", "sidecar"];

/// Answers by method, class and origin: a table, so that counting one is an addition.
#[derive(Debug, Default)]
struct Requests([[[OnceLock<Counter>; CLASSES.len()]; METHODS.len()]; ORIGINS.len()]);

impl Requests {
    fn cell(
        &self,
        method: &Method,
        status: StatusCode,
        origin: Origin,
    ) -> Option<&OnceLock<Counter>> {
        let known = METHODS.iter().position(|name| *name == method.as_str());
        let class = usize::from(status.as_u16() / 100).checked_sub(1)?;
        self.0
            .get(origin as usize)?
            .get(known.unwrap_or(METHODS.len() - 1))?
            .get(class)
    }

    fn each(&self) -> impl Iterator<Item = (Labels<3>, &Counter)> {
        self.0.iter().zip(ORIGINS).flat_map(|(methods, origin)| {
            methods
                .iter()
                .zip(METHODS)
                .flat_map(move |(classes, method)| {
                    classes
                        .iter()
                        .zip(CLASSES)
                        .filter_map(move |(cell, class)| {
                            let labels = [
                                ("method", method),
                                ("code_class", class),
                                ("origin", origin),
                            ];
                            Some((labels, cell.get()?))
                        })
                })
        })
    }

    fn total(&self, origin: Origin) -> u64 {
        let origin = ORIGINS.get(origin as usize).copied().unwrap_or_default();
        self.each()
            .filter(|(labels, _)| labels.contains(&("origin", origin)))
            .map(|(_, counter)| counter.get())
            .sum()
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor(
            "requests",
            "Answers to clients, by who made them",
            None,
            kind,
        )?;
        for (labels, counter) in self.each() {
            let metric = family.encode_family(&labels)?;
            ConstCounter::new(counter.get()).encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_named_like_its_samples() {
        let metrics = Arc::new(Metrics::default());
        metrics.answered(
            &Method::GET,
            StatusCode::OK,
            Origin::Upstream,
            Duration::ZERO,
        );
        metrics.token_refreshed(Some("network"), Duration::ZERO);
        let text = metrics.encode(Sources::default()).unwrap();
        for line in [
            "# TYPE auth_sidecar_build_info gauge",
            "# TYPE auth_sidecar_requests_total counter",
            "# TYPE auth_sidecar_request_duration_seconds histogram",
            "# TYPE auth_sidecar_token_usable gauge",
            r#"auth_sidecar_requests_total{method="GET",code_class="2xx",origin="upstream"} 1"#,
            r#"auth_sidecar_request_duration_seconds_bucket{le="+Inf"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("EOF") && !text.contains(" info\n"));
    }
}
