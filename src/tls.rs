//! TLS: whom we trust and who we are, on both ways out and towards clients alike.

mod client;
mod identity;
pub(crate) mod pem;
pub(crate) mod verifier;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::CertificateDer,
    sign::SingleCertAndKey,
    version::TLS13,
};

pub use self::{
    client::{HandshakeError, Leg, TlsClient, refuses_client},
    identity::{Identity, signing_key},
};

/// The TLS towards one other side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsSettings {
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Who we are, for a side that asks.
    pub identity: Option<Identity>,
    /// The oldest version that is used.
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
    /// The version and all that are newer.
    pub(crate) fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
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
    /// Something else than a file.
    #[error("{path} must be a regular file")]
    NotRegular {
        /// What is none.
        path: PathBuf,
    },
    /// A file holds no certificate, or one that is broken.
    #[error("{path} must hold certificates as PEM, and nothing that is broken")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no private key that is understood.
    #[error(
        "{path} must hold a private key as PEM: RSA, ECDSA (P-256, P-384, P-521) or Ed25519, not encrypted"
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

/// The certificate authorities of a PEM file.
#[derive(Debug)]
pub(crate) struct Authorities {
    roots: RootCertStore,
    certificates: Vec<CertificateDer<'static>>,
    /// What is to be said of certificates that are broken, and cost the others nothing.
    pub(crate) broken: Vec<String>,
}

impl Authorities {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or holds none.
    pub(crate) fn of_file(path: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let mut bundle = pem::bundle(path)?;
        let mut broken = std::mem::take(&mut bundle.broken);
        let mut certificates = Vec::new();
        for (number, certificate) in bundle.certificates {
            match roots.add(certificate.clone()) {
                Ok(()) => certificates.push(certificate),
                Err(_) => broken.push(number),
            }
        }
        if roots.is_empty() {
            return Err(TlsError::NoCertificate {
                path: path.to_owned(),
            });
        }
        broken.sort_unstable();
        let warning = |number: usize| {
            let path = path.display();
            format!("certificate {number} of {path} is broken, and not used; the others are")
        };
        Ok(Self {
            roots,
            certificates,
            broken: broken.into_iter().map(warning).collect(),
        })
    }

    fn into_parts(self) -> (RootCertStore, Vec<CertificateDer<'static>>) {
        (self.roots, self.certificates)
    }
}

/// The client of these settings, and what is to be said of broken authorities. Reads their files.
fn client_config(settings: &TlsSettings) -> Result<(ClientConfig, Vec<String>), TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(settings.min_version.and_newer())?;
    let mut broken = Vec::new();
    let builder = match &settings.ca_file {
        None => builder.with_root_certificates(system_roots()?),
        Some(path) => {
            let mut authorities = Authorities::of_file(path)?;
            broken = std::mem::take(&mut authorities.broken);
            let none = || TlsError::NoCertificate { path: path.clone() };
            let verifier = verifier::of_servers(authorities).ok_or_else(none)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    let config = match &settings.identity {
        Some(identity) => {
            let pair = SingleCertAndKey::from(identity.load()?);
            builder.with_client_cert_resolver(Arc::new(pair))
        }
        None => builder.with_no_client_auth(),
    };
    Ok((config, broken))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some system stores hold certificates that no longer parse; the others still count.
    let (_, ignored) = roots.add_parsable_certificates(found.certs);
    let ignored = ignored + found.errors.len();
    if roots.is_empty() {
        return Err(TlsError::NoSystemRoots);
    }
    if ignored > 0 {
        tracing::warn!(
            ignored,
            "some of this system's authorities cannot be read, and are not trusted"
        );
    }
    Ok(roots)
}

/// The certificates in a PEM file, at least one. For a chain, of which each counts.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bundle = pem::bundle(path)?;
    if bundle.certificates.is_empty() || !bundle.broken.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    let certificates = bundle.certificates.into_iter();
    Ok(certificates.map(|(_, certificate)| certificate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let parameters = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    fn roots(text: &str) -> Result<usize, TlsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, text).unwrap();
        Authorities::of_file(&path).map(|found| found.certificates.len())
    }

    #[test]
    fn certificates_are_found_however_their_text_was_put_together() {
        let (one, two) = (certificate(), certificate());
        let mark = '\u{feff}';
        for text in [
            format!("{one}{two}"),
            format!("{one}{two}").replace('\n', "\r\n"),
            format!("{one}{two}").replace('\n', "\r"),
            // Each file of its own editor.
            format!("{mark}{one}{mark}{two}"),
            // The first had no line end.
            format!("{}{two}", one.trim_end()),
            format!("subject=CN = a\n{one}\n# two\n{two}")
                .trim_end()
                .to_owned(),
            // From a block of YAML.
            format!("{one}{two}").replace('\n', "\n    "),
        ] {
            assert_eq!(roots(&text).unwrap(), 2, "{text}");
        }
    }

    #[test]
    fn one_bad_certificate_costs_the_others_nothing() {
        let (one, two) = (certificate(), certificate());
        let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
        for bad in [
            format!("{begin}\n!!!!\n{end}\n"),
            format!("{begin}\nAAAA\n{end}\n"),
            format!("{begin}\n{end}\n"),
            format!("{begin}\nAAAA\n"),
            one.replacen('M', "", 1),
            one.lines().take(4).collect::<Vec<_>>().join("\n") + "\n",
        ] {
            assert_eq!(roots(&format!("{one}{bad}{two}")).unwrap(), 2, "{bad}");
            assert_eq!(roots(&format!("{bad}{two}")).unwrap(), 1, "{bad}");
            assert_eq!(roots(&format!("{one}{bad}")).unwrap(), 1, "{bad}");
            assert!(roots(&bad).is_err(), "{bad}");
        }
    }
}
