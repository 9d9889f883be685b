//! The credentials: which kind, with which keys, from where.

use std::time::Duration;

use figment::value::Value;

use super::{
    Auth, Credentials, client_auth,
    kind::{KEYS, KINDS, Kind},
    legs,
    problem::{Expected, Problem},
    reader::Reader,
    shape::Parser,
    token_service, values,
};
use crate::token::{
    csp,
    endpoint::{FormValue, TokenRequest},
    schedule::RefreshPolicy,
};

/// Reads the section. `None` only with a problem noted.
pub(super) fn read(reader: &mut Reader) -> Option<Auth> {
    let kind = kind(reader);
    reject_foreign(reader, kind);
    let mut credentials = kind.and_then(|kind| credentials(reader, kind));
    if let Some(Credentials::Endpoint(request)) = &mut credentials {
        request.token_type = reader.optional("auth.token_type", values::text);
    }
    let endpoint = token_service::settings(reader);
    if let Some(Credentials::Endpoint(request)) = &credentials {
        legs::reject_plain_detour(reader, "auth", &request.url, endpoint.proxy.as_ref());
    }
    let lifetimes = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
    let policy = RefreshPolicy {
        default_lifetime: reader.value("auth.default_lifetime", values::duration(lifetimes)),
        ..RefreshPolicy::default()
    };
    Some(Auth {
        kind: kind.map_or("", Kind::name),
        credentials: credentials?,
        endpoint,
        policy,
    })
}

/// The one kind that everything given agrees on.
fn kind(reader: &mut Reader) -> Option<Kind> {
    const KEY: &str = "auth.type";
    let mut implied = std::mem::take(&mut reader.implied);
    let mut chosen = None;
    reader.note(KEY, values::one_of(&KINDS).shape());
    if let Some(found) = reader.find(KEY) {
        match values::one_of(&KINDS).parse(&found.value) {
            Ok(kind) => chosen = kind.map(|kind| (kind, found.source)),
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
        let takes = |key: &str| {
            KEYS.iter()
                .any(|(one, kinds)| *one == key && kinds.contains(chosen))
        };
        implied.retain(|one| !takes(one.key));
    }
    let implied = implied.into_iter().map(|one| (one.kind, one.source));
    let mut said: Vec<_> = implied.chain(chosen).collect();
    said.sort_by_key(|(kind, _)| *kind);
    said.dedup_by_key(|(kind, _)| *kind);
    match said.as_slice() {
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
            reader.resolved(KEY, kind.name().to_owned(), source);
            Some(*kind)
        }
        [(_, source), ..] => {
            let kinds: Vec<String> = said
                .iter()
                .map(|(kind, source)| format!("{} ({source})", kind.name()))
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
fn reject_foreign(reader: &mut Reader, kind: Option<Kind>) {
    for (key, kinds) in KEYS {
        let found = reader.find(key);
        let (Some(kind), Some(found)) = (kind, found) else {
            continue;
        };
        // A copy of the full file holds the defaults of all kinds.
        if !kinds.contains(&kind) && !reader.is_default(key, &found) {
            let owners: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let (owners, kind) = (owners.join(" or "), kind.name());
            let text =
                format!("belongs to auth.type {owners}, but auth.type is {kind}; remove one");
            reader.problems.push(Problem::new(key, found.source, text));
        }
    }
}

/// The names of the form field that holds an API token, of newer and older servers.
const FIELDS: [(&str, &str); 2] = [
    ("api_token", "api_token"),
    ("refresh_token", "refresh_token"),
];

fn credentials(reader: &mut Reader, kind: Kind) -> Option<Credentials> {
    match kind {
        Kind::CspOauthApp => {
            let base_url = token_service::base_url(reader);
            let path = reader.optional("auth.token_path", values::url_path);
            // Its credentials are joined with a colon as they are.
            let id = reader.required("auth.client_id", &["CSP_APP_ID"], |value: &Value| {
                let id = values::text(value)?;
                let is_right = !id.contains(':');
                is_right
                    .then_some(id)
                    .ok_or("must not have a colon".to_owned())
            });
            let secret = reader.rotating("auth.client_secret", &["CSP_APP_SECRET"]);
            let org = reader.optional("auth.org_id", values::text);
            let (path, org) = (path.as_deref(), org.as_deref());
            let request = csp::oauth_app(&base_url?, path, &id?, secret?, org);
            Some(Credentials::Endpoint(request))
        }
        Kind::CspApiToken => {
            let base_url = token_service::base_url(reader);
            let path = reader.optional("auth.token_path", values::url_path);
            let token = reader.rotating("auth.api_token", &["CSP_API_TOKEN"]);
            let field = reader.required("auth.api_token_field", &[], values::one_of(&FIELDS));
            let request = csp::api_token(&base_url?, path.as_deref(), field?, token?);
            Some(Credentials::Endpoint(request))
        }
        Kind::StaticToken => {
            let token = reader.bearer("auth.token", &["WAVEFRONT_TOKEN"]);
            Some(Credentials::Static(token?))
        }
        Kind::Oauth2ClientCredentials => client_credentials(reader).map(Credentials::Endpoint),
    }
}

fn client_credentials(reader: &mut Reader) -> Option<TokenRequest> {
    let url = token_service::token_url(reader);
    let client_auth = client_auth::read(reader, url.as_ref());
    let scopes = reader.value("auth.scopes", values::scopes);
    let parameters = reader.value("auth.endpoint_params", endpoint_params);

    let mut form = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
    if !scopes.is_empty() {
        form.push(("scope".to_owned(), scopes.join(" ")));
    }
    form.extend(parameters);
    let form = form
        .into_iter()
        .map(|(name, value)| (name, FormValue::Plain(value)))
        .collect();
    Some(TokenRequest {
        details_url: None,
        token_type: None,
        url: url?,
        client_auth: client_auth?,
        form,
    })
}

/// Further form fields. Those that other keys make would be sent twice.
fn endpoint_params(value: &Value) -> Result<Vec<(String, String)>, Expected> {
    let table = value
        .as_dict()
        .ok_or("must be a table like { audience = \"…\" }")?;
    let mut parameters = Vec::new();
    for (name, value) in table {
        if matches!(
            name.as_str(),
            "grant_type"
                | "scope"
                | "client_id"
                | "client_secret"
                | "client_assertion"
                | "client_assertion_type"
        ) {
            return Err(format!("must not have {name}, which is sent already"));
        }
        let value = value.as_str().ok_or("must hold text in quotes only")?;
        parameters.push((name.clone(), value.to_owned()));
    }
    Ok(parameters)
}
