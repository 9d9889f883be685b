//! The JSON schema of the configuration file, made of what reads it: the keys that the reader asks
//! for, the shapes that their parsers name, and the defaults, examples and comments of the full file.

use std::collections::BTreeMap;

use figment::value::Value;
use serde_json::{Map, Value as Json, json};
use toml::de::DeValue;

use super::{
    Sources, auth,
    layers::{DEFAULTS, Layers, convert},
    reader::Reader,
    sections,
    shape::Shape,
};

/// What the full file says about a key.
#[derive(Default)]
struct Entry {
    /// The comment above it.
    help: String,
    /// The value of the key in the full file, whether it is set there or only shown.
    shown: Option<Value>,
    is_set: bool,
}

/// The schema, draft 2020-12.
#[must_use]
pub fn schema() -> Json {
    let entries = entries(DEFAULTS);
    let mut sections: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    let known = known();
    for (key, shape) in &known {
        if let Some((section, name)) = key.split_once('.') {
            let property = property(key, shape, entries.get(key));
            let section = sections.entry(section).or_default();
            section.insert(name.to_owned(), property);
        }
    }
    let sections: Map<String, Json> = sections
        .into_iter()
        .map(|(name, keys)| {
            let section = json!({
                "type": "object",
                "additionalProperties": false,
                "properties": keys,
            });
            (name.to_owned(), section)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "auth-sidecar",
        "description": "The configuration file of auth-sidecar",
        "type": "object",
        "additionalProperties": false,
        "properties": sections,
    })
}

/// Every key that is asked for, whatever the kind of the credentials.
fn known() -> BTreeMap<String, Shape> {
    let mut known = BTreeMap::new();
    for kind in auth::KINDS {
        for method in auth::methods() {
            let sources = Sources::of_environment([
                ("AUTH_SIDECAR_AUTH__TYPE", kind.name),
                ("AUTH_SIDECAR_AUTH__CLIENT_AUTH", method),
            ]);
            let mut reader = Reader::new(Layers::collect(&sources), None);
            // It lacks what has no default; the keys are all that counts.
            drop(sections::read(&mut reader));
            for (key, shape) in reader.known() {
                let noted: &mut Shape = known.entry(key.clone()).or_default();
                if *shape != Shape::AsShown {
                    *noted = shape.clone();
                }
            }
        }
    }
    known
}

fn property(key: &str, shape: &Shape, entry: Option<&Entry>) -> Json {
    let shown = entry.and_then(|entry| entry.shown.as_ref());
    let (mut property, bounds) = kind(shape, shown);
    let mut help: Vec<String> = Vec::new();
    help.extend(entry.map(|entry| entry.help.clone()));
    help.extend(bounds.map(|bounds| format!("({bounds})")));
    help.extend(owners(key));
    if key == "auth.type" {
        let kinds = auth::KINDS.iter();
        help.extend(kinds.map(|kind| format!("{}: {}.", kind.name, kind.help)));
    }
    if let Some(fields) = property.as_object_mut() {
        fields.insert("description".to_owned(), help.join(" ").into());
        // Of a secret the file only shows where it would stand.
        if let Some(value) = shown.filter(|_| *shape != Shape::Secret)
            && let Ok(value) = serde_json::to_value(value)
        {
            if entry.is_some_and(|entry| entry.is_set) {
                fields.insert("default".to_owned(), value);
            } else {
                fields.insert("examples".to_owned(), json!([value]));
            }
        }
    }
    property
}

