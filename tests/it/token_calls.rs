//! Token calls that are in flight when the sidecar stops or changes its configuration: where the response
//! brings a refresh token that exists nowhere else, it is waited for.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::refresh_token::settings;
use crate::support::{
    Answer, FakeCsp, FakeIssuer, FakeService, Process, Said, Settings, eventually,
    eventually_async, get, issuer::field,
};

const SOON: Duration = Duration::from_secs(20);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds the responses of a service back until it is opened.
#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *lock(&self.is_open) = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let closed = |is_open: &mut bool| !*is_open;
        let held = self
            .opened
            .wait_timeout_while(lock(&self.is_open), SOON, closed);
        drop(held.unwrap());
    }
}

/// A service that replaces `NAME-0` by `NAME-1` and so on, and rejects a token that it gave before the last;
/// it has decided when a response is held back.
fn rotating(gate: &Arc<Gate>) -> FakeIssuer {
    let gate = Arc::clone(gate);
    let present = Mutex::new(0_usize);
    FakeIssuer::start(move |call| {
        let sent = field(call, "refresh_token").unwrap();
        let (name, number) = sent.split_once('-').unwrap();
        let next = {
            let mut present = lock(&present);
            if number != present.to_string() {
                return Said::error(400, "invalid_grant");
            }
            *present += 1;
            *present
        };
        gate.pass();
        let said = json!({
            "access_token": format!("access-{name}-{next}"),
            "token_type": "Bearer",
            "expires_in": 600,
            "refresh_token": format!("{name}-{next}"),
        });
        Said::json(200, &said)
    })
}

fn open() -> Arc<Gate> {
    let gate = Arc::<Gate>::default();
    gate.open();
    gate
}

