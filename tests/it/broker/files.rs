//! Files that hold the current token: whole at each moment, and gone when there is none.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Signal, getgid};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{
    Answer, DEADLINE, FakeCsp, FakeService, Process, Settings, Sidecar, eventually,
    eventually_async,
};

pub(super) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    (directory, path)
}

pub(super) fn keeping(csp: &FakeCsp, service: &FakeService, files: &[Value]) -> Settings {
    Settings::new(csp, service).set("broker.file", files)
}

pub(super) fn raw(path: &Path) -> Value {
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
    let count = async |result: &str| {
        let name = format!("auth_sidecar_broker_file_writes_total{{result=\"{result}\"}} ");
        let (_, metrics) = process.admin_get("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    // The file is there a moment before it is counted.
    eventually_async(async || count("success").await >= 4, DEADLINE).await;
    assert_eq!(count("failure").await, 0);
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
async fn a_link_in_its_place_is_left_alone_and_what_it_leads_to_as_well() {
    let csp = FakeCsp::start();
    csp.lifetime(3);
    let service = FakeService::start(csp.validator());
    let (directory, path) = place();
    let victim = directory.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &path).unwrap();
    let settings = keeping(&csp, &service, &[raw(&path)]);
    let error = Sidecar::try_start(&settings).unwrap_err();
    assert!(format!("{error:#}").contains("something else than a file"));
    fs::remove_file(&path).unwrap();
    let sidecar = Sidecar::start(&settings);
    eventually(|| number(&path) == Some(1), DEADLINE).await;
    fs::remove_file(&path).unwrap();
    symlink(&victim, &path).unwrap();
    let failed = r#"auth_sidecar_broker_file_writes_total{result="failure"} 1"#;
    let told = async || sidecar.admin_get("/metrics").await.1.contains(failed);
    eventually_async(told, DEADLINE).await;
    assert_eq!(fs::read_link(&path).unwrap(), victim);
    sidecar.stop().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"precious");
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
    fs::write(directory.path().join(".token.0123456789abcdef.new"), "half").unwrap();
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
