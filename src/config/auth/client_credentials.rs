//! `oauth2-client-credentials`: the client itself is who the token is for (RFC 6749 §4.4).

use super::{
    super::{Credentials, reader::Reader},
    kind::CredentialKind,
    oauth2,
};

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "oauth2-client-credentials",
    help: "the client itself, at any OAuth 2.0 server",
    keys: &oauth2::KEYS,
    variables: &[],
    fields: &[],
    read,
};

fn read(reader: &mut Reader) -> Option<Credentials> {
    let grant = oauth2::Grant {
        grant_type: "client_credentials",
        form: Vec::new(),
    };
    oauth2::read(reader, &KIND, grant).map(Credentials::Endpoint)
}
