//! Files that are named twice, so that one would take the place of the other; and warnings of files and
//! directories that others than the sidecar's user and root can write to, and of files with secrets that
//! everybody can read.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use super::{Config, Problem, Resolved, layers::DEFAULT};
use crate::{
    broker::FileSettings,
    permissions::{KEEP_FROM_OTHERS, readable_by_all, takeable_by_others, writable_by_others},
    server::Address,
};

/// The keys of files that the sidecar writes.
const TOKEN_FILE: &str = "broker.file";
const ACCESS_LOG: &str = "log.access_file";
const REFRESH_TOKEN: &str = "auth.refresh_token_file";

/// What is wrong with files that the sidecar writes, `file` being the one that the configuration was read
/// from: none may have the path of another.
pub(super) fn overwritten(
    config: &Config,
    resolved: &[Resolved],
    file: Option<&Path>,
) -> Vec<Problem> {
    let named = resolved.iter().filter(|one| {
        let is_file = one.key.ends_with("_file") || one.key.ends_with("_files");
        is_file && one.source != DEFAULT
    });
    let named = named.map(|one| (one.key.as_str(), PathBuf::from(&one.value)));
    let addresses = [
        ("listen.address", config.listen.addresses.as_slice()),
        ("admin.address", config.admin.address.as_slice()),
        ("broker.address", config.broker.addresses.as_slice()),
    ];
    let sockets = addresses.into_iter().flat_map(|(key, addresses)| {
        addresses.iter().filter_map(move |address| match address {
            Address::Unix(path) => Some((key, path.clone())),
            _ => None,
        })
    });
    let file = file.map(|file| ("the configuration itself", file.to_owned()));
    let others: Vec<_> = named.chain(sockets).chain(file).collect();
    let tokens = (1..).zip(&config.broker.files);
    let tokens = tokens.map(|(number, FileSettings { path, .. })| {
        let what = format!("file {number}: path is that of");
        (TOKEN_FILE, path, what, "which a token would replace")
    });
    let log = config.log.access.file.iter();
    let log = log.map(|path| {
        let what = "is that of".to_owned();
        (ACCESS_LOG, path, what, "which would get its lines")
    });
    let refresh_token = config.refresh_token_file().into_iter();
    let refresh_token = refresh_token.map(|path| {
        let what = "is that of".to_owned();
        (
            REFRESH_TOKEN,
            path,
            what,
            "which the next token would replace",
        )
    });
    let mut problems = Vec::new();
    for (own, path, what, damage) in tokens.chain(log).chain(refresh_token) {
        let place = normal(path);
        let is_there = |(key, other): &&(&str, PathBuf)| {
            let is_same = || fs::canonicalize(other).ok().as_ref() == Some(&place);
            *key != own && (normal(other) == place || is_same())
        };
        if let Some((key, _)) = others.iter().find(is_there) {
            let source = resolved.iter().find(|one| one.key == own);
            let source = source.map_or(DEFAULT, |one| &one.source);
            let text = format!("{what} {key}, {damage}");
            problems.push(Problem::new(own, source, text));
        }
    }
    problems
}

/// A path that can be compared with others: without detours, and its directory without links. The file
/// itself may be a link, and it is the link that has the path.
pub(super) fn normal(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut bare = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                // What is above a link is not what is above its name.
                bare = fs::canonicalize(&bare).unwrap_or(bare);
                bare.pop();
            }
            other => bare.push(other),
        }
    }
    let directory = bare
        .parent()
        .and_then(|parent| fs::canonicalize(parent).ok());
    match (directory, bare.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        _ => bare,
    }
}

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
                "{key}: every user of this machine can read {value}; {KEEP_FROM_OTHERS}"
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
