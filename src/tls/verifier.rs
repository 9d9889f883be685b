//! Certificates that are trusted although no authority vouches for them: self-signed ones, as
//! `openssl req -x509` makes them, that stand in a `ca_file` themselves.
//!
//! The library verifies every certificate first, by the rules of RFC 5280. By these a certificate that
//! may sign others (CA:TRUE) proves nobody's own identity, and one that another has signed needs that
//! other. OpenSSL, Go and curl take both when the certificate itself is among the trusted ones. So
//! here: a certificate that the library refuses is accepted exactly when
//!
//! 1. it is, byte for byte, one of those in the file that the operator has named,
//! 2. the time is within its validity,
//! 3. it is not for other purposes alone (RFC 5280 §4.2.1.12),
//! 4. of a server: the name that we call is in its subjectAltName, and
//! 5. the other side proves in the handshake to have its private key, which the library checks as ever.
//!
//! This trusts nobody new. The operator has vouched for these very bytes, and nothing that differs in a
//! bit is accepted. Whoever has the key of a certificate that is in the file and may sign others could
//! sign one for any name already, while here it is good for its own names alone. One that may not sign
//! others is good for itself, which is what it was put there for. No chain is built from it, so nothing
//! that it has signed becomes trusted by this. The system's authorities are not treated so: nobody has
//! named them one by one.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_cert::{
    Certificate,
    der::{Decode, oid::ObjectIdentifier},
    ext::pkix::ExtendedKeyUsage,
};

use super::{Authorities, provider};

/// RFC 5280 §4.2.1.12.
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// Verifies servers. See the module.
#[derive(Debug)]
struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

/// Verifies clients. See the module.
#[derive(Debug)]
struct ClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

/// The verifier of servers by these authorities; `None` when there are none.
pub(super) fn of_servers(authorities: Authorities) -> Option<Arc<dyn ServerCertVerifier>> {
    let (roots, trusted) = authorities.into_parts();
    let roots = Arc::<RootCertStore>::new(roots);
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider());
    let inner = inner.build().ok()?;
    Some(Arc::new(ServerVerifier { inner, trusted }))
}

/// The verifier of clients by these authorities, who turns away a client that shows no certificate;
/// `None` when there are no authorities.
pub(crate) fn of_clients(authorities: Authorities) -> Option<Arc<dyn ClientCertVerifier>> {
    let (roots, trusted) = authorities.into_parts();
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let inner = inner.build().ok()?;
    Some(Arc::new(ClientVerifier { inner, trusted }))
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let inner = &self.inner;
        let verified =
            inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if verified.is_ok() || !self.trusted.contains(end_entity) {
            return verified;
        }
        is_good(end_entity, SERVER_AUTH, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now);
        if verified.is_ok() || !self.trusted.contains(end_entity) {
            return verified;
        }
        is_good(end_entity, CLIENT_AUTH, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Whether a certificate is valid now, and for that purpose.
fn is_good(der: &[u8], purpose: ObjectIdentifier, now: UnixTime) -> Result<(), CertificateError> {
    let certificate = Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    let certificate = certificate.tbs_certificate;
    let validity = &certificate.validity;
    let not_before = UnixTime::since_unix_epoch(validity.not_before.to_unix_duration());
    let not_after = UnixTime::since_unix_epoch(validity.not_after.to_unix_duration());
    if now < not_before {
        return Err(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        });
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext {
            time: now,
            not_after,
        });
    }
    let purposes = certificate.get::<ExtendedKeyUsage>();
    match purposes.map_err(|_| CertificateError::BadEncoding)? {
        Some((_, ExtendedKeyUsage(purposes)))
            if !purposes
                .iter()
                .any(|one| *one == purpose || *one == ANY_PURPOSE) =>
        {
            Err(CertificateError::InvalidPurpose)
        }
        _ => Ok(()),
    }
}
