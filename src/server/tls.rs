//! TLS towards clients: the certificate that we show, whose certificates we ask for, and files that
//! may change at any time.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use rustls::{ServerConfig, sign::SingleCertAndKey};

use crate::{
    secret::{Fingerprint, changed},
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
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// The files as they were read.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    settings: TlsSettings,
    seen: Fingerprint,
    config: Arc<ServerConfig>,
    /// What is to be said of authorities of clients that are broken.
    pub broken: Vec<String>,
}

/// What the next handshake goes by; shared by all that listen.
#[derive(Debug, Clone, Default)]
pub struct TlsInUse(Arc<ArcSwapOption<ServerConfig>>);

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
    pub fn load(&self) -> Result<TlsFiles, TlsError> {
        // Looked at before they are read: what changes in between is seen as a change.
        let seen = Fingerprint::of(&self.files());
        let identity = Identity {
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
        };
        let pair = SingleCertAndKey::from(identity.load()?);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_newer())?;
        let mut broken = Vec::new();
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut authorities = Authorities::of_file(path)?;
                broken = std::mem::take(&mut authorities.broken);
                let none = || TlsError::NoCertificate { path: path.clone() };
                let verifier = verifier::of_clients(authorities).ok_or_else(none)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(pair));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        Ok(TlsFiles {
            settings: self.clone(),
            seen,
            config: Arc::new(config),
            broken,
        })
    }
}

impl TlsFiles {
    /// Reads the files again whenever they change, for ever; what cannot be used is reported, and
    /// what was good before stays in use. `reloaded` is told whether it could.
    pub async fn watch(self, in_use: TlsInUse, reloaded: impl Fn(bool) + Send) {
        let Self {
            settings, mut seen, ..
        } = self;
        let files = settings.files();
        loop {
            changed(&files, &seen).await;
            seen = Fingerprint::of(&files);
            match settings.load() {
                Ok(files) => {
                    for text in &files.broken {
                        tracing::warn!("listen.tls_client_ca_file: {text}");
                    }
                    in_use.set(Some(&files));
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
        self.0.store(files.map(|files| Arc::clone(&files.config)));
    }

    /// `None` where no file was ever read, and so nobody can be served.
    pub(super) fn get(&self) -> Option<Arc<ServerConfig>> {
        self.0.load_full()
    }
}
