//! Files that hold the current token: whole at each moment, and gone when there is none.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use auth_sidecar::config::{Config, Sources};
use rustix::process::{Signal, getgid};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{
    Answer, DEADLINE, FakeCsp, FakeService, Process, Settings, Sidecar, eventually,
};

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    (directory, path)
}

fn keeping(csp: &FakeCsp, service: &FakeService, files: &[Value]) -> Settings {
    Settings::new(csp, service).set("broker.file", files)
}

fn raw(path: &Path) -> Value {
    json!({ "path": path.to_str().unwrap() })
}

/// The number of the token that is in a file; none where there is no file.
fn number(path: &Path) -> Option<usize> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            return None;
        }
    };
    let number = (1..100).find(|number| FakeCsp::token(*number) == text);
    assert!(number.is_some(), "half a token: {text:?}");
    number
}

/// Reads a file all the time, on a thread of its own.
struct Reader {
    stop: Arc<AtomicBool>,
    reading: thread::JoinHandle<Vec<Option<usize>>>,
}

impl Reader {
    fn of(path: &Path) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (stopped, path) = (Arc::clone(&stop), path.to_owned());
        let reading = thread::spawn(move || {
            let mut seen = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let now = number(&path);
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
            }
            seen
        });
        Self { stop, reading }
    }

    /// What was in it, one after the other.
    fn seen(self) -> Vec<Option<usize>> {
        self.stop.store(true, Ordering::Relaxed);
        self.reading.join().unwrap()
    }
}

#[tokio::test]
async fn a_file_follows_the_token_is_whole_at_each_moment_and_ends_with_the_process() {
    let csp = FakeCsp::start();
    csp.lifetime(3);
    let service = FakeService::start(csp.validator());
    let (directory, path) = place();
    // In the real process, with its sandbox.
    let mut process = Process::start(&keeping(&csp, &service, &[raw(&path)])).await;
    eventually(|| path.exists(), DEADLINE).await;
    let reader = Reader::of(&path);
    eventually(|| number(&path) >= Some(4), DEADLINE).await;
    let seen = reader.seen();
    assert!(seen.iter().all(Option::is_some), "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.is_file() && found.mode() & 0o7777 == 0o600);
    let (_, metrics) = process.admin_get("/metrics").await;
    let count = |result: &str| {
        let name = format!("auth_sidecar_broker_file_writes_total{{result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    assert!(count("success") >= 4 && count("failure") == 0, "{metrics}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await.code(), Some(0), "{}", process.output());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_file_is_gone_when_its_token_has_ended_and_comes_back_with_the_next() {
    let csp = FakeCsp::start();
    csp.lifetime(2);
    let service = FakeService::start(csp.validator());
    let (_directory, path) = place();
    let sidecar = Sidecar::start(&keeping(&csp, &service, &[raw(&path)]));
    eventually(|| path.exists(), DEADLINE).await;
    csp.always(Answer::CspError(500));
    let failing_since = Instant::now();
    eventually(|| !path.exists(), DEADLINE).await;
    assert!(failing_since.elapsed() < Duration::from_secs(4));
    assert_eq!(sidecar.admin_get("/readyz").await.0, 503);
    csp.restore();
    eventually(|| path.exists(), DEADLINE).await;
}

#[tokio::test]
async fn a_link_in_its_place_is_replaced_and_what_it_leads_to_left_alone() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, path) = place();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["token", ".token.new"] {
        symlink(&victim, directory.path().join(name)).unwrap();
    }
    let sidecar = Sidecar::start(&keeping(&csp, &service, &[raw(&path)]));
    let is_file = || fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
    eventually(is_file, DEADLINE).await;
    assert_eq!(number(&path), Some(1));
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    sidecar.stop().await.unwrap();
    let left = fs::read_dir(directory.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["victim"]);
}

#[tokio::test]
async fn each_file_has_the_format_the_mode_and_the_group_that_are_asked_for() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, _) = place();
    let at = |name: &str| directory.path().join(name);
    let path = |name: &str| at(name).to_str().unwrap().to_owned();
    let group = getgid().as_raw().to_string();
    let files = [
        json!({ "path": path("raw"), "mode": "0440" }),
        json!({ "path": path("header"), "mode": "0640", "group": group, "format": "header" }),
        json!({ "path": path("json"), "format": "json" }),
    ];
    let _sidecar = Sidecar::start(&keeping(&csp, &service, &files));
    eventually(|| at("json").exists() && at("header").exists(), DEADLINE).await;
    eventually(|| at("raw").exists(), DEADLINE).await;
    let token = FakeCsp::token(1);
    assert_eq!(fs::read_to_string(at("raw")).unwrap(), token);
    let header = format!("Authorization: Bearer {token}\n");
    assert_eq!(fs::read_to_string(at("header")).unwrap(), header);
    let json: Value = serde_json::from_slice(&fs::read(at("json")).unwrap()).unwrap();
    assert_eq!(
        (&json["access_token"], &json["token_type"]),
        (&json!(token), &json!("Bearer"))
    );
    let mode = |name: &str| fs::metadata(at(name)).unwrap().mode() & 0o7777;
    assert_eq!(["raw", "header", "json"].map(mode), [0o440, 0o640, 0o600]);
    assert_eq!(fs::metadata(at("header")).unwrap().gid(), getgid().as_raw());
}

