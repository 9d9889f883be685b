//! `oauth2-client-credentials`: the client itself is who the token is for (RFC 6749 §4.4).

use super::{
    super::{Credentials, reader::Reader},
    kind::CredentialKind,
    oauth2::{self, Grant},
    provider::Provider,
};

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "oauth2-client-credentials",
    help: "the client itself, at any OAuth 2.0 server",
    keys: &[&oauth2::KEYS],
    variables: &[],
    fields: &[],
    read,
};

fn read(reader: &mut Reader, provider: Option<&'static Provider>) -> Option<Credentials> {
    let service = oauth2::service(reader, provider);
    let grant = Grant::of("client_credentials");
    oauth2::read(reader, &KIND, provider, service, grant).map(Credentials::Endpoint)
}
