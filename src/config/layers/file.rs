//! The file layer: TOML, value by value, each with its line.

use std::path::Path;

use figment::value::{Empty, Value};
use toml::de::{DeTable, DeValue};

use super::{
    super::{
        problem::{Problem, printable},
        values,
    },
    Layers, Stray,
};
use crate::text;

impl Layers {
    /// Merges the file that `named_by` names.
    pub(super) fn merge_file(&mut self, path: &Path, named_by: &str) {
        let text = match self.text(path) {
            Ok(text) => text,
            Err(error) => {
                self.incomplete = true;
                // What is no path may be a secret in the wrong variable; a command line holds none.
                let may_be_shown =
                    named_by.starts_with("flag") || values::may_be_shown(&path.to_string_lossy());
                let which = if may_be_shown {
                    printable(&path.to_string_lossy())
                } else {
                    "that it names".to_owned()
                };
                let what = format!("cannot read the file {which}: {error}");
                self.problems.push(Problem::new("config", named_by, what));
                return;
            }
        };
        self.file = Some(path.to_owned());
        self.merge_toml(&text, &|line| format!("file {}:{line}", path.display()));
    }

    /// Merges TOML; `source` names the place of a line.
    pub(super) fn merge_toml(&mut self, text: &str, source: &dyn Fn(String) -> String) {
        // Not through figment's own format, and never the error's `Display`: both quote the line,
        // which may hold a secret. The bare message is made of fixed words and names of types.
        let text = text::unmarked(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let table = table.into_inner();
        if let Some(error) = errors.first() {
            self.incomplete = true;
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            let place = source(format!("{line}:{column}"));
            let what = format!("is no TOML: {}", error.message());
            // Of the rest only the form of the log is used, to report this.
            let log = table.get("log").and_then(|log| log.get_ref().as_table());
            if let Some(format) = log.and_then(|log| log.get("format")) {
                self.merge("log.format", convert(format.get_ref()), place.as_str());
            }
            self.problems.push(Problem::new("config", place, what));
            return;
        }
        for (section, entries) in &table {
            let place = |start| source(position(text, start).0.to_string());
            let name = section.get_ref();
            let entries = entries.get_ref().as_table();
            let Some(entries) = entries.filter(|keys| !keys.is_empty()) else {
                self.strays.push(Stray {
                    name: name.to_string(),
                    source: place(section.span().start),
                    is_empty_section: entries.is_some(),
                });
                continue;
            };
            for (key, value) in entries {
                let full = format!("{name}.{}", key.get_ref());
                let place = place(key.span().start);
                // Quoted keys may hold dots or be empty, which would mean another key here.
                if full.split('.').count() == 2 && full.split('.').all(|part| !part.is_empty()) {
                    self.merge(full, convert(value.get_ref()), place);
                } else {
                    self.strays.push(Stray {
                        name: full,
                        source: place,
                        is_empty_section: false,
                    });
                }
            }
        }
    }
}

/// Types that no key takes become the empty value, which no key takes either.
pub(in crate::config) fn convert(value: &DeValue<'_>) -> Value {
    let empty = Value::from(Empty::Unit);
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(empty, Value::from)
        }
        DeValue::Array(items) => items
            .iter()
            .map(|item| convert(item.get_ref()))
            .collect::<Vec<_>>()
            .into(),
        DeValue::Table(table) => table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), convert(value.get_ref())))
            .collect::<figment::value::Dict>()
            .into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(empty, Value::from),
        DeValue::Datetime(_) => empty,
    }
}

/// Line and column of a byte, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |end_of_last| end_of_last + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}
