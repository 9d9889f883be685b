//! The keys of what is listened on: addresses, unix sockets, TLS, and what has to come together.

use std::net::SocketAddr;

use figment::value::Value;
use nix::unistd::{Gid, Group, Uid, User};

use super::{
    Admin, Listen, UnixAccess, net,
    problem::Expected,
    reader::Reader,
    shape::{Parser, Shape},
    sockets, values,
};
use crate::{
    proxy::ProxySettings,
    server::{Address, Peers, TlsSettings},
    tls::{TlsError, TlsVersion},
};

/// Where clients connect, and our side of TLS.
pub(super) fn addresses(reader: &mut Reader) -> (Vec<Address>, Option<TlsSettings>) {
    let inherited = reader.inherited.clone();
    let parser = Shape::List.of(|value: &Value| {
        let addresses = values::each(net::listen_address).parse(value)?;
        sockets::found(&addresses, inherited.as_ref())
    });
    let addresses = reader.value("listen.address", parser);
    let given = reader.find("listen.address").is_some();
    if given && addresses.is_empty() && !reader.has_problem("listen.address") {
        reader.wrong("listen.address", "must hold at least one address");
    }
    if has_twins(&addresses) {
        reader.wrong("listen.address", "must not hold the same address twice");
    }
    let tls = tls(reader);
    if tls.is_none()
        && addresses.iter().any(Address::is_tls)
        && !["listen.tls_cert_file", "listen.tls_key_file"]
            .iter()
            .any(|key| reader.has_problem(key))
    {
        reader.missing("listen.tls_cert_file", &[]);
        reader.missing("listen.tls_key_file", &[]);
    }
    (addresses, tls)
}

/// Whoever comes over the network must prove who it is.
pub(super) fn check_remote(reader: &mut Reader, listen: &Listen) {
    let allow_remote = reader.value("listen.allow_remote", values::boolean);
    let has_tokens = listen.client_tokens_file.is_some();
    let has_ca = |tls: &TlsSettings| tls.client_ca_file.is_some();
    let has_client_ca = listen.tls.as_ref().is_some_and(has_ca);
    for address in listen.addresses.iter().filter(|address| !is_local(address)) {
        if !allow_remote {
            reader.wrong(
                "listen.address",
                "must be a loopback address like 127.0.0.1 or [::1]: \
                 whoever reaches the port acts with the sidecar's credential; \
                 listen.allow_remote = true opens it to clients that prove who they are",
            );
        } else if !(has_tokens || has_client_ca && address.is_tls()) {
            reader.wrong(
                "listen.address",
                format!(
                    "{address} can be reached from the network, so clients must prove who they \
                     are: set listen.client_tokens_file, or make it a tls: address and set \
                     listen.tls_client_ca_file"
                ),
            );
        } else if !address.is_tls() {
            reader.warnings.push(format!(
                "listen.address: the tokens of clients travel unencrypted to {address}; \
                 a tls: address protects them"
            ));
        }
    }
}

/// Whoever comes under another name than localhost over plain HTTP must prove something: of such a
/// site browsers send no `Sec-Fetch-Site`, and with a GET no `Origin` (W3C Fetch Metadata, Secure
/// Contexts §3.1), so that the page of another site cannot be distinguished from a program.
pub(super) fn check_names(reader: &mut Reader, listen: &Listen, proxy: &ProxySettings) {
    const PROOFS: [&str; 2] = ["listen.client_tokens_file", "listen.require_field"];
    let proves = listen.client_tokens_file.is_some() || proxy.required_field.is_some();
    if proves || PROOFS.iter().any(|key| reader.has_problem(key)) {
        return;
    }
    let is_plain = |address: &&Address| address.socket().is_some() && !address.is_tls();
    let plain = listen.addresses.iter().find(is_plain);
    let is_other = proxy
        .allow_hosts
        .iter()
        .any(|name| !net::is_loopback_name(name));
    if let Some(plain) = plain.filter(|_| is_other) {
        reader.wrong(
            "listen.allow_hosts",
            format!(
                "must be localhost or a loopback address at {plain}: under another name over plain \
                 HTTP browsers send no Sec-Fetch-Site, so any web page could use the credential. \
                 Set listen.client_tokens_file or listen.require_field, or have tls: addresses \
                 alone (with listen.tls_client_ca_file clients show a certificate), or unix: ones"
            ),
        );
    }
}

fn is_local(address: &Address) -> bool {
    let mut sockets = address.sockets();
    sockets.all(|address| net::is_loopback(address.ip()))
}

/// Whether two are the same, or would want the same port.
pub(super) fn has_twins(addresses: &[Address]) -> bool {
    addresses.iter().enumerate().any(|(number, address)| {
        let mut later = addresses.iter().skip(number + 1);
        later.any(|other| is_same(address, other))
    })
}

pub(super) fn is_same(a: &Address, b: &Address) -> bool {
    let fixed = |address: &Address| address.sockets().filter(|socket| socket.port() != 0);
    let mut all = fixed(a);
    all.any(|one| fixed(b).any(|other| one == other)) || a == b && a.socket().is_none()
}

