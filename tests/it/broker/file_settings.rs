//! What a configuration says of files of tokens, and how it is wrong.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use auth_sidecar::config::{Config, Sources};
use serde_json::{Value, json};

use super::files::{keeping, place, raw};
use crate::support::{FakeCsp, FakeService, Process, Settings, Sidecar};

#[tokio::test]
async fn a_file_that_cannot_be_kept_is_said_at_the_start() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, _) = place();
    fs::create_dir(directory.path().join("taken")).unwrap();
    for (name, what) in [
        ("missing/token", "cannot open the directory"),
        ("taken", "something else than a file"),
    ] {
        let file = raw(&directory.path().join(name));
        let error = Sidecar::try_start(&keeping(&csp, &service, &[file])).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("broker.file") && error.contains(what),
            "{error}"
        );
    }
}

#[test]
fn mistakes_and_dangers_of_files_are_named_and_nothing_is_quoted() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let files = tempfile::tempdir().unwrap();
    let loaded = |file: Value| keeping(&csp, &service, &[file]).load(files.path());
    for (file, part) in [
        (json!({}), "file 1: path is missing"),
        (
            json!({ "path": "canary" }),
            "file 1: path must be a path that begins with /",
        ),
        (json!({ "path": "/x/" }), "file 1: path must be a path"),
        (
            json!({ "path": "/x", "mode": 640 }),
            "file 1: mode must be permissions",
        ),
        (
            json!({ "path": "/x", "mode": "0755" }),
            "file 1: mode must be permissions",
        ),
        (
            json!({ "path": "/x", "format": "canary" }),
            "file 1: format must be one of raw",
        ),
        (
            json!({ "path": "/x", "owner": "canary-user" }),
            "file 1: owner must be users",
        ),
        (
            json!({ "path": "/x", "canary": "canary" }),
            "file 1: unknown key",
        ),
        (json!("canary"), "must be tables like [[broker.file]]"),
    ] {
        let error = loaded(file).unwrap_err().to_string();
        assert!(
            error.starts_with("broker.file (") && error.contains(part),
            "{error}"
        );
        assert!(!error.contains("canary"), "{error}");
    }
    let twice = [raw(Path::new("/x")), raw(Path::new("/x"))];
    let error = keeping(&csp, &service, &twice)
        .load(files.path())
        .unwrap_err();
    assert!(error.to_string().contains("file 2: path must be another"));

    let open = files.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let file = json!({ "path": open.join("token").to_str().unwrap(), "mode": "0644" });
    let warnings = loaded(file).unwrap().warnings.join("\n");
    assert!(
        warnings.contains("every user of this machine can read"),
        "{warnings}"
    );
    assert!(
        warnings.contains("others can put something else in the place"),
        "{warnings}"
    );
}

#[test]
fn a_token_never_takes_the_place_of_another_file_of_the_configuration() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(at("real")).unwrap();
    std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
    fs::write(at("real/target"), "precious").unwrap();
    std::os::unix::fs::symlink(at("real/target"), at("secret")).unwrap();
    let config = at("auth-sidecar.toml");
    for (key, value, place) in [
        (
            "auth.client_secret_file",
            at("real/secret"),
            at("real/secret"),
        ),
        (
            "auth.client_secret_file",
            at("real/secret"),
            at("real/./x/../secret"),
        ),
        (
            "auth.client_secret_file",
            at("link/secret"),
            at("real/secret"),
        ),
        ("auth.client_secret_file", at("secret"), at("link/target")),
        ("log.access_file", at("log"), at("link/../log")),
        (
            "listen.address",
            format!("unix:{}", at("socket")),
            at("socket"),
        ),
        ("log.level", "info".to_owned(), config),
    ] {
        fs::create_dir_all(at("real/x")).unwrap();
        fs::write(at("real/secret"), "s").unwrap();
        let settings = keeping(&csp, &service, &[raw(Path::new(&place))]);
        let settings = if key.starts_with("auth.") {
            settings.unset("auth.client_secret")
        } else {
            settings
        };
        let error = settings.set(key, value).load(files.path());
        let error = error
            .map(|_| format!("{place} is taken for another file"))
            .unwrap_err();
        let error = error.to_string();
        let key = if key == "log.level" {
            "the configuration itself"
        } else {
            key
        };
        let named = format!("file 1: path is that of {key}");
        assert!(error.contains(&named), "{error}");
    }
    // Nor of another token, however its path is written.
    let twice = [
        raw(Path::new(&at("real/t"))),
        raw(Path::new(&at("link/./t"))),
    ];
    let error = keeping(&csp, &service, &twice).load(files.path());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("file 2: path must be another"), "{error}");
}

