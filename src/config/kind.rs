//! The kinds of credentials, and which keys belong to which.

/// `auth.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    CspOauthApp,
    CspApiToken,
    StaticToken,
    Oauth2ClientCredentials,
}

use Kind::{CspApiToken, CspOauthApp, Oauth2ClientCredentials, StaticToken};

/// Their names.
pub(super) const KINDS: [(&str, Option<Kind>); 4] = [
    ("csp-oauth-app", Some(CspOauthApp)),
    ("csp-api-token", Some(CspApiToken)),
    ("static-token", Some(StaticToken)),
    ("oauth2-client-credentials", Some(Oauth2ClientCredentials)),
];

/// The keys that only some kinds have.
pub(super) const KEYS: [(&str, &[Kind]); 31] = [
    ("auth.preset", &[CspOauthApp, CspApiToken]),
    ("auth.base_url", &[CspOauthApp, CspApiToken]),
    ("auth.token_path", &[CspOauthApp, CspApiToken]),
    (
        "auth.proxy_url",
        &[CspOauthApp, CspApiToken, Oauth2ClientCredentials],
    ),
    (
        "auth.proxy_password_file",
        &[CspOauthApp, CspApiToken, Oauth2ClientCredentials],
    ),
    (
        "auth.client_cert_file",
        &[CspOauthApp, CspApiToken, Oauth2ClientCredentials],
    ),
    (
        "auth.client_key_file",
        &[CspOauthApp, CspApiToken, Oauth2ClientCredentials],
    ),
    (
        "auth.allow_insecure_http",
        &[CspOauthApp, CspApiToken, Oauth2ClientCredentials],
    ),
    ("auth.client_id", &[CspOauthApp, Oauth2ClientCredentials]),
    (
        "auth.client_secret",
        &[CspOauthApp, Oauth2ClientCredentials],
    ),
    (
        "auth.client_secret_file",
        &[CspOauthApp, Oauth2ClientCredentials],
    ),
    (
        "auth.client_secret_next_file",
        &[CspOauthApp, Oauth2ClientCredentials],
    ),
    ("auth.org_id", &[CspOauthApp]),
    ("auth.api_token", &[CspApiToken]),
    ("auth.api_token_file", &[CspApiToken]),
    ("auth.api_token_next_file", &[CspApiToken]),
    ("auth.api_token_field", &[CspApiToken]),
    ("auth.token", &[StaticToken]),
    ("auth.token_file", &[StaticToken]),
    ("auth.token_url", &[Oauth2ClientCredentials]),
    ("auth.client_auth", &[Oauth2ClientCredentials]),
    ("auth.private_key", &[Oauth2ClientCredentials]),
    ("auth.private_key_file", &[Oauth2ClientCredentials]),
    ("auth.private_key_next_file", &[Oauth2ClientCredentials]),
    ("auth.key_id", &[Oauth2ClientCredentials]),
    ("auth.key_next_id", &[Oauth2ClientCredentials]),
    ("auth.assertion_algorithm", &[Oauth2ClientCredentials]),
    ("auth.assertion_audience", &[Oauth2ClientCredentials]),
    (
        "auth.token_type",
        &[CspOauthApp, CspApiToken, Oauth2ClientCredentials],
    ),
    ("auth.scopes", &[Oauth2ClientCredentials]),
    ("auth.endpoint_params", &[Oauth2ClientCredentials]),
];

impl Kind {
    /// As a file says it.
    pub(super) fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(_, kind)| *kind == Some(self))
            .map_or("", |(name, _)| name)
    }
}
