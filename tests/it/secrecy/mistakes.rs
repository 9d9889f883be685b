//! Mistakes that have a secret in them: the report names the key and the place, and quotes nothing.

use std::path::Path;

use auth_sidecar::config::{Config, Sources};
use serde_json::{Value, json};
use toml::Table;

use super::{MISPLACED, assert_clean, surroundings::wrong_contents};
use crate::support::{Process, Settings};

const KINDS: [&str; 5] = [
    "csp-oauth-app",
    "csp-api-token",
    "static-token",
    "oauth2-client-credentials",
    "private_key_jwt",
];
const COMPLETE: &str = include_str!("../../../config/auth-sidecar.toml");

/// Every key, also those that are not set by default.
fn keys() -> Vec<String> {
    let lines = COMPLETE.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') && key.contains(" = ") => key,
        _ => line,
    });
    let all: Table = lines.collect::<Vec<_>>().join("\n").parse().unwrap();
    let mut keys = Vec::new();
    for (section, entries) in &all {
        let names = entries.as_table().unwrap().keys();
        keys.extend(names.map(|name| format!("{section}.{name}")));
    }
    assert!(keys.len() > 50, "{keys:?}");
    keys
}

/// What is said of that configuration, if it is refused.
fn said_of(settings: &Settings, directory: &Path) -> Option<String> {
    refusal(&Sources::of_file(settings.write(directory)))
}

fn refusal(sources: &Sources) -> Option<String> {
    let error = Config::load(sources).err()?;
    Some(format!("{error}\n{error:?}"))
}

/// What a file of just this is told.
fn said_of_text(file: &str, directory: &Path) -> Option<String> {
    let path = directory.join("wrong.toml");
    std::fs::write(&path, file).unwrap();
    refusal(&Sources::of_file(&path))
}

fn of_kind(kind: &str) -> Settings {
    let settings = Settings::to("https://h.example");
    if kind != "private_key_jwt" {
        return settings.set("auth.type", kind);
    }
    settings
        .set("auth.type", "oauth2-client-credentials")
        .set("auth.client_auth", kind)
}

