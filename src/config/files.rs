//! Warnings of files and directories that others than the sidecar's user and root can write to, and
//! of files with secrets that everybody can read.

use std::path::Path;

use super::{Config, Resolved, layers::DEFAULT};
use crate::{
    broker::FileSettings,
    permissions::{readable_by_all, takeable_by_others, writable_by_others},
    server::Address,
};

/// Warnings about the files of a configuration, `file` being the one that it was read from.
pub(super) fn warnings(config: &Config, resolved: &[Resolved], file: Option<&Path>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(file) = file {
        warnings
            .extend(writable_by_others(file).map(|found| format!("the configuration: {found}")));
        if holds_secret(resolved) && readable_by_all(file) {
            let path = file.display();
            warnings.push(format!(
                "the configuration: it holds a secret, and every user of this machine can read \
                 {path}; chmod o-r {path} takes that away"
            ));
        }
    }
    for Resolved { key, value, source } in resolved {
        // Whatever file is named, it is there for a reason.
        if !key.ends_with("_file") || source == DEFAULT {
            continue;
        }
        let path = Path::new(value);
        warnings.extend(writable_by_others(path).map(|found| format!("{key}: {found}")));
        // Those that are secrets themselves are looked at where they are read.
        if (key == "listen.tls_key_file" || key.ends_with("_next_file")) && readable_by_all(path) {
            warnings.push(format!(
                "{key}: every user of this machine can read {value}; chmod o-r takes that away"
            ));
        }
    }
    let listen = config.listen.addresses.iter();
    let listen = listen.map(|address| ("listen.address", address));
    let admin = config.admin.address.iter();
    let admin = admin.map(|address| ("admin.address", address));
    let broker = config.broker.addresses.iter();
    let broker = broker.map(|address| ("broker.address", address));
    for (key, address) in listen.chain(admin).chain(broker) {
        if let Address::Unix(path) = address
            && let Some(found) = takeable_by_others(path)
        {
            warnings.push(format!(
                "{key}: others can put a socket of theirs in the place of the sidecar's, and collect what \
                 clients send: {found}; or choose a directory of the sidecar's own"
            ));
        }
    }
    for FileSettings { path, mode, .. } in &config.broker.files {
        if mode & 0o004 != 0 {
            let path = path.display();
            warnings.push(format!(
                "broker.file: every user of this machine can read the token in {path}"
            ));
        }
        if let Some(found) = takeable_by_others(path) {
            warnings.push(format!(
                "broker.file: others can put something else in the place of {}: {found}; or choose a \
                 directory of the sidecar's own",
                path.display()
            ));
        }
    }
    warnings
}

/// Whether a secret stands in the file itself.
fn holds_secret(resolved: &[Resolved]) -> bool {
    let is_inline = |one: &Resolved| one.value == "(set)" && one.source.starts_with("file ");
    resolved.iter().any(is_inline)
}
