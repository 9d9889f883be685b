//! Certificates, from authorities that exist for one test.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub ca_pem: String,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub cert_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);

        let mut authority = CertificateParams::default();
        // Two of one name would be taken for one with a bad signature.
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca_pem = authority.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(authority, key),
            ca_pem,
        }
    }

    /// For `localhost` and 127.0.0.1.
    pub fn leaf(&self) -> Leaf {
        self.leaf_with(|_| {})
    }

    /// The same with a change.
    pub fn leaf_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.signed(&["localhost", "127.0.0.1"], change)
    }

    /// For these names, to the end of that year.
    pub fn leaf_for(&self, names: &[&str], year: i32) -> Leaf {
        self.signed(names, |parameters| {
            parameters.not_after = date_time_ymd(year, 12, 31);
        })
    }

    fn signed(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = date_time_ymd(2001, 1, 1);
        parameters.not_after = date_time_ymd(2099, 12, 31);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.ca_pem.as_bytes());
        roots.add(certificate.unwrap()).unwrap();
        roots
    }
}

impl Leaf {
    pub fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.cert_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes());
        (vec![certificate.unwrap()], key.unwrap())
    }
}
