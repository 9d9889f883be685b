//! `oauth2-refresh-token`: a token that somebody has agreed to once, and that is replaced with each use
//! where the service rotates it (RFC 6749 §6).

use super::{
    super::{Credentials, reader::Reader},
    kind::CredentialKind,
    oauth2::{self, Grant},
    provider::Provider,
};
use crate::token::{
    endpoint::FormValue,
    refresh_token::{self, RefreshTokenFile},
};

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "oauth2-refresh-token",
    help: "a refresh token in a file, which is replaced when the service rotates it",
    keys: &[&oauth2::KEYS, &[&[FILE]]],
    variables: &[],
    fields: &["refresh_token"],
    read,
};

const FILE: &str = "auth.refresh_token_file";

fn read(reader: &mut Reader, provider: Option<&'static Provider>) -> Option<Credentials> {
    let service = oauth2::service(reader, provider);
    let path = reader.secret_in_file(FILE);
    if path.is_none() && !reader.has_problem(FILE) {
        reader.missing(FILE, &[]);
    }
    if let Some(Err(error)) = path.as_deref().map(refresh_token::check) {
        reader.wrong(FILE, error.to_string());
    }
    let mut grant = Grant {
        is_renewal: true,
        ..Grant::of("refresh_token")
    };
    if let Some(path) = path {
        let file = FormValue::RefreshToken(RefreshTokenFile::new(path));
        grant.form.push(("refresh_token".to_owned(), file));
    }
    oauth2::read(reader, &KIND, provider, service, grant).map(Credentials::Endpoint)
}
