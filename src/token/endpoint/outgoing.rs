//! What is sent: the fields and the body of a token request, with the secrets as they are now.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use url::{
    Url,
    form_urlencoded::{Serializer, byte_serialize},
};

use super::{
    assertion::{self, Assertion, AssertionError},
    echo::Secrets,
    request::{BasicEncoding, ClientAuth, FormValue, TokenRequest},
};
use crate::{
    secret::{RotatingSecret, Which, wiped, wiped_field},
    token::{FetchError, Reason},
};

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

/// A token request as it is sent.
pub(super) struct Outgoing {
    pub(super) fields: HeaderMap,
    pub(super) body: Bytes,
    /// The secrets that are in it, as they are sent: no response may give them back.
    pub(super) secrets: Secrets,
}

impl TokenRequest {
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

    /// Reads the secrets and puts them where they belong.
    pub(super) fn build(&self, occasion: &Occasion<'_>) -> Result<Outgoing, FetchError> {
        let which = occasion.which;
        let mut secrets = Secrets::default();
        let mut form = Vec::with_capacity(self.form.len() + 3);
        for (name, value) in &self.form {
            let value = match value {
                FormValue::Plain(value) => SecretString::from(value.as_str()),
                FormValue::Secret(named) => secrets.noted(read(&named.secret, which, named.key)?),
                FormValue::Assertion(assertion) => secrets.noted(sign(assertion, occasion)?),
                FormValue::RefreshToken(file) => secrets.noted(match occasion.refresh_token {
                    Some(token) => token.clone(),
                    None => read(&file.secret().into(), which, REFRESH_TOKEN)?,
                }),
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
                let secret = secrets.noted(read(client_secret, which, CLIENT_SECRET)?);
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
                let secret = secrets.noted(read(client_secret, which, CLIENT_SECRET)?);
                form.push(("client_secret", secret));
            }
            ClientAuth::PrivateKeyJwt {
                client_id,
                assertion,
            } => {
                let signed = secrets.noted(sign(assertion, occasion)?);
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
                let assertion = secrets.noted(assertion);
                form.push(("client_assertion", assertion));
            }
            ClientAuth::TlsClientAuth { client_id } | ClientAuth::Public { client_id } => {
                form.push(("client_id", plain(client_id)));
            }
            ClientAuth::Bearer(assertion) => {
                let signed = secrets.noted(sign(assertion, occasion)?);
                fields.insert(AUTHORIZATION, bearer(&signed)?);
            }
        }
        let body = if self.protocol.has_form {
            body(&form)
        } else {
            Bytes::new()
        };
        Ok(Outgoing {
            fields,
            body,
            secrets,
        })
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
