//! What a token request is made of, as a configuration describes it: whom it goes to, who asks, and for
//! what. Secrets are read when it is sent.

use std::{fmt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use url::{
    Url,
    form_urlencoded::{Serializer, byte_serialize},
};

use super::{
    answer::{Expected, Granted, read_expected},
    assertion::{self, Assertion, AssertionError},
    client::CallResponse,
    discovery::Issuer,
};
use crate::{
    secret::{RotatingSecret, Which, wiped, wiped_field},
    token::{FetchError, Reason, refresh_token::RefreshTokenFile},
};

/// What to send, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRequest {
    /// The token endpoint.
    pub endpoint: Location,
    /// How the client authenticates itself.
    pub client_auth: ClientAuth,
    /// The fields of the form, in their order.
    pub form: Vec<(String, FormValue)>,
    /// Where the end of the credential itself can be asked for.
    pub details_url: Option<Url>,
    /// What the response may hold.
    pub expected: Expected,
    /// How the service is spoken to.
    pub protocol: &'static Protocol,
}

/// Where the token endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// At that URL.
    Url(Url),
    /// Where the issuer says.
    Issuer(Issuer),
}

/// Client authentication (RFC 6749 §2.3), by its registered name (OIDC Core §9).
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuth {
    /// None: what the form holds is the credential.
    None,
    /// `none`: the client says who it is, and proves nothing.
    Public {
        /// The client's identifier.
        client_id: String,
    },
    /// `client_secret_basic`.
    Basic {
        /// The client's identifier.
        client_id: String,
        /// Its secret.
        client_secret: RotatingSecret,
        /// How the two are joined.
        encoding: BasicEncoding,
    },
    /// `client_secret_post`.
    Post {
        /// The client's identifier.
        client_id: String,
        /// Its secret.
        client_secret: RotatingSecret,
    },
    /// `private_key_jwt`.
    PrivateKeyJwt {
        /// The client's identifier.
        client_id: String,
        /// What it signs.
        assertion: Assertion,
    },
    /// An assertion that somebody else has made and keeps in a file (RFC 7523 §2.2).
    ClientAssertion {
        /// The client's identifier, where the service wants it beside the assertion.
        client_id: Option<String>,
        /// The assertion.
        assertion: RotatingSecret,
    },
    /// `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 §2): the connection's certificate
    /// says who asks.
    TlsClientAuth {
        /// The client's identifier.
        client_id: String,
    },
    /// An assertion as a bearer token.
    Bearer(Assertion),
}

impl ClientAuth {
    /// The name that metadata list it by (RFC 8414 §2), where it has one.
    #[must_use]
    pub fn registered_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Public { .. } => "none",
            Self::Basic { .. } => "client_secret_basic",
            Self::Post { .. } => "client_secret_post",
            Self::PrivateKeyJwt { .. } => "private_key_jwt",
            // Of a certificate, two names say how it is known; of the others, none says anything.
            Self::None
            | Self::ClientAssertion { .. }
            | Self::TlsClientAuth { .. }
            | Self::Bearer(_) => return None,
        })
    }
}

/// How identifier and secret become HTTP Basic credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicEncoding {
    /// Joined as they are, as all clients of VMware Cloud Services do.
    Plain,
    /// Each form-urlencoded first (RFC 6749 §2.3.1).
    FormUrlencoded,
}

/// The value of a form field.
#[derive(Clone, Debug, PartialEq)]
pub enum FormValue {
    /// Anybody may see it.
    Plain(String),
    /// Read when it is sent.
    Secret(NamedSecret),
    /// Signed when it is sent.
    Assertion(Assertion),
    /// Read when it is sent, and replaced when the service says so.
    RefreshToken(RefreshTokenFile),
}

/// A secret, and the key of the configuration that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSecret {
    /// The key, which `_file` or `_next_file` may follow.
    pub key: &'static str,
    /// The secret.
    pub secret: RotatingSecret,
}

/// How a service is spoken to, where that is not as RFC 6749 has it.
#[derive(Debug)]
pub struct Protocol {
    /// The name of the protocol.
    pub name: &'static str,
    /// The fields of its requests.
    pub fields: &'static [(&'static str, &'static str)],
    /// Whether a request has a form.
    pub has_form: bool,
    /// Reads what it answers.
    pub(in crate::token) read: fn(&CallResponse, &Expected) -> Result<Granted, FetchError>,
}

