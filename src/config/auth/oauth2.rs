//! What the grants of OAuth 2.0 have in common: where the token endpoint is, who asks, and what the
//! token is to be for.

use figment::value::Value;
use url::Url;

use super::{
    super::{problem::Expected, reader::Reader, values},
    client_auth::{self, Client},
    kind::{CALLED, CLIENT_SECRET, CredentialKind, Keys, TYPED},
    provider::{self, Provider},
    token_service,
};
use crate::token::endpoint::{FormValue, Location, TokenRequest, response::Expected as Response};

/// The keys of every grant.
pub(super) const KEYS: [Keys; 8] = [
    CALLED,
    TYPED,
    CLIENT_SECRET,
    client_auth::CHOICE,
    client_auth::SIGNER,
    client_auth::AUDIENCE,
    provider::PLACES,
    &[
        "auth.token_url",
        "auth.issuer",
        "auth.scopes",
        "auth.audience",
        "auth.resource",
        "auth.endpoint_params",
    ],
];

/// The fields of every token request.
const FIELDS: [&str; 2] = ["grant_type", "scope"];

/// The service that is asked.
pub(super) struct Service {
    /// Where its token endpoint is; `None` only with a problem noted.
    pub(super) location: Option<Location>,
}

/// What makes one grant another than the others.
pub(super) struct Grant {
    /// The `grant_type`.
    pub(super) name: &'static str,
    /// The fields that only this grant has.
    pub(super) form: Vec<(String, FormValue)>,
    /// What its response may hold.
    pub(super) expected: Response,
    /// Whether scopes are a field of the form.
    pub(super) has_scope: bool,
    /// How the client authenticates itself where nothing is said.
    pub(super) default_method: &'static str,
    /// The keys of methods that the grant reads itself.
    pub(super) keys: &'static [Keys],
    /// Whether the grant says who asks, so that the client need not.
    pub(super) names_client: bool,
    /// Whether what the token is for was agreed to before.
    pub(super) is_renewal: bool,
}

impl Grant {
    /// A grant of that type, of which nothing else is said.
    pub(super) fn of(grant_type: &'static str) -> Self {
        Self {
            name: grant_type,
            form: Vec::new(),
            expected: Response::default(),
            has_scope: true,
            default_method: "client_secret_basic",
            keys: &[],
            names_client: false,
            is_renewal: false,
        }
    }
}

/// Whether a key says where the token endpoint is.
pub(super) fn is_located(reader: &mut Reader) -> bool {
    let mut keys = ["auth.token_url", "auth.issuer"].into_iter();
    keys.any(|key| reader.find(key).is_some())
}

/// Reads where the token endpoint is.
pub(super) fn service(reader: &mut Reader, provider: Option<&'static Provider>) -> Service {
    Service {
        location: token_service::location(reader, provider),
    }
}

/// Reads what the grants have in common. `None` only with a problem noted.
pub(super) fn read(
    reader: &mut Reader,
    kind: &CredentialKind,
    provider: Option<&'static Provider>,
    service: Service,
    grant: Grant,
) -> Option<TokenRequest> {
    let location = service.location;
    let client = Client {
        provider,
        location: location.as_ref(),
        default_method: grant.default_method,
        keys: grant.keys,
        is_in_grant: grant.names_client,
    };
    let client_auth = client_auth::read(reader, &client);
    let mut scopes = reader.value("auth.scopes", values::scopes);
    let audiences = reader.optional("auth.audience", values::scopes);
    let resources = reader.optional("auth.resource", resources);
    let (audiences, mut resources) = (audiences.unwrap_or_default(), resources.unwrap_or_default());
    if let Some(provider) = provider.filter(|provider| provider.resource_is_scope) {
        // What other servers take as a resource is part of the scope there.
        let resources = std::mem::take(&mut resources);
        if !scopes.is_empty() && !resources.is_empty() {
            let name = provider.name;
            let text =
                format!("means the scope RESOURCE/.default to {name}: keep it or auth.scopes");
            reader.wrong("auth.resource", text);
        }
        scopes.extend(resources.iter().map(|one| format!("{one}/.default")));
    }
    let mut made: Vec<&str> = FIELDS.iter().chain(kind.fields).copied().collect();
    made.extend(client_auth::fields());
    made.extend(audiences.first().map(|_| "audience"));
    made.extend(resources.first().map(|_| "resource"));
    let parameters = reader.value("auth.endpoint_params", |value: &Value| {
        endpoint_params(value, &made)
    });
    if let Some(provider) = provider.filter(|_| !grant.is_renewal) {
        provider.require(reader, &parameters);
    }

    let plain = |name: &str, value: &str| (name.to_owned(), FormValue::Plain(value.to_owned()));
    let mut form = vec![plain("grant_type", grant.name)];
    form.extend(grant.form);
    if !scopes.is_empty() && grant.has_scope {
        form.push(plain("scope", &scopes.join(" ")));
    }
    form.extend(audiences.iter().map(|one| plain("audience", one)));
    form.extend(resources.iter().map(|one| plain("resource", one)));
    form.extend(parameters.iter().map(|(name, value)| plain(name, value)));
    Some(TokenRequest {
        expected: grant.expected,
        ..TokenRequest::new(location?, client_auth?, form)
    })
}

/// Further form fields. Those that other keys make would be sent twice.
fn endpoint_params(value: &Value, made: &[&str]) -> Result<Vec<(String, String)>, Expected> {
    let table = value
        .as_dict()
        .ok_or("must be a table like { audience = \"…\" }")?;
    let mut parameters = Vec::new();
    for (name, value) in table {
        if made.contains(&name.as_str()) {
            return Err(format!("must not have {name}, which is sent already"));
        }
        let value = value.as_str().ok_or("must hold text in quotes only")?;
        parameters.push((name.clone(), value.to_owned()));
    }
    Ok(parameters)
}

/// Resources that the token is to be for (RFC 8707 §2).
fn resources(value: &Value) -> Result<Vec<String>, Expected> {
    let resources = values::scopes(value)?;
    let is_right = |text: &String| Url::parse(text).is_ok_and(|url| url.fragment().is_none());
    if resources.iter().all(is_right) {
        return Ok(resources);
    }
    Err("must be absolute URIs like \"https://api.example.com\", without a fragment".to_owned())
}