#[tokio::test]
async fn the_array_of_tables_and_the_variable_mean_the_same() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, path) = place();
    let config = Settings::new(&csp, &service).write(directory.path());
    let mut text = fs::read_to_string(&config).unwrap();
    let place = path.to_str().unwrap();
    let table = format!("\n[[broker.file]]\npath = \"{place}\"\nmode = \"0640\"\n");
    text.push_str(&table);
    fs::write(&config, text).unwrap();
    let arguments = ["check", "--config", config.to_str().unwrap()];
    let mut check = Process::spawn(&arguments, &[]);
    assert_eq!(check.wait().await.code(), Some(0), "{}", check.output());
    let line = |said: &str| {
        let mut lines = said.lines();
        lines.any(|line| line.starts_with("broker.file") && line.contains(place))
    };
    assert!(line(&check.stdout()), "{}", check.stdout());
    let config = Settings::new(&csp, &service).write(directory.path());
    let arguments = ["check", "--config", config.to_str().unwrap()];
    let variable = format!("[{{ path = \"{place}\", mode = \"0640\" }}]");
    let mut check = Process::spawn(&arguments, &[("AUTH_SIDECAR_BROKER__FILE", &variable)]);
    assert_eq!(check.wait().await.code(), Some(0), "{}", check.output());
    assert!(line(&check.stdout()), "{}", check.stdout());
}

/// The one that `docs/broker.md` shows a part of.
const MANIFEST: &str = include_str!("../../../deploy/kubernetes-token-file.yaml");

#[test]
fn the_environment_of_the_manifest_is_a_configuration_with_a_file_below_its_volume() {
    let mut names = MANIFEST
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- name: "));
    let mut values = MANIFEST
        .lines()
        .filter_map(|line| line.trim().strip_prefix("value: "));
    let mut environment = Vec::new();
    while let Some(name) = names.find(|name| name.chars().all(|c| c == '_' || c.is_uppercase())) {
        environment.push((name, values.next().unwrap().trim_matches('\'')));
    }
    assert_eq!(environment.len(), 4, "{environment:?}");
    let (secrets, secret) = place();
    fs::write(&secret, "x").unwrap();
    for (name, value) in &mut environment {
        if *name == "CSP_APP_SECRET_FILE" {
            *value = secret.to_str().unwrap();
        }
    }
    let sources = Sources::of_environment(environment);
    let loaded = Config::load(&sources).unwrap_or_else(|error| panic!("{error}"));
    let files = loaded.config.broker.files;
    assert_eq!((files.len(), files[0].mode), (1, 0o640));
    let path = files[0].path.to_str().unwrap();
    let (directory, _) = path.rsplit_once('/').unwrap();
    let mounts = MANIFEST
        .matches(&format!("mountPath: {directory}\n"))
        .count();
    assert_eq!(mounts, 2, "{directory}");
    drop(secrets);
    // What the page shows is in the manifest.
    let page = include_str!("../../../docs/broker.md");
    assert!(page.contains(&format!(
        "value: '[{{path = \"{path}\", mode = \"0640\"}}]'"
    )));
}
