//! What is read from the state at each scrape, and the series that the library has no type for.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::{super::log, Metrics};

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
    /// Since when there is trouble of each kind, in seconds since 1970; 0 where there is none.
    pub troubles: Vec<(&'static str, f64)>,
    /// When the credentials end, in seconds since 1970, by kind.
    pub credential_ends: Vec<(&'static str, f64)>,
    /// Whether the upstream responds; `None` while that is not known.
    pub upstream_up: Option<bool>,
    /// When it last did, in seconds since 1970.
    pub upstream_last_success: Option<f64>,
    /// Whether the upstream refuses tokens that have just come.
    pub token_refused: bool,
    /// Lines of the access log's file that could not be written.
    pub access_lines_dropped: u64,
    /// When the process started.
    pub process_started_at: Option<SystemTime>,
}

/// One scrape's view of what is not kept in the registry.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) metrics: Arc<Metrics>,
    pub(super) sources: Sources,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.metrics.requests.encode(&mut encoder)?;
        for (name, help, histogram) in [
            (
                "request_duration_seconds",
                "Time from the head of a request to the end of its response",
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
        for (kind, at) in &self.sources.credential_ends {
            let labels = [("kind", *kind)];
            ConstGauge::new(*at).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "trouble_since_timestamp_seconds",
            "Since when there is trouble of a kind; 0 while there is none",
            None,
            MetricType::Gauge,
        )?;
        for (kind, since) in &self.sources.troubles {
            let labels = [("kind", *kind)];
            ConstGauge::new(*since).encode(family.encode_family(&labels)?)?;
        }
        let dropped = ConstCounter::new(log::dropped_lines() + self.sources.access_lines_dropped);
        let kind = dropped.metric_type();
        let what = "Lines of the log that could not be written";
        let metric = encoder.encode_descriptor("log_lines_dropped", what, None, kind)?;
        dropped.encode(metric)?;
        for (name, help, value) in self.gauges() {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(metric)?;
            }
        }
        Ok(())
    }
}

impl Scrape {
    /// What may go up and down: name, help and value, where there is one.
    fn gauges(&self) -> [Gauge; 13] {
        let Sources {
            token_usable,
            token_expiry,
            token_issued,
            consecutive_failures,
            in_flight,
            connections,
            upstream_up,
            upstream_last_success,
            token_refused,
            ..
        } = self.sources;
        let flag = |yes| f64::from(u8::from(yes));
        let held = self.metrics.held.load(Ordering::Relaxed);
        let is_config_current = self.metrics.is_config_current.load(Ordering::Relaxed);
        let reloaded_at = self.metrics.config_reloaded_at.load(Ordering::Relaxed);
        [
            (
                "token_usable",
                "1 while a token may be sent",
                Some(flag(token_usable)),
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
                "token_last_success_timestamp_seconds",
                "When the token service last gave a token",
                token_issued,
            ),
            (
                "token_refused",
                "1 while the upstream responds with 401 to tokens that have just come",
                Some(flag(token_refused)),
            ),
            (
                "upstream_up",
                "1 while the upstream responds, 0 while it fails; not there before the first request",
                upstream_up.map(flag),
            ),
            (
                "upstream_last_success_timestamp_seconds",
                "When the upstream last responded",
                upstream_last_success,
            ),
            (
                "config_last_reload_timestamp_seconds",
                "When the configuration was last loaded, at the start or again",
                Some(count(reloaded_at)),
            ),
            (
                "config_last_reload_success",
                "1 unless the last configuration that was loaded again did not come into use",
                Some(count(is_config_current)),
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
        ]
    }
}

type Gauge = (&'static str, &'static str, Option<f64>);

/// A count as a gauge. Counts of open things are far below what a float holds exactly.
fn count(value: impl TryInto<u32>) -> f64 {
    f64::from(value.try_into().unwrap_or(0))
}