fn file(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, format!("{name}-0")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn holds(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_refresh_token_that_is_on_its_way_at_the_end_is_stored() {
    let gate = Arc::<Gate>::default();
    let issuer = rotating(&gate);
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let mut sidecar = Process::start(&settings(&issuer, &service, &file)).await;
    eventually(|| issuer.call_count() == 1, SOON).await;
    sidecar.signal(Signal::TERM);
    eventually(|| sidecar.output().contains("stopping"), SOON).await;
    // As long as an end without it would take.
    let waited = tokio::time::timeout(Duration::from_millis(1500), sidecar.wait()).await;
    assert!(waited.is_err(), "it ended with the call in flight");
    let opened = Instant::now();
    gate.open();
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(opened.elapsed() < Duration::from_secs(5));
    assert_eq!(holds(&file), "a-1");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_response_that_does_not_come_is_waited_for_no_longer_than_the_drain() {
    let gate = Arc::<Gate>::default();
    let issuer = rotating(&gate);
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let settings = settings(&issuer, &service, &file).set("listen.drain_timeout", "500ms");
    let mut sidecar = Process::start(&settings).await;
    eventually(|| issuer.call_count() == 1, SOON).await;
    let asked = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(6));
    assert!(
        sidecar
            .output()
            .contains("a token call was still in flight"),
        "{}",
        sidecar.output()
    );
    gate.open();
}

#[tokio::test]
async fn the_doctor_is_not_interrupted_while_a_refresh_token_is_on_its_way() {
    let gate = Arc::<Gate>::default();
    let issuer = rotating(&gate);
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let config = tempfile::tempdir().unwrap();
    let config_file = settings(&issuer, &service, &file).write(config.path());
    let arguments = ["doctor", "--config", config_file.to_str().unwrap()];
    let mut doctor = Process::spawn(&arguments, &[]);
    eventually(|| issuer.call_count() == 1, SOON).await;
    doctor.signal(Signal::INT);
    let waited = tokio::time::timeout(Duration::from_millis(500), doctor.wait()).await;
    assert!(waited.is_err(), "it ended with the call in flight");
    gate.open();
    assert_eq!(doctor.wait().await.code(), Some(1), "{}", doctor.output());
    assert!(
        doctor.output().contains("stopped by a signal"),
        "{}",
        doctor.output()
    );
    assert_eq!(holds(&file), "a-1");
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn whoever_waits_for_a_refresh_token_that_another_process_holds_does_not_delay_the_end() {
    let issuer = rotating(&open());
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let other = fs::File::open(directory.path()).unwrap();
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&other, exclusive).unwrap();
    let mut sidecar = Process::start(&settings(&issuer, &service, &file)).await;
    let asked = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert_eq!(issuer.call_count(), 0);
}

#[tokio::test]
async fn a_call_that_brings_nothing_but_a_token_does_not_delay_the_end() {
    let csp = FakeCsp::start();
    csp.always(Answer::Hang);
    let service = FakeService::start(csp.validator());
    let mut sidecar = Process::start(&Settings::new(&csp, &service)).await;
    eventually(|| csp.in_flight() == 1, SOON).await;
    let asked = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_refresh_token_that_is_on_its_way_when_another_configuration_comes_into_use_is_stored() {
    let gate = Arc::<Gate>::default();
    let (issuer, other) = (rotating(&gate), rotating(&open()));
    let service = FakeService::accepting(["access-b-1"]);
    let directory = tempfile::tempdir().unwrap();
    // Two directories have two locks, and the sandbox of the process knows the first.
    let below = directory.path().join("below");
    fs::create_dir(&below).unwrap();
    let (file, next) = (file(directory.path(), "a"), file(&below, "b"));
    let sidecar = Process::start(&settings(&issuer, &service, &file)).await;
    eventually(|| issuer.call_count() == 1, SOON).await;
    sidecar.reconfigure(&settings(&other, &service, &next));
    eventually(|| sidecar.output().contains("is in use"), SOON).await;
    // Requests do not wait for what is over.
    let url = format!("{}/x", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    assert_eq!(holds(&file), "a-0");
    gate.open();
    eventually(|| holds(&file) == "a-1", SOON).await;
    assert_eq!((issuer.call_count(), other.call_count()), (1, 1));
    assert_eq!(holds(&next), "b-1");
}

#[tokio::test]
async fn a_refresh_token_of_a_configuration_that_is_taken_back_is_stored() {
    let gate = Arc::<Gate>::default();
    let (issuer, other) = (rotating(&open()), rotating(&gate));
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    // Two directories have two locks, and the sandbox of the process knows the first.
    let below = directory.path().join("below");
    fs::create_dir(&below).unwrap();
    let (file, next) = (file(directory.path(), "a"), file(&below, "b"));
    let first = settings(&issuer, &service, &file);
    let sidecar = Process::start(&first).await;
    eventually(|| holds(&file) == "a-1", SOON).await;
    sidecar.reconfigure(&settings(&other, &service, &next));
    eventually(|| other.call_count() == 1, SOON).await;
    // A third takes the place of the second, and then the first is there again.
    let third = first
        .clone()
        .set("auth.token_url", "http://127.0.0.1:1/token");
    sidecar.reconfigure(&third);
    let tried = || {
        sidecar
            .output()
            .matches("it is used once it has a token")
            .count()
            == 2
    };
    eventually(tried, SOON).await;
    sidecar.reconfigure(&first);
    sidecar.signal(Signal::HUP);
    eventually(
        || sidecar.output().contains("the configuration is the same"),
        SOON,
    )
    .await;
    gate.open();
    eventually(|| holds(&next) == "b-1", SOON).await;
}

#[tokio::test]
async fn of_two_configurations_with_one_refresh_token_the_new_one_sends_what_the_old_one_has_got() {
    let gate = Arc::<Gate>::default();
    let issuer = rotating(&gate);
    let service = FakeService::accepting(["access-a-2"]);
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let first = settings(&issuer, &service, &file);
    let sidecar = Process::start(&first).await;
    eventually(|| issuer.call_count() == 1, SOON).await;
    sidecar.reconfigure(&first.clone().set("auth.client_id", "another"));
    let tried = || sidecar.output().contains("it is used once it has a token");
    eventually(tried, SOON).await;
    gate.open();
    eventually(|| sidecar.output().contains("is in use"), SOON).await;
    let url = format!("{}/x", sidecar.url());
    eventually_async(async || get(&url).await.status == 200, SOON).await;
    let sent: Vec<_> = issuer
        .calls()
        .iter()
        .map(|call| field(call, "refresh_token").unwrap())
        .collect();
    assert_eq!(sent, ["a-0", "a-1"]);
    assert_eq!(holds(&file), "a-2");
}

/// Whether a process has a handler for a signal.
fn catches(pid: u32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    caught & (1 << (signal.as_raw() - 1)) != 0
}

/// Takes away the file that the next token is to be written to, as a disk that fails would.
fn lose_spare(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "next") {
            fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test]
async fn a_refresh_token_that_could_not_be_stored_is_tried_to_be_stored_again_before_the_end() {
    let gate = Arc::<Gate>::default();
    let issuer = rotating(&gate);
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let mut sidecar = Process::start(&settings(&issuer, &service, &file)).await;
    eventually(|| issuer.call_count() == 1, SOON).await;
    lose_spare(directory.path());
    sidecar.signal(Signal::TERM);
    eventually(|| sidecar.output().contains("stopping"), SOON).await;
    gate.open();
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(sidecar.output().contains("cannot be replaced"));
    assert_eq!(holds(&file), "a-1");
    assert_eq!(issuer.call_count(), 1);
}

#[tokio::test]
async fn a_refresh_token_that_cannot_be_stored_before_the_end_is_told_of_as_lost() {
    let gate = Arc::<Gate>::default();
    let issuer = rotating(&gate);
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("below");
    fs::create_dir(&below).unwrap();
    let file = file(&below, "a");
    let settings = settings(&issuer, &service, &file).set("listen.drain_timeout", "500ms");
    let mut sidecar = Process::start(&settings).await;
    eventually(|| issuer.call_count() == 1, SOON).await;
    fs::remove_dir_all(&below).unwrap();
    gate.open();
    eventually(|| sidecar.output().contains("got no token"), SOON).await;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    let output = sidecar.output();
    assert!(output.contains("the new one is lost"), "{output}");
}

#[tokio::test]
async fn the_doctor_stores_a_refresh_token_in_a_second_try() {
    let gate = Arc::<Gate>::default();
    let issuer = rotating(&gate);
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let config = tempfile::tempdir().unwrap();
    let config_file = settings(&issuer, &service, &file).write(config.path());
    let arguments = ["doctor", "--config", config_file.to_str().unwrap()];
    let mut doctor = Process::spawn(&arguments, &[]);
    eventually(|| issuer.call_count() == 1, SOON).await;
    lose_spare(directory.path());
    gate.open();
    assert_eq!(doctor.wait().await.code(), Some(1), "{}", doctor.output());
    assert_eq!(holds(&file), "a-1");
}

#[tokio::test]
async fn the_doctor_is_interrupted_while_it_waits_for_a_refresh_token_that_another_process_holds() {
    let issuer = rotating(&open());
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    let other = fs::File::open(directory.path()).unwrap();
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&other, exclusive).unwrap();
    let config = tempfile::tempdir().unwrap();
    let config_file = settings(&issuer, &service, &file).write(config.path());
    let arguments = ["doctor", "--config", config_file.to_str().unwrap()];
    let mut doctor = Process::spawn(&arguments, &[]);
    eventually(|| catches(doctor.pid(), Signal::INT), SOON).await;
    doctor.signal(Signal::INT);
    let ended = tokio::time::timeout(Duration::from_secs(5), doctor.wait()).await;
    assert_eq!(ended.unwrap().code(), Some(1), "{}", doctor.output());
    assert!(doctor.output().contains("stopped by a signal"));
    assert_eq!(issuer.call_count(), 0);
}

#[tokio::test]
async fn after_a_stop_a_rejected_call_is_not_followed_by_another() {
    let gate = Arc::<Gate>::default();
    let issuer = FakeIssuer::start({
        let gate = Arc::clone(&gate);
        move |_| {
            gate.pass();
            Said::error(401, "invalid_client")
        }
    });
    let service = FakeService::accepting_all();
    let directory = tempfile::tempdir().unwrap();
    let file = file(directory.path(), "a");
    // A service may read it in two ways.
    let secret = directory.path().join("secret");
    fs::write(&secret, "one+two/three").unwrap();
    let settings = settings(&issuer, &service, &file)
        .set("auth.client_auth", "client_secret_basic")
        .set("auth.client_secret_file", secret.to_str().unwrap());
    let mut sidecar = Process::start(&settings).await;
    eventually(|| issuer.call_count() == 1, SOON).await;
    sidecar.signal(Signal::TERM);
    eventually(|| sidecar.output().contains("stopping"), SOON).await;
    gate.open();
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert_eq!(issuer.call_count(), 1);
    assert_eq!(holds(&file), "a-0");
}
