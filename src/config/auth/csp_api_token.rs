//! `csp-api-token`: a user's API token of VMware Cloud Services, exchanged for access tokens.

use super::{
    super::{Credentials, reader::Reader, values},
    kind::{CALLED, CredentialKind, TYPED, Variable},
    provider::Provider,
    token_service,
};
use crate::token::csp;

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "csp-api-token",
    help: "a user's API token of VMware Cloud Services",
    keys: &[&[
        token_service::PRESET_KEYS,
        CALLED,
        TYPED,
        &[
            "auth.api_token",
            "auth.api_token_file",
            "auth.api_token_next_file",
            "auth.api_token_field",
        ],
    ]],
    variables: &[Variable {
        name: "CSP_API_TOKEN",
        key: "auth.api_token",
        secret: true,
    }],
    fields: &[],
    read,
};

/// The names of the form field that holds an API token, of newer and older servers.
const FIELDS: [(&str, &str); 2] = [
    ("api_token", "api_token"),
    ("refresh_token", "refresh_token"),
];

fn read(reader: &mut Reader, provider: Option<&'static Provider>) -> Option<Credentials> {
    let base_url = token_service::base_url(reader, provider);
    let path = reader.optional("auth.token_path", values::url_path);
    let token = reader.rotating("auth.api_token", &["CSP_API_TOKEN"]);
    let field = reader.required("auth.api_token_field", &[], values::one_of(&FIELDS));
    let request = csp::api_token(&base_url?, path.as_deref(), field?, token?);
    Some(Credentials::Endpoint(request))
}
