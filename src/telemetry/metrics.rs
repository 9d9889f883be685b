//! Every series of `/metrics`, as a method with a name. What the state says already (the token,
//! the connections) is read from there at each scrape and not counted a second time.

mod requests;
mod scrape;
mod text;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::text as open_metrics,
    metrics::{counter::Counter, family::Family, info::Info},
    registry::Registry,
};

pub use self::scrape::Sources;
use self::{requests::Requests, scrape::Scrape, text::prometheus_text};
use super::histogram::Histogram;
use crate::version;

/// Who made an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The service behind us.
    Upstream,
    /// We.
    Sidecar,
}

/// Why a connection to the upstream could not be made.
const CONNECT_FAILURES: [&str; 7] = [
    "dns",
    "connect",
    "connect_timeout",
    "outbound_proxy",
    "certificate",
    "client_certificate",
    "tls",
];

type Labels<const N: usize> = [(&'static str, &'static str); N];

type BrokerLabels = [(&'static str, String); 2];

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
    broker_tokens: Family<BrokerLabels, Counter>,
    broker_file_writes: Family<Labels<1>, Counter>,
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

    /// How many connections to the upstream could not be made so far, by reason.
    #[must_use]
    pub fn upstream_failures(&self) -> Vec<(&'static str, u64)> {
        let failures = |reason| {
            let counter = self.connect_errors.get(&[("reason", reason)])?;
            Some((reason, counter.get()))
        };
        CONNECT_FAILURES.into_iter().filter_map(failures).collect()
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
        registry.register(
            "broker_tokens",
            "Tokens that the broker handed out, by who took them",
            self.broker_tokens.clone(),
        );
        registry.register(
            "broker_file_writes",
            "Files of tokens, by whether they could be written",
            self.broker_file_writes.clone(),
        );
        registry.register_collector(Box::new(Scrape {
            metrics: Arc::clone(self),
            sources,
        }));
        let mut text = String::new();
        open_metrics::encode(&mut text, &registry)?;
        Ok(prometheus_text(&text))
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
