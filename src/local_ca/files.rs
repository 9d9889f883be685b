//! The files of a local authority: keys for their owner alone, and never half of one.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, bail};
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

/// A directory that they can be written to.
#[derive(Debug)]
pub(super) struct Files<'a>(&'a Path);

impl<'a> Files<'a> {
    /// Makes the directory, and sees that nothing is lost by what comes.
    pub(super) fn open(directory: &'a Path, wish: &Wish<'_>) -> anyhow::Result<Self> {
        let mut builder = DirBuilder::new();
        // Others read the certificates of clients' authorities there; keys have a mode of their own.
        builder.recursive(true).mode(0o755);
        builder
            .create(directory)
            .with_context(|| directory.display().to_string())?;
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
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        put().with_context(|| format!("cannot write {}", path.display()))
    }
}
