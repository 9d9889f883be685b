//! The environment layers: our own names, and the names that the ecosystem already uses.
//!
//! Values stay the text that they are: nothing here reads `0123` as a number or drops quotes.

use std::{collections::BTreeMap, ffi::OsString};

use figment::value::Value;

use super::{
    super::{
        auth::{CredentialKind, KINDS, Variable},
        problem::Problem,
        values,
    },
    Implied, Layers, Stray,
};
use crate::text;

const PREFIX: &str = "AUTH_SIDECAR_";

/// The names that imply no kind of credentials.
static OF_ANY_KIND: [Variable; 2] = [
    Variable {
        name: "WAVEFRONT_URL",
        key: "upstream.url",
        secret: false,
    },
    Variable {
        name: "CSP_API_URL",
        key: "auth.base_url",
        secret: false,
    },
];

/// The names of the ecosystem, with the kind of credentials that each implies.
fn ecosystem() -> impl Iterator<Item = (&'static Variable, Option<&'static CredentialKind>)> {
    let of_kind = |kind: &'static CredentialKind| {
        let variables = kind.variables.iter();
        variables.map(move |variable| (variable, Some(kind)))
    };
    let of_any = OF_ANY_KIND.iter().map(|variable| (variable, None));
    of_any.chain(KINDS.into_iter().flat_map(of_kind))
}

fn place(name: &str) -> String {
    format!("environment variable {name}")
}

impl Layers {
    /// The variables that are ours to read and not empty.
    pub(super) fn own_environment(
        &mut self,
        variables: &[(OsString, OsString)],
    ) -> BTreeMap<String, String> {
        let mut own = BTreeMap::new();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            let bare = name.strip_suffix("_FILE").unwrap_or(&name);
            let known = ecosystem().find(|(known, _)| known.name == bare);
            let key = match (known, name.strip_prefix(PREFIX)) {
                (Some((known, _)), _) => known.key.to_owned(),
                (None, Some(rest)) if !is_service_link(rest) => key_of(rest),
                _ => continue,
            };
            match value.to_str() {
                Some("") => {}
                Some(given) => {
                    let value = match text::value(given) {
                        // Whoever gives nothing but a line end has meant something.
                        "" => given,
                        value => value,
                    };
                    own.insert(name.into_owned(), value.to_owned());
                }
                None => {
                    let problem = Problem::new(&key, place(&name), "must be UTF-8 text");
                    self.problems.push(problem);
                    self.unread.insert(key);
                }
            }
        }
        own
    }

    pub(super) fn merge_ecosystem(&mut self, own: &BTreeMap<String, String>) {
        for (known, kind) in ecosystem() {
            let file_name = format!("{}_FILE", known.name);
            let value = own.get(known.name);
            let file = own.get(&file_name);
            let given_by = value
                .map(|_| known.name)
                .or(file.map(|_| file_name.as_str()));
            if let (Some(kind), Some(name)) = (kind, given_by) {
                self.implied.push(Implied {
                    kind,
                    key: known.key,
                    source: place(name),
                });
            }
            if let Some(value) = value {
                self.merge(known.key, Value::from(value.as_str()), place(known.name));
            }
            let Some(path) = file else { continue };
            if known.secret {
                let key = format!("{}_file", known.key);
                self.merge(key, Value::from(path.as_str()), place(&file_name));
            } else if value.is_some() {
                let what = format!("set twice: also by {}; keep one of them", known.name);
                self.problems
                    .push(Problem::new(known.key, place(&file_name), what));
            } else {
                self.merge_content(known.key, path, &place(&file_name));
            }
        }
    }

    fn merge_content(&mut self, key: &'static str, path: &str, named_by: &str) {
        let named = values::named(path);
        let read = named.and_then(|path| {
            self.text(&path)
                .map_err(|error| format!("cannot read the file {}: {error}", path.display()))
        });
        match read {
            Ok(text) => {
                let source = format!("{named_by}, file {path}");
                self.merge(key, Value::from(text::unmarked(&text).trim()), source);
            }
            Err(what) => {
                self.problems.push(Problem::new(key, named_by, what));
                self.unread.insert(key.to_owned());
            }
        }
    }

    /// The exceptions that the whole machine makes from its proxies, where the file makes none.
    /// They are everybody's, so without a proxy of ours they are not looked at.
    pub(super) fn join_no_proxy(&mut self, variables: &[(OsString, OsString)]) {
        let given = |name: &str| {
            let mut values = variables.iter().filter(|(other, _)| other == name);
            let value = values.next()?.1.to_str()?;
            (!value.is_empty()).then(|| (value.to_owned(), place(name)))
        };
        let Some((value, source)) = ["NO_PROXY", "no_proxy"].into_iter().find_map(given) else {
            return;
        };
        for section in ["upstream", "auth"] {
            if self
                .figment
                .find_value(&format!("{section}.proxy_url"))
                .is_ok()
            {
                let value = Value::from(value.as_str());
                self.join(&format!("{section}.no_proxy"), value, source.clone());
            }
        }
    }

    pub(super) fn merge_environment(&mut self, own: &BTreeMap<String, String>) {
        for (name, value) in own {
            let Some(rest) = name.strip_prefix(PREFIX).filter(|&rest| rest != "CONFIG") else {
                continue;
            };
            let key = key_of(rest);
            let parts: Vec<&str> = key.split('.').collect();
            let is_key = match parts.as_slice() {
                ["auth", "endpoint_params", name] => !name.is_empty(),
                [section, key] => !section.is_empty() && !key.is_empty(),
                _ => false,
            };
            if is_key {
                let table = (key == "auth.endpoint_params").then(|| values::table(value));
                let value = table
                    .flatten()
                    .unwrap_or_else(|| Value::from(value.as_str()));
                self.merge(key, value, place(name));
            } else {
                self.strays.push(Stray {
                    name: key,
                    source: place(name),
                    is_empty_section: false,
                });
            }
        }
    }
}

/// `SECTION__KEY` as `section.key`.
fn key_of(rest: &str) -> String {
    rest.to_lowercase().replace("__", ".")
}

/// The variables that Kubernetes sets in every pod for a Service whose name begins with
/// `auth-sidecar`: not ours, and no reason to refuse to start.
fn is_service_link(rest: &str) -> bool {
    let is_link = rest == "PORT"
        || rest.ends_with("_PORT")
        || rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || ["_TCP", "_UDP", "_SCTP"]
            .iter()
            .any(|protocol| rest.contains("PORT_") && rest.contains(protocol));
    is_link && !rest.contains("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_a_kubernetes_service_are_not_ours() {
        for rest in [
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT",
            "PORT_9797_TCP",
            "PORT_9797_TCP_ADDR",
            "ADMIN_SERVICE_HOST",
            "ADMIN_PORT",
        ] {
            assert!(is_service_link(rest), "{rest}");
        }
        for rest in ["LISTEN__ADDRESS", "LISTEN_ADDRESS", "CONFIG", "ADMIN__PORT"] {
            assert!(!is_service_link(rest), "{rest}");
        }
    }
}
