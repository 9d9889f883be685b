//! Every series of `/metrics`, as a method with a name. What the state says already (the token,
//! the connections) is read from there at each scrape and not counted a second time.
//!
//! Each series is there from the start, with 0: `increase()` sees nothing of a counter that appears
//! with its first event. `docs/metrics.md` describes them.

mod families;
mod process;
mod requests;
mod scrape;
mod text;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::text as open_metrics,
    metrics::{counter::Counter, family::Family, info::Info},
    registry::Registry,
};

pub use self::scrape::Sources;
use self::{process::Process, requests::Requests, scrape::Scrape, text::prometheus_text};
use super::{access::CLIENT_GONE, histogram::Histogram};
use crate::{
    proxy::responses::{self, Fault},
    server::{AbortReason, AbortState},
    token::Reason,
    version,
};

/// Who made a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The service behind us.
    Upstream,
    /// We.
    Sidecar,
}

impl Origin {
    /// The label of the metrics, and the field of the access log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Sidecar => "sidecar",
        }
    }
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

type BrokerLabels = [(&'static str, String); 2];

/// All counters. Shared by all workers; nothing here takes a lock on the request path.
#[derive(Debug)]
pub struct Metrics {
    requests: Requests,
    request_duration: Histogram,
    responses: Family<Labels<2>, Counter>,
    token_refresh: Family<Labels<2>, Counter>,
    token_refresh_duration: Histogram,
    unauthorized: Counter,
    forbidden: Counter,
    replays: Family<Labels<1>, Counter>,
    rejected: Family<Labels<1>, Counter>,
    connect_errors: Family<Labels<1>, Counter>,
    upstream_errors: Family<Labels<1>, Counter>,
    client_disconnects: Family<Labels<1>, Counter>,
    requests_aborted: Family<Labels<1>, Counter>,
    secret_reloads: Family<Labels<1>, Counter>,
    config_reloads: Family<Labels<1>, Counter>,
    credential_checks: Family<Labels<2>, Counter>,
    client_requests: Family<[(&'static str, String); 1], Counter>,
    client_tokens_reloads: Family<Labels<1>, Counter>,
    spans_exported: Counter,
    spans_dropped: Family<Labels<1>, Counter>,
    broker_tokens: Family<BrokerLabels, Counter>,
    broker_file_writes: Family<Labels<1>, Counter>,
    held: AtomicI64,
    /// When the configuration was last loaded, in seconds since 1970.
    config_reloaded_at: AtomicU64,
    /// Whether the last one came into use.
    is_config_current: AtomicI64,
}

/// What can become of a response that has begun.
const BROKEN: [&str; 2] = ["broken_off", "stalled"];

/// Why a span may not get to the collector.
const SPANS_DROPPED: [&str; 3] = ["queue_full", "not_exported", "rejected"];

/// What can become of a request that met a 401.
const REPLAYS: [&str; 3] = ["accepted", "refused", "not_held"];

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            requests: Requests::default(),
            request_duration: Histogram::default(),
            responses: Family::default(),
            token_refresh: Family::default(),
            token_refresh_duration: Histogram::default(),
            unauthorized: Counter::default(),
            forbidden: Counter::default(),
            replays: Family::default(),
            rejected: Family::default(),
            connect_errors: Family::default(),
            upstream_errors: Family::default(),
            client_disconnects: Family::default(),
            requests_aborted: Family::default(),
            secret_reloads: Family::default(),
            config_reloads: Family::default(),
            credential_checks: Family::default(),
            client_requests: Family::default(),
            client_tokens_reloads: Family::default(),
            spans_exported: Counter::default(),
            spans_dropped: Family::default(),
            broker_tokens: Family::default(),
            broker_file_writes: Family::default(),
            held: AtomicI64::new(0),
            config_reloaded_at: AtomicU64::new(unix_seconds()),
            is_config_current: AtomicI64::new(1),
        };
        metrics.begin();
        metrics
    }
}

impl Metrics {
    /// Makes every series whose labels are known.
    fn begin(&self) {
        drop(self.token_refresh.get_or_create(&refresh_labels(None)));
        for reason in Reason::ALL {
            let labels = refresh_labels(Some(reason.as_str()));
            drop(self.token_refresh.get_or_create(&labels));
        }
        for result in REPLAYS {
            drop(self.replays.get_or_create(&[("result", result)]));
        }
        for reason in SPANS_DROPPED {
            drop(self.spans_dropped.get_or_create(&[("reason", reason)]));
        }
        for row in responses::ALL {
            let label = row.label;
            let labels = response_labels(row.status, label);
            drop(self.responses.get_or_create(&labels));
            let reason = [("reason", label)];
            match row.fault {
                Fault::Client | Fault::Limit => drop(self.rejected.get_or_create(&reason)),
                Fault::Token => {}
                Fault::Unreachable | Fault::Operator => {
                    drop(self.connect_errors.get_or_create(&reason));
                    drop(self.upstream_errors.get_or_create(&reason));
                }
                Fault::Upstream => drop(self.upstream_errors.get_or_create(&reason)),
            }
        }
        for reason in BROKEN {
            drop(self.upstream_errors.get_or_create(&[("reason", reason)]));
        }
        for has_begun in [false, true] {
            let labels = [("phase", phase(has_begun))];
            drop(self.client_disconnects.get_or_create(&labels));
        }
        for reason in AbortReason::ALL {
            let labels = [("reason", reason.as_str())];
            drop(self.requests_aborted.get_or_create(&labels));
        }
        for good in [true, false] {
            let labels = [("result", result(good))];
            for family in [
                &self.secret_reloads,
                &self.config_reloads,
                &self.client_tokens_reloads,
                &self.broker_file_writes,
            ] {
                drop(family.get_or_create(&labels));
            }
        }
    }

    /// Makes the series of a credential whose end can be found out.
    pub fn has_credential(&self, kind: &'static str) {
        for known in [true, false] {
            let labels = [("kind", kind), ("result", result(known))];
            drop(self.credential_checks.get_or_create(&labels));
        }
    }

    /// Counts a request whose exchange is over.
    pub fn request_over(
        &self,
        method: &Method,
        status: StatusCode,
        origin: Origin,
        took: Duration,
    ) {
        if let Some(counter) = self.requests.cell(method.as_str(), status, origin) {
            counter.inc();
        }
        self.request_duration.observe(took);
    }

    /// Counts a response to what was no request that could be handled.
    pub fn refused(&self, status: StatusCode) {
        if let Some(counter) = self.requests.cell("other", status, Origin::Sidecar) {
            counter.inc();
        }
    }

    /// Counts a response of our own by its reason.
    pub fn responded(&self, status: StatusCode, reason: &'static str) {
        let labels = response_labels(status, reason);
        self.responses.get_or_create(&labels).inc();
    }

    /// Counts an exchange with the upstream that gave no response, or none that is whole.
    pub fn upstream_failed(&self, reason: &'static str) {
        let labels = [("reason", reason)];
        self.upstream_errors.get_or_create(&labels).inc();
    }

    /// Counts a client that went away before its response, or within it.
    pub fn client_gone(&self, has_begun: bool) {
        let labels = [("phase", phase(has_begun))];
        self.client_disconnects.get_or_create(&labels).inc();
    }

    /// Counts a request whose client has not got all of its response, where the sidecar itself is the
    /// reason, and gives the word for that; a client that has gone is counted by [`Self::client_gone`].
    pub fn broken_off(&self, state: Option<&AbortState>) -> &'static str {
        let Some(reason) = state.and_then(AbortState::reason) else {
            return CLIENT_GONE;
        };
        let reason = reason.as_str();
        let labels = [("reason", reason)];
        self.requests_aborted.get_or_create(&labels).inc();
        reason
    }

    /// How many responses were made by somebody.
    #[must_use]
    pub fn responses(&self, origin: Origin) -> u64 {
        self.requests.total(origin)
    }

    /// Counts a token call: `success` has no reason.
    pub fn token_refreshed(&self, failure: Option<&'static str>, took: Duration) {
        let labels = refresh_labels(failure);
        self.token_refresh.get_or_create(&labels).inc();
        self.token_refresh_duration.observe(took);
    }

    /// Counts a 401 of the upstream to one of our tokens.
    pub fn unauthorized(&self) {
        self.unauthorized.inc();
    }

    /// Counts a 403 of the upstream to a request with one of our tokens.
    pub fn forbidden(&self) {
        self.forbidden.inc();
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

    /// How many exchanges with the upstream gave no response so far, or none that is whole.
    #[must_use]
    pub fn upstream_failures(&self) -> u64 {
        let labels = responses::ALL.iter().map(|row| row.label);
        let labels = labels.chain(BROKEN);
        let counters = labels.filter_map(|reason| self.upstream_errors.get(&[("reason", reason)]));
        counters.map(|counter| counter.get()).sum()
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
        self.config_reloaded_at
            .store(unix_seconds(), Ordering::Relaxed);
        let current = i64::from(accepted);
        self.is_config_current.store(current, Ordering::Relaxed);
    }

    /// Notes that a changed configuration is not in use yet, because its credentials give no token.
    pub fn config_waits(&self) {
        self.is_config_current.store(0, Ordering::Relaxed);
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

    /// Counts spans that the collector has taken.
    pub fn spans_exported(&self, count: u64) {
        self.spans_exported.inc_by(count);
    }

    /// Counts spans that are lost.
    pub fn spans_dropped(&self, reason: &'static str, count: u64) {
        let labels = [("reason", reason)];
        self.spans_dropped.get_or_create(&labels).inc_by(count);
    }

    /// The number of spans that were lost so far.
    #[must_use]
    pub fn dropped_spans(&self) -> u64 {
        let counters = SPANS_DROPPED.iter().filter_map(|reason| {
            let labels = [("reason", *reason)];
            self.spans_dropped.get(&labels).map(|counter| counter.get())
        });
        counters.sum()
    }

    /// What counts the tokens that the broker hands to a client by one of its endpoints. The names
    /// come from the list of clients, or are those of the users who may connect.
    pub fn broker_tokens(&self, client: &str, endpoint: &'static str) -> Counter {
        let labels = [
            ("client", client.to_owned()),
            ("endpoint", endpoint.to_owned()),
        ];
        self.broker_tokens.get_or_create_owned(&labels)
    }

    /// Counts a file of a token that was written, or could not be.
    pub fn broker_file_written(&self, succeeded: bool) {
        let labels = [("result", result(succeeded))];
        self.broker_file_writes.get_or_create(&labels).inc();
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
        let build = Info::new([("version", version::VERSION), ("commit", version::COMMIT)]);
        registry.register("build", "The program that runs", build);
        self.register(&mut registry);
        let started_at = sources.process_started_at;
        registry.register_collector(Box::new(Scrape {
            metrics: Arc::clone(self),
            sources,
        }));
        // Their names have no prefix: every program's are the same.
        let mut of_process = Registry::default();
        of_process.register_collector(Box::new(Process { started_at }));
        let mut text = String::new();
        open_metrics::encode(&mut text, &registry)?;
        open_metrics::encode(&mut text, &of_process)?;
        Ok(prometheus_text(&text))
    }
}

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn refresh_labels(failure: Option<&'static str>) -> Labels<2> {
    match failure {
        None => [("result", result(true)), ("reason", "")],
        Some(reason) => [("result", result(false)), ("reason", reason)],
    }
}

fn response_labels(status: StatusCode, reason: &'static str) -> Labels<2> {
    let known = responses::ALL.iter().find(|row| row.status == status);
    [
        ("code", known.map_or("", |row| row.code)),
        ("reason", reason),
    ]
}

fn phase(has_begun: bool) -> &'static str {
    if has_begun {
        "in_response"
    } else {
        "before_response"
    }
}

fn result(good: bool) -> &'static str {
    if good { "success" } else { "failure" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_named_like_its_samples() {
        let metrics = Arc::new(Metrics::default());
        metrics.request_over(
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

    #[test]
    fn every_series_is_there_before_anything_has_happened() {
        let text = Arc::new(Metrics::default())
            .encode(Sources::default())
            .unwrap();
        for line in [
            r#"auth_sidecar_requests_total{method="DELETE",code_class="5xx",origin="sidecar"} 0"#,
            r#"auth_sidecar_responses_total{code="504",reason="answer_timeout"} 0"#,
            r#"auth_sidecar_rejected_total{reason="host"} 0"#,
            r#"auth_sidecar_upstream_errors_total{reason="broken_off"} 0"#,
            r#"auth_sidecar_token_refresh_total{result="failure",reason="network"} 0"#,
            r#"auth_sidecar_replays_total{result="accepted"} 0"#,
            r#"auth_sidecar_config_reload_total{result="failure"} 0"#,
            "auth_sidecar_config_last_reload_success 1.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
