//! `github-app`: an app of GitHub, as one of its installations.

use figment::value::Value;
use url::Url;

use super::{
    super::{Credentials, net, problem::Expected, reader::Reader, values},
    assertion,
    client_auth::SIGNER,
    kind::{CALLED, CredentialKind},
    provider::Provider,
    token_service,
};
use crate::token::{endpoint::ClientAuth, github};

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "github-app",
    help: "an app of GitHub, as one of its installations",
    keys: &[&[
        CALLED,
        SIGNER,
        &["auth.base_url", "auth.app_id", "auth.installation_id"],
    ]],
    variables: &[],
    fields: &[],
    read,
};

fn read(reader: &mut Reader, provider: Option<&'static Provider>) -> Option<Credentials> {
    let insecure = token_service::insecure(reader);
    let base_url = reader.optional("auth.base_url", net::base_url(insecure));
    token_service::warn_if_plain(reader, "auth.base_url", base_url.as_ref());
    let is_right = !reader.has_problem("auth.base_url");
    let base_url = base_url.or_else(|| Url::parse(github::API).ok().filter(|_| is_right));
    let app_id = reader.required("auth.app_id", &[], identifier);
    let installation_id = reader.required("auth.installation_id", &[], identifier);
    let signer = assertion::signer(reader, provider);
    let request = github::app(&base_url?, &app_id?, &installation_id?, signer?);
    if let ClientAuth::Bearer(assertion) = &request.client_auth {
        assertion::try_out(reader, assertion)?;
    }
    Some(Credentials::Endpoint(request))
}

/// A number, or the client ID of an app: part of a path.
fn identifier(value: &Value) -> Result<String, Expected> {
    let text = match value {
        Value::Num(_, number) => number.to_i128().map(|number| number.to_string()),
        _ => Some(values::text(value)?),
    };
    let is_plain = |text: &String| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
            // Dots alone would name another path.
            && text.bytes().any(|byte| byte != b'.')
    };
    text.filter(is_plain)
        .ok_or_else(|| "must be the number or the identifier that GitHub shows".to_owned())
}
