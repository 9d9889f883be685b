//! Responses by method, class and origin.

use std::fmt;

use http::StatusCode;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::counter::{ConstCounter, Counter},
};

use super::{Labels, Origin};

const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "other",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const ORIGINS: [&str; 2] = ["upstream", "sidecar"];

/// Responses by method, class and origin: a table, so that counting one is an addition.
#[derive(Debug, Default)]
pub(super) struct Requests([[[Counter; CLASSES.len()]; METHODS.len()]; ORIGINS.len()]);

impl Requests {
    pub(super) fn cell(
        &self,
        method: &str,
        status: StatusCode,
        origin: Origin,
    ) -> Option<&Counter> {
        let known = METHODS.iter().position(|name| *name == method);
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
                    classes.iter().zip(CLASSES).map(move |(counter, class)| {
                        let labels = [
                            ("method", method),
                            ("code_class", class),
                            ("origin", origin),
                        ];
                        (labels, counter)
                    })
                })
        })
    }

    pub(super) fn total(&self, origin: Origin) -> u64 {
        let origin = ORIGINS.get(origin as usize).copied().unwrap_or_default();
        self.each()
            .filter(|(labels, _)| labels.contains(&("origin", origin)))
            .map(|(_, counter)| counter.get())
            .sum()
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor(
            "requests",
            "Responses to clients, by who made them",
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
