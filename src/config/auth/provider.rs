//! Services that are known by name (`auth.provider`): one table of where their token endpoints are, what
//! they are used with, what they ask for, and what their errors mean.

use std::borrow::Cow;

use figment::value::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use super::{
    super::{net, problem::Problem, reader::Reader, shape::Parser, values},
    client_credentials, csp_api_token, csp_oauth_app, github_app, jwt_bearer,
    kind::{CredentialKind, Keys},
    refresh_token, token_exchange,
};
use crate::token::{FetchError, Reason, endpoint::Algorithm};

mod table;

pub(in crate::config) use self::table::PROVIDERS;

/// A service that is known by name.
#[derive(Debug)]
pub struct Provider {
    /// The name, as `auth.provider` has it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// The kinds of credentials that it takes, the usual one first.
    pub(super) kinds: &'static [&'static CredentialKind],
    /// Where its token endpoint is.
    pub(super) endpoint: Endpoint,
    /// How clients usually authenticate themselves, where that is not the grant's own way.
    pub(super) client_auth: Option<&'static str>,
    /// The keys that a token request of it needs, with the reason.
    pub(super) needs: &'static [Need],
    /// Whether its accounts come as JSON key files.
    pub(super) has_key_files: bool,
    /// Whether a resource is named as the scope `RESOURCE/.default`.
    pub(super) resource_is_scope: bool,
    /// How assertions are signed whose key is known by a certificate.
    pub(super) certificate_algorithm: Option<Algorithm>,
    /// Whom an assertion that is a grant is for, by the domain, where it is not the token endpoint.
    pub(super) audience: Option<fn(&str) -> String>,
    /// What its error codes mean: a code, a word of the description if that matters, and the advice.
    pub(super) advice: &'static [Advice],
}

/// What an error of a provider means.
#[derive(Debug)]
pub(super) struct Advice {
    /// The code.
    pub(super) code: &'static str,
    /// What the description has in it; empty where it does not matter.
    pub(super) word: &'static str,
    /// What to do.
    pub(super) text: &'static str,
}

/// Where a token endpoint is.
#[derive(Debug)]
pub(super) enum Endpoint {
    /// Where another key says.
    None,
    /// Where a preset of VMware Cloud Services says.
    Preset(&'static str),
    /// At that URL, with the values of keys in the places of their names.
    Template {
        url: &'static str,
        /// The values of keys that need not be given.
        defaults: &'static [(&'static str, &'static str)],
        /// Another URL where a key has that value.
        special: Option<(&'static str, &'static str, &'static str)>,
    },
}

/// What a token request needs.
#[derive(Debug)]
pub(super) struct Need {
    /// One of these keys.
    pub(super) keys: Keys,
    /// The field of the token request that will do in `auth.endpoint_params` too.
    pub(super) field: &'static str,
    /// Why.
    pub(super) why: &'static str,
}

/// The keys that stand for a place in the URL of a token endpoint.
pub(super) const PLACES: Keys = &[
    "auth.tenant",
    "auth.realm",
    "auth.domain",
    "auth.authorization_server",
    "auth.base_url",
];

/// What may stand in a segment of a path as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Provider {
    /// The usual kind of credentials.
    pub(super) fn kind(&self) -> Option<&'static CredentialKind> {
        self.kinds.first().copied()
    }

    /// What an error of the service means, by its code and its words.
    fn advice(&self, code: &str, description: &str) -> Option<&'static str> {
        let mut advice = self.advice.iter();
        let found = advice.find(|one| one.code == code && description.contains(one.word));
        found.map(|one| one.text)
    }

    /// Whom an assertion is for that is a grant.
    pub(super) fn assertion_audience(&self, reader: &mut Reader) -> Option<String> {
        let domain = reader.find("auth.domain");
        let domain = domain.and_then(|found| values::text(&found.value).ok());
        Some(self.audience?(&domain.unwrap_or_default()))
    }

    /// The token endpoint. `None` with a problem noted, or where another key says it.
    pub(super) fn token_url(&self, reader: &mut Reader, insecure: bool) -> Option<Url> {
        let Endpoint::Template {
            url,
            defaults,
            special,
        } = &self.endpoint
        else {
            return None;
        };
        let mut template = *url;
        if let Some((key, value, other)) = special
            && reader
                .find(key)
                .is_some_and(|found| found.value.as_str() == Some(value))
        {
            template = other;
        }
        let mut filled = template.to_owned();
        let mut is_whole = true;
        for key in PLACES {
            let name = format!("{{{}}}", key.trim_start_matches("auth."));
            if !template.contains(&name) {
                continue;
            }
            let default = defaults.iter().find(|(one, _)| one == key);
            match place(reader, key, default.map(|(_, value)| *value), insecure) {
                Some(value) => filled = filled.replace(&name, &value),
                None => is_whole = false,
            }
        }
        let url = net::token_url(insecure)(&Value::from(filled)).ok();
        if is_whole && url.is_none() {
            reader.wrong(
                "auth.provider",
                "cannot make a URL of a token endpoint of its keys",
            );
        }
        url.filter(|_| is_whole)
    }

    /// Whether a key is a place of the endpoint.
    fn takes(&self, key: &str) -> bool {
        let place = format!("{{{}}}", key.trim_start_matches("auth."));
        match &self.endpoint {
            Endpoint::Template { url, .. } => url.contains(&place),
            Endpoint::Preset(_) => key == "auth.base_url",
            Endpoint::None => false,
        }
    }

    /// Notes what a token request lacks.
    pub(super) fn require(&self, reader: &mut Reader, given: &[(String, String)]) {
        for need in self.needs {
            let is_set = need.keys.iter().any(|key| {
                let found = reader.find(key);
                found.is_some_and(|found| !reader.is_default(key, &found))
            });
            let is_given = given.iter().any(|(name, _)| name == need.field);
            if !is_set && !is_given {
                let key = need.keys.first().copied().unwrap_or_default();
                let ways = need.keys.join(" or ");
                let text = format!("missing; set {ways}: {}", need.why);
                reader.problems.push(Problem::missing(key, text));
            }
        }
    }
}

