//! Refresh tokens that the service rotates: the next one is stored before anything is done with what came
//! with it, whatever happens to the process.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{
    FakeIssuer, FakeService, Process, Said, Settings, Sidecar, Validator, csp::Call, eventually,
    eventually_async, get, issuer::field, request,
};

const SOON: Duration = Duration::from_secs(20);
const CANARY: &str = "canary-refresh-token";

/// A service that rotates, as strict as they come: a token that is neither the present one nor the one
/// before it, while the present one was never used, ends the whole family.
#[derive(Debug)]
struct Rotating {
    present: usize,
    /// Whether the one before is still taken: the present one was never used.
    is_reuse_allowed: bool,
    rotates: bool,
    reused: usize,
    granted: usize,
    lost: Vec<String>,
}

type Shared = Arc<Mutex<Rotating>>;

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Rotating> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn token(n: usize) -> String {
    format!("{CANARY}-{n:05}")
}

/// The name of the file beside that of the token, with the one that follows it.
fn spare_name(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let tag = digest.as_ref().iter().take(8);
    let tag = tag.map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
    let tag = tag.concat();
    format!(".refresh-token.{tag}.next")
}

impl Rotating {
    fn start(expires_in: u64, delay: fn(usize) -> Duration) -> (FakeIssuer, Shared) {
        let shared = Arc::new(Mutex::new(Self {
            present: 0,
            is_reuse_allowed: false,
            rotates: true,
            reused: 0,
            granted: 0,
            lost: Vec::new(),
        }));
        let state = Arc::clone(&shared);
        let issuer = FakeIssuer::start(move |call| {
            let (said, n) = lock(&state).answer(call, expires_in);
            // What it has decided is on its way for a while.
            std::thread::sleep(delay(n));
            said
        });
        (issuer, shared)
    }

    fn answer(&mut self, call: &Call, expires_in: u64) -> (Said, usize) {
        assert_eq!(field(call, "grant_type").as_deref(), Some("refresh_token"));
        let given = field(call, "refresh_token").unwrap();
        let is_before = self.present > 0 && given == token(self.present - 1);
        if given == token(self.present) {
            if self.rotates {
                self.present += 1;
                self.is_reuse_allowed = true;
            }
        } else if is_before && self.is_reuse_allowed {
            self.reused += 1;
        } else {
            self.lost.push(given);
            return (Said::error(400, "invalid_grant"), self.granted);
        }
        self.granted += 1;
        let said = json!({
            "access_token": format!("access-{:05}", self.present),
            "token_type": "Bearer",
            "expires_in": expires_in,
            "refresh_token": token(self.present),
        });
        (Said::json(200, &said), self.granted)
    }
}

