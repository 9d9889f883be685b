//! `auth-sidecar local-ca`: makes an authority of this machine's own and certificates of it, and
//! says how programs come to trust them.
//!
//! The authority's key never leaves this function: whoever trusts the authority trusts the
//! certificates that were made together with it, and none that somebody makes later.

mod advice;
mod files;

use std::{
    io::Write,
    net::IpAddr,
    path::{Path, absolute},
    str::FromStr,
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};
use rustls::pki_types::DnsName;
use secrecy::zeroize::Zeroizing;

pub use self::files::Collision;
use self::files::Files;

/// What a certificate can be for: the name of a host, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

/// What a client is called in its certificate and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName(String);

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// Names of the sidecar besides `localhost`, 127.0.0.1 and `::1`.
    pub names: &'a [HostName],
    /// Clients that get a certificate of their own.
    pub clients: &'a [ClientName],
    /// Where the files go; made where there is none.
    pub directory: &'a Path,
    /// Whether files that are there already may be replaced.
    pub replace: bool,
}

/// The longest that Apple's programs accept, and so what everybody does.
const LIFE: Duration = Duration::from_secs(825 * 24 * 60 * 60);

/// A clock that is behind by less believes a new certificate.
const SLACK: Duration = Duration::from_secs(60 * 60);

/// What every certificate of a sidecar is for.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes the files, and writes to `output` what to do with them.
///
/// # Errors
/// When a file is there already and may not be replaced, or cannot be written; with a [`Collision`] when
/// two clients want the same file.
pub fn make(wish: &Wish<'_>, output: &mut impl Write) -> anyhow::Result<()> {
    let directory = absolute(wish.directory)?;
    if directory.to_str().is_none() {
        bail!(
            "{}: the sidecar's configuration can name a directory only where that is UTF-8",
            directory.display()
        );
    }
    let mut clients: Vec<ClientName> = Vec::new();
    for client in wish.clients {
        if !clients.contains(client) {
            clients.push(client.clone());
        }
    }
    let wish = &Wish {
        clients: &clients,
        ..wish.clone()
    };
    let mut names: Vec<_> = OWN_NAMES.map(str::to_owned).into();
    for HostName(name) in wish.names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let files = Files::open(&directory, wish)?;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let (ca, authority) = authority(&names, now)?;
    let (certificate, key) = leaf(
        "auth-sidecar",
        &names,
        ExtendedKeyUsagePurpose::ServerAuth,
        &authority,
        now,
    )?;
    let mut pairs = Vec::new();
    for ClientName(name) in wish.clients {
        let purpose = ExtendedKeyUsagePurpose::ClientAuth;
        pairs.push((name, leaf(name, &[], purpose, &authority, now)?));
    }
    // Keys first: a running sidecar takes up the new pair when its certificate has come.
    for (name, (certificate, key)) in &pairs {
        files.write_secret(&files::client_key(name), key)?;
        files.write(&files::client_certificate(name), certificate)?;
    }
    files.write_secret(files::KEY, &key)?;
    files.write(files::CERTIFICATE, &certificate)?;
    files.write(files::CA, &ca)?;
    let end = SystemTime::UNIX_EPOCH + now + LIFE;
    advice::write(&directory, wish, &names, end, output)?;
    Ok(())
}

/// An authority that can vouch for these names only, and only for what is signed by its key here
/// and now.
fn authority(
    names: &[String],
    now: Duration,
) -> anyhow::Result<(String, Issuer<'static, KeyPair>)> {
    let mut params = params("auth-sidecar local authority", &[], now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.iter().map(|name| subtree(name)).collect(),
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}

fn subtree(name: &str) -> GeneralSubtree {
    match name.parse() {
        Ok(address @ IpAddr::V4(_)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 32))
        }
        Ok(address @ IpAddr::V6(_)) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 128))
        }
        Err(_) => GeneralSubtree::DnsName(name.to_owned()),
    }
}

/// A certificate and its key.
fn leaf(
    subject: &str,
    names: &[String],
    purpose: ExtendedKeyUsagePurpose,
    authority: &Issuer<'_, KeyPair>,
    now: Duration,
) -> anyhow::Result<(String, Zeroizing<String>)> {
    let mut params = params(subject, names, now)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?.pem();
    Ok((certificate, Zeroizing::new(key.serialize_pem())))
}

fn params(subject: &str, names: &[String], now: Duration) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(SLACK);
    params.not_after = epoch + now + LIFE;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    Ok(params)
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        let name = DnsName::try_from(text.to_ascii_lowercase());
        name.map(|name| Self(name.as_ref().to_owned()))
            .map_err(|_| "must be the name of a host, like sidecar.example, or an IP address")
    }
}

impl FromStr for ClientName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        is_name
            .then(|| Self(text.to_owned()))
            .ok_or("must be at most 64 letters, digits, '-', '_' and '.', the first no sign")
    }
}