/// RFC 6749 §5.
pub static OAUTH2: Protocol = Protocol {
    name: "OAuth 2.0",
    fields: &[
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
    ],
    has_form: true,
    read: |response, expected| {
        read_expected(response.status, &response.fields, &response.body, expected)
    },
};

impl PartialEq for Protocol {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What differs from one sending of a request to the next.
pub(super) struct Occasion<'a> {
    /// Which of two overlapping secrets.
    pub(super) which: Which,
    /// The token endpoint, as it is known now.
    pub(super) url: &'a Url,
    /// The refresh token, where the request has one.
    pub(super) refresh_token: Option<&'a SecretString>,
    /// By how many seconds the service's clock is ahead of ours.
    pub(super) ahead: i64,
    /// Whether HTTP Basic credentials are spelled the other way.
    pub(super) other_spelling: bool,
}

impl TokenRequest {
    /// A request of OAuth 2.0, of which nothing is said but whom it goes to and who asks.
    #[must_use]
    pub fn new(
        endpoint: Location,
        client_auth: ClientAuth,
        form: Vec<(String, FormValue)>,
    ) -> Self {
        Self {
            endpoint,
            client_auth,
            form,
            details_url: None,
            expected: Expected::default(),
            protocol: &OAUTH2,
        }
    }

    /// The URL that the configuration names: of the token endpoint, or of its issuer.
    #[must_use]
    pub fn url(&self) -> &Url {
        match &self.endpoint {
            Location::Url(url) => url,
            Location::Issuer(issuer) => issuer.url(),
        }
    }

    /// Where the end of the API token that it sends can be asked for, if it sends one.
    #[must_use]
    pub fn api_token(&self) -> Option<(Url, RotatingSecret)> {
        let url = self.details_url.clone()?;
        Some((url, self.secrets().into_iter().next()?))
    }

    /// The `grant_type`, where there is one.
    #[must_use]
    pub fn grant_type(&self) -> Option<&str> {
        let (_, value) = self.form.iter().find(|(name, _)| name == "grant_type")?;
        match value {
            FormValue::Plain(grant) => Some(grant),
            _ => None,
        }
    }

