//! How a client proves at the token endpoint who it is: each method is a value, with the keys that
//! only it has.

use super::{
    super::{layers::DEFAULT, problem::Problem, reader::Reader, shape::Parser, values},
    assertion,
    kind::Keys,
    provider::Provider,
};
use crate::{
    secret::SecretSource,
    token::endpoint::{
        Assertion, Audience, BasicEncoding, ClientAuth, Location, Subject, Validity,
    },
};

/// A value of `auth.client_auth`, by its name in the registry of RFC 8414.
struct Method {
    name: &'static str,
    /// The keys that only some methods take.
    keys: &'static [Keys],
    /// The fields of the token request that the method makes.
    fields: Keys,
    read: fn(&mut Reader, &Client<'_>) -> Option<ClientAuth>,
}

/// Who asks, and whom.
pub(super) struct Client<'a> {
    pub(super) provider: Option<&'static Provider>,
    pub(super) location: Option<&'a Location>,
    /// How the client authenticates itself where nothing is said.
    pub(super) default_method: &'static str,
    /// The keys of methods that the grant reads itself.
    pub(super) keys: &'static [Keys],
    /// Whether the grant says who asks.
    pub(super) is_in_grant: bool,
}

static METHODS: [Method; 7] = [
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
        fields: ASSERTION_FIELDS,
        read: private_key_jwt,
    },
    // In no registry: who has made the assertion is between the service and its maker.
    Method {
        name: "client_assertion",
        keys: &[&[CLIENT_ASSERTION]],
        fields: ASSERTION_FIELDS,
        read: client_assertion,
    },
    Method {
        name: "tls_client_auth",
        keys: &[],
        fields: &["client_id"],
        read: tls_client_auth,
    },
    Method {
        name: "self_signed_tls_client_auth",
        keys: &[],
        fields: &["client_id"],
        read: tls_client_auth,
    },
    Method {
        name: "none",
        keys: &[],
        fields: &["client_id"],
        read: none,
    },
];

const SECRET: &[Keys] = &[&[
    "auth.client_secret",
    "auth.client_secret_file",
    "auth.client_secret_next_file",
]];

const ASSERTION_FIELDS: Keys = &["client_id", "client_assertion", "client_assertion_type"];

/// The keys of a key that signs, and whom its assertions are for.
pub(super) const ASSERTION: &[Keys] = &[SIGNER, AUDIENCE];

/// The keys of a key that signs.
pub(super) const SIGNER: Keys = &[
    "auth.private_key",
    "auth.private_key_file",
    "auth.private_key_next_file",
    "auth.key_id",
    "auth.key_next_id",
    "auth.assertion_cert_file",
    "auth.assertion_next_cert_file",
    "auth.assertion_algorithm",
];

/// The key that says whom assertions are for.
pub(super) const AUDIENCE: Keys = &["auth.assertion_audience"];

const CLIENT_ASSERTION: &str = "auth.client_assertion_file";

const METHOD: &str = "auth.client_auth";

/// The keys that choose the method, and those of an assertion that somebody else has made.
pub(super) const CHOICE: Keys = &[METHOD, CLIENT_ASSERTION];

/// The names of the methods.
pub(in crate::config) fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|method| method.name)
}

/// The fields of the token request that some method makes.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    METHODS
        .iter()
        .flat_map(|method| method.fields.iter().copied())
}

/// Reads the method and its keys. `None` only with a problem noted.
pub(super) fn read(reader: &mut Reader, client: &Client<'_>) -> Option<ClientAuth> {
    let method = method(reader, client)?;
    reject_foreign(reader, method, client.keys);
    (method.read)(reader, client)
}

