//! `csp-oauth-app`: a server-to-server app of VMware Cloud Services.

use figment::value::Value;

use super::{
    super::{Credentials, reader::Reader, values},
    kind::{CALLED, CLIENT_SECRET, CredentialKind, TYPED, Variable},
    provider::Provider,
    token_service,
};
use crate::token::csp;

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "csp-oauth-app",
    help: "an app of VMware Cloud Services: client credentials, for one organisation if it is named",
    keys: &[&[
        token_service::PRESET_KEYS,
        CALLED,
        TYPED,
        CLIENT_SECRET,
        &["auth.org_id"],
    ]],
    variables: &[
        Variable {
            name: "CSP_APP_ID",
            key: "auth.client_id",
            secret: false,
        },
        Variable {
            name: "CSP_APP_SECRET",
            key: "auth.client_secret",
            secret: true,
        },
        Variable {
            name: "CSP_ORG_ID",
            key: "auth.org_id",
            secret: false,
        },
    ],
    fields: &[],
    read,
};

fn read(reader: &mut Reader, provider: Option<&'static Provider>) -> Option<Credentials> {
    let base_url = token_service::base_url(reader, provider);
    let path = reader.optional("auth.token_path", values::url_path);
    // Identifier and secret are joined with a colon as they are.
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
