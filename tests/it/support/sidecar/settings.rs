//! What a test configures: the least that works between the fakes, and then key by key.

use std::{
    collections::BTreeMap,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use auth_sidecar::config::{Config, Sources};
use serde_json::{Value, json};

use super::super::{API_TOKEN, CLIENT_ID, CLIENT_SECRET, FakeCsp, FakeService};

/// The keys of a configuration file, and the files that it names.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Section, then key; values as in JSON, whose scalars and lists TOML reads as its own.
    sections: BTreeMap<String, BTreeMap<String, Value>>,
    files: BTreeMap<String, String>,
}

impl Settings {
    /// Ports of its own choice, and an upstream; no credentials yet.
    pub fn to(upstream: &str) -> Self {
        Self::default()
            .set("listen.address", "127.0.0.1:0")
            // More than one, so that every test also crosses threads, whatever the machine.
            .set("listen.workers", 2)
            .set("admin.address", "127.0.0.1:0")
            .set("upstream.url", upstream)
    }

    /// `csp-oauth-app`.
    pub fn new(csp: &FakeCsp, service: &FakeService) -> Self {
        Self::to(&service.url())
            .set("auth.type", "csp-oauth-app")
            .set("auth.base_url", csp.base_url())
            .set("auth.client_id", CLIENT_ID)
            .set("auth.client_secret", CLIENT_SECRET)
    }

    /// `csp-api-token`.
    pub fn api_token(csp: &FakeCsp, service: &FakeService) -> Self {
        Self::to(&service.url())
            .set("auth.type", "csp-api-token")
            .set("auth.base_url", csp.base_url())
            .set("auth.api_token", API_TOKEN)
    }

    /// `oauth2-client-credentials`.
    pub fn oauth2(csp: &FakeCsp, service: &FakeService) -> Self {
        Self::to(&service.url())
            .set("auth.type", "oauth2-client-credentials")
            .set("auth.token_url", csp.oauth2_url())
            .set("auth.client_id", CLIENT_ID)
            .set("auth.client_secret", CLIENT_SECRET)
    }

    /// `static-token`.
    pub fn static_token(token: &str, service: &FakeService) -> Self {
        Self::to(&service.url())
            .set("auth.type", "static-token")
            .set("auth.token", token)
    }

    /// Sets `section.key`: a string, a number, a boolean, a list or (as `json!`) a table.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let (section, key) = key.split_once('.').unwrap();
        self.sections
            .entry(section.to_owned())
            .or_default()
            .insert(key.to_owned(), value.into());
        self
    }

    pub fn unset(mut self, key: &str) -> Self {
        let (section, key) = key.split_once('.').unwrap();
        let removed = self.sections.get_mut(section).unwrap().remove(key);
        assert!(removed.is_some(), "{section}.{key} was not set");
        self
    }

    /// Sets `section.key` to the path of a file with this text, named like the key.
    pub fn file(mut self, key: &str, text: &str) -> Self {
        self.files.insert(key.to_owned(), text.to_owned());
        self
    }

    pub fn has_admin(&self) -> bool {
        let address = self
            .sections
            .get("admin")
            .and_then(|keys| keys.get("address"));
        !matches!(address.and_then(Value::as_str), Some("" | "off"))
    }

    /// Writes the configuration and its files, and says where.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let mut whole = self.clone();
        for (key, text) in &self.files {
            let path = replace(directory, key, text);
            whole = whole.set(key, path.to_str().unwrap());
        }
        replace(directory, "auth-sidecar.toml", &whole.toml())
    }

    /// What the sidecar makes of it.
    pub fn load(&self, directory: &Path) -> anyhow::Result<Config> {
        let sources = Sources::of_file(self.write(directory));
        Ok(Config::load(&sources)?.config)
    }

    fn toml(&self) -> String {
        let mut lines = Vec::new();
        for (section, keys) in &self.sections {
            lines.push(format!("[{section}]"));
            lines.extend(
                keys.iter()
                    .map(|(key, value)| format!("{key} = {}", toml(value))),
            );
        }
        lines.join("\n")
    }
}

/// Writes a file so that no reader sees half of it.
pub fn replace(directory: &Path, name: &str, text: &str) -> PathBuf {
    let (path, new) = (directory.join(name), directory.join("new"));
    std::fs::write(&new, text).unwrap();
    // Many hold secrets, and the sidecar warns of those that others can read.
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    // A directory that is another user's is that of a sidecar that runs as it.
    let owner = std::fs::metadata(directory).unwrap().uid();
    std::os::unix::fs::chown(&new, Some(owner), None).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path
}

fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs = table
                .iter()
                .map(|(key, value)| format!("{} = {}", json!(key), toml(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}
