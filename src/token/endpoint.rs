//! One OAuth 2.0 token request and its answer (RFC 6749 §4.4, §5). It has never heard of a vendor.

pub mod answer;
mod assertion;
mod client;
mod description;
mod encoding;

use std::{fmt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use url::{
    Url,
    form_urlencoded::{Serializer, byte_serialize},
};

pub(super) use self::client::Caller;
pub(crate) use self::client::PROXY_REFUSES;
pub use self::{
    assertion::{Algorithm, AssertionError, ClientAssertion},
    client::EndpointSettings,
};
use super::{FetchError, Reason, TokenResponse, TokenSource};
use crate::{
    outbound::UnusableRoute,
    secret::{Fingerprint, RotatingSecret, Which, changed, warn_of_quotes, wiped, wiped_field},
};

/// What to send, and where. Secrets are read when it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRequest {
    /// The token endpoint.
    pub url: Url,
    /// How the client authenticates itself.
    pub client_auth: ClientAuth,
    /// The fields of the form, in their order.
    pub form: Vec<(String, FormValue)>,
    /// Where the end of the credential itself can be asked for.
    pub details_url: Option<Url>,
    /// A `token_type` besides bearer whose tokens are used as bearer tokens.
    pub token_type: Option<String>,
}

/// Client authentication (RFC 6749 §2.3), by its registered name (OIDC Core §9).
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuth {
    /// None: what the form holds is the credential.
    None,
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
    PrivateKeyJwt(ClientAssertion),
    /// `tls_client_auth` (RFC 8705 §2): the connection's certificate says who asks.
    TlsClientAuth {
        /// The client's identifier.
        client_id: String,
    },
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
    Secret(RotatingSecret),
}

/// A token endpoint that can be asked again and again.
#[derive(Debug)]
pub struct TokenEndpoint {
    caller: Caller,
    request: TokenRequest,
    /// The files that the request is made of, and how they looked when it was last sent.
    files: Vec<PathBuf>,
    seen: Fingerprint,
    /// Which of two overlapping secrets was accepted last.
    accepted: Which,
    /// How many calls the last attempt took.
    calls: u32,
    /// The status of the last response of that attempt.
    status: Option<StatusCode>,
}

impl TokenEndpoint {
    /// Sets up the client; sends nothing.
    ///
    /// # Errors
    /// When the trust store or the client certificate cannot be loaded.
    pub fn new(request: TokenRequest, settings: &EndpointSettings) -> Result<Self, UnusableRoute> {
        let files = request.secrets().flat_map(RotatingSecret::files).cloned();
        Ok(Self {
            caller: Caller::new(&request.url, settings)?,
            files: files.collect(),
            seen: Fingerprint::default(),
            request,
            accepted: Which::Current,
            calls: 0,
            status: None,
        })
    }

    async fn ask(&mut self, which: Which) -> Result<TokenResponse, FetchError> {
        self.status = None;
        let (fields, body) = self.build(which)?;
        let response = self.caller.post(fields, body).await?;
        self.status = Some(response.status);
        let accepted = self.request.token_type.as_deref();
        let read = answer::read_typed(response.status, &response.fields, &response.body, accepted);
        read.map_err(|mut error| {
            self.hide_secrets(&mut error);
            error
        })
    }

