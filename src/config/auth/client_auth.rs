//! How a client proves at the token endpoint who it is: each method is a value, with the keys that
//! only it has.

use url::Url;

use super::{
    super::{problem::Problem, reader::Reader, values},
    kind::Keys,
};
use crate::{
    secret::Which,
    token::endpoint::{Algorithm, AssertionError, BasicEncoding, ClientAssertion, ClientAuth},
};

/// A value of `auth.client_auth`, by its name in the registry of RFC 8414.
struct Method {
    name: &'static str,
    /// The keys that only some methods take.
    keys: Keys,
    /// The fields of the token request that the method makes.
    fields: Keys,
    read: fn(&mut Reader, Client) -> Option<ClientAuth>,
}

/// Who asks, and whom.
struct Client<'a> {
    id: Option<String>,
    token_url: Option<&'a Url>,
}

static METHODS: [Method; 4] = [
    Method {
        name: "client_secret_basic",
        keys: SECRET,
        fields: &["client_id"],
        read: basic,
    },
    Method {
        name: "client_secret_post",
        keys: SECRET,
        fields: &["client_id", "client_secret"],
        read: post,
    },
    Method {
        name: "private_key_jwt",
        keys: ASSERTION,
        fields: &["client_id", "client_assertion", "client_assertion_type"],
        read: private_key_jwt,
    },
    Method {
        name: "tls_client_auth",
        keys: &[],
        fields: &["client_id"],
        read: tls_client_auth,
    },
];

const SECRET: Keys = &[
    "auth.client_secret",
    "auth.client_secret_file",
    "auth.client_secret_next_file",
];

/// The keys of a key that signs.
pub(super) const ASSERTION: Keys = &[
    "auth.private_key",
    "auth.private_key_file",
    "auth.private_key_next_file",
    "auth.key_id",
    "auth.key_next_id",
    "auth.assertion_algorithm",
    "auth.assertion_audience",
];

/// The key that chooses the method.
pub(super) const METHOD: Keys = &["auth.client_auth"];

/// The names of the methods.
pub(in crate::config) fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|method| method.name)
}

/// The fields of the token request that some method makes.
pub(super) fn fields() -> impl Iterator<Item = &'static &'static str> {
    METHODS.iter().flat_map(|method| method.fields)
}

/// Reads the method and its keys. `None` only with a problem noted.
pub(super) fn read(reader: &mut Reader, token_url: Option<&Url>) -> Option<ClientAuth> {
    let id = reader.required("auth.client_id", &["CSP_APP_ID"], values::text);
    let names: Vec<_> = METHODS.iter().map(|method| (method.name, method)).collect();
    let method = reader.required("auth.client_auth", &[], values::one_of(&names))?;
    reject_foreign(reader, method);
    (method.read)(reader, Client { id, token_url })
}

/// Notes the keys of other methods: a credential that would silently not be used.
fn reject_foreign(reader: &mut Reader, method: &Method) {
    let mut seen = Vec::new();
    for key in METHODS.iter().flat_map(|method| method.keys) {
        if method.keys.contains(key) || seen.contains(key) {
            continue;
        }
        seen.push(*key);
        let Some(found) = reader.find(key) else {
            continue;
        };
        let owners = METHODS.iter().filter(|method| method.keys.contains(key));
        let owners: Vec<&str> = owners.map(|method| method.name).collect();
        let (owners, method) = (owners.join(" or "), method.name);
        let text =
            format!("belongs to auth.client_auth {owners}, but that is {method}; remove one");
        reader.problems.push(Problem::new(key, found.source, text));
    }
}

fn basic(reader: &mut Reader, client: Client<'_>) -> Option<ClientAuth> {
    let client_secret = reader.rotating("auth.client_secret", &["CSP_APP_SECRET"]);
    Some(ClientAuth::Basic {
        client_id: client.id?,
        client_secret: client_secret?,
        encoding: BasicEncoding::FormUrlencoded,
    })
}

fn post(reader: &mut Reader, client: Client<'_>) -> Option<ClientAuth> {
    let client_secret = reader.rotating("auth.client_secret", &["CSP_APP_SECRET"]);
    Some(ClientAuth::Post {
        client_id: client.id?,
        client_secret: client_secret?,
    })
}

fn tls_client_auth(reader: &mut Reader, client: Client<'_>) -> Option<ClientAuth> {
    if client.token_url.is_some_and(|url| url.scheme() != "https") {
        reader.wrong("auth.client_auth", "needs an https:// auth.token_url");
    }
    if reader.find("auth.client_cert_file").is_none() {
        reader.missing("auth.client_cert_file", &[]);
    }
    let client_id = client.id?;
    Some(ClientAuth::TlsClientAuth { client_id })
}

fn private_key_jwt(reader: &mut Reader, client: Client<'_>) -> Option<ClientAuth> {
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
        client_id: client.id?,
        audience: audience.or_else(|| Some(client.token_url?.to_string()))?,
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
    Some(ClientAuth::PrivateKeyJwt(assertion))
}