    /// The file of the refresh token that it sends, if it sends one.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&RefreshTokenFile> {
        self.form.iter().find_map(|(_, value)| match value {
            FormValue::RefreshToken(file) => Some(file),
            _ => None,
        })
    }

    /// Whether its HTTP Basic credentials are other text in the form that RFC 6749 §2.3.1 has and in
    /// the one that some servers read.
    #[expect(
        clippy::disallowed_methods,
        reason = "only its kinds of characters are looked at"
    )]
    pub(super) fn has_two_spellings(&self, which: Which) -> bool {
        let ClientAuth::Basic {
            client_id,
            client_secret,
            encoding: BasicEncoding::FormUrlencoded,
        } = &self.client_auth
        else {
            return false;
        };
        // What `byte_serialize` leaves as it is.
        let stays = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
        let differs = |text: &str| !text.bytes().all(stays);
        // A colon would end the identifier.
        !client_id.contains(':')
            && (differs(client_id)
                || client_secret
                    .read(which)
                    .is_ok_and(|secret| differs(secret.expose_secret())))
    }

    /// Whether something in it is signed, and so dated, when it is sent.
    pub(super) fn has_assertion(&self) -> bool {
        self.assertions().next().is_some()
    }

    /// Whether the connection's certificate says who asks.
    #[must_use]
    pub fn is_by_certificate(&self) -> bool {
        matches!(self.client_auth, ClientAuth::TlsClientAuth { .. })
    }

    /// The secrets that it is made of.
    pub(super) fn secrets(&self) -> Vec<RotatingSecret> {
        let in_form = self.form.iter().filter_map(|(_, value)| match value {
            FormValue::Plain(_) => None,
            FormValue::Secret(named) => Some(named.secret.clone()),
            FormValue::Assertion(assertion) => Some(assertion.signer.secret().clone()),
            FormValue::RefreshToken(file) => Some(file.secret().into()),
        });
        let of_client = match &self.client_auth {
            ClientAuth::None | ClientAuth::Public { .. } | ClientAuth::TlsClientAuth { .. } => None,
            ClientAuth::Basic { client_secret, .. } | ClientAuth::Post { client_secret, .. } => {
                Some(client_secret.clone())
            }
            ClientAuth::PrivateKeyJwt { assertion, .. } | ClientAuth::Bearer(assertion) => {
                Some(assertion.signer.secret().clone())
            }
            ClientAuth::ClientAssertion { assertion, .. } => Some(assertion.clone()),
        };
        in_form.chain(of_client).collect()
    }

    /// The files that it is made of.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let secrets = self.secrets();
        let secrets = secrets.iter().flat_map(RotatingSecret::files).cloned();
        let mut files: Vec<PathBuf> = secrets.collect();
        for assertion in self.assertions() {
            files.extend(assertion.signer.files().cloned());
        }
        files.sort_unstable();
        files.dedup();
        files
    }

    fn assertions(&self) -> impl Iterator<Item = &Assertion> {
        let in_form = self.form.iter().filter_map(|(_, value)| match value {
            FormValue::Assertion(assertion) => Some(assertion),
            _ => None,
        });
        let of_client = match &self.client_auth {
            ClientAuth::PrivateKeyJwt { assertion, .. } | ClientAuth::Bearer(assertion) => {
                Some(assertion)
            }
            _ => None,
        };
        in_form.chain(of_client)
    }

    /// The head's fields and the body.
    pub(super) fn build(&self, occasion: &Occasion<'_>) -> Result<(HeaderMap, Bytes), FetchError> {
        let which = occasion.which;
        let mut form = Vec::with_capacity(self.form.len() + 3);
        for (name, value) in &self.form {
            let value = match value {
                FormValue::Plain(value) => SecretString::from(value.as_str()),
                FormValue::Secret(named) => read(&named.secret, which, named.key)?,
                FormValue::Assertion(assertion) => sign(assertion, occasion)?,
                FormValue::RefreshToken(file) => match occasion.refresh_token {
                    Some(token) => token.clone(),
                    None => read(&file.secret().into(), which, REFRESH_TOKEN)?,
                },
            };
            form.push((name.as_str(), value));
        }
        let mut fields = HeaderMap::new();
        for (name, value) in self.protocol.fields {
            fields.insert(*name, HeaderValue::from_static(value));
        }
        let plain = |value: &str| SecretString::from(value);
        match &self.client_auth {
            ClientAuth::None => {}
            ClientAuth::Basic {
                client_id,
                client_secret,
                encoding,
            } => {
                let secret = read(client_secret, which, CLIENT_SECRET)?;
                let encoding = if occasion.other_spelling {
                    BasicEncoding::Plain
                } else {
                    *encoding
                };
                let credentials = basic(client_id, &secret, encoding)?;
                fields.insert(AUTHORIZATION, credentials);
            }
            ClientAuth::Post {
                client_id,
                client_secret,
            } => {
                form.push(("client_id", plain(client_id)));
                form.push(("client_secret", read(client_secret, which, CLIENT_SECRET)?));
            }
            ClientAuth::PrivateKeyJwt {
                client_id,
                assertion,
            } => {
                let signed = sign(assertion, occasion)?;
                form.push(("client_id", plain(client_id)));
                form.push(("client_assertion_type", plain(assertion::TYPE)));
                form.push(("client_assertion", signed));
            }
            ClientAuth::ClientAssertion {
                client_id,
                assertion,
            } => {
                form.extend(client_id.iter().map(|id| ("client_id", plain(id))));
                form.push(("client_assertion_type", plain(assertion::TYPE)));
                let assertion = read(assertion, which, "auth.client_assertion")?;
                form.push(("client_assertion", assertion));
            }
            ClientAuth::TlsClientAuth { client_id } | ClientAuth::Public { client_id } => {
                form.push(("client_id", plain(client_id)));
            }
            ClientAuth::Bearer(assertion) => {
                fields.insert(AUTHORIZATION, bearer(&sign(assertion, occasion)?)?);
            }
        }
        let body = if self.protocol.has_form {
            body(&form)
        } else {
            Bytes::new()
        };
        Ok((fields, body))
    }
}

/// The key of a client secret, which `_file` or `_next_file` may follow.
const CLIENT_SECRET: &str = "auth.client_secret";

