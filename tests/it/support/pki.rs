//! Certificates, from authorities that exist for one test.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

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
    /// Signed by its own key and marked as an authority (CA:TRUE), as OpenSSL makes them unasked; for
    /// these names, to the end of that year.
    pub fn self_signed(names: &[&str], year: i32) -> Self {
        Self::self_signed_with(names, |parameters| {
            parameters.not_after = date_time_ymd(year, 12, 31);
        })
    }

    /// The same with a change.
    pub fn self_signed_with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.not_before = date_time_ymd(2001, 1, 1);
        parameters.not_after = date_time_ymd(2099, 12, 31);
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        Self {
            cert_pem: parameters.self_signed(&key).unwrap().pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// What `openssl req -x509` makes with these arguments besides, for `localhost` and 127.0.0.1.
    pub fn of_openssl(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fixed = "req -x509 -nodes -keyout key.pem -out cert.pem -subj /CN=localhost -addext \
                     subjectAltName=DNS:localhost,IP:127.0.0.1";
        openssl(directory.path(), fixed, arguments);
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        Self {
            cert_pem: read("cert.pem"),
            key_pem: read("key.pem"),
        }
    }

    /// Of an authority that OpenSSL makes with keys and signatures by these arguments, as is the
    /// certificate; and the authority's own certificate.
    pub fn of_openssl_authority(arguments: &[&str]) -> (Self, String) {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let ca = "req -x509 -nodes -keyout ca-key.pem -out ca.pem -subj /CN=authority";
        openssl(at, ca, arguments);
        let request = "req -new -nodes -keyout key.pem -out request.pem -subj /CN=localhost";
        openssl(at, request, arguments);
        fs::write(
            at.join("names"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
        )
        .unwrap();
        let sign = "x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out cert.pem \
                    -extfile names";
        let hash: Vec<_> = arguments
            .iter()
            .copied()
            .filter(|it| it.starts_with("-sha"))
            .collect();
        openssl(at, sign, &hash);
        let read = |name: &str| fs::read_to_string(at.join(name)).unwrap();
        let leaf = Self {
            cert_pem: read("cert.pem"),
            key_pem: read("key.pem"),
        };
        (leaf, read("ca.pem"))
    }

    pub fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_slice(self.cert_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes());
        (vec![certificate.unwrap()], key.unwrap())
    }
}

fn openssl(directory: &Path, fixed: &str, arguments: &[&str]) {
    let done = Command::new("openssl")
        .current_dir(directory)
        .args(fixed.split_whitespace())
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}
