//! One other side, and what is known of it: its name, and certificates that may change.

use std::{
    error::Error,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use rustls::{AlertDescription, CertificateError, ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{TlsError, TlsSettings, client_config};
use crate::secret::{Fingerprint, changed};

/// The files of some settings, and how they looked when they were read last.
#[derive(Clone, Debug)]
pub struct Files {
    /// Which leg it is, for the log.
    leg: &'static str,
    settings: TlsSettings,
    /// Whether the other side speaks TLS.
    is_encrypted: bool,
    paths: Vec<PathBuf>,
    seen: Fingerprint,
}

impl Files {
    /// Reads them for the first time.
    ///
    /// # Errors
    /// When there is nothing to trust, or a file is not what it should be.
    pub fn read(
        leg: &'static str,
        settings: &TlsSettings,
        is_encrypted: bool,
    ) -> Result<(Self, ClientConfig), TlsError> {
        let mut paths: Vec<_> = settings.ca_file.iter().cloned().collect();
        if let Some(identity) = &settings.identity {
            paths.extend([identity.cert_file.clone(), identity.key_file.clone()]);
        }
        let files = Self {
            leg,
            // Looked at before they are read: what changes in between is seen as a change.
            seen: Fingerprint::of(&paths),
            paths,
            settings: settings.clone(),
            is_encrypted,
        };
        let config = client_config(settings, is_encrypted)?;
        Ok((files, config))
    }

    /// Waits until they look other than when they were read; for ever where there are none.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn changed(&self) {
        changed(&self.paths, &self.seen).await;
    }

    /// Reads them again, if they look other than when they were read. Broken ones are reported, and
    /// then not looked at until they change again.
    pub fn renewed(&mut self) -> Option<ClientConfig> {
        let now = Fingerprint::of(&self.paths);
        if now == self.seen {
            return None;
        }
        self.seen = now;
        let leg = self.leg;
        match client_config(&self.settings, self.is_encrypted) {
            Ok(config) => {
                tracing::info!(leg, "changed certificates are in use for new connections");
                Some(config)
            }
            Err(error) => {
                tracing::error!(leg, %error, "changed certificates cannot be used; the old ones stay");
                None
            }
        }
    }
}

/// TLS towards one other side.
#[derive(Debug)]
pub struct TlsClient {
    name: ServerName<'static>,
    config: ArcSwap<ClientConfig>,
    generation: AtomicUsize,
    files: Files,
}

impl TlsClient {
    /// Reads the files of its settings. `host` is the name or address that a certificate must be
    /// for.
    ///
    /// # Errors
    /// When a file is not what it should be, or the host cannot be on a certificate.
    pub fn new(leg: &'static str, host: &str, settings: &TlsSettings) -> Result<Self, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name)?;
        let (files, config) = Files::read(leg, settings, true)?;
        Ok(Self {
            name,
            config: ArcSwap::from_pointee(config),
            generation: AtomicUsize::new(0),
            files,
        })
    }

    /// How often its certificates have changed. A connection whose number is not this any more was
    /// made with others.
    #[must_use]
    pub fn generation(&self) -> usize {
        self.generation.load(Ordering::Acquire)
    }

    /// Agrees on TLS over a connection, and checks who is there. `offered` are the protocols that
    /// the other side may choose from (RFC 7301).
    ///
    /// # Errors
    /// What went wrong, for the log.
    ///
    /// # Cancel safety
    /// Dropping it closes the connection.
    pub async fn connect<T>(
        &self,
        stream: T,
        offered: &[&[u8]],
    ) -> Result<TlsStream<T>, rustls::Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let offered = offered.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(self.config.load_full())
            .with_alpn(offered)
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| match error.downcast::<rustls::Error>() {
                Ok(error) => error,
                Err(error) => rustls::Error::General(error.kind().to_string()),
            })
    }

    /// Uses changed certificates for new connections; for ever. `renewed` is told of each change,
    /// and whether it could be used.
    pub async fn follow_files(&self, renewed: impl Fn(bool)) {
        let mut files = self.files.clone();
        loop {
            files.changed().await;
            let config = files.renewed();
            renewed(config.is_some());
            if let Some(config) = config {
                self.config.store(Arc::new(config));
                self.generation.fetch_add(1, Ordering::Release);
            }
        }
    }
}

/// Whether an error says that the other side does not accept our certificate, or wants one
/// (RFC 8446 §6.2): then why, in words.
#[must_use]
pub fn refuses_client(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let Some(rustls::Error::AlertReceived(alert)) = find(error) else {
        return None;
    };
    Some(match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it wants a client certificate"
        }
        AlertDescription::CertificateExpired => "it says that our client certificate has expired",
        AlertDescription::CertificateRevoked => "it says that our client certificate is revoked",
        AlertDescription::UnknownCA => "it does not trust the authority of our client certificate",
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "it does not accept our client certificate",
        _ => return None,
    })
}

/// Why a certificate is not trusted, if an error says so.
#[must_use]
pub fn mistrusts(error: &(dyn Error + 'static)) -> Option<String> {
    match find(error)? {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some("nobody whom we trust has issued it (UnknownIssuer); see ca_file".to_owned())
        }
        rustls::Error::InvalidCertificate(why) => Some(why.to_string()),
        _ => None,
    }
}

/// The library's error among the causes of another. An I/O error hides the one that it wraps from
/// its own list of causes.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        let wrapped = inner
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => inner.source(),
        };
    }
    None
}
