//! `oauth2-jwt-bearer`: a signed statement is the grant (RFC 7523 §2.1), as service accounts of Google
//! and connected apps of Salesforce use it.

use url::Url;

use super::{
    super::{Credentials, net, reader::Reader, shape::Parser, values},
    assertion, client_auth,
    kind::CredentialKind,
    oauth2::{self, Grant, Service},
    provider::Provider,
};
use crate::{
    secret::{RotatingSecret, Which},
    token::endpoint::{
        Assertion, Audience, FormValue, KeySource, Location, ServiceAccount, Signer, Subject,
        Validity,
    },
};

pub(super) static KIND: CredentialKind = CredentialKind {
    name: "oauth2-jwt-bearer",
    help: "an account that signs, as service accounts of Google and connected apps of Salesforce do",
    keys: &[&oauth2::KEYS, &[OWN]],
    variables: &[],
    fields: &["assertion"],
    read,
};

const OWN: &[&str] = &[
    "auth.service_account",
    "auth.service_account_file",
    "auth.service_account_next_file",
    "auth.assertion_issuer",
    "auth.assertion_subject",
];

const SERVICE_ACCOUNT: &str = "auth.service_account";

fn read(reader: &mut Reader, provider: Option<&'static Provider>) -> Option<Credentials> {
    let account = reader.service_account(
        SERVICE_ACCOUNT,
        provider.is_some_and(|one| one.has_key_files),
    );
    let named = account.as_ref().and_then(account_of);
    let of_file = named.as_ref().and_then(|account| account.token_uri.clone());
    let service = match of_file {
        Some(uri) if !oauth2::is_located(reader) => endpoint_of(reader, &uri),
        _ => oauth2::service(reader, provider),
    };
    let issuer = reader.optional("auth.assertion_issuer", values::text);
    let subject = reader.optional("auth.assertion_subject", values::text);
    let audience = assertion::audience(reader);
    let mut grant = Grant {
        keys: client_auth::ASSERTION,
        default_method: "none",
        names_client: true,
        ..Grant::of("urn:ietf:params:oauth:grant-type:jwt-bearer")
    };
    let is_file = account.is_some() || is_account_given(reader);
    let (signer, issuer, subject) = if is_file {
        let is_subject = named.is_some_and(|account| account.is_subject);
        let of_account = if is_subject {
            Subject::Issuer
        } else {
            Subject::Unsaid
        };
        reject_second_key(reader);
        // The file names account and key, each time that it is read.
        let signer = account.map(|secret| Signer::of(KeySource::ServiceAccount(secret)));
        (signer, issuer, subject.map_or(of_account, Subject::Named))
    } else {
        let client = reader.find("auth.client_id");
        let client = client.and_then(|found| values::text.parse(&found.value).ok());
        let issuer = issuer.or(client);
        if issuer.is_none() {
            reader.missing("auth.assertion_issuer", &["auth.client_id"]);
        }
        let subject = subject.map_or(Subject::Issuer, Subject::Named);
        let signer = assertion::signer(reader, provider);
        issuer.as_ref()?;
        (signer, issuer, subject)
    };
    let audience = audience.or_else(|| provider?.assertion_audience(reader));
    let scopes = reader.value("auth.scopes", values::scopes);
    let in_claims = is_file && !matches!(subject, Subject::Issuer) && !scopes.is_empty();
    grant.has_scope = !in_claims;
    let assertion = Assertion {
        issuer,
        subject,
        audience: audience.map_or(Audience::TokenEndpoint, Audience::Named),
        scope: in_claims.then(|| scopes.join(" ")),
        signer: signer?,
        validity: Validity::default(),
    };
    assertion::try_out(reader, &assertion)?;
    let assertion = FormValue::Assertion(assertion);
    grant.form.push(("assertion".to_owned(), assertion));
    oauth2::read(reader, &KIND, provider, service, grant).map(Credentials::Endpoint)
}

fn is_account_given(reader: &mut Reader) -> bool {
    OWN.iter().take(2).any(|key| reader.find(key).is_some())
}

/// Notes the keys of a key that signs beside the key file, unless the client proves itself by it.
fn reject_second_key(reader: &mut Reader) {
    let method = reader.find("auth.client_auth");
    if method.is_some_and(|found| found.value.as_str() == Some("private_key_jwt")) {
        return;
    }
    for key in client_auth::SIGNER {
        if reader.find(key).is_some() {
            reader.wrong(key, "is said by auth.service_account_file, too; remove one");
        }
    }
}

fn account_of(secret: &RotatingSecret) -> Option<ServiceAccount> {
    ServiceAccount::parse(&secret.read(Which::Current).ok()?).ok()
}

/// The token endpoint that the key file names.
fn endpoint_of(reader: &mut Reader, uri: &str) -> Service {
    let parsed: Option<Url> = net::token_url(false)(&uri.into()).ok();
    if parsed.is_none() {
        let text = "has a token_uri that is no https:// URL";
        reader.wrong("auth.service_account_file", text);
    }
    Service {
        location: parsed.map(Location::Url),
    }
}
