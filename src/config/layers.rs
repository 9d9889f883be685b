//! The layers of a configuration, each value with the place that it came from: defaults, file,
//! names of the ecosystem, our own names, flags; later ones win.

mod environment;
mod file;

pub(super) use self::file::convert;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    util::nest,
    value::{Dict, Map, Value},
};

use super::{Flags, Sources, auth::CredentialKind, problem::Problem};
use crate::named_file;

/// What the defaults give as their place.
pub(super) const DEFAULT: &str = "default";

/// The full configuration file is the layer of defaults, so the two cannot drift apart.
pub(super) const DEFAULTS: &str = include_str!("../../config/auth-sidecar.toml");

/// All that was given, merged, and what was wrong with it so far.
/// It cannot be printed: it holds the secrets as they were given.
#[derive(Default)]
pub(super) struct Layers {
    pub(super) figment: Figment,
    /// The first layer alone.
    pub(super) defaults: Figment,
    /// The file, once it was read.
    pub(super) file: Option<PathBuf>,
    pub(super) strays: Vec<Stray>,
    /// The kinds of credentials that variables of the ecosystem imply, with their places.
    pub(super) implied: Vec<Implied>,
    pub(super) problems: Vec<Problem>,
    /// Keys whose value was given but could not be read: they are not missing.
    pub(super) unread: BTreeSet<String>,
    /// The file could not be read, so nothing can be called missing.
    pub(super) incomplete: bool,
    is_reload: bool,
}

/// A kind of credentials that a variable of the ecosystem implies.
pub(super) struct Implied {
    pub(super) kind: &'static CredentialKind,
    /// The key that it sets.
    pub(super) key: &'static str,
    pub(super) source: String,
}

/// A name that cannot be a key.
pub(super) struct Stray {
    pub(super) name: String,
    pub(super) source: String,
    /// A section without keys says nothing; only its name may be a mistake.
    pub(super) is_empty_section: bool,
}

impl Layers {
    pub(super) fn collect(sources: &Sources) -> Self {
        let Sources {
            flags,
            environment: variables,
            inherited: _,
            is_reload,
        } = sources;
        let mut layers = Self {
            is_reload: *is_reload,
            ..Self::default()
        };
        layers.merge_toml(DEFAULTS, &|_| DEFAULT.to_owned());
        layers.defaults = layers.figment.clone();
        let environment = layers.own_environment(variables);
        match (&flags.config, environment.get("AUTH_SIDECAR_CONFIG")) {
            (Some(path), _) => layers.merge_file(path, "flag --config"),
            (None, Some(path)) => {
                layers.merge_file(
                    &PathBuf::from(path),
                    "environment variable AUTH_SIDECAR_CONFIG",
                );
            }
            (None, None) => {}
        }
        layers.merge_ecosystem(&environment);
        layers.merge_environment(&environment);
        layers.merge_flags(flags);
        layers.join_no_proxy(variables);
        layers
    }

    /// Reads a text that a path names.
    fn text(&self, path: &Path) -> io::Result<String> {
        if self.is_reload {
            named_file::text_again(path)
        } else {
            named_file::text(path)
        }
    }

    fn merge_flags(&mut self, flags: &Flags) {
        for (flag, key, value) in [
            ("--listen", "listen.address", &flags.listen),
            ("--upstream", "upstream.url", &flags.upstream),
            ("--admin", "admin.address", &flags.admin),
            ("--log-level", "log.level", &flags.log_level),
            ("--log-format", "log.format", &flags.log_format),
        ] {
            if let Some(value) = value {
                self.merge(key, Value::from(value.as_str()), format!("flag {flag}"));
            }
        }
    }

    /// Puts one value under what is there.
    fn join(&mut self, key: &str, value: Value, source: String) {
        let key = key.to_owned();
        let entry = Entry { key, value, source };
        self.figment = std::mem::take(&mut self.figment).join(entry);
    }

    /// Puts one value over what is there.
    fn merge(&mut self, key: impl Into<String>, value: Value, source: impl Into<String>) {
        let entry = Entry {
            key: key.into(),
            value,
            source: source.into(),
        };
        self.figment = std::mem::take(&mut self.figment).merge(entry);
    }
}

/// One value as a layer of its own, so that it keeps the name of its place.
struct Entry {
    key: String,
    value: Value,
    source: String,
}

impl Provider for Entry {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let sections = nest(&self.key, self.value.clone());
        let sections = sections.into_dict().unwrap_or_default();
        Ok(Profile::Default.collect(sections))
    }
}