/// What is taken, and its bounds in words where a schema cannot say them.
fn kind(shape: &Shape, shown: Option<&Value>) -> (Json, Option<String>) {
    const NUMBER: &str = r"^\s*\+?[0-9]+\s*$";
    const SIZE: &str = r"^\s*\+?[0-9]+\s*(B|KiB|MiB|GiB)?\s*$";
    const TIME: &str = r"^\s*([0-9]+\s*[A-Za-zµ]+\s*)+$";
    let list = || json!({"type": ["array", "string"], "items": {"type": "string"}});
    match shape {
        Shape::Text => (json!({"type": "string"}), None),
        Shape::Secret => (json!({"type": "string", "writeOnly": true}), None),
        Shape::Integer(range) => {
            let (least, most) = (range.start(), range.end());
            let types = json!(["integer", "string"]);
            let kind = json!({"type": types, "minimum": least, "maximum": most, "pattern": NUMBER});
            (kind, None)
        }
        Shape::Ratio => {
            const RATIO: &str = r"^\s*\+?[0-9]*\.?[0-9]*\s*$";
            let types = json!(["number", "string"]);
            let kind = json!({"type": types, "minimum": 0, "maximum": 1, "pattern": RATIO});
            (kind, None)
        }
        Shape::Size { range, bounds } => {
            let (least, most) = (range.start(), range.end());
            let types = json!(["integer", "string"]);
            let kind = json!({"type": types, "minimum": least, "maximum": most, "pattern": SIZE});
            (kind, Some(bounds.clone()))
        }
        Shape::Time { bounds } => {
            let kind = json!({"type": "string", "pattern": TIME});
            (kind, Some(bounds.clone()))
        }
        Shape::List => (list(), None),
        Shape::OneOf(words) => (json!({"enum": words}), None),
        Shape::Tables(keys) => {
            let keys: Map<String, Json> = keys
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), kind(shape, None).0))
                .collect();
            let table =
                json!({"type": "object", "additionalProperties": false, "properties": keys});
            let kind = json!({"type": ["array", "string"], "items": table});
            (kind, None)
        }
        Shape::AsShown => match shown {
            Some(Value::Bool(..)) => (json!({"enum": [true, false, "true", "false"]}), None),
            Some(Value::Num(..)) => (json!({"type": ["integer", "string"]}), None),
            Some(Value::Array(..)) => (list(), None),
            Some(Value::Dict(..)) => {
                let items = json!({"type": "string"});
                (
                    json!({"type": "object", "additionalProperties": items}),
                    None,
                )
            }
            _ => (json!({"type": "string"}), None),
        },
    }
}

/// Which kinds of credentials have the key, if not all.
fn owners(key: &str) -> Option<String> {
    let names = auth::owners(key);
    (!names.is_empty()).then(|| format!("For auth.type {}.", names.join(", ")))
}

/// The entries of a commented file: each key has the comment above it, or above the keys before it.
fn entries(text: &str) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let (mut section, mut help, mut is_whole) = (String::new(), Vec::new(), true);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
            (help, is_whole) = (Vec::new(), true);
        } else if let Some(words) = line.strip_prefix("# ") {
            if is_whole {
                (help, is_whole) = (Vec::new(), false);
            }
            help.push(words.trim());
        } else if let Some((name, value)) = line.split_once(" = ") {
            is_whole = true;
            let (name, is_set) = match name.strip_prefix('#') {
                Some(name) => (name, false),
                None => (name, true),
            };
            let value = DeValue::parse(value.trim()).ok();
            let entry = Entry {
                help: help.join(" "),
                shown: value.map(|value| convert(value.get_ref())),
                is_set,
            };
            entries.insert(format!("{section}.{name}"), entry);
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_comment_above_it_or_above_its_group() {
        let entries = entries(
            "# Not of a key.\n\n[a]\n# One.\n# More.\nx = 1\n# Two.\n#y = \"v\"\n#z = [\"w\"]\n[b]\nx = true\n",
        );
        let help = |key: &str| entries.get(key).map(|entry| entry.help.as_str());
        assert_eq!(help("a.x"), Some("One. More."));
        assert_eq!((help("a.y"), help("a.z")), (Some("Two."), Some("Two.")));
        assert_eq!(help("b.x"), Some(""));
        assert!(entries["a.x"].is_set && !entries["a.y"].is_set);
    }

    #[test]
    fn every_key_says_what_it_is_for_and_shows_a_value_of_its_kind() {
        let entries = entries(DEFAULTS);
        for (key, shape) in known() {
            let entry = &entries[&key];
            assert!(!entry.help.is_empty() || entry.is_set, "{key}");
            assert!(entry.shown.is_some(), "{key}");
            if matches!(shape, Shape::Integer(_)) {
                assert!(matches!(entry.shown, Some(Value::Num(..))), "{key}");
            }
        }
    }
}
