//! TLS towards clients: the certificate that we show, whose certificates we ask for, and files that
//! may change at any time.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
    sign::SingleCertAndKey,
};
use tokio::sync::Notify;

use crate::{
    permissions::GuardedFiles,
    tls::{Authorities, Identity, TlsError, TlsVersion, provider, verifier},
};

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
    /// The oldest version that is accepted.
    pub min_version: TlsVersion,
}

/// The files as they were read.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    settings: TlsSettings,
    files: GuardedFiles,
    terms: Arc<Terms>,
    /// What is to be said of authorities of clients that are broken.
    pub broken: Vec<String>,
}

/// What handshakes go by.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) config: Arc<ServerConfig>,
    /// The verifier of clients' certificates, where they are asked for.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// What the next handshake goes by; shared by all that listen.
#[derive(Debug, Clone, Default)]
pub struct TlsInUse(Arc<ArcSwapOption<Terms>>);

/// The protocols that we offer inside TLS (RFC 7301), the favourite first.
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
    pub fn load(&self) -> Result<TlsFiles, TlsError> {
        // Looked at before they are read: what changes in between is seen as a change.
        let files = GuardedFiles::new(self.files());
        let identity = Identity {
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
        };
        let pair = SingleCertAndKey::from(identity.load()?);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_newer())?;
        let mut broken = Vec::new();
        let mut verifier = None;
        if let Some(path) = &self.client_ca_file {
            let mut authorities = Authorities::of_file(path)?;
            broken = std::mem::take(&mut authorities.broken);
            let none = || TlsError::NoCertificate { path: path.clone() };
            verifier = Some(verifier::of_clients(authorities).ok_or_else(none)?);
        }
        let builder = match &verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut config = builder.with_cert_resolver(Arc::new(pair));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        Ok(TlsFiles {
            settings: self.clone(),
            files,
            terms: Arc::new(Terms {
                config: Arc::new(config),
                verifier,
            }),
            broken,
        })
    }
}

impl TlsFiles {
    /// Reads the files again whenever they change, or when `asked`, for ever; what cannot be used is
    /// reported, and what was good before stays in use. `reloaded` is called with whether they could be used.
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
                    for text in &read.broken {
                        tracing::warn!("listen.tls_client_ca_file: {text}");
                    }
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
