//! The configuration as `check` shows it, to people and to programs.

use std::fmt;

use serde_json::{Value, json};

use super::{ConfigError, Loaded, Resolved};

/// A table: key, value, place; then what is allowed, then the warnings.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    loaded: &'a Loaded,
    changed: bool,
}

impl Loaded {
    /// The table; `changed` leaves out what only has its default.
    #[must_use]
    pub fn table(&self, changed: bool) -> Table<'_> {
        Table {
            loaded: self,
            changed,
        }
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self, changed: bool) -> Value {
        let keys: Vec<&Resolved> = self.rows(changed).collect();
        let allowed = self.config.proxy.allowed.as_ref();
        let allowed: Option<Vec<String>> =
            allowed.map(|allowed| allowed.rules().iter().map(ToString::to_string).collect());
        json!({
            "valid": true,
            "file": self.file,
            "keys": keys,
            "allowed": allowed,
            "warnings": self.config.warnings,
        })
    }

    fn rows(&self, changed: bool) -> impl Iterator<Item = &Resolved> {
        let rows = self.resolved.iter();
        rows.filter(move |row| !changed || row.is_set())
    }
}

impl ConfigError {
    /// What is wrong, for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({"valid": false, "problems": self.problems()})
    }
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table(false).fmt(f)
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loaded, changed } = *self;
        // One long value must not push the last column out of sight.
        let width = |column: fn(&Resolved) -> &String, most: usize| {
            let widths = loaded.rows(changed).map(|row| column(row).chars().count());
            widths
                .filter(|width| *width <= most)
                .max()
                .unwrap_or_default()
        };
        let (keys, values) = (width(|row| &row.key, 60), width(|row| &row.value, 48));
        for Resolved { key, value, source } in loaded.rows(changed) {
            writeln!(f, "{key:keys$}  {value:values$}  {source}")?;
        }
        if let Some(allowed) = &loaded.config.proxy.allowed {
            writeln!(
                f,
                "\nallowed requests (listen.preset, listen.allow); any other earns 403:"
            )?;
            for rule in allowed.rules() {
                writeln!(f, "  {rule}")?;
            }
        }
        for warning in &loaded.config.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}
