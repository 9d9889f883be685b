//! The credentials: which kind, with which keys, from where. `kind` lists the kinds, each in a file
//! of its own, and `provider` the services that are known by name; `oauth2`, `client_auth`, `assertion`
//! and `token_service` have what several kinds read.

mod assertion;
mod client_auth;
mod client_credentials;
mod csp_api_token;
mod csp_oauth_app;
mod github_app;
mod jwt_bearer;
mod kind;
mod oauth2;
mod provider;
mod refresh_token;
mod static_token;
mod token_exchange;
mod token_service;

use std::time::Duration;

pub use self::provider::{Provider, advice};
pub(super) use self::{
    client_auth::methods,
    kind::{CredentialKind, KINDS, Variable, owners},
};
use super::{Auth, Credentials, legs, problem::Problem, reader::Reader, shape::Parser, values};
use crate::token::schedule::RefreshPolicy;

/// Reads the section. `None` only with a problem noted.
pub(super) fn read(reader: &mut Reader) -> Option<Auth> {
    let provider = provider::read(reader);
    let kind = kind(reader, provider);
    reject_foreign(reader, kind);
    if let Some(kind) = kind {
        provider::reject_foreign(reader, provider, kind);
    }
    let mut credentials = kind.and_then(|kind| (kind.read)(reader, provider));
    if let Some(Credentials::Endpoint(request)) = &mut credentials {
        request.expected.token_type = reader.optional("auth.token_type", values::text);
    }
    let endpoint = token_service::settings(reader);
    if let Some(Credentials::Endpoint(request)) = &credentials {
        legs::reject_plain_detour(reader, "auth", request.url(), endpoint.proxy.as_ref());
    }
    let lifetimes = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
    let policy = RefreshPolicy {
        default_lifetime: reader.value("auth.default_lifetime", values::duration(lifetimes)),
        ..RefreshPolicy::default()
    };
    Some(Auth {
        kind: kind.map_or("", |kind| kind.name),
        provider,
        credentials: credentials?,
        endpoint,
        policy,
    })
}

/// The one kind that everything given agrees on.
fn kind(
    reader: &mut Reader,
    provider: Option<&'static Provider>,
) -> Option<&'static CredentialKind> {
    const KEY: &str = "auth.type";
    let mut implied = std::mem::take(&mut reader.implied);
    let mut chosen = None;
    let names = KINDS.map(|kind| (kind.name, kind));
    reader.note(KEY, values::one_of(&names).shape());
    if let Some(found) = reader.find(KEY) {
        match values::one_of(&names).parse(&found.value) {
            Ok(kind) => chosen = Some((kind, found.source)),
            Err(expected) => {
                reader
                    .problems
                    .push(Problem::new(KEY, found.source, expected));
                return None;
            }
        }
    }
    if let Some((chosen, _)) = &chosen {
        // A kind that takes the key is not contradicted by who gives it.
        implied.retain(|one| !chosen.takes(one.key));
    }
    let implied = implied.into_iter().map(|one| (one.kind, one.source));
    let mut said: Vec<_> = implied.chain(chosen).collect();
    said.sort_by_key(|(kind, _)| kind.rank());
    said.dedup_by_key(|(kind, _)| kind.rank());
    match said.as_slice() {
        [] if provider.is_some() => {
            let kind = provider?.kind()?;
            let source = reader.find("auth.provider").map(|found| found.source);
            let source = format!("auth.provider ({})", source.unwrap_or_default());
            reader.resolved(KEY, kind.name.to_owned(), &source);
            Some(kind)
        }
        [] => {
            let also = [
                "CSP_APP_ID and CSP_APP_SECRET",
                "CSP_API_TOKEN",
                "WAVEFRONT_TOKEN",
            ];
            reader.missing(KEY, &also);
            None
        }
        [(kind, source)] => {
            reader.resolved(KEY, kind.name.to_owned(), source);
            Some(*kind)
        }
        [(_, source), ..] => {
            let kinds: Vec<String> = said
                .iter()
                .map(|(kind, source)| format!("{} ({source})", kind.name))
                .collect();
            let text = format!(
                "several kinds of credentials: {}; keep one",
                kinds.join(" and ")
            );
            reader
                .problems
                .push(Problem::new(KEY, source.as_str(), text));
            None
        }
    }
}

/// Notes the keys of other kinds: the rest of another configuration, or credentials that would
/// silently not be used.
fn reject_foreign(reader: &mut Reader, kind: Option<&CredentialKind>) {
    for key in kind::owned_keys() {
        let found = reader.find(key);
        let (Some(kind), Some(found)) = (kind, found) else {
            continue;
        };
        // A copy of the full file holds the defaults of all kinds.
        if !kind.takes(key) && !reader.is_default(key, &found) {
            let (owners, kind) = (owners(key).join(" or "), kind.name);
            let text =
                format!("belongs to auth.type {owners}, but auth.type is {kind}; remove one");
            reader.problems.push(Problem::new(key, found.source, text));
        }
    }
}
