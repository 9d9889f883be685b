//! `static-token`: an access token that no service is asked for.

use super::{
    super::{Credentials, reader::Reader},
    kind::{CredentialKind, Variable},
    provider::Provider,
};

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "static-token",
    help: "an access token itself: of a subscription without cloud services, or one that another \
           program keeps in a file",
    keys: &[&[&["auth.token", "auth.token_file"]]],
    variables: &[Variable {
        name: "WAVEFRONT_TOKEN",
        key: "auth.token",
        secret: true,
    }],
    fields: &[],
    read,
};

fn read(reader: &mut Reader, _: Option<&'static Provider>) -> Option<Credentials> {
    let token = reader.bearer("auth.token", &["WAVEFRONT_TOKEN"]);
    Some(Credentials::Static(token?))
}
