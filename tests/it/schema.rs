//! The schema of the configuration file: what editors are told is what the program reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::documents::{compare, pages};

const FULL: &str = include_str!("../../config/auth-sidecar.toml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The schema as the program prints it.
pub fn printed() -> String {
    let (code, text, _) = run(&["schema"]);
    assert_eq!(code, Some(0));
    text
}

/// A validator that shares no code with the program.
struct Schema {
    document: Value,
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Schema {
    fn printed() -> Self {
        let document: Value = serde_json::from_str(&printed()).unwrap();
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler
            .add_resource("schema.json", document.clone())
            .unwrap();
        let index = compiler.compile("schema.json", &mut schemas).unwrap();
        Self {
            document,
            schemas,
            index,
        }
    }

    fn check(&self, toml: &str) -> Result<(), String> {
        let value: Value = toml::from_str(toml).map_err(|error| error.to_string())?;
        let checked = self.schemas.validate(&value, self.index);
        checked.map_err(|error| format!("{error:#}"))
    }

    fn keys(&self) -> BTreeSet<String> {
        let sections = self.document["properties"].as_object().unwrap();
        let keys = sections.iter().flat_map(|(section, keys)| {
            let keys = keys["properties"].as_object().unwrap();
            keys.keys().map(move |key| format!("{section}.{key}"))
        });
        keys.collect()
    }
}

/// The lines of a key in the full file: section, key and value, set or only shown.
pub fn lines() -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut lines = Vec::new();
    for line in FULL.lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ")
            && !line.starts_with("# ")
        {
            let key = key.trim_start_matches('#').to_owned();
            lines.push((section.clone(), key, value.to_owned()));
        }
    }
    lines
}

#[test]
fn the_printed_schema_is_the_shipped_one() {
    compare("config/auth-sidecar.schema.json", &printed());
    assert_eq!(
        Schema::printed().document["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
}

#[test]
fn the_schema_has_every_key_of_the_full_file_and_no_other() {
    let schema = Schema::printed();
    let full: BTreeSet<String> = lines()
        .into_iter()
        .map(|(section, key, _)| format!("{section}.{key}"))
        .collect();
    assert_eq!(schema.keys(), full);
    assert!(full.len() > 40);
}

#[test]
fn every_key_of_the_schema_is_read_and_one_that_it_does_not_have_is_not() {
    let schema = Schema::printed();
    let mut sections = BTreeMap::<String, Vec<String>>::new();
    for key in schema.keys() {
        let (section, key) = key.split_once('.').unwrap();
        sections
            .entry(section.to_owned())
            .or_default()
            .push(key.to_owned());
    }
    sections
        .get_mut("listen")
        .unwrap()
        .push("nobody_reads_this".to_owned());
    let mut file = String::new();
    for (section, keys) in &sections {
        writeln!(file, "[{section}]").unwrap();
        for key in keys {
            writeln!(file, "{key} = 'x'").unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.toml");
    std::fs::write(&path, file).unwrap();
    let (code, _, said) = run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    let unknown: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("unknown key"))
        .collect();
    assert!(
        unknown.len() == 1 && unknown[0].starts_with("listen.nobody_reads_this"),
        "{unknown:?}"
    );
}

#[test]
fn every_default_and_every_example_of_the_full_file_is_valid() {
    let schema = Schema::printed();
    let mut examples = 0;
    for (section, key, value) in lines() {
        let file = format!("[{section}]\n{key} = {value}\n");
        let checked = schema.check(&file);
        assert!(checked.is_ok(), "{file}{checked:?}");
        examples += 1;
    }
    assert!(examples > 80, "{examples}");
}

/// The configurations in a document for people: TOML without a name, or with that of our file.
fn snippets(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("\n```toml").skip(1).filter_map(|block| {
        let (name, rest) = block.split_once('\n')?;
        matches!(name, "" | " auth-sidecar.toml").then_some(rest)
    });
    blocks.filter_map(|block| block.split("```").next())
}

fn files(directory: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

#[test]
fn every_shipped_and_every_documented_file_is_valid_and_names_its_schema() {
    let schema = Schema::printed();
    let shipped = files("config", "toml");
    assert!(shipped.len() >= 5);
    for path in shipped {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("#:schema ./auth-sidecar.schema.json\n"),
            "{path:?}"
        );
        let checked = schema.check(&text);
        assert!(checked.is_ok(), "{path:?}: {checked:?}");
    }
    let mut found = 0;
    for (path, text) in pages() {
        for snippet in snippets(&text) {
            let checked = schema.check(snippet);
            assert!(checked.is_ok(), "{path:?}: {snippet}{checked:?}");
            found += 1;
        }
    }
    assert!(found >= 4, "{found}");
}

#[test]
fn mistakes_are_mistakes_to_editors_too() {
    let schema = Schema::printed();
    for wrong in [
        "[listen]\nadress = '127.0.0.1:1'",
        "[metrics]\nx = 1",
        "[listen]\nworkers = 5000",
        "[listen]\nworkers = true",
        "[listen]\ndrain_timeout = 25",
        "[listen]\ndrain_timeout = '25'",
        "[listen]\nmax_header_size = '64kb'",
        "[listen]\nallow_hosts = [1]",
        "[auth]\ntype = 'basic'",
        "[auth]\nscopes = { a = 1 }",
        "[upstream]\nvia = 'yes'",
        "[upstream]\nhttp_version = 3",
        "[log]\nformat = 'xml'",
    ] {
        assert!(schema.check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_key_tells_what_it_is_for_and_a_secret_has_no_default() {
    let schema = Schema::printed().document;
    let key = |section: &str, key: &str| &schema["properties"][section]["properties"][key];
    let drain = key("listen", "drain_timeout");
    let help = drain["description"].as_str().unwrap();
    assert!(
        help.contains("asked to stop") && help.contains("to 1h"),
        "{help}"
    );
    assert_eq!(drain["default"], "25s");
    assert_eq!(key("auth", "client_secret")["writeOnly"], true);
    assert!(key("auth", "client_secret").get("default").is_none());
    let kinds = &key("auth", "type")["enum"];
    assert!(
        kinds.as_array().unwrap().contains(&json!("static-token")),
        "{kinds}"
    );
    let owners = key("auth", "scopes")["description"].as_str().unwrap();
    assert!(
        owners.contains("For auth.type oauth2-client-credentials, oauth2-token-exchange"),
        "{owners}"
    );
}
