//! Who we are: a certificate and its private key, or a key alone.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    Error, InconsistentKeys,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroize};

use super::{TlsError, certificates, pem::tidied};
use crate::secret::{SecretError, SecretSource};

/// A certificate and its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, then those that lead to its authority, as PEM.
    pub cert_file: PathBuf,
    /// Its private key as PEM; it may be the same file.
    pub key_file: PathBuf,
}

impl Identity {
    /// Reads the two files.
    ///
    /// # Errors
    /// When one cannot be read, is not what it should be, or they are not a pair.
    pub fn load(&self) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.cert_file)?;
        let path = &self.key_file;
        let pem = SecretSource::File(path.clone()).read();
        let pem = pem.map_err(|error| match error {
            SecretError::Unreadable { path, kind } => TlsError::Unreadable { path, kind },
            SecretError::NotRegular { path } => TlsError::NotRegular { path },
            _ => TlsError::NoPrivateKey { path: path.clone() },
        })?;
        let key = signing_key(&pem).ok_or_else(|| TlsError::NoPrivateKey { path: path.clone() })?;
        let pair = CertifiedKey::new(chain, key);
        match pair.keys_match() {
            // An unknown one is of a kind whose public part is not known here.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
            Err(Error::InconsistentKeys(_)) => Err(TlsError::NoPair {
                cert_file: self.cert_file.clone(),
                key_file: path.clone(),
            }),
            Err(_) => Err(TlsError::NoCertificate {
                path: self.cert_file.clone(),
            }),
        }
    }
}

/// The private key in a PEM text: PKCS#8, PKCS#1 or SEC1. `None` where there is none, or one
/// that nobody here can sign with; the library's own words could quote it.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the text becomes a key that only signs; its bytes are wiped"
)]
pub fn signing_key(pem: &SecretString) -> Option<Arc<dyn SigningKey>> {
    let mut der = PrivateKeyDer::from_pem_slice(&tidied(pem.expose_secret().as_bytes())).ok()?;
    let key = any_supported_type(&der).ok();
    der.zeroize();
    key
}
