//! A client that proves who it is by signing a statement, and never sends its key (RFC 7523 §2.2,
//! OIDC Core §9).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::{SignatureScheme, sign::SigningKey};
use secrecy::{SecretString, zeroize::Zeroizing};
use serde::Serialize;
use x509_cert::der::{Decode, Reader, SliceReader, asn1::UintRef};

use crate::{
    secret::{RotatingSecret, SecretError, Which},
    tls::signing_key,
};

/// `client_assertion_type` of what is made here.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good for, in seconds: one call, and clocks that differ a little.
const LIFETIME: u64 = 60;

/// Who says what to whom, and with which key.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientAssertion {
    /// The client's identifier.
    pub client_id: String,
    /// The token service, as it names itself.
    pub audience: String,
    /// The key that signs, as PEM.
    pub private_key: RotatingSecret,
    /// Under which name the service knows it.
    pub key_id: Option<String>,
    /// Under which name it knows the key that will follow.
    pub next_key_id: Option<String>,
    /// How to sign; by default the first that the key can.
    pub algorithm: Option<Algorithm>,
}

/// The algorithms that some key can sign with (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, as everybody understands it.
    Rs256,
    /// RSA, as newer profiles want it.
    Ps256,
    /// ECDSA with P-256.
    Es256,
    /// ECDSA with P-384.
    Es384,
    /// Ed25519.
    EdDsa,
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
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

impl ClientAssertion {
    /// A new assertion, for one call. Who has it can be the client until it ends.
    ///
    /// # Errors
    /// When the key cannot be read, or cannot sign as it should.
    pub fn sign(&self, which: Which) -> Result<SecretString, AssertionError> {
        let key = signing_key(&self.private_key.read(which)?).ok_or(AssertionError::NoKey)?;
        let algorithm = match self.algorithm {
            Some(algorithm) if !algorithm.is_for(&key) => {
                return Err(AssertionError::Unfit(algorithm.name()));
            }
            Some(algorithm) => algorithm,
            None => Algorithm::of(&key).ok_or(AssertionError::NoKey)?,
        };
        let header = Header {
            alg: algorithm.name(),
            typ: "JWT",
            kid: match which {
                Which::Current => self.key_id.as_deref(),
                Which::Next => self.next_key_id.as_deref(),
            },
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let claims = Claims {
            iss: &self.client_id,
            sub: &self.client_id,
            aud: &self.audience,
            jti: unique()?,
            iat: now,
            exp: now + LIFETIME,
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

impl Algorithm {
    /// All of them; of two for the same key, first what everybody understands.
    pub const ALL: [Self; 5] = [
        Self::Rs256,
        Self::Ps256,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name in the header of an assertion.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            Self::Ps256 => SignatureScheme::RSA_PSS_SHA256,
            Self::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::Es384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::EdDsa => SignatureScheme::ED25519,
        }
    }

    fn of(key: &Arc<dyn SigningKey>) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.is_for(key))
    }

    fn is_for(self, key: &Arc<dyn SigningKey>) -> bool {
        key.choose_scheme(&[self.scheme()]).is_some()
    }

    fn sign(self, key: &Arc<dyn SigningKey>, said: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let signer = key.choose_scheme(&[self.scheme()])?;
        let signature = Zeroizing::new(signer.sign(said).ok()?);
        match self {
            Self::Es256 => side_by_side(&signature, 32),
            Self::Es384 => side_by_side(&signature, 48),
            Self::Rs256 | Self::Ps256 | Self::EdDsa => Some(signature),
        }
    }
}

/// The two numbers of an ECDSA signature, each of that many bytes (RFC 7518 §3.4). TLS has them in
/// a structure of ASN.1, where small ones are short.
fn side_by_side(structure: &[u8], width: usize) -> Option<Zeroizing<Vec<u8>>> {
    let mut reader = SliceReader::new(structure).ok()?;
    let numbers = reader.sequence(|pair| Ok([UintRef::decode(pair)?, UintRef::decode(pair)?]));
    let mut signature = Zeroizing::new(Vec::with_capacity(2 * width));
    for number in numbers.ok()? {
        let missing = width.checked_sub(number.as_bytes().len())?;
        signature.extend(std::iter::repeat_n(0, missing));
        signature.extend_from_slice(number.as_bytes());
    }
    Some(signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_signature_get_their_full_width() {
        // 1, and a number whose first bit is set, which ASN.1 puts a zero before.
        let structure = [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 2];
        let signature = side_by_side(&structure, 4).unwrap();
        assert_eq!(*signature, [0, 0, 0, 1, 0, 0, 0x80, 2]);
        assert!(side_by_side(&structure, 1).is_none());
        assert!(side_by_side(&structure[..9], 4).is_none());
    }
}
