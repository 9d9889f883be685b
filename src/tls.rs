//! TLS towards others: whom we trust and who we are, on the token leg and on the upstream leg alike.

mod client;
mod identity;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};

pub use self::{
    client::{Files, TlsClient, mistrusts, refuses_client},
    identity::{Identity, signing_key},
};

/// How one other side is spoken to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Who we are, for a side that asks.
    pub identity: Option<Identity>,
    /// Nothing older is spoken.
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

static NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];

impl TlsVersion {
    fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => ALL_VERSIONS,
            Self::Tls13 => NEWEST,
        }
    }
}

/// Why TLS could not be set up. Names files, and never quotes what is in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The operating system trusts nobody.
    #[error(
        "no certificate authorities found on this system; install ca-certificates or set ca_file"
    )]
    NoSystemRoots,
    /// A file cannot be read.
    #[error("cannot read {path}: {kind}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        kind: io::ErrorKind,
    },
    /// A file holds no certificate, or one that is broken.
    #[error("{path} must hold certificates as PEM, and nothing that is broken")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no private key that is understood.
    #[error(
        "{path} must hold a private key as PEM: RSA, ECDSA (P-256, P-384) or Ed25519, not encrypted"
    )]
    NoPrivateKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key are not a pair.
    #[error("the private key in {key_file} does not belong to the certificate in {cert_file}")]
    NoPair {
        /// The file of the certificate.
        cert_file: PathBuf,
        /// The file of the key.
        key_file: PathBuf,
    },
    /// The name of the other side cannot be on a certificate.
    #[error("its host is no name for a certificate")]
    Name,
    /// The library refuses the configuration.
    #[error(transparent)]
    Rustls(#[from] rustls::Error),
}

/// The client of these settings. Reads their files.
///
/// # Errors
/// When there is nothing to trust, or a file is not what it should be.
pub fn client_config(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let roots = match &settings.ca_file {
        Some(path) => file_roots(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(settings.min_version.and_newer())?
        .with_root_certificates(roots);
    Ok(match &settings.identity {
        Some(identity) => builder.with_client_cert_resolver(identity.load()?),
        None => builder.with_no_client_auth(),
    })
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Some system stores hold certificates that no longer parse; the others still count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoSystemRoots);
    }
    Ok(roots)
}

/// The certificate authorities in a PEM file.
///
/// # Errors
/// When it cannot be read, or holds none.
pub fn file_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// The certificates in a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|error| TlsError::Unreadable {
        path: path.to_owned(),
        kind: error.kind(),
    })?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    certificates
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| TlsError::NoCertificate {
            path: path.to_owned(),
        })
}
