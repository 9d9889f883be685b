//! What the grants of OAuth 2.0 have in common: where the token endpoint is, who asks, and what the
//! token is to be for.

use figment::value::Value;

use super::{
    super::{problem::Expected, reader::Reader, values},
    client_auth,
    kind::{CALLED, CLIENT_SECRET, CredentialKind, Keys},
    token_service,
};
use crate::token::endpoint::{FormValue, TokenRequest};

/// The keys of every grant.
pub(super) const KEYS: [Keys; 5] = [
    CALLED,
    client_auth::METHOD,
    CLIENT_SECRET,
    client_auth::ASSERTION,
    &["auth.token_url", "auth.scopes", "auth.endpoint_params"],
];

/// The fields of every token request of the kind.
const FIELDS: [&str; 2] = ["grant_type", "scope"];

/// What makes one grant another than the others.
pub(super) struct Grant {
    /// The `grant_type`.
    pub(super) grant_type: &'static str,
    /// The fields that only this grant has.
    pub(super) form: Vec<(String, FormValue)>,
}

/// Reads what the grants have in common. `None` only with a problem noted.
pub(super) fn read(
    reader: &mut Reader,
    kind: &CredentialKind,
    grant: Grant,
) -> Option<TokenRequest> {
    let url = token_service::token_url(reader);
    let client_auth = client_auth::read(reader, url.as_ref());
    let scopes = reader.value("auth.scopes", values::scopes);
    let made_by_keys = |name: &str| {
        let names = FIELDS.iter().chain(kind.fields);
        names.chain(client_auth::fields()).any(|one| *one == name)
    };
    let parameters = reader.value("auth.endpoint_params", |value: &Value| {
        endpoint_params(value, made_by_keys)
    });

    let plain = |name: &str, value: &str| (name.to_owned(), FormValue::Plain(value.to_owned()));
    let mut form = vec![plain("grant_type", grant.grant_type)];
    form.extend(grant.form);
    if !scopes.is_empty() {
        form.push(plain("scope", &scopes.join(" ")));
    }
    form.extend(parameters.iter().map(|(name, value)| plain(name, value)));
    Some(TokenRequest {
        details_url: None,
        token_type: None,
        url: url?,
        client_auth: client_auth?,
        form,
    })
}

/// Further form fields. Those that other keys make would be sent twice.
fn endpoint_params(
    value: &Value,
    made_by_keys: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>, Expected> {
    let table = value
        .as_dict()
        .ok_or("must be a table like { audience = \"…\" }")?;
    let mut parameters = Vec::new();
    for (name, value) in table {
        if made_by_keys(name) {
            return Err(format!("must not have {name}, which is sent already"));
        }
        let value = value.as_str().ok_or("must hold text in quotes only")?;
        parameters.push((name.clone(), value.to_owned()));
    }
    Ok(parameters)
}