/// The value of a place, fit for a URL.
fn place(
    reader: &mut Reader,
    key: &str,
    default: Option<&str>,
    insecure: bool,
) -> Option<Cow<'static, str>> {
    if let (None, Some(default)) = (reader.find(key), default) {
        return Some(default.to_owned().into());
    }
    if reader.find(key).is_none() {
        let ways = ["auth.token_url"];
        reader.missing(key, &ways);
        return None;
    }
    match key {
        "auth.base_url" => {
            let url = reader.required(key, &[], net::base_url(insecure))?;
            Some(url.as_str().trim_end_matches('/').to_owned().into())
        }
        "auth.domain" => {
            let domain = reader.required(key, &[], domain)?;
            Some(domain.into())
        }
        _ => {
            let text = reader.required(key, &[], segment)?;
            let encoded = utf8_percent_encode(&text, SEGMENT).to_string();
            Some(encoded.into())
        }
    }
}

/// What an error means to the provider that is named; or to Microsoft's, whose codes nobody else has.
#[must_use]
pub fn advice(provider: Option<&Provider>, error: &FetchError) -> Option<&'static str> {
    if error.reason == Reason::RateLimited {
        return None;
    }
    let code = error.detail.split_once("code AADSTS").map(|(_, rest)| rest);
    let code = code.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    if let Some(digits) = code.flatten() {
        let entra = PROVIDERS.iter().find(|one| one.name == "entra")?;
        return entra.advice(&format!("AADSTS{digits}"), "");
    }
    let refusal = error.refusal.as_ref()?;
    let description = refusal.description.as_deref().unwrap_or_default();
    provider?.advice(&refusal.code, description)
}

/// A segment of a path, before it is encoded: a dot or two would be no name, but another place.
fn segment(value: &Value) -> Result<String, String> {
    let text = values::text.parse(value)?;
    let is_name = text != "." && text != "..";
    is_name
        .then_some(text)
        .ok_or_else(|| "must be the name that the service shows".to_owned())
}

/// A name of a host, with a port or without.
fn domain(value: &Value) -> Result<String, String> {
    let text = values::text.parse(value)?;
    let url = Url::parse(&format!("https://{text}/")).ok();
    let is_host = |url: Url| {
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        is_bare && url.has_host() && !net::has_user(&url)
    };
    let is_right = !text.contains(['/', '\\', '@', '?', '#', ' ']) && url.is_some_and(is_host);
    is_right.then_some(text).ok_or_else(|| {
        "must be the name of a host, like \"example.auth.example.com\", without https://".to_owned()
    })
}

/// Reads which provider it is, if one is named.
pub(super) fn read(reader: &mut Reader) -> Option<&'static Provider> {
    let names: Vec<_> = PROVIDERS.iter().map(|one| (one.name, one)).collect();
    reader.optional("auth.provider", values::one_of(&names))
}

/// Notes a kind of credentials that the provider does not take, and the places that it does not have.
pub(super) fn reject_foreign(
    reader: &mut Reader,
    provider: Option<&Provider>,
    kind: &CredentialKind,
) {
    let Some(provider) = provider else {
        // The other kinds have a base of their own.
        for key in PLACES.iter().filter(|_| kind.takes("auth.tenant")) {
            if let Some(found) = reader.find(key) {
                let owners = PROVIDERS.iter().filter(|one| one.takes(key));
                let owners: Vec<&str> = owners.map(|one| one.name).collect();
                let owners = owners.join(", ");
                let text = format!("is only for auth.provider {owners}, and none is named");
                reader.problems.push(Problem::new(key, found.source, text));
            }
        }
        return;
    };
    if !provider.kinds.iter().any(|one| one.name == kind.name) {
        let kinds: Vec<&str> = provider.kinds.iter().map(|kind| kind.name).collect();
        let (name, kinds) = (provider.name, kinds.join(" or "));
        let text = format!(
            "is {name}, which takes auth.type {kinds}, and that is {}",
            kind.name
        );
        reader.wrong("auth.provider", text);
        return;
    }
    for key in PLACES {
        let found = reader.find(key);
        let is_own =
            provider.takes(key) || kind.name == github_app::KIND.name && *key == "auth.base_url";
        if let Some(found) = found.filter(|_| !is_own && kind.takes(key)) {
            let text = format!(
                "is nothing that auth.provider {} needs; remove it",
                provider.name
            );
            reader.problems.push(Problem::new(key, found.source, text));
        }
    }
}

/// The kinds of credentials, for the table.
const CLIENT: &CredentialKind = &client_credentials::KIND;
const EXCHANGE: &CredentialKind = &token_exchange::KIND;
const BEARER: &CredentialKind = &jwt_bearer::KIND;
const REFRESH: &CredentialKind = &refresh_token::KIND;
const GITHUB: &CredentialKind = &github_app::KIND;
const CSP_APP: &CredentialKind = &csp_oauth_app::KIND;
const CSP_TOKEN: &CredentialKind = &csp_api_token::KIND;

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
