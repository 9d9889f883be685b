//! `oauth2-token-exchange`: a token of somebody else buys one of this service (RFC 8693).

use figment::value::Value;

use super::{
    super::{Credentials, problem::Expected, reader::Reader, shape::Parser, values},
    kind::CredentialKind,
    oauth2::{self, Grant},
    provider::Provider,
};
use crate::{
    secret::SecretSource,
    token::endpoint::{FormValue, NamedSecret, response},
};

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "oauth2-token-exchange",
    help: "a token that another program keeps in a file, exchanged for one of this service",
    keys: &[
        &oauth2::KEYS,
        &[&[
            "auth.subject_token",
            "auth.subject_token_file",
            "auth.subject_token_type",
            "auth.requested_token_type",
            "auth.actor_token",
            "auth.actor_token_file",
            "auth.actor_token_type",
        ]],
    ],
    variables: &[],
    fields: &[
        "subject_token",
        "subject_token_type",
        "requested_token_type",
        "actor_token",
        "actor_token_type",
    ],
    read,
};

/// The types of RFC 8693 §3 have short names here.
const TYPE: &str = "urn:ietf:params:oauth:token-type:";
const SHORT: [&str; 6] = [
    "access_token",
    "refresh_token",
    "id_token",
    "saml1",
    "saml2",
    "jwt",
];

fn read(reader: &mut Reader, provider: Option<&'static Provider>) -> Option<Credentials> {
    let service = oauth2::service(reader, provider);
    let subject = reader.bearer("auth.subject_token", &[]);
    let subject_type = reader.required("auth.subject_token_type", &[], token_type);
    let requested = reader.optional("auth.requested_token_type", token_type);
    let actor = reader.optional_bearer("auth.actor_token");
    let actor_type = reader.optional("auth.actor_token_type", token_type);
    if actor_type.is_some() && actor.is_none() {
        reader.wrong("auth.actor_token_type", "also needs auth.actor_token_file");
    }
    let mut grant = Grant::of("urn:ietf:params:oauth:grant-type:token-exchange");
    let plain = |name: &str, value: &str| (name.to_owned(), FormValue::Plain(value.to_owned()));
    // What can be used as a bearer token (RFC 8693 §3).
    let usable = ["access_token", "jwt"].map(|short| format!("{TYPE}{short}"));
    grant.expected = response::Expected {
        issued_token_types: requested.clone().map_or(usable.to_vec(), |one| vec![one]),
        ..response::Expected::default()
    };
    let subject_token = secret("auth.subject_token", subject?);
    grant.form.push(("subject_token".to_owned(), subject_token));
    grant.form.push(plain("subject_token_type", &subject_type?));
    let requested = requested.iter();
    grant
        .form
        .extend(requested.map(|one| plain("requested_token_type", one)));
    if let Some(actor) = actor {
        let kind = actor_type.unwrap_or_else(|| format!("{TYPE}jwt"));
        let actor_token = secret("auth.actor_token", actor);
        grant.form.push(("actor_token".to_owned(), actor_token));
        grant.form.push(plain("actor_token_type", &kind));
    }
    oauth2::read(reader, &KIND, provider, service, grant).map(Credentials::Endpoint)
}

fn secret(key: &'static str, source: SecretSource) -> FormValue {
    let secret = source.into();
    FormValue::Secret(NamedSecret { key, secret })
}

/// A type by its short name, or as the URI that it is.
fn token_type(value: &Value) -> Result<String, Expected> {
    let text = values::text.parse(value)?;
    if SHORT.contains(&text.as_str()) {
        return Ok(format!("{TYPE}{text}"));
    }
    let is_uri = text.contains(':') && !text.contains(char::is_whitespace);
    is_uri
        .then_some(text)
        .ok_or_else(|| format!("must be {}, or the URI of another type", SHORT.join(", ")))
}
