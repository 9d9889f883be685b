//! How a client proves at the token endpoint who it is: the method, and the keys that only it has.

use url::Url;

use super::{problem::Problem, reader::Reader, values};
use crate::{
    secret::Which,
    token::endpoint::{Algorithm, AssertionError, BasicEncoding, ClientAssertion, ClientAuth},
};

/// `auth.client_auth`, by the names of the registry of RFC 8414.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Basic,
    Post,
    PrivateKeyJwt,
    TlsClientAuth,
}

use Method::{Basic, Post, PrivateKeyJwt, TlsClientAuth};

const METHODS: [(&str, Method); 4] = [
    ("client_secret_basic", Basic),
    ("client_secret_post", Post),
    ("private_key_jwt", PrivateKeyJwt),
    ("tls_client_auth", TlsClientAuth),
];

/// Their names.
pub(super) fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.into_iter().map(|(name, _)| name)
}

/// The keys that only some methods have.
const KEYS: [(&str, &[Method]); 10] = [
    ("auth.client_secret", &[Basic, Post]),
    ("auth.client_secret_file", &[Basic, Post]),
    ("auth.client_secret_next_file", &[Basic, Post]),
    ("auth.private_key", &[PrivateKeyJwt]),
    ("auth.private_key_file", &[PrivateKeyJwt]),
    ("auth.private_key_next_file", &[PrivateKeyJwt]),
    ("auth.key_id", &[PrivateKeyJwt]),
    ("auth.key_next_id", &[PrivateKeyJwt]),
    ("auth.assertion_algorithm", &[PrivateKeyJwt]),
    ("auth.assertion_audience", &[PrivateKeyJwt]),
];

/// Reads the method and its keys. `None` only with a problem noted.
pub(super) fn read(reader: &mut Reader, token_url: Option<&Url>) -> Option<ClientAuth> {
    let client_id = reader.required("auth.client_id", &["CSP_APP_ID"], values::text);
    let method = reader.required("auth.client_auth", &[], values::one_of(&METHODS))?;
    reject_foreign(reader, method);
    match method {
        Basic | Post => {
            let client_secret = reader.rotating("auth.client_secret", &["CSP_APP_SECRET"]);
            let (client_id, client_secret) = (client_id?, client_secret?);
            Some(if method == Post {
                ClientAuth::Post {
                    client_id,
                    client_secret,
                }
            } else {
                ClientAuth::Basic {
                    client_id,
                    client_secret,
                    encoding: BasicEncoding::FormUrlencoded,
                }
            })
        }
        PrivateKeyJwt => assertion(reader, client_id, token_url).map(ClientAuth::PrivateKeyJwt),
        TlsClientAuth => {
            if token_url.is_some_and(|url| url.scheme() != "https") {
                reader.wrong("auth.client_auth", "needs an https:// auth.token_url");
            }
            if reader.find("auth.client_cert_file").is_none() {
                reader.missing("auth.client_cert_file", &[]);
            }
            let client_id = client_id?;
            Some(ClientAuth::TlsClientAuth { client_id })
        }
    }
}

/// Notes the keys of other methods: a credential that would silently not be used.
fn reject_foreign(reader: &mut Reader, method: Method) {
    let name = |method: Method| {
        let mut names = METHODS.iter();
        let found = names.find(|(_, one)| *one == method);
        found.map_or("", |(name, _)| *name)
    };
    for (key, methods) in KEYS {
        let Some(found) = reader.find(key).filter(|_| !methods.contains(&method)) else {
            continue;
        };
        let owners: Vec<&str> = methods.iter().map(|method| name(*method)).collect();
        let (owners, method) = (owners.join(" or "), name(method));
        let text =
            format!("belongs to auth.client_auth {owners}, but that is {method}; remove one");
        reader.problems.push(Problem::new(key, found.source, text));
    }
}

fn assertion(
    reader: &mut Reader,
    client_id: Option<String>,
    token_url: Option<&Url>,
) -> Option<ClientAssertion> {
    const ALGORITHM: &str = "auth.assertion_algorithm";
    const NEXT_ID: &str = "auth.key_next_id";
    let private_key = reader.private_key("auth.private_key");
    let key_id = reader.optional("auth.key_id", values::text);
    let next_key_id = reader.optional(NEXT_ID, values::text);
    let audience = reader.optional("auth.assertion_audience", values::text);
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let algorithm = reader.optional(ALGORITHM, values::one_of(&algorithms));
    let private_key = private_key?;
    if next_key_id.is_some() && private_key.next_file.is_none() {
        reader.wrong(NEXT_ID, "also needs auth.private_key_next_file");
    }
    // A service that picks keys by their names would not find the next one.
    if key_id.is_some() && next_key_id.is_none() && private_key.next_file.is_some() {
        reader.missing(NEXT_ID, &[]);
    }
    let assertion = ClientAssertion {
        client_id: client_id?,
        audience: audience.or_else(|| Some(token_url?.to_string()))?,
        private_key,
        key_id,
        next_key_id,
        algorithm,
    };
    // Tried once now, so that a mistake is found at the start.
    if let Err(error @ AssertionError::Unfit(_)) = assertion.sign(Which::Current) {
        reader.wrong(ALGORITHM, error.to_string());
        return None;
    }
    Some(assertion)
}
