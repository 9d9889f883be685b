//! The kinds of credentials: each is a value in a file of its own, and [`KINDS`] lists them.
//!
//! Whatever depends on the kind is derived from the list: what `auth.type` takes, which keys are those
//! of another kind, which variables imply one, what the schema says. A new kind is a new file and its
//! name in the list.

use super::{
    super::{Credentials, reader::Reader},
    client_credentials, csp_api_token, csp_oauth_app, github_app, jwt_bearer,
    provider::Provider,
    refresh_token, static_token, token_exchange,
};

/// A kind of credentials.
#[derive(Debug)]
pub(in crate::config) struct CredentialKind {
    /// The name of the kind, as `auth.type` has it.
    pub(in crate::config) name: &'static str,
    /// What the kind is for, in a line.
    pub(in crate::config) help: &'static str,
    /// The keys that the kind takes, besides those of every kind.
    pub(in crate::config) keys: &'static [&'static [Keys]],
    /// The variables of the ecosystem that give one of these keys, and imply the kind by it.
    pub(in crate::config) variables: &'static [Variable],
    /// The fields of the token request that the kind makes, so that `auth.endpoint_params` cannot.
    pub(in crate::config) fields: &'static [&'static str],
    /// Reads the credentials; `None` only with a problem noted.
    pub(in crate::config) read: fn(&mut Reader, Option<&'static Provider>) -> Option<Credentials>,
}

/// Keys that go together.
pub(in crate::config) type Keys = &'static [&'static str];

/// A name of the ecosystem for a key. Each exists with the suffix `_FILE` too.
#[derive(Debug)]
pub(in crate::config) struct Variable {
    pub(in crate::config) name: &'static str,
    pub(in crate::config) key: &'static str,
    /// Whether the file of the value is read when it is used, and not at the start.
    pub(in crate::config) secret: bool,
}

/// The kinds, in the order in which messages name them.
pub(in crate::config) static KINDS: [&CredentialKind; 8] = [
    &csp_oauth_app::KIND,
    &csp_api_token::KIND,
    &static_token::KIND,
    &client_credentials::KIND,
    &token_exchange::KIND,
    &jwt_bearer::KIND,
    &refresh_token::KIND,
    &github_app::KIND,
];

impl CredentialKind {
    /// Whether the kind takes a key that not every kind does.
    pub(in crate::config) fn takes(&self, key: &str) -> bool {
        self.keys().any(|one| one == key)
    }

    fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.keys
            .iter()
            .copied()
            .flatten()
            .copied()
            .flatten()
            .copied()
    }

    /// The place of the kind in the list.
    pub(in crate::config) fn rank(&self) -> usize {
        let mut kinds = KINDS.iter();
        kinds
            .position(|kind| kind.name == self.name)
            .unwrap_or(KINDS.len())
    }
}

/// The keys that only some kinds take, each once.
pub(in crate::config) fn owned_keys() -> Vec<&'static str> {
    let mut keys: Vec<&str> = Vec::new();
    for key in KINDS.iter().flat_map(|kind| kind.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The names of the kinds that take a key.
pub(in crate::config) fn owners(key: &str) -> Vec<&'static str> {
    let owners = KINDS.iter().filter(|kind| kind.takes(key));
    owners.map(|kind| kind.name).collect()
}

/// The keys of a token service that is called.
pub(super) const CALLED: Keys = &[
    "auth.proxy_url",
    "auth.proxy_password_file",
    "auth.client_cert_file",
    "auth.client_key_file",
    "auth.allow_insecure_http",
];

/// The key of a response that is as RFC 6749 has it.
pub(super) const TYPED: Keys = &["auth.token_type"];

/// The keys of a client's secret.
pub(super) const CLIENT_SECRET: Keys = &[
    "auth.client_id",
    "auth.client_secret",
    "auth.client_secret_file",
    "auth.client_secret_next_file",
];