#[tokio::test]
async fn what_a_killed_run_has_left_is_gone_before_the_next_has_a_token() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, path) = place();
    let settings = keeping(&csp, &service, &[raw(&path)]);
    let mut first = Process::start(&settings).await;
    eventually(|| path.exists(), DEADLINE).await;
    first.signal(Signal::KILL);
    first.wait().await;
    assert_eq!(number(&path), Some(1));
    fs::write(directory.path().join(".token.new"), "half").unwrap();
    csp.always(Answer::CspError(500));
    let _second = Process::start(&settings).await;
    let is_empty = || fs::read_dir(directory.path()).unwrap().count() == 0;
    eventually(is_empty, DEADLINE).await;
}

#[tokio::test]
async fn a_reload_moves_a_file_and_never_takes_away_one_that_stays() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, path) = place();
    let other = directory.path().join("other");
    let process = Process::start(&keeping(&csp, &service, &[raw(&path)])).await;
    eventually(|| path.exists(), DEADLINE).await;
    let reader = Reader::of(&path);
    let both = keeping(&csp, &service, &[raw(&path), raw(&other)]);
    process.reconfigure(&both);
    process.signal(Signal::HUP);
    eventually(|| other.exists(), DEADLINE).await;
    let in_use = || process.output().contains("the new configuration is in use");
    eventually(in_use, DEADLINE).await;
    let seen = reader.seen();
    assert!(seen.iter().all(Option::is_some), "{seen:?}");
    assert_eq!(
        seen,
        [Some(1)],
        "the credentials are the same, and so is the token"
    );
    process.reconfigure(&keeping(&csp, &service, &[raw(&other)]));
    process.signal(Signal::HUP);
    eventually(|| !path.exists(), DEADLINE).await;
    assert!(other.exists());
}

#[tokio::test]
async fn a_reload_to_a_directory_that_the_sandbox_does_not_know_is_rejected_whole() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (_directory, path) = place();
    let (elsewhere, other) = place();
    let process = Process::start(&keeping(&csp, &service, &[raw(&path)])).await;
    eventually(|| path.exists(), DEADLINE).await;
    if !process.output().contains("Landlock (version") {
        println!("skipped: the kernel has no Landlock");
        return;
    }
    process.reconfigure(&keeping(&csp, &service, &[raw(&path), raw(&other)]));
    process.signal(Signal::HUP);
    let is_rejected = || process.output().contains("the old one stays");
    eventually(is_rejected, DEADLINE).await;
    let said = process.output();
    assert!(
        said.contains("broker.file") && said.contains("needs a restart"),
        "{said}"
    );
    assert_eq!(number(&path), Some(1));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

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
