//! Statements that a key signs, and that prove who asks without the key being sent: as client
//! authentication (RFC 7523 §2.2, OIDC Core §9), as a grant (§2.1), or as a bearer token of their own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::sign::SigningKey;
use secrecy::{SecretString, zeroize::Zeroizing};
use serde::Serialize;

use super::{algorithm::Algorithm, service_account::ServiceAccount};
use crate::{
    secret::{RotatingSecret, SecretError, Which},
    tls::{pem, signing_key},
};

/// `client_assertion_type` of an assertion that is a JWT.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A statement: issuer, subject, audience, and the key that signs.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// The issuer; `None`: the account of the key file.
    pub issuer: Option<String>,
    /// The subject.
    pub subject: Subject,
    /// The audience.
    pub audience: Audience,
    /// The scope of the token, where the assertion says that and not the form.
    pub scope: Option<String>,
    /// The key that signs.
    pub signer: Signer,
    /// The time that it is good for.
    pub validity: Validity,
}

/// The subject of an assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// No claim: the assertion is for nobody else than the account that asks.
    Unsaid,
    /// The issuer itself.
    Issuer,
    /// Somebody of that name.
    Named(String),
}

/// The audience of an assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// No claim: the assertion is for nobody in particular.
    Unsaid,
    /// The token endpoint, by its URL.
    TokenEndpoint,
    /// The service that calls itself so.
    Named(String),
}

/// The time that an assertion is good for, in seconds around now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The age that the assertion has when it is made, for a service whose clock is behind.
    pub backdated: u64,
    /// The time from now to its end.
    pub lifetime: u64,
}

impl Default for Validity {
    /// One call, and clocks that differ a little.
    fn default() -> Self {
        Self {
            backdated: 0,
            lifetime: 60,
        }
    }
}

/// A key that signs, and what the other side knows it by.
#[derive(Clone, Debug, PartialEq)]
pub struct Signer {
    /// The key itself.
    pub key: KeySource,
    /// The name under which the service knows the key.
    pub key_id: Option<String>,
    /// The name under which it knows the key that will follow.
    pub next_key_id: Option<String>,
    /// The certificate of the key, by which some services know it.
    pub certificate: Option<PathBuf>,
    /// The certificate of the key that will follow.
    pub next_certificate: Option<PathBuf>,
    /// The algorithm; by default the first that the key can.
    pub algorithm: Option<Algorithm>,
}

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// PEM, and the key that will follow it.
    Pem(RotatingSecret),
    /// The JSON file of a service account, which names the account and the key too.
    ServiceAccount(RotatingSecret),
}

