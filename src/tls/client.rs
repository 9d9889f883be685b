//! One other side, and what is known of it: its name, and certificates that may change.

use std::{
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use rustls::{AlertDescription, CertificateError, ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{TlsError, TlsSettings, client_config};
use crate::permissions::GuardedFiles;

/// Who is at the other end, as messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The token service.
    TokenService,
    /// The service behind us.
    Upstream,
    /// The proxy on the way to the token service.
    TokenServiceProxy,
    /// The proxy on the way to the service behind us.
    UpstreamProxy,
    /// The collector of spans, to which there is no proxy.
    Collector,
}

impl Leg {
    /// The name, for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TokenService => "token service",
            Self::Upstream => "upstream",
            Self::TokenServiceProxy => "token service proxy",
            Self::UpstreamProxy => "upstream proxy",
            Self::Collector => "collector",
        }
    }

    /// The section of its keys.
    fn section(self) -> &'static str {
        match self {
            Self::TokenService | Self::TokenServiceProxy => "auth",
            Self::Upstream | Self::UpstreamProxy => "upstream",
            Self::Collector => "telemetry",
        }
    }

    /// The proxy on the same way.
    #[must_use]
    pub fn proxy(self) -> Self {
        match self {
            Self::TokenService | Self::TokenServiceProxy => Self::TokenServiceProxy,
            Self::Upstream | Self::UpstreamProxy => Self::UpstreamProxy,
            Self::Collector => Self::Collector,
        }
    }
}

/// Why there is no TLS with the other side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Its certificate is not trusted: what is wrong with it, for whom, and what to do.
    #[error("its certificate is not trusted: {0}")]
    Certificate(String),
    /// The peer wants a client certificate, and ours, if any, is not accepted.
    #[error("{0}")]
    Client(&'static str),
    /// It failed otherwise.
    #[error("{0}")]
    Other(String),
}

/// TLS towards one other side.
#[derive(Debug)]
pub struct TlsClient {
    leg: Leg,
    host: String,
    name: ServerName<'static>,
    settings: TlsSettings,
    config: ArcSwap<ClientConfig>,
    generation: AtomicUsize,
    watched: Mutex<GuardedFiles>,
}

impl TlsClient {
    /// Reads the files of its settings. `host` is the name or address that a certificate must be
    /// for.
    ///
    /// # Errors
    /// When a file is not what it should be, or the host cannot be on a certificate.
    pub fn new(leg: Leg, host: &str, settings: &TlsSettings) -> Result<Self, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Name)?;
        let mut paths: Vec<_> = settings.ca_file.iter().cloned().collect();
        if let Some(identity) = &settings.identity {
            paths.extend([identity.cert_file.clone(), identity.key_file.clone()]);
        }
        // Looked at before they are read: what changes in between is seen as a change.
        let watched = GuardedFiles::read_at_start(paths);
        // Of broken authorities the configuration has warned.
        let (config, _) = client_config(settings)?;
        Ok(Self {
            leg,
            host: host.to_owned(),
            name,
            settings: settings.clone(),
            config: ArcSwap::from_pointee(config),
            generation: AtomicUsize::new(0),
            watched: Mutex::new(watched),
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
    ) -> Result<TlsStream<T>, HandshakeError>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let offered = offered.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(self.config.load_full())
            .with_alpn(offered)
            .connect(self.name.clone(), stream)
            .await
            .map_err(|error| match find(&error) {
                Some(error) => self.explain(error),
                None => HandshakeError::Other(error.kind().to_string()),
            })
    }

    fn explain(&self, error: &rustls::Error) -> HandshakeError {
        if let Some(why) = refuses_client(error) {
            return HandshakeError::Client(why);
        }
        let rustls::Error::InvalidCertificate(why) = error else {
            return HandshakeError::Other(error.to_string());
        };
        let advice = self.advice(why);
        HandshakeError::Certificate(match why {
            CertificateError::UnknownIssuer => {
                format!("nobody whom we trust has issued it (UnknownIssuer): {advice}")
            }
            // The library has no words for these.
            _ if is_any(why, &[CA_AS_LEAF, SIGNATURE, PURPOSE]) => advice,
            _ if advice.is_empty() => why.to_string(),
            _ => format!("{why}; {advice}"),
        })
    }

    /// What to do about a certificate, with the file and the key that it is about.
    fn advice(&self, why: &CertificateError) -> String {
        let (host, section) = (&self.host, self.leg.section());
        let trusted = match &self.settings.ca_file {
            Some(path) => format!("{} ({section}.ca_file)", path.display()),
            None => format!("the file that {section}.ca_file is to name"),
        };
        match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let holder = match &self.settings.ca_file {
                    Some(_) => format!("it is not in {trusted}"),
                    None => "this system has no such authority".to_owned(),
                };
                format!(
                    "{holder}; put the authority of {host} into {trusted}, or the certificate itself \
                     if it is self-signed"
                )
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!(
                    "name {host} in its subjectAltName, or call it by a name that is there \
                     (a common name does not count)"
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("renew the certificate of {host}, or see to the clock of this machine")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "see to the clock of this machine".to_owned()
            }
            other if is_any(other, &[CA_AS_LEAF]) => format!(
                "{host} shows the certificate of an authority (CA:TRUE), which is trusted as its own \
                 only when the same certificate is in {trusted}"
            ),
            other if is_any(other, &[SIGNATURE]) => format!(
                "its signature is of a kind that is not trusted any more or not known; {host} needs a \
                 certificate that is signed with RSA, ECDSA or Ed25519 and a hash of SHA-256 or better"
            ),
            other if is_any(other, &[PURPOSE]) => format!(
                "it is for other purposes (extendedKeyUsage); {host} needs one with serverAuth"
            ),
            _ => String::new(),
        }
    }

    /// Waits until its files look other than when they were read, and nobody else can write to them;
    /// for ever where there are none.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn changed(&self) {
        let mut watched = self.watched().clone();
        watched.may_be_followed().await;
    }

    /// Reads its files again, if they look other than when they were read: `None` where they do not,
    /// otherwise whether they can be used for new connections. Broken ones are reported, and then not
    /// looked at until they change again.
    pub fn renew(&self) -> Option<bool> {
        if !self.watched().follow() {
            return None;
        }
        let leg = self.leg.name();
        match client_config(&self.settings) {
            Ok((config, broken)) => {
                for text in broken {
                    tracing::warn!(leg, "{text}");
                }
                self.config.store(Arc::new(config));
                self.generation.fetch_add(1, Ordering::Release);
                tracing::info!(leg, "changed certificates are in use for new connections");
                Some(true)
            }
            Err(error) => {
                tracing::error!(leg, %error, "changed certificates cannot be used; the old ones stay");
                Some(false)
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, GuardedFiles> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CA_AS_LEAF: &str = "CaUsedAsEndEntity";
const SIGNATURE: &str = "UnsupportedSignatureAlgorithm";
const PURPOSE: &str = "InvalidPurpose";

/// Whether a refusal is of one of these kinds, by the words of the library that checks: it has no type
/// of its own for each.
fn is_any(why: &CertificateError, kinds: &[&str]) -> bool {
    let why = why.to_string();
    kinds.iter().any(|kind| why.contains(kind))
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