fn tls(reader: &mut Reader) -> Option<TlsSettings> {
    const CERTIFICATE: &str = "listen.tls_cert_file";
    const KEY: &str = "listen.tls_key_file";
    const CLIENT_CA: &str = "listen.tls_client_ca_file";

    let cert_file = reader.optional(CERTIFICATE, values::path);
    let key_file = reader.optional(KEY, values::path);
    let client_ca_file = reader.optional(CLIENT_CA, values::path);
    let min_version = reader.value(
        "listen.tls_min_version",
        values::one_of(&[
            ("1.2", Some(TlsVersion::Tls12)),
            ("1.3", Some(TlsVersion::Tls13)),
        ]),
    );
    let (cert_file, key_file) = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => (cert_file, key_file),
        (Some(_), None) => {
            if !reader.has_problem(KEY) {
                reader.missing(KEY, &[]);
            }
            return None;
        }
        (None, Some(_)) => {
            if !reader.has_problem(CERTIFICATE) {
                reader.missing(CERTIFICATE, &[]);
            }
            return None;
        }
        (None, None) => {
            if client_ca_file.is_some() {
                reader.missing(CERTIFICATE, &[]);
                reader.missing(KEY, &[]);
            }
            return None;
        }
    };
    let settings = TlsSettings {
        cert_file,
        key_file,
        client_ca_file,
        min_version: min_version?,
    };
    // Read once now, to see that they are what they should be.
    match settings.load() {
        Ok(files) => {
            let broken = files.broken.iter();
            let warnings = broken.map(|text| format!("{CLIENT_CA}: {text}"));
            reader.warnings.extend(warnings);
        }
        Err(error) => {
            let key = match &error {
                TlsError::NoCertificate { path }
                | TlsError::NotRegular { path }
                | TlsError::Unreadable { path, .. } => {
                    if *path == settings.cert_file {
                        CERTIFICATE
                    } else if Some(path) == settings.client_ca_file.as_ref() {
                        CLIENT_CA
                    } else {
                        KEY
                    }
                }
                _ => KEY,
            };
            reader.wrong(key, error.to_string());
        }
    }
    Some(settings)
}

/// The files of unix sockets.
pub(super) fn unix(reader: &mut Reader) -> UnixAccess {
    UnixAccess {
        mode: reader.value("listen.unix_mode", mode),
        owner: reader.optional("listen.unix_owner", |value: &Value| {
            user(&values::text(value)?)
        }),
        group: reader.optional("listen.unix_group", |value: &Value| {
            group(&values::text(value)?)
        }),
    }
}

/// Who may use them. Members of a group are looked up now: at a connection there is no time for it.
pub(super) fn peers(reader: &mut Reader) -> Peers {
    peers_of(reader, "listen.allow_users", "listen.allow_groups")
}

/// The same for another listener.
pub(super) fn peers_of(reader: &mut Reader, users: &str, groups: &str) -> Peers {
    let mut users = reader.value(users, values::each(user));
    let groups = reader.value(groups, values::each(group));
    for group in &groups {
        let found = Group::from_gid(Gid::from_raw(*group)).ok().flatten();
        let names = found.into_iter().flat_map(|group| group.mem);
        let members = names.filter_map(|name| User::from_name(&name).ok().flatten());
        users.extend(members.map(|user| user.uid.as_raw()));
    }
    Peers { users, groups }
}

/// Permissions, as `chmod` writes them.
fn mode(value: &Value) -> Result<u32, Expected> {
    let text = value.as_str().map(str::trim).unwrap_or_default();
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| (3..=4).contains(&text.len()) && mode & !0o777 == 0 && mode & 0o600 == 0o600)
        .ok_or_else(|| {
            r#"must be permissions like "0600" or "0660", in quotes; the owner's are needed"#
                .to_owned()
        })
}

pub(super) fn user(text: &str) -> Result<u32, Expected> {
    let known = || User::from_name(text).ok().flatten();
    // The last number is none: system calls mean by it that nothing is to change.
    let id = text.parse().ok().filter(|id| *id != u32::MAX);
    id.or_else(|| known().map(|user| Uid::as_raw(user.uid)))
        .ok_or_else(|| "must be users that this system knows, or their numbers".to_owned())
}

pub(super) fn group(text: &str) -> Result<u32, Expected> {
    let known = || Group::from_name(text).ok().flatten();
    // The last number is none: system calls mean by it that nothing is to change.
    let id = text.parse().ok().filter(|id| *id != u32::MAX);
    id.or_else(|| known().map(|group| Gid::as_raw(group.gid)))
        .ok_or_else(|| "must be groups that this system knows, or their numbers".to_owned())
}

/// The admin listener.
pub(super) fn admin(reader: &mut Reader, listeners: &[Address]) -> Admin {
    let allow_remote = reader.value("admin.allow_remote", values::boolean);
    let inherited = reader.inherited.clone();
    let address = reader.value(
        "admin.address",
        net::admin_address(allow_remote, inherited.as_ref()),
    );
    let is_taken = |address: &Address| listeners.iter().any(|other| is_same(address, other));
    if address.as_ref().is_some_and(is_taken) {
        reader.wrong("admin.address", "must not be one of listen.address");
    }
    Admin {
        address,
        allow_quit: reader.value("admin.allow_quit", values::boolean),
    }
}

/// The ports among the addresses.
pub(super) fn sockets(addresses: &[Address]) -> Vec<SocketAddr> {
    addresses.iter().flat_map(Address::sockets).collect()
}
