//! One OAuth 2.0 token request and its answer (RFC 6749 §4.4, §5). It has never heard of a vendor.

mod answer;

use std::{path::PathBuf, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderValue,
    header::{ACCEPT, AUTHORIZATION},
};
use reqwest::{Client, Response, redirect};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use url::Url;

use super::{FetchError, Reason, TokenResponse, TokenSource};
use crate::{
    secret::SecretSource,
    tls::{self, TlsError},
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
}

/// Client authentication (RFC 6749 §2.3).
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuth {
    /// None: what the form holds is the credential.
    None,
    /// `client_secret_basic`.
    Basic {
        /// The client's identifier.
        client_id: String,
        /// Its secret.
        client_secret: SecretSource,
        /// How the two are joined.
        encoding: BasicEncoding,
    },
    /// `client_secret_post`.
    Post {
        /// The client's identifier.
        client_id: String,
        /// Its secret.
        client_secret: SecretSource,
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
    Secret(SecretSource),
}

/// The bounds of a token call.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSettings {
    /// The time for everything, from the name lookup to the end of the body.
    pub request_timeout: Duration,
    /// The time for the connection, TLS included.
    pub connect_timeout: Duration,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// A larger answer is no token.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// A token endpoint that can be asked again and again.
#[derive(Debug)]
pub struct TokenEndpoint {
    client: Client,
    request: TokenRequest,
}

/// Why the client of the token service could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The trust store.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The library.
    #[error("cannot set up the client of the token service: {0}")]
    Client(#[from] reqwest::Error),
}

impl TokenEndpoint {
    /// Sets up the client; sends nothing.
    ///
    /// # Errors
    /// When the trust store cannot be loaded.
    pub fn new(request: TokenRequest, settings: &EndpointSettings) -> Result<Self, EndpointError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client_config(settings.ca_file.as_deref())?)
            .timeout(settings.request_timeout)
            .connect_timeout(settings.connect_timeout)
            // A redirect would carry the credential to a host that nobody configured.
            .redirect(redirect::Policy::none())
            // Calls are minutes apart: a kept connection would mostly be found dead.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .user_agent(concat!("auth-sidecar/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, request })
    }

    fn build(&self) -> Result<reqwest::RequestBuilder, FetchError> {
        let mut form = Vec::with_capacity(self.request.form.len() + 2);
        for (name, value) in &self.request.form {
            let value = match value {
                FormValue::Plain(value) => SecretString::from(value.as_str()),
                FormValue::Secret(source) => read(source)?,
            };
            form.push((name.as_str(), value));
        }
        let mut builder = self
            .client
            .post(self.request.url.clone())
            .header(ACCEPT, "application/json");
        match &self.request.client_auth {
            ClientAuth::None => {}
            ClientAuth::Basic {
                client_id,
                client_secret,
                encoding,
            } => {
                let credentials = basic(client_id, &read(client_secret)?, *encoding)?;
                builder = builder.header(AUTHORIZATION, credentials);
            }
            ClientAuth::Post {
                client_id,
                client_secret,
            } => {
                form.push(("client_id", SecretString::from(client_id.as_str())));
                form.push(("client_secret", read(client_secret)?));
            }
        }
        Ok(builder.form(&exposed(&form)))
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        let response = self.build()?.send().await.map_err(|e| transport(&e))?;
        let status = response.status();
        let retry_after = answer::retry_after(response.headers());
        let body = read_body(response).await?;
        if status.is_success() {
            answer::granted(&body)
        } else {
            Err(answer::refused(status, retry_after, &body))
        }
    }
}

async fn read_body(mut response: Response) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(&e))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(FetchError::new(
                Reason::BadResponse,
                "the answer is larger than 256 KiB",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read(source: &SecretSource) -> Result<SecretString, FetchError> {
    source
        .read()
        .map_err(|error| FetchError::new(Reason::InvalidClient, error.to_string()))
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
    let pair = Zeroizing::new(match encoding {
        BasicEncoding::Plain => format!("{client_id}:{secret}"),
        BasicEncoding::FormUrlencoded => format!("{}:{}", urlencode(client_id), urlencode(secret)),
    });
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| FetchError::new(Reason::InvalidClient, "the credential is too long"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn urlencode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the form is serialised into the body of the token request"
)]
fn exposed<'a>(form: &'a [(&'a str, SecretString)]) -> Vec<(&'a str, &'a str)> {
    form.iter()
        .map(|(name, value)| (*name, value.expose_secret()))
        .collect()
}

/// What went wrong on the way, without the address: the library's text may quote it.
fn transport(error: &reqwest::Error) -> FetchError {
    let reason = if error.is_timeout() {
        Reason::Timeout
    } else if error.is_body() || error.is_decode() {
        Reason::BadResponse
    } else {
        Reason::Network
    };
    let what = match reason {
        Reason::Timeout => "no answer in time",
        Reason::BadResponse => "the answer broke off",
        _ if error.is_connect() => "cannot connect",
        _ => "the exchange failed",
    };
    FetchError::new(reason, format!("{what}{}", root_cause(error)))
}

/// The innermost cause: what the operating system or the TLS library said.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    cause.map_or_else(String::new, |cause| format!(" ({cause})"))
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
