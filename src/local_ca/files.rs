//! The files of a local authority: keys for their owner alone, and never half of one.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};
use rustix::fs::OFlags;
use secrecy::zeroize::Zeroizing;

use super::{ClientName, Wish};

pub(super) const CA: &str = "ca.pem";
pub(super) const CERTIFICATE: &str = "cert.pem";
pub(super) const KEY: &str = "key.pem";

pub(super) fn client_certificate(name: &str) -> String {
    format!("client-{name}.pem")
}

pub(super) fn client_key(name: &str) -> String {
    format!("client-{name}-key.pem")
}

/// Two clients, a file of one of which would replace one of the other's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--client {first} and --client {second} would both have the file {file}; give one of them another name"
)]
pub struct Collision {
    first: String,
    second: String,
    file: String,
}

/// Sees that each client has files of its own: the certificate of `a-key` would replace the key of `a`.
fn distinct(clients: &[ClientName]) -> Result<(), Collision> {
    let mut taken = BTreeMap::new();
    for ClientName(name) in clients {
        for file in [client_certificate(name), client_key(name)] {
            if let Some(first) = taken.insert(file.clone(), name) {
                return Err(Collision {
                    first: first.clone(),
                    second: name.clone(),
                    file,
                });
            }
        }
    }
    Ok(())
}

/// A directory that they can be written to.
#[derive(Debug)]
pub(super) struct Files<'a>(&'a Path);

impl<'a> Files<'a> {
    /// Makes the directory, and sees that nothing is lost by what comes.
    pub(super) fn open(directory: &'a Path, wish: &Wish<'_>) -> anyhow::Result<Self> {
        distinct(wish.clients)?;
        make_directory(directory).with_context(|| directory.display().to_string())?;
        if !wish.replace {
            let clients = wish.clients.iter();
            let clients =
                clients.flat_map(|ClientName(name)| [client_certificate(name), client_key(name)]);
            let names = [CA, CERTIFICATE, KEY].map(str::to_owned);
            for name in names.into_iter().chain(clients) {
                let path = directory.join(name);
                if fs::symlink_metadata(&path).is_ok() {
                    bail!(
                        "{} is there already; --replace makes all files anew, and whoever trusts \
                         the old ca.pem must then be given the new one",
                        path.display()
                    );
                }
            }
        }
        Ok(Self(directory))
    }

    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        self.put(name, text, 0o644)
    }

    pub(super) fn write_secret(&self, name: &str, text: &Zeroizing<String>) -> anyhow::Result<()> {
        self.put(name, text, 0o600)
    }

    /// Beside it first, then in its place: whoever reads sees the old one or the new one.
    fn put(&self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.0.join(name);
        let new = self.0.join(format!(".{name}.new"));
        let put = || {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&new)?;
            // Whatever the mask: who is to trust the authority must be able to read it.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        put().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Makes a directory, and those on the way to it, in which others can read the certificates; keys have a
/// mode of their own. Those that are there already stay as they are.
fn make_directory(directory: &Path) -> io::Result<()> {
    const MODE: u32 = 0o755;
    let missing: Vec<_> = directory
        .ancestors()
        .take_while(|one| !one.exists())
        .collect();
    for missing in missing.into_iter().rev() {
        match DirBuilder::new().mode(MODE).create(missing) {
            // Whatever the mask.
            Ok(()) => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let made = OpenOptions::new()
                    .read(true)
                    .custom_flags(flags.bits().cast_signed())
                    .open(missing)?;
                made.set_permissions(Permissions::from_mode(MODE))?;
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && missing.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    if directory.is_dir() {
        Ok(())
    } else {
        Err(ErrorKind::NotADirectory.into())
    }
}