/// Why there is no assertion. Names files, and never quotes what is in them.
#[derive(Debug, thiserror::Error)]
pub enum AssertionError {
    /// The key cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What was read is no key.
    #[error("the private key is none: it must be PEM with RSA, ECDSA (P-256, P-384) or Ed25519")]
    NoKey,
    /// What was read is no key file of a service account.
    #[error("it is no key file of a service account: {0}")]
    NoAccount(&'static str),
    /// The certificate that names the key cannot be read.
    #[error("{0} must be a readable PEM file with a certificate")]
    NoCertificate(PathBuf),
    /// The key is of another kind.
    #[error("the private key cannot sign with {0}")]
    Unfit(&'static str),
    /// The library or the system fails.
    #[error("cannot sign")]
    CannotSign,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    thumbprint: Option<String>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    jti: String,
    iat: u64,
    exp: u64,
}

/// What is read of a key file: the key, and for a service account what the file says of it.
struct Read {
    key: Arc<dyn SigningKey>,
    account: Option<String>,
    key_id: Option<String>,
}

impl Assertion {
    /// A new assertion, for one call of that token endpoint. Who has it can be the client until it
    /// ends.
    ///
    /// `ahead` is by how many seconds the service's clock is ahead of ours.
    ///
    /// # Errors
    /// When the key cannot be read, or cannot sign as it should.
    pub fn sign(
        &self,
        which: Which,
        endpoint: &str,
        ahead: i64,
    ) -> Result<SecretString, AssertionError> {
        let Signer { certificate, .. } = &self.signer;
        let Read {
            key,
            account,
            key_id,
        } = self.signer.read(which)?;
        let algorithm = match self.signer.algorithm {
            Some(algorithm) if !algorithm.is_for(&key) => {
                return Err(AssertionError::Unfit(algorithm.name()));
            }
            Some(algorithm) => algorithm,
            None => Algorithm::of(&key).ok_or(AssertionError::NoKey)?,
        };
        let (named, certificate) = match which {
            Which::Current => (&self.signer.key_id, certificate),
            Which::Next => (&self.signer.next_key_id, &self.signer.next_certificate),
        };
        let header = Header {
            alg: algorithm.name(),
            typ: "JWT",
            kid: named.as_deref().or(key_id.as_deref()),
            thumbprint: certificate.as_deref().map(thumbprint).transpose()?,
        };
        let issuer = self.issuer.as_deref().or(account.as_deref());
        let issuer = issuer.ok_or(AssertionError::NoAccount("it names no account"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now
            .unwrap_or_default()
            .as_secs()
            .saturating_add_signed(ahead);
        let claims = Claims {
            iss: issuer,
            sub: match &self.subject {
                Subject::Unsaid => None,
                Subject::Issuer => Some(issuer),
                Subject::Named(name) => Some(name),
            },
            aud: match &self.audience {
                Audience::Unsaid => None,
                Audience::TokenEndpoint => Some(endpoint),
                Audience::Named(name) => Some(name),
            },
            scope: self.scope.as_deref(),
            jti: unique()?,
            iat: now.saturating_sub(self.validity.backdated),
            exp: now + self.validity.lifetime,
        };
        let said = format!("{}.{}", encoded(&header)?, encoded(&claims)?);
        let signature = algorithm.sign(&key, said.as_bytes());
        let signature = signature.ok_or(AssertionError::CannotSign)?;
        // Room for all of it: what outgrows its room leaves a copy behind.
        let room = said.len() + 1 + 2 * signature.len();
        let mut text = Zeroizing::new(String::with_capacity(room));
        text.push_str(&said);
        text.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(&*signature, &mut text);
        Ok(SecretString::from(text.as_str()))
    }
}

impl KeySource {
    /// The key of the configuration that names it, which `_file` or `_next_file` may follow.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Pem(_) => "auth.private_key",
            Self::ServiceAccount(_) => "auth.service_account",
        }
    }
}

impl Signer {
    /// A key of which nothing else is said.
    #[must_use]
    pub fn of(key: KeySource) -> Self {
        Self {
            key,
            key_id: None,
            next_key_id: None,
            certificate: None,
            next_certificate: None,
            algorithm: None,
        }
    }

    /// The secret that holds the key.
    #[must_use]
    pub fn secret(&self) -> &RotatingSecret {
        match &self.key {
            KeySource::Pem(secret) | KeySource::ServiceAccount(secret) => secret,
        }
    }

    /// The files that are read for a signature.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let certificates = self.certificate.iter().chain(&self.next_certificate);
        self.secret().files().chain(certificates)
    }

    fn read(&self, which: Which) -> Result<Read, AssertionError> {
        let secret = self.secret().read(which)?;
        match &self.key {
            KeySource::Pem(_) => Ok(Read {
                key: signing_key(&secret).ok_or(AssertionError::NoKey)?,
                account: None,
                key_id: None,
            }),
            KeySource::ServiceAccount(_) => {
                let found = ServiceAccount::parse(&secret).map_err(AssertionError::NoAccount)?;
                Ok(Read {
                    key: signing_key(&found.private_key).ok_or(AssertionError::NoKey)?,
                    account: Some(found.name),
                    key_id: found.key_id,
                })
            }
        }
    }
}

/// The SHA-256 thumbprint of the first certificate in a file (RFC 7515 §4.1.8).
fn thumbprint(path: &Path) -> Result<String, AssertionError> {
    let none = || AssertionError::NoCertificate(path.to_owned());
    let bundle = pem::bundle(path).map_err(|_| none())?;
    let (_, certificate) = bundle.certificates.first().ok_or_else(none)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, certificate)))
}

/// What no other assertion has: the service takes each of them once.
fn unique() -> Result<String, AssertionError> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| AssertionError::CannotSign)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn encoded(part: &impl Serialize) -> Result<String, AssertionError> {
    let json = serde_json::to_vec(part).map_err(|_| AssertionError::CannotSign)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(json))
}