    /// Takes the service's own words out of an error if they hold one of the secrets that were sent.
    #[expect(
        clippy::disallowed_methods,
        reason = "the secret is looked for where it must not be"
    )]
    fn hide_secrets(&self, error: &mut FetchError) {
        let Some(refusal) = &mut error.refusal else {
            return;
        };
        let told = refusal.description.as_deref().unwrap_or_default();
        let is_told = self.request.secrets().any(|secret| {
            let both = [Which::Current, Which::Next];
            let mut read = both.iter().filter_map(|which| secret.read(*which).ok());
            read.any(|secret| told.contains(secret.expose_secret()))
        });
        if is_told {
            refusal.description = None;
        }
    }

    fn build(&self, which: Which) -> Result<(HeaderMap, Bytes), FetchError> {
        let mut form = Vec::with_capacity(self.request.form.len() + 3);
        for (name, value) in &self.request.form {
            let value = match value {
                FormValue::Plain(value) => SecretString::from(value.as_str()),
                FormValue::Secret(secret) => read(secret, which, "auth.api_token")?,
            };
            form.push((name.as_str(), value));
        }
        let mut fields = HeaderMap::new();
        for (name, value) in [
            (CONTENT_TYPE, "application/x-www-form-urlencoded"),
            (ACCEPT, "application/json"),
            (ACCEPT_ENCODING, "identity"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
        match &self.request.client_auth {
            ClientAuth::None => {}
            ClientAuth::Basic {
                client_id,
                client_secret,
                encoding,
            } => {
                let secret = read(client_secret, which, CLIENT_SECRET)?;
                let credentials = basic(client_id, &secret, *encoding)?;
                fields.insert(AUTHORIZATION, credentials);
            }
            ClientAuth::Post {
                client_id,
                client_secret,
            } => {
                form.push(("client_id", SecretString::from(client_id.as_str())));
                form.push(("client_secret", read(client_secret, which, CLIENT_SECRET)?));
            }
            ClientAuth::PrivateKeyJwt(assertion) => {
                let signed = assertion.sign(which).map_err(|e| unsigned(&e, which))?;
                let client_id = assertion.client_id.as_str();
                form.push(("client_id", SecretString::from(client_id)));
                form.push(("client_assertion_type", SecretString::from(assertion::TYPE)));
                form.push(("client_assertion", signed));
            }
            ClientAuth::TlsClientAuth { client_id } => {
                form.push(("client_id", SecretString::from(client_id.as_str())));
            }
        }
        Ok((fields, body(&form)))
    }
}

impl TokenRequest {
    /// Where the end of the API token that it sends can be asked for, if it sends one.
    #[must_use]
    pub fn api_token(&self) -> Option<(Url, &RotatingSecret)> {
        let url = self.details_url.clone()?;
        Some((url, self.secrets().next()?))
    }

    fn secrets(&self) -> impl Iterator<Item = &RotatingSecret> {
        let in_form = self.form.iter().filter_map(|(_, value)| match value {
            FormValue::Plain(_) => None,
            FormValue::Secret(secret) => Some(secret),
        });
        let of_client = match &self.client_auth {
            ClientAuth::None | ClientAuth::TlsClientAuth { .. } => None,
            ClientAuth::Basic { client_secret, .. } | ClientAuth::Post { client_secret, .. } => {
                Some(client_secret)
            }
            ClientAuth::PrivateKeyJwt(assertion) => Some(&assertion.private_key),
        };
        in_form.chain(of_client)
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        // Looked at before they are read: what changes in between is seen as a change.
        let now = Fingerprint::of(&self.files);
        if self.calls > 0 && now != self.seen {
            warn_of_quotes(&self.files);
        }
        self.seen = now;
        self.calls = 1;
        let first = self.accepted;
        let result = self.ask(first).await;
        let has_other = self.request.secrets().any(|one| one.next_file.is_some());
        match result {
            Err(error) if has_other && may_be_the_secret(&error) => {
                self.calls = 2;
                let second = self.ask(first.other()).await;
                match second {
                    Ok(_) => self.accepted = first.other(),
                    // A next secret that is not there yet says nothing of the present one.
                    Err(_) => return Err(error),
                }
                second
            }
            result => result,
        }
    }

    fn calls(&self) -> u32 {
        self.calls
    }

    fn status(&self) -> Option<StatusCode> {
        self.status
    }

    async fn changed(&mut self) {
        tokio::select! {
            () = changed(&self.files, &self.seen) => {}
            () = self.caller.renewed() => {}
        }
    }
}

/// Whether another secret could help. A 401 without a word may come from the service as well as
/// from something in between, and to ask once more costs little.
fn may_be_the_secret(error: &FetchError) -> bool {
    matches!(
        error.reason,
        Reason::InvalidClient | Reason::SecretUnreadable
    ) || error.detail.starts_with("status 401")
}

/// The key of a client secret, which `_file` or `_next_file` may follow.
const CLIENT_SECRET: &str = "auth.client_secret";

fn read(secret: &RotatingSecret, which: Which, key: &str) -> Result<SecretString, FetchError> {
    secret.read(which).map_err(|e| unreadable(&e, which, key))
}

/// A credential that cannot be read: names the key of its file, and the file.
fn unreadable(error: &impl fmt::Display, which: Which, key: &str) -> FetchError {
    let of_file = match which {
        Which::Current => "_file",
        Which::Next => "_next_file",
    };
    FetchError::new(Reason::SecretUnreadable, format!("{key}{of_file}: {error}"))
}

/// An assertion that cannot be made.
fn unsigned(error: &AssertionError, which: Which) -> FetchError {
    match error {
        AssertionError::Secret(error) => unreadable(error, which, "auth.private_key"),
        AssertionError::NoKey => unreadable(error, which, "auth.private_key"),
        AssertionError::Unfit(_) | AssertionError::CannotSign => {
            FetchError::new(Reason::InvalidClient, error.to_string())
        }
    }
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
