//! The names of what is counted, and what `/metrics` says of each.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Labels, Metrics};

/// A family's name, its help, and what is counted.
type Named<'a, const N: usize> = (&'static str, &'static str, &'a Family<Labels<N>, Counter>);

impl Metrics {
    /// Registers what is counted here, each series by its name and its help.
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, family) in self.by_one_label() {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in self.by_two_labels() {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "upstream_unauthorized",
            "Responses 401 of the upstream to our token",
            self.unauthorized.clone(),
        );
        registry.register(
            "upstream_forbidden",
            "Responses 403 of the upstream to a request with our token",
            self.forbidden.clone(),
        );
        registry.register(
            "spans_exported",
            "Spans that the collector has taken",
            self.spans_exported.clone(),
        );
        registry.register(
            "client_requests",
            "Requests that a local token let in, by whose it was",
            self.client_requests.clone(),
        );
        registry.register(
            "broker_tokens",
            "Tokens that the broker handed out, by who took them",
            self.broker_tokens.clone(),
        );
    }

    fn by_one_label(&self) -> impl IntoIterator<Item = Named<'_, 1>> {
        [
            (
                "spans_dropped",
                "Spans that are lost, by why",
                &self.spans_dropped,
            ),
            (
                "replays",
                "Requests that met a 401, by what came of sending them again",
                &self.replays,
            ),
            (
                "rejected",
                "Requests and connections refused by the sidecar",
                &self.rejected,
            ),
            (
                "upstream_connect_errors",
                "Connections to the upstream that could not be made",
                &self.connect_errors,
            ),
            (
                "upstream_errors",
                "Exchanges with the upstream that gave no response, or none that is whole",
                &self.upstream_errors,
            ),
            (
                "client_disconnects",
                "Clients that went away before the end of their response",
                &self.client_disconnects,
            ),
            (
                "requests_aborted",
                "Requests that the sidecar itself broke off, by why",
                &self.requests_aborted,
            ),
            (
                "secret_reload",
                "Changed secrets, by whether they gave a token",
                &self.secret_reloads,
            ),
            (
                "config_reload",
                "Changed configurations, by whether they came into use",
                &self.config_reloads,
            ),
            (
                "client_tokens_reload",
                "Changed lists of client tokens, by whether they came into use",
                &self.client_tokens_reloads,
            ),
            (
                "broker_file_writes",
                "Files of tokens, by whether they could be written",
                &self.broker_file_writes,
            ),
        ]
    }

    fn by_two_labels(&self) -> impl IntoIterator<Item = Named<'_, 2>> {
        [
            (
                "token_refresh",
                "Calls of the token service",
                &self.token_refresh,
            ),
            (
                "responses",
                "Responses of the sidecar's own, by reason",
                &self.responses,
            ),
            (
                "credential_check",
                "Looks at when a credential ends, by whether that could be found out",
                &self.credential_checks,
            ),
        ]
    }
}