/// The method that is named; or else the only one that takes the file of an assertion, where there is
/// one; or else what the provider or the grant is used with.
fn method(reader: &mut Reader, client: &Client<'_>) -> Option<&'static Method> {
    let names: Vec<_> = METHODS.iter().map(|method| (method.name, method)).collect();
    reader.note(METHOD, values::one_of(&names).shape());
    if reader.find(METHOD).is_some() {
        return reader.required(METHOD, &[], values::one_of(&names));
    }
    let of_provider = client.provider.and_then(|provider| provider.client_auth);
    let (name, source) = match (reader.find(CLIENT_ASSERTION), of_provider) {
        (Some(found), _) => ("client_assertion", found.source),
        (None, Some(name)) if client.default_method != "none" => (name, provider_source(reader)),
        (None, _) => (client.default_method, DEFAULT.to_owned()),
    };
    reader.resolved(METHOD, name.to_owned(), &source);
    METHODS.iter().find(|method| method.name == name)
}

fn provider_source(reader: &mut Reader) -> String {
    let found = reader.find("auth.provider");
    found.map_or_else(String::new, |found| {
        format!("auth.provider ({})", found.source)
    })
}

/// Notes the keys of other methods: a credential that would silently not be used.
fn reject_foreign(reader: &mut Reader, method: &Method, also: &[Keys]) {
    let has = |keys: &[Keys], key: &str| keys.iter().any(|keys| keys.contains(&key));
    let mut seen = Vec::new();
    for key in METHODS
        .iter()
        .flat_map(|method| method.keys)
        .copied()
        .flatten()
    {
        if has(method.keys, key) || has(also, key) || seen.contains(key) {
            continue;
        }
        seen.push(*key);
        let Some(found) = reader.find(key) else {
            continue;
        };
        let owners = METHODS.iter().filter(|method| has(method.keys, key));
        let owners: Vec<&str> = owners.map(|method| method.name).collect();
        let (owners, method) = (owners.join(" or "), method.name);
        let text =
            format!("belongs to auth.client_auth {owners}, but that is {method}; remove one");
        reader.problems.push(Problem::new(key, found.source, text));
    }
}

fn client_id(reader: &mut Reader) -> Option<String> {
    reader.required("auth.client_id", &["CSP_APP_ID"], values::text)
}

fn basic(reader: &mut Reader, _: &Client<'_>) -> Option<ClientAuth> {
    let client_id = client_id(reader);
    let client_secret = reader.rotating("auth.client_secret", &["CSP_APP_SECRET"]);
    Some(ClientAuth::Basic {
        client_id: client_id?,
        client_secret: client_secret?,
        encoding: BasicEncoding::FormUrlencoded,
    })
}

fn post(reader: &mut Reader, _: &Client<'_>) -> Option<ClientAuth> {
    let client_id = client_id(reader);
    let client_secret = reader.rotating("auth.client_secret", &["CSP_APP_SECRET"]);
    Some(ClientAuth::Post {
        client_id: client_id?,
        client_secret: client_secret?,
    })
}

fn tls_client_auth(reader: &mut Reader, client: &Client<'_>) -> Option<ClientAuth> {
    let client_id = client_id(reader);
    let scheme = match client.location {
        Some(Location::Url(url)) => Some(url.scheme()),
        Some(Location::Issuer(issuer)) => Some(issuer.url().scheme()),
        None => None,
    };
    if scheme.is_some_and(|scheme| scheme != "https") {
        reader.wrong(METHOD, "needs an https:// auth.token_url");
    }
    if reader.find("auth.client_cert_file").is_none() {
        reader.missing("auth.client_cert_file", &[]);
    }
    Some(ClientAuth::TlsClientAuth {
        client_id: client_id?,
    })
}

fn private_key_jwt(reader: &mut Reader, client: &Client<'_>) -> Option<ClientAuth> {
    let client_id = client_id(reader);
    let signer = assertion::signer(reader, client.provider);
    let audience = assertion::audience(reader);
    let client_id = client_id?;
    let assertion = Assertion {
        issuer: Some(client_id.clone()),
        subject: Subject::Issuer,
        audience: audience.map_or(Audience::TokenEndpoint, Audience::Named),
        scope: None,
        signer: signer?,
        validity: Validity::default(),
    };
    assertion::try_out(reader, &assertion)?;
    Some(ClientAuth::PrivateKeyJwt {
        client_id,
        assertion,
    })
}

fn client_assertion(reader: &mut Reader, _: &Client<'_>) -> Option<ClientAuth> {
    let client_id = reader.optional("auth.client_id", values::text);
    let assertion = reader.secret_in_file(CLIENT_ASSERTION);
    if assertion.is_none() && !reader.has_problem(CLIENT_ASSERTION) {
        reader.missing(CLIENT_ASSERTION, &[]);
    }
    Some(ClientAuth::ClientAssertion {
        client_id,
        assertion: SecretSource::File(assertion?).into(),
    })
}

fn none(reader: &mut Reader, client: &Client<'_>) -> Option<ClientAuth> {
    if client.is_in_grant {
        // The grant may have it from there; who asks is said in it.
        reader.optional("auth.client_id", values::text);
        return Some(ClientAuth::None);
    }
    let client_id = client_id(reader)?;
    Some(ClientAuth::Public { client_id })
}
