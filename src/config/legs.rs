//! What both ways out have: TLS, and maybe a proxy.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use figment::value::Value;
use url::Url;

use super::{
    net,
    reader::Reader,
    shape::{Parser, Shape},
    values,
};
use crate::{
    outbound::{NoProxy, OutboundProxy},
    tls::{Authorities, Identity, TlsError, TlsSettings, TlsVersion},
};

/// Whom to trust and who we are, by the keys of that section.
pub(super) fn tls(reader: &mut Reader, section: &str) -> TlsSettings {
    let ca_file = reader.optional(&format!("{section}.ca_file"), values::ca_file);
    let authorities = ca_file.as_ref().map(|path| Authorities::of_file(path));
    let broken = authorities.and_then(Result::ok).map(|found| found.broken);
    for text in broken.into_iter().flatten() {
        reader.warnings.push(format!("{section}.ca_file: {text}"));
    }
    let identity = identity(reader, section);
    let min_version = reader.value(&format!("{section}.min_tls_version"), tls_version());
    TlsSettings {
        ca_file,
        identity,
        min_version,
    }
}

fn identity(reader: &mut Reader, section: &str) -> Option<Identity> {
    let cert_key = format!("{section}.client_cert_file");
    let key_key = format!("{section}.client_key_file");
    let cert_file = reader.optional(&cert_key, values::path);
    let key_file = reader.optional(&key_key, values::path);
    let (cert_file, key_file) = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => (cert_file, key_file),
        (Some(_), None) if !reader.has_problem(&key_key) => {
            reader.wrong(&cert_key, format!("also needs {key_key}"));
            return None;
        }
        (None, Some(_)) if !reader.has_problem(&cert_key) => {
            reader.wrong(&key_key, format!("also needs {cert_key}"));
            return None;
        }
        _ => return None,
    };
    let identity = Identity {
        cert_file,
        key_file,
    };
    // Read once now, so that a mistake is found at the start.
    if let Err(error) = identity.load() {
        let is_of_cert = match &error {
            TlsError::NoCertificate { .. } => true,
            TlsError::Unreadable { path, .. } | TlsError::NotRegular { path } => {
                *path == identity.cert_file
            }
            _ => false,
        };
        let key = if is_of_cert { cert_key } else { key_key };
        reader.wrong(&key, error.to_string());
        return None;
    }
    let path = &identity.key_file;
    // Not the group: secret volumes of Kubernetes are made readable by theirs.
    if fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0) {
        let path = path.display();
        let warning = format!("{key_key}: every user of this machine can read {path}");
        reader.warnings.push(warning);
    }
    Some(identity)
}

fn tls_version() -> impl Parser<TlsVersion> {
    let versions = ["1.2", "1.3"].map(str::to_owned);
    Shape::OneOf(versions.to_vec()).of(|value: &Value| match value.as_str().map(str::trim) {
        Some("1.2") => Ok(TlsVersion::Tls12),
        Some("1.3") => Ok(TlsVersion::Tls13),
        _ => Err(r#"must be "1.2" or "1.3", in quotes"#.to_owned()),
    })
}

/// The HTTP proxy on the way, by the keys of that section.
pub(super) fn proxy(reader: &mut Reader, section: &str) -> Option<OutboundProxy> {
    let url = reader.optional(&format!("{section}.proxy_url"), net::proxy_url);
    let no_proxy = no_proxy(reader, &format!("{section}.no_proxy"));
    let password_file = password_file(reader, section, url.as_ref());
    Some(OutboundProxy {
        url: url?,
        password_file,
        no_proxy,
    })
}

fn no_proxy(reader: &mut Reader, key: &str) -> NoProxy {
    let entries = reader.optional(key, values::no_proxy()).unwrap_or_default();
    let (no_proxy, unknown) = NoProxy::parse(entries.iter().map(String::as_str));
    for number in unknown {
        reader.warnings.push(format!(
            "{key}: entry {number} means nothing here, and what it was to except goes through the \
             proxy; write names (h.example, .h.example, *.h.example), addresses or networks \
             (10.0.0.0/8), or *, each but networks and * with a :port where only that is meant"
        ));
    }
    no_proxy
}

/// The file of the proxy's password, which belongs to the user in its address.
fn password_file(reader: &mut Reader, section: &str, proxy: Option<&Url>) -> Option<PathBuf> {
    let (key, url_key) = (
        format!("{section}.proxy_password_file"),
        format!("{section}.proxy_url"),
    );
    let file = reader.secret_in_file(&key)?;
    match proxy {
        None if reader.has_problem(&url_key) => {}
        None => reader.wrong(&key, format!("also needs {url_key}")),
        Some(url) if url.password().is_some() => {
            let text = format!("set twice: {url_key} has a password, too; keep one");
            reader.wrong(&key, text);
        }
        Some(url) if url.username().is_empty() => {
            let text =
                format!("needs the user in {url_key}, like \"http://user@proxy.example:3128\"");
            reader.wrong(&key, text);
        }
        Some(_) => {}
    }
    Some(file)
}

/// Notes an `http://` address that counts as safe because it names this machine, where a proxy on
/// another machine would be asked for it: there the name means somebody else.
pub(super) fn reject_plain_detour(
    reader: &mut Reader,
    section: &str,
    target: &Url,
    proxy: Option<&OutboundProxy>,
) {
    let insecure = reader.find(&format!("{section}.allow_insecure_http"));
    let is_accepted = insecure.is_some_and(|found| values::boolean(&found.value) == Ok(true));
    let leads_away = |proxy: &OutboundProxy| proxy.is_for(target) && !net::is_local(&proxy.url);
    if target.scheme() == "http" && !is_accepted && proxy.is_some_and(leads_away) {
        let text = format!(
            "takes an http:// address to another machine, and everybody on the way can read the \
             credential; list its host in {section}.no_proxy, use https://, or accept it with \
             {section}.allow_insecure_http = true"
        );
        reader.wrong(&format!("{section}.proxy_url"), text);
    }
}
