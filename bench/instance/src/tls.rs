//! A certificate authority for one run, and the server side of TLS with a certificate of it.

use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use crate::Result;

/// Writes the authority's certificate to `ca_file`. The server's is for localhost and 127.0.0.1.
pub fn acceptor(ca_file: &Path) -> Result<TlsAcceptor> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new([])?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another name than that of the server's certificate, which would look self-signed otherwise.
    ca.distinguished_name
        .push(DnType::CommonName, "bench authority");
    fs::write(ca_file, ca.self_signed(&ca_key)?.pem())?;

    let key = KeyPair::generate()?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate =
        CertificateParams::new(names)?.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
