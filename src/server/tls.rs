//! TLS towards clients: the certificate that we show, whose certificates we ask for, and files that
//! may change at any time.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use rustls::{
    ALL_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use secrecy::zeroize::Zeroizing;
use tokio::sync::Notify;

use crate::{permissions::GuardedFiles, tls::provider};

/// Where the parts of our side of TLS are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Our certificate and those between it and the authority, as PEM.
    pub cert_file: PathBuf,
    /// Its private key, as PEM.
    pub key_file: PathBuf,
    /// The authorities of clients, as PEM. When set, a client without a certificate of one of them
    /// is refused.
    pub client_ca_file: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// What is wrong with one of the files. Names it, never what is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// About the certificate.
    #[error("{0}")]
    Certificate(FileError),
    /// About the key.
    #[error("{0}")]
    Key(FileError),
    /// The key is another certificate's.
    #[error("{0} is not the key of the certificate")]
    Mismatch(PathBuf),
    /// About the authorities of clients.
    #[error("{0}")]
    ClientCa(FileError),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, io::ErrorKind),
    /// It holds something else.
    #[error("{0} must hold a PEM {1}")]
    Content(PathBuf, &'static str),
}

/// The files as they were read.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    settings: TlsSettings,
    files: GuardedFiles,
    terms: Arc<Terms>,
}

/// What handshakes go by.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) config: Arc<ServerConfig>,
    /// The judge of clients' certificates, where they are asked for.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// What the next handshake goes by; shared by all that listen.
#[derive(Debug, Clone, Default)]
pub struct TlsInUse(Arc<ArcSwapOption<Terms>>);

/// What we offer to speak inside (RFC 7301), the favourite first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

impl TlsSettings {
    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.cert_file.clone(), self.key_file.clone()];
        files.extend(self.client_ca_file.clone());
        files
    }

    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be used, or the key is another certificate's.
    pub fn load(&self) -> Result<TlsFiles, TlsFileError> {
        // Looked at before they are read: what changes in between is seen as a change.
        let files = GuardedFiles::new(self.files());
        let chain = certificates(&self.cert_file).map_err(TlsFileError::Certificate)?;
        let key = key(&self.key_file).map_err(TlsFileError::Key)?;
        let content = |path: &Path, what| FileError::Content(path.to_owned(), what);
        let not_a_key = || TlsFileError::Key(content(&self.key_file, "private key (PKCS #8)"));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_newer())
            .map_err(|_| not_a_key())?;
        let verifier = match &self.client_ca_file {
            None => None,
            Some(path) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add_parsable_certificates(certificates(path).map_err(TlsFileError::ClientCa)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|_| {
                            TlsFileError::ClientCa(content(path, "certificate of an authority"))
                        })?;
                Some(verifier)
            }
        };
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsFileError::Mismatch(self.key_file.clone()),
                rustls::Error::General(_) => not_a_key(),
                _ => TlsFileError::Certificate(content(&self.cert_file, "certificate")),
            })?;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        Ok(TlsFiles {
            settings: self.clone(),
            files,
            terms: Arc::new(Terms {
                config: Arc::new(config),
                verifier,
            }),
        })
    }
}

const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

impl TlsVersion {
    fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => ALL_VERSIONS,
            Self::Tls13 => ONLY_13,
        }
    }
}

impl TlsFiles {
    /// Reads the files again whenever they change, or when `asked`, for ever; what cannot be used is
    /// reported, and what was good before stays in use. `reloaded` is told whether it could.
    pub async fn watch(self, in_use: TlsInUse, asked: Arc<Notify>, reloaded: impl Fn(bool) + Send) {
        let Self {
            settings,
            mut files,
            ..
        } = self;
        loop {
            files.changed_or(&asked).await;
            match settings.load() {
                Ok(read) => {
                    in_use.set(Some(&read));
                    reloaded(true);
                    tracing::info!("the changed certificate of the TLS listener is in use");
                }
                Err(error) => {
                    reloaded(false);
                    tracing::error!(
                        %error,
                        "the changed certificate of the TLS listener cannot be used; the old one stays"
                    );
                }
            }
        }
    }
}

impl TlsInUse {
    /// Has the next handshakes go by these files.
    pub fn set(&self, files: Option<&TlsFiles>) {
        self.0.store(files.map(|files| Arc::clone(&files.terms)));
    }

    /// `None` where no file was ever read, and so nobody can be served.
    pub(super) fn get(&self) -> Option<Arc<Terms>> {
        self.0.load_full()
    }

    /// Whether a client that was let in on these terms would be let in now too.
    pub(super) fn still_admits(
        &self,
        terms: &Arc<Terms>,
        shown: Option<&[CertificateDer<'_>]>,
    ) -> bool {
        let now = self.get();
        now.is_some_and(|now| Arc::ptr_eq(&now, terms) || now.admit(shown))
    }
}

impl Terms {
    /// Whether a client that has shown this chain of certificates would be let in now.
    pub(super) fn admit(&self, shown: Option<&[CertificateDer<'_>]>) -> bool {
        let Some(verifier) = &self.verifier else {
            return true;
        };
        let Some((own, others)) = shown.and_then(<[_]>::split_first) else {
            return false;
        };
        let now = UnixTime::now();
        verifier.verify_client_cert(own, others, now).is_ok()
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let read = fs::read(path).map(Zeroizing::new);
    read.map_err(|error| FileError::Unreadable(path.to_owned(), error.kind()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| FileError::Content(path.to_owned(), "certificate"))
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| FileError::Content(path.to_owned(), "private key without a passphrase"))
}
