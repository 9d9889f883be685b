//! What the usual kinds of clients of this service need: data only.

use super::Rule;

/// A kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Dashboards, queries and reports.
    ReadOnly,
    /// What sends metrics, histograms, spans and events.
    IngestOnly,
}

/// What can be read: neither people, groups, roles and tokens, nor notification targets and the
/// configuration of proxies, which hold credentials of others.
const READ: [&str; 22] = [
    "alert",
    "chart",
    "cloudintegration",
    "dashboard",
    "derivedmetric",
    "event",
    "extlink",
    "integration",
    "maintenancewindow",
    "message",
    "monitoredapplication",
    "monitoredcluster",
    "monitoredservice",
    "recentappmapsearch",
    "recenttracessearch",
    "savedappmapsearch",
    "savedappmapsearchgroup",
    "savedsearch",
    "savedtracessearch",
    "savedtracessearchgroup",
    "source",
    "spansamplingpolicy",
];

/// What can be searched for: this API searches by POST.
const SEARCHED: [&str; 16] = [
    "alert",
    "alert-analytics-summary",
    "cloudintegration",
    "dashboard",
    "derivedmetric",
    "event",
    "extlink",
    "maintenancewindow",
    "monitoredapplication",
    "monitoredcluster",
    "monitoredservice",
    "proxy",
    "savedappmapsearch",
    "savedtracessearch",
    "source",
    "spansamplingpolicy",
];

/// Further paths of readers: lists of proxies, live data, and the query paths of older tools.
const READ_BESIDES: [&str; 4] = [
    "GET,HEAD /api/v2/proxy",
    "GET,HEAD /api/v2/proxy/*",
    "GET,HEAD /api/spy/*",
    "GET,HEAD /chart/**",
];

/// Direct ingestion, the vendor's proxy, and events.
const INGEST: [&str; 3] = [
    "POST /report",
    "POST /api/v2/wfproxy/**",
    "POST /api/v2/event",
];

impl Preset {
    /// What it allows.
    #[must_use]
    pub fn rules(self) -> Vec<Rule> {
        // They all are rules: a test parses each.
        self.texts().filter_map(|text| text.parse().ok()).collect()
    }

    fn texts(self) -> Box<dyn Iterator<Item = String>> {
        match self {
            Self::ReadOnly => {
                let read = READ
                    .iter()
                    .map(|what| format!("GET,HEAD /api/v2/{what}/**"));
                let searched = SEARCHED
                    .iter()
                    .map(|what| format!("POST /api/v2/search/{what}/**"));
                let besides = READ_BESIDES.iter().map(|rule| (*rule).to_owned());
                Box::new(read.chain(searched).chain(besides))
            }
            Self::IngestOnly => Box::new(INGEST.iter().map(|rule| (*rule).to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::admission::Allowed;

    #[test]
    fn every_line_is_a_rule() {
        for preset in [Preset::ReadOnly, Preset::IngestOnly] {
            assert_eq!(preset.rules().len(), preset.texts().count());
        }
    }

    #[test]
    fn readers_read_and_senders_send() {
        let reads = [
            (Method::GET, "/api/v2/chart/api"),
            (Method::GET, "/api/v2/chart/metric/detail"),
            (Method::HEAD, "/api/v2/alert"),
            (Method::GET, "/api/v2/cloudintegration/1"),
            (Method::GET, "/api/spy/points"),
            (Method::POST, "/api/v2/search/alert/deleted/facets"),
            (Method::GET, "/chart/api/keys"),
            (Method::GET, "/api/v2/proxy/1"),
        ];
        let sends = [
            (Method::POST, "/report"),
            (Method::POST, "/api/v2/wfproxy/checkin"),
            (Method::POST, "/api/v2/wfproxy/config/processed"),
            (Method::POST, "/api/v2/event"),
        ];
        let neither = [
            (Method::GET, "/api/v2/user"),
            (Method::GET, "/api/v2/account/user/admin"),
            (Method::GET, "/api/v2/apitoken"),
            (Method::GET, "/api/v2/notificant"),
            (Method::GET, "/api/v2/proxy/1/config"),
            (Method::POST, "/api/v2/search/user"),
            (Method::POST, "/api/v2/search/token/facets"),
            (Method::POST, "/api/v2/alert"),
            (Method::DELETE, "/api/v2/event/1"),
            (Method::POST, "/api/v2/event/1/close"),
            (Method::PUT, "/report"),
            (Method::OPTIONS, "/api/v2/alert"),
        ];
        let reader = Allowed::new(Preset::ReadOnly.rules());
        let sender = Allowed::new(Preset::IngestOnly.rules());
        let decided = |(method, path): &(Method, &str)| {
            (reader.allows(method, path), sender.allows(method, path))
        };
        for (requests, expected) in [
            (&reads[..], (true, false)),
            (&sends, (false, true)),
            (&neither, (false, false)),
        ] {
            for request in requests {
                assert_eq!(decided(request), expected, "{request:?}");
            }
        }
    }
}
