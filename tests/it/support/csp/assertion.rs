//! How a token service judges a client's signed statement (RFC 7523 section 3), strictly.

use std::{collections::BTreeSet, time::SystemTime};

use anyhow::{Context as _, ensure};
use aws_lc_rs::{
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, KeyPair as _,
        RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::Value;

use super::super::CLIENT_ID;

/// A client's key, and what it says of itself.
#[derive(Clone, Debug)]
pub struct ClientKey {
    pub pem: String,
    public: Vec<u8>,
    /// The algorithms that go with it, the usual one first.
    algorithms: &'static [&'static str],
    id: Option<String>,
}

impl ClientKey {
    /// Always the same one: new ones take long.
    pub fn rsa() -> Self {
        let pem = include_str!("rsa.pem");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let key = rsa::KeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
        Self {
            pem: pem.to_owned(),
            public: key.public_key().as_ref().to_owned(),
            algorithms: &["RS256", "PS256"],
            id: None,
        }
    }

    pub fn p256() -> Self {
        Self::new(&rcgen::PKCS_ECDSA_P256_SHA256, &["ES256"])
    }

    pub fn p384() -> Self {
        Self::new(&rcgen::PKCS_ECDSA_P384_SHA384, &["ES384"])
    }

    pub fn ed25519() -> Self {
        Self::new(&rcgen::PKCS_ED25519, &["EdDSA"])
    }

    fn new(kind: &'static rcgen::SignatureAlgorithm, algorithms: &'static [&'static str]) -> Self {
        let key = rcgen::KeyPair::generate_for(kind).unwrap();
        Self {
            pem: key.serialize_pem(),
            public: key.public_key_raw().to_owned(),
            algorithms,
            id: None,
        }
    }

    /// Assertions must name it.
    pub fn named(self, id: &str) -> Self {
        let id = Some(id.to_owned());
        Self { id, ..self }
    }

    /// Whether it has signed this JWT.
    pub fn has_signed(&self, jwt: &str) -> bool {
        let (said, signature) = jwt.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (header, _) = parts(jwt);
        let algorithm = header["alg"].as_str().unwrap();
        self.algorithms.contains(&algorithm)
            && UnparsedPublicKey::new(verification(algorithm), &self.public)
                .verify(said.as_bytes(), &signature)
                .is_ok()
    }

    pub fn algorithms(&self) -> &'static [&'static str] {
        self.algorithms
    }
}

/// What the service knows of its client.
#[derive(Debug, Default)]
pub struct Judge {
    pub keys: Vec<ClientKey>,
    pub audience: String,
    seen: BTreeSet<String>,
}

impl Judge {
    /// Whether it takes the assertion.
    ///
    /// # Errors
    /// The assertion is one that a correct client never makes, whatever its key.
    pub fn accepts(&mut self, assertion: &str) -> anyhow::Result<bool> {
        let (said, signature) = assertion.rsplit_once('.').context("no signature")?;
        let (header, claims) = said.split_once('.').context("no claims")?;
        let signature = URL_SAFE_NO_PAD.decode(signature)?;
        let (header, claims) = (object(header)?, object(claims)?);
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let number = |name: &str| {
            claims
                .get(name)
                .and_then(Value::as_u64)
                .context("no number")
        };

        ensure!(claims.len() == 6, "{claims:?}");
        ensure!(text("iss") == Some(CLIENT_ID) && text("sub") == Some(CLIENT_ID));
        ensure!(text("aud") == Some(&self.audience), "{:?}", text("aud"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let (now, issued, ends) = (now.as_secs(), number("iat")?, number("exp")?);
        ensure!((now - 5..=now).contains(&issued), "{issued} is not {now}");
        ensure!(ends > now && ends <= issued + 60, "{issued} to {ends}");
        let unique = text("jti").context("no jti")?;
        ensure!(unique.len() >= 20, "jti {unique}");
        ensure!(self.seen.insert(unique.to_owned()), "jti repeated");

        ensure!(header.get("typ").and_then(Value::as_str) == Some("JWT"));
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .context("no alg")?;
        let id = header.get("kid").map(|id| id.as_str().context("kid"));
        let id = id.transpose()?;
        ensure!(header.len() == 2 + usize::from(id.is_some()), "{header:?}");
        Ok(self.keys.iter().any(|key| {
            key.id.as_deref() == id
                && key.algorithms.contains(&algorithm)
                && UnparsedPublicKey::new(verification(algorithm), &key.public)
                    .verify(said.as_bytes(), &signature)
                    .is_ok()
        }))
    }
}

fn verification(algorithm: &str) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "ES256" => &ECDSA_P256_SHA256_FIXED,
        "ES384" => &ECDSA_P384_SHA384_FIXED,
        "EdDSA" => &ED25519,
        other => panic!("algorithm {other}"),
    }
}

/// The header and the claims of a JWT.
pub fn parts(jwt: &str) -> (Value, Value) {
    let part = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let mut all = jwt.split('.');
    (part(all.next().unwrap()), part(all.next().unwrap()))
}

fn object(part: &str) -> anyhow::Result<serde_json::Map<String, Value>> {
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?)
}
