//! The algorithms that assertions are signed with, by the names that JWTs have for them.

use std::sync::Arc;

use rustls::{SignatureScheme, sign::SigningKey};
use secrecy::zeroize::Zeroizing;
use x509_cert::der::{Decode, Reader, SliceReader, asn1::UintRef};

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

impl Algorithm {
    /// All of them; of two for the same key, first what everybody understands.
    pub const ALL: [Self; 5] = [
        Self::Rs256,
        Self::Ps256,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The algorithm's name in the header of an assertion.
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

    pub(super) fn of(key: &Arc<dyn SigningKey>) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.is_for(key))
    }

    pub(super) fn is_for(self, key: &Arc<dyn SigningKey>) -> bool {
        key.choose_scheme(&[self.scheme()]).is_some()
    }

    pub(super) fn sign(self, key: &Arc<dyn SigningKey>, said: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
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
