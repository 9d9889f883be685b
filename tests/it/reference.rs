//! The reference of the configuration, `docs/configuration.md`: made of the schema, so of what is read.

use std::{fmt::Write, path::Path};

use serde_json::Value;

use crate::{
    documents::compare,
    schema::{lines, printed},
};

/// A heading for each key, in the order of the full file, with its default and what it is for.
fn reference() -> String {
    let schema: Value = serde_json::from_str(&printed()).unwrap();
    let mut text = String::new();
    for (section, name, _) in lines() {
        let key = &schema["properties"][&section]["properties"][&name];
        let shown = |value: &Value| format!("`{name} = {}`", written(value));
        let default = match (key.get("default"), key["examples"].get(0)) {
            (Some(default), _) => format!("Default: {}.", shown(default)),
            (None, Some(example)) => format!("Example: {}.", shown(example)),
            (None, None) => "A secret.".to_owned(),
        };
        // What stands for any characters in a rule would be emphasis on a page.
        let help = key["description"].as_str().unwrap().replace('*', r"\*");
        write!(text, "\n### `{section}.{name}`\n\n{default}\n\n{help}\n").unwrap();
    }
    text
}

/// A value as TOML has it.
fn written(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name} = {value}"));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(tables) if tables.iter().any(Value::is_object) => {
            let tables: Vec<String> = tables.iter().map(written).collect();
            format!("[{}]", tables.join(", "))
        }
        value => value.to_string(),
    }
}

#[test]
fn the_page_about_credentials_has_a_row_for_each_kind_and_each_method() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/credentials.md");
    let page = std::fs::read_to_string(page).unwrap();
    let schema: Value = serde_json::from_str(&printed()).unwrap();
    let auth = &schema["properties"]["auth"]["properties"];
    for (key, count) in [("type", 8), ("client_auth", 7)] {
        let words = auth[key]["enum"].as_array().unwrap();
        assert_eq!(words.len(), count, "{key}");
        for word in words {
            let row = format!("\n| `{}` | ", word.as_str().unwrap());
            assert!(page.contains(&row), "{row}");
        }
    }
}

#[test]
fn the_page_has_every_key_with_its_default_and_its_comment_of_the_full_file() {
    const PAGE: &str = "docs/configuration.md";
    const HEADING: &str = "## Every key\n";
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let (words, _) = page.split_once(HEADING).unwrap();
    compare(PAGE, &format!("{words}{HEADING}{}", reference()));
}