#[test]
fn a_secret_as_the_value_of_another_key_is_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for key in keys() {
        for value in [
            json!(MISPLACED),
            json!(format!("https://user:{MISPLACED}@h.example")),
            json!(format!("{MISPLACED}\nsecond line")),
            json!([MISPLACED, 7]),
            json!([[MISPLACED]]),
            json!({MISPLACED: MISPLACED}),
        ] {
            for kind in KINDS {
                let settings = of_kind(kind).set(&key, value.clone());
                if let Some(said) = said_of(&settings, directory.path()) {
                    refused += 1;
                    assert_clean(&format!("what is said of {key} = {value}"), &said);
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_syntax_error_beside_a_secret_does_not_quote_its_line() {
    let directory = tempfile::tempdir().unwrap();
    for line in [
        format!("client_secret = \"{MISPLACED}"),
        format!("client_secret = '{MISPLACED}"),
        format!("client_secret = {MISPLACED}"),
        format!("client_secret = \"{MISPLACED}\" oops"),
        format!("client_secret = \"{MISPLACED}\\q\""),
        format!("client_secret = \"\"\"{MISPLACED}"),
        format!("client_secret = [\"{MISPLACED}\""),
        format!("client_secret = {{ a = \"{MISPLACED}\""),
        format!("client_secret == \"{MISPLACED}\""),
        format!("client_secret \"{MISPLACED}\""),
        format!("client_secret: {MISPLACED}"),
        format!("client_secret = \"{MISPLACED}\"\nclient_secret = \"{MISPLACED}\""),
        format!("client_secret = \"\u{1}{MISPLACED}\""),
        MISPLACED.to_owned(),
        format!("\"{MISPLACED}\""),
        format!("[{MISPLACED}"),
        format!("[auth.\"{MISPLACED}\""),
    ] {
        let file = format!("[auth]\ntype = 'csp-oauth-app'\n{line}\n");
        let said = said_of_text(&file, directory.path()).unwrap();
        assert!(said.contains("wrong.toml:"), "{said}");
        assert_clean(&format!("what is said of {line}"), &said);
    }
}

#[test]
fn a_secret_in_a_variable_of_another_kind_is_not_quoted() {
    let mut refused = 0;
    let complete = [
        ("WAVEFRONT_URL", "https://h.example"),
        ("CSP_APP_ID", "app"),
        ("CSP_APP_SECRET", "secret"),
    ];
    let keys = keys();
    let ours = keys.iter().map(|key| {
        let name = key.replace('.', "__").to_uppercase();
        format!("AUTH_SIDECAR_{name}")
    });
    let others = [
        "AUTH_SIDECAR_AUTH__CLIENT_SECRT",
        "AUTH_SIDECAR_SECRET",
        "AUTH_SIDECAR_CONFIG",
        "WAVEFRONT_URL",
        "CSP_API_URL",
        "CSP_APP_SECRET_FILE",
        "CSP_API_TOKEN_FILE",
        "WAVEFRONT_TOKEN_FILE",
        "CSP_ORG_ID_FILE",
    ];
    for name in ours.chain(others.map(str::to_owned)) {
        for value in [MISPLACED.to_owned(), format!("{MISPLACED}\nx")] {
            let variables = complete
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .filter(|(known, _)| *known != name)
                .chain([(name.clone(), value)]);
            if let Some(said) = refusal(&Sources::of_environment(variables)) {
                refused += 1;
                assert_clean(&format!("what is said of {name}"), &said);
            }
        }
    }
    assert!(refused > 80, "{refused}");
}

#[test]
fn a_file_that_holds_something_else_is_not_quoted() {
    let directory = tempfile::tempdir().unwrap();
    let content = directory.path().join("content");
    let path = Value::from(content.to_str().unwrap());
    let files: Vec<String> = keys()
        .into_iter()
        .filter(|key| key.ends_with("_file"))
        .collect();
    let mut refused = 0;
    for text in wrong_contents() {
        std::fs::write(&content, &text).unwrap();
        for key in &files {
            for kind in KINDS {
                let partner = match key.split_once(".client_") {
                    Some((section, "cert_file")) => format!("{section}.client_key_file"),
                    Some((section, "key_file")) => format!("{section}.client_cert_file"),
                    _ => key.clone(),
                };
                let settings = of_kind(kind)
                    .set(key, path.clone())
                    .set(&partner, path.clone());
                if let Some(said) = said_of(&settings, directory.path()) {
                    refused += 1;
                    assert_clean(&format!("what is said of {key}"), &said);
                }
            }
        }
    }
    assert!(refused > 200, "{refused}");
    // The file of the configuration itself.
    for text in wrong_contents() {
        if let Some(said) = said_of_text(&text, directory.path()) {
            assert_clean("what is said of no configuration", &said);
        }
    }
}

#[tokio::test]
async fn the_program_says_no_more_than_its_library() {
    let right = Settings::to("https://h.example")
        .set("auth.type", "static-token")
        .set("auth.token", MISPLACED);
    for (wrong, code) in [
        (right.clone(), 0),
        (right.clone().set("auth.tokn", MISPLACED), 2),
        (right.clone().set("listen.workers", MISPLACED), 2),
        (
            right.unset("auth.token").set("auth.token_file", MISPLACED),
            2,
        ),
    ] {
        let files = tempfile::tempdir().unwrap();
        let config = wrong.write(files.path());
        for command in ["check", "doctor", "run"] {
            if code == 0 && command != "check" {
                continue;
            }
            let mut process = Process::spawn(&[command, "--config", config.to_str().unwrap()], &[]);
            assert_eq!(
                process.wait().await.code(),
                Some(code),
                "{}",
                process.output()
            );
            assert!(!process.output().is_empty());
            assert_clean(command, &process.output());
        }
    }
}