/// The same of a refresh token.
pub(super) const REFRESH_TOKEN: &str = "auth.refresh_token";

fn read(secret: &RotatingSecret, which: Which, key: &str) -> Result<SecretString, FetchError> {
    // What has no successor goes with either of two keys that have.
    let which = if secret.next_file.is_none() {
        Which::Current
    } else {
        which
    };
    secret.read(which).map_err(|e| unreadable(&e, which, key))
}

/// A credential that cannot be read: names the key of its file, and the file.
pub(super) fn unreadable(error: &impl fmt::Display, which: Which, key: &str) -> FetchError {
    let of_file = match which {
        Which::Current => "_file",
        Which::Next => "_next_file",
    };
    FetchError::new(Reason::SecretUnreadable, format!("{key}{of_file}: {error}"))
}

fn sign(assertion: &Assertion, occasion: &Occasion<'_>) -> Result<SecretString, FetchError> {
    let Occasion {
        which, url, ahead, ..
    } = occasion;
    let has_next = assertion.signer.secret().next_file.is_some();
    let which = if has_next { *which } else { Which::Current };
    let signed = assertion.sign(which, url.as_str(), *ahead);
    signed.map_err(|error| {
        let key = assertion.signer.key.name();
        match &error {
            AssertionError::Secret(_) | AssertionError::NoKey | AssertionError::NoAccount(_) => {
                unreadable(&error, which, key)
            }
            AssertionError::NoCertificate(_) => FetchError::new(
                Reason::SecretUnreadable,
                format!("auth.assertion_cert_file: {error}"),
            ),
            AssertionError::Unfit(_) | AssertionError::CannotSign => {
                FetchError::new(Reason::InvalidClient, error.to_string())
            }
        }
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the assertion is put into the request that proves who we are; the field is marked sensitive"
)]
fn bearer(assertion: &SecretString) -> Result<HeaderValue, FetchError> {
    let text = ["Bearer ", assertion.expose_secret()].concat();
    wiped_field(Zeroizing::new(text))
        .map_err(|_| FetchError::new(Reason::InvalidClient, "the assertion is no field value"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the credential is put into the request that proves who we are; the field is marked sensitive"
)]
fn basic(
    client_id: &str,
    client_secret: &SecretString,
    encoding: BasicEncoding,
) -> Result<HeaderValue, FetchError> {
    let secret = client_secret.expose_secret();
    // Each with room for all of it: what outgrows its room leaves a copy behind.
    let mut pair = Zeroizing::new(String::with_capacity(
        3 * (client_id.len() + secret.len()) + 1,
    ));
    match encoding {
        BasicEncoding::Plain => pair.extend([client_id, ":", secret]),
        BasicEncoding::FormUrlencoded => {
            pair.extend(byte_serialize(client_id.as_bytes()));
            pair.push(':');
            pair.extend(byte_serialize(secret.as_bytes()));
        }
    }
    let mut text = Zeroizing::new(String::with_capacity(2 * pair.len() + 16));
    text.push_str("Basic ");
    BASE64_STANDARD.encode_string(pair.as_bytes(), &mut text);
    wiped_field(text)
        .map_err(|_| FetchError::new(Reason::InvalidClient, "the credential is too long"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the form is serialised into the body of the token request"
)]
fn body(form: &[(&str, SecretString)]) -> Bytes {
    let room =
        |(name, value): &(&str, SecretString)| 3 * (name.len() + value.expose_secret().len()) + 2;
    let mut text = Zeroizing::new(String::with_capacity(form.iter().map(room).sum()));
    let mut pairs = Serializer::new(&mut *text);
    for (name, value) in form {
        pairs.append_pair(name, value.expose_secret());
    }
    wiped(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_plain_for_csp_and_encoded_for_the_rfc() {
        let secret = SecretString::from("p:w%ä");
        let text = |encoding| {
            let value = basic("a b", &secret, encoding).unwrap();
            assert!(value.is_sensitive());
            let encoded = value
                .to_str()
                .unwrap()
                .strip_prefix("Basic ")
                .unwrap()
                .to_owned();
            String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
        };
        assert_eq!(text(BasicEncoding::Plain), "a b:p:w%ä");
        assert_eq!(text(BasicEncoding::FormUrlencoded), "a+b:p%3Aw%25%C3%A4");
    }
}