fn write(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("refresh-token");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A sidecar whose refresh token is in a file, and whose client has no secret.
pub fn settings(issuer: &FakeIssuer, service: &FakeService, file: &Path) -> Settings {
    Settings::to(&service.url())
        .set("auth.type", "oauth2-refresh-token")
        .set("auth.token_url", format!("{}/token", issuer.url()))
        .set("auth.client_auth", "none")
        .set("auth.client_id", "app")
        .set("auth.refresh_token_file", file.to_str().unwrap())
}

/// A service that takes an access token only where its refresh token is in the file already.
fn strict(file: &Path) -> Validator {
    let file = file.to_owned();
    Validator::new(move |access| {
        let number = access.strip_prefix("access-").unwrap();
        let stored = fs::read_to_string(&file).unwrap();
        let stored = stored.trim().strip_prefix(CANARY).unwrap();
        stored.strip_prefix('-').unwrap() >= number
    })
}

async fn status(url: &str) -> u16 {
    get(&format!("{url}/x")).await.status.as_u16()
}

#[tokio::test]
async fn each_token_is_stored_before_it_is_used_and_by_a_process_that_may_write_nowhere_else() {
    let (issuer, state) = Rotating::start(2, |_| Duration::ZERO);
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::start(strict(&file));
    let process = Process::start(&settings(&issuer, &service, &file)).await;
    let url = process.url();
    while lock(&state).present < 4 {
        assert_eq!(status(&url).await, 200);
    }
    assert!(process.stderr().contains("sandbox: not dumpable"));
    // Beside the file there is another only while a token is asked for.
    let count = || fs::read_dir(directory.path()).unwrap().count();
    eventually(|| count() == 1, SOON).await;
    let state = lock(&state);
    assert_eq!((state.reused, state.lost.len()), (0, 0), "{state:?}");
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert!(!process.output().contains(CANARY));
}

#[tokio::test]
async fn a_token_that_is_not_rotated_stays_as_it_is_and_one_that_is_replaced_by_hand_is_used() {
    let (issuer, state) = Rotating::start(600, |_| Duration::ZERO);
    lock(&state).rotates = false;
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let before = fs::metadata(&file).unwrap().ino();
    let service = FakeService::accepting(["access-00000", "access-00007"]);
    let sidecar = Sidecar::start(&settings(&issuer, &service, &file));
    assert_eq!(status(&sidecar.url()).await, 200);
    assert_eq!(fs::metadata(&file).unwrap().ino(), before);
    lock(&state).present = 7;
    write(directory.path(), &token(7));
    let refresh = format!("{}/refresh", sidecar.admin_url());
    request("POST", &refresh, &[], "").await;
    eventually(|| lock(&state).granted >= 2, SOON).await;
    assert!(lock(&state).lost.is_empty());
    drop(sidecar);
    // Its own replacement is no change that makes it ask again.
    lock(&state).rotates = true;
    let asked = issuer.call_count();
    let service = FakeService::accepting(["access-00008"]);
    let sidecar = Sidecar::start(&settings(&issuer, &service, &file));
    assert_eq!(status(&sidecar.url()).await, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(issuer.call_count(), asked + 1);
}

#[tokio::test]
async fn a_token_that_could_not_be_replaced_is_not_sent() {
    let (issuer, state) = Rotating::start(600, |_| Duration::ZERO);
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    // Nothing can be made under the name that the next one is written under.
    let spare = directory.path().join(spare_name(&token(0)));
    fs::create_dir(&spare).unwrap();
    fs::write(spare.join("kept"), "").unwrap();
    let service = FakeService::accepting(["access-00001"]);
    let settings = settings(&issuer, &service, &file).set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    let told = async || {
        sidecar
            .admin_get("/status")
            .await
            .1
            .contains("cannot be replaced")
    };
    eventually_async(told, SOON).await;
    assert_eq!(issuer.call_count(), 0);
    fs::remove_dir_all(&spare).unwrap();
    eventually_async(async || status(&sidecar.url()).await == 200, SOON).await;
    assert_eq!(lock(&state).present, 1);

    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let error =
        Sidecar::try_start(&settings.set("auth.refresh_token_file", link.to_str().unwrap()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no link"), "{error}");
}

#[tokio::test]
async fn a_token_that_was_rejected_is_tried_again_once_another_is_there() {
    let (issuer, state) = Rotating::start(600, |_| Duration::ZERO);
    lock(&state).present = 3;
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::accepting(["access-00004"]);
    let settings = settings(&issuer, &service, &file).set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    let told = async || {
        sidecar
            .admin_get("/status")
            .await
            .1
            .contains("invalid_grant")
    };
    eventually_async(told, SOON).await;
    write(directory.path(), &token(3));
    eventually_async(async || status(&sidecar.url()).await == 200, SOON).await;
}

#[tokio::test]
async fn a_rotated_token_is_stored_where_its_access_token_cannot_be_used() {
    let issuer = FakeIssuer::start(|_| {
        let said = json!({
            "access_token": "a",
            "token_type": "mac",
            "refresh_token": token(1),
        });
        Said::json(200, &said)
    });
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::accepting_all();
    let sidecar = Sidecar::start(&settings(&issuer, &service, &file));
    let stored = || fs::read_to_string(&file).unwrap().trim() == token(1);
    eventually(stored, SOON).await;
    let told = async || sidecar.admin_get("/readyz").await.1.contains("token_type");
    eventually_async(told, SOON).await;
}

#[tokio::test]
async fn a_refresh_token_that_cannot_be_used_is_told_of_and_the_access_token_is_used() {
    let next = Arc::new(Mutex::new(json!(["canary"])));
    let given = Arc::clone(&next);
    let issuer = FakeIssuer::start(move |_| {
        let next = given.lock().unwrap().clone();
        let said = json!({
            "access_token": "access-00001",
            "token_type": "Bearer",
            "expires_in": 600,
            "refresh_token": next,
        });
        Said::json(200, &said)
    });
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::accepting(["access-00001"]);
    let process = Process::start(&settings(&issuer, &service, &file)).await;
    eventually_async(async || status(&process.url()).await == 200, SOON).await;
    let said = process.admin_get("/status").await.1;
    assert!(
        said.contains("refresh token that cannot be used (it is no string)"),
        "{said}"
    );
    assert!(said.contains(r#""kind": "refresh_token""#), "{said}");
    let told = || {
        process
            .output()
            .contains("refresh token that cannot be used")
    };
    eventually(told, SOON).await;
    assert!(!process.output().contains("canary\""));
    assert_eq!(fs::read_to_string(&file).unwrap(), token(0));
    // One that can be used ends that.
    *next.lock().unwrap() = json!(token(1));
    let refresh = format!("{}/refresh", process.admin_url());
    request("POST", &refresh, &[], "").await;
    eventually(
        || fs::read_to_string(&file).unwrap().trim() == token(1),
        SOON,
    )
    .await;
    let is_over = async || {
        !process
            .admin_get("/status")
            .await
            .1
            .contains("cannot be used")
    };
    eventually_async(is_over, SOON).await;
}

#[tokio::test]
async fn a_refresh_token_that_cannot_be_used_is_told_of_where_the_access_token_cannot_be_either() {
    let issuer = FakeIssuer::start(|_| {
        let said = json!({
            "access_token": "access-00001",
            "token_type": "mac",
            "expires_in": 600,
            "refresh_token": ["canary"],
        });
        Said::json(200, &said)
    });
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::accepting_all();
    let process = Process::start(&settings(&issuer, &service, &file)).await;
    let told = async || {
        let said = process.admin_get("/status").await.1;
        said.contains("refresh token that cannot be used (it is no string)")
    };
    eventually_async(told, SOON).await;
    let logged = || {
        process
            .output()
            .contains("refresh token that cannot be used")
    };
    eventually(logged, SOON).await;
}

#[tokio::test]
async fn a_token_that_another_process_holds_is_waited_for_as_long_as_its_calls_may_take() {
    let (issuer, state) = Rotating::start(600, |_| Duration::ZERO);
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::accepting_all();
    let settings = settings(&issuer, &service, &file)
        .set("auth.request_timeout", "1s")
        .set("auth.connect_timeout", "1s");
    let other = fs::File::open(directory.path()).unwrap();
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&other, exclusive).unwrap();
    let sidecar = Sidecar::start(&settings);
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        let said = sidecar.admin_get("/status").await.1;
        assert!(!said.contains("holds"), "{said}");
    }
    assert_eq!(issuer.call_count(), 0);
    drop(other);
    eventually_async(async || status(&sidecar.url()).await == 200, SOON).await;
    assert_eq!(lock(&state).present, 1);
}

#[tokio::test]
async fn sidecars_that_share_a_token_do_not_renew_because_of_each_other() {
    let (issuer, state) = Rotating::start(600, |_| Duration::ZERO);
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::accepting_all();
    let settings = settings(&issuer, &service, &file);
    let (one, other) = (Sidecar::start(&settings), Sidecar::start(&settings));
    for sidecar in [&one, &other] {
        eventually_async(async || status(&sidecar.url()).await == 200, SOON).await;
    }
    // Longer than the least time between two calls, and than it takes to see a change.
    let end = Duration::from_secs(2);
    let began = tokio::time::Instant::now();
    while began.elapsed() < end {
        assert_eq!(status(&one.url()).await, 200);
        assert_eq!(lock(&state).granted, 2);
    }
}

/// Kills the process at so many moments, one after the other, and says how often the service was asked
/// again with the token before.
async fn kill_often(lane: u64, times: usize) -> (usize, usize) {
    // How long a response is on its way: nothing, or long enough for a kill in between.
    let delay = |n: usize| Duration::from_micros(u64::try_from(n % 4).unwrap() * 1500);
    let (issuer, state) = Rotating::start(2, delay);
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), &token(0));
    let service = FakeService::start(strict(&file));
    let settings = settings(&issuer, &service, &file);
    let config = settings.write(directory.path());
    let run = ["run", "--config", config.to_str().unwrap()];
    let mut random = fastrand::Rng::with_seed(lane);
    for time in 0..times {
        let asked = issuer.call_count();
        let process = Process::spawn(&run, &[]);
        if time % 4 == 0 {
            // Anywhere: before it has read anything, while it waits, while it asks, while it writes.
            tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
        } else {
            // Around the moment that matters: the request is there, the response on its way.
            eventually(|| issuer.call_count() > asked, SOON).await;
            tokio::time::sleep(Duration::from_micros(random.u64(0..9000))).await;
        }
        // Dropped, it is killed by SIGKILL.
        drop(process);
        let lost = lock(&state).lost.clone();
        assert!(lost.is_empty(), "lane {lane}, time {time}: {lost:?}");
        let stored = fs::read_to_string(&file).unwrap();
        assert!(
            stored.starts_with(CANARY) && stored.trim().len() == token(0).len(),
            "{stored}"
        );
    }
    let mut process = Process::spawn(&run, &[]);
    process.listening(true).await;
    let url = process.url();
    eventually_async(async || status(&url).await == 200, SOON).await;
    let state = lock(&state);
    assert!(state.lost.is_empty());
    (state.granted, state.reused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_two_hundred_random_moments_it_loses_no_token() {
    let mut lanes = JoinSet::new();
    for lane in 0..4 {
        lanes.spawn(kill_often(lane, 50));
    }
    let (mut granted, mut reused) = (0, 0);
    for (of_granted, of_reused) in lanes.join_all().await {
        granted += of_granted;
        reused += of_reused;
    }
    // Some were killed with a response on its way, and many with the next token stored.
    assert!(granted > 150, "{granted}");
    assert!(reused > 0 && reused < granted, "{reused} of {granted}");
}
