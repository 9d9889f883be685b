//! The soak: real load on the real binary while both services fail at random, and an account of every answer.
//!
//! `SOAK_SECONDS` (20) says how long, `SOAK_SEED` (random, printed) which faults and requests in
//! which order; the jitter of the binary has no seed. No outcome is believed because it looks
//! right: a failure is excused only by a fault of the right part of the world whose time overlaps
//! the request's.

mod account;
mod clients;
mod faults;
mod memory;
mod upstream;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use self::{
    account::Account, clients::Clients, faults::Faults, memory::Memory, upstream::Upstream,
};
use crate::support::{Answer, CLIENT_SECRET, FakeCsp, Settings};

const REQUESTS_PER_SECOND: u32 = 200;
/// Twice what a hold of 8 s brings together at that rate. They come first, so that the allocator
/// already has what it keeps for a peak.
const AT_ONCE: usize = 3200;
/// Above what the slowest answer of the token service takes, below the life of a token.
const TOKEN_TIMEOUT: Duration = Duration::from_millis(2500);
const LIFETIME: Duration = Duration::from_secs(3);
/// After the last fault: all that it delayed ends well before.
const LAST_QUIET: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_under_load_are_survived_and_accounted_for() {
    let seconds = parameter("SOAK_SECONDS").unwrap_or(20);
    let seed = parameter("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("soak: SOAK_SECONDS={seconds} SOAK_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    let csp = FakeCsp::start();
    csp.lifetime(LIFETIME.as_secs());
    csp.really_lives(LIFETIME);
    // All that comes meanwhile is held.
    csp.script([Answer::Hang]);
    let upstream = Upstream::start_for(&csp);
    if !upstream.has_two_addresses() {
        println!("soak: no namespace of mounts can be had, so the service has one address");
    }
    let settings = Settings::new(&csp, upstream.service())
        .set("upstream.url", upstream.url())
        .set("upstream.allow_insecure_http", true)
        // So that whoever reads it has something to be slow with.
        .set("log.level", "debug")
        .unset("auth.client_secret")
        .file("auth.client_secret_file", CLIENT_SECRET)
        .set("auth.request_timeout", "2500ms")
        .set("upstream.response_timeout", "5s")
        // A hold of 8 s at this rate is more than the default allows.
        .set("listen.max_in_flight", 4096);
    let process = Arc::new(upstream.start_in_front(&settings).await);
    let account = Arc::new(Account::default());
    let clients = Arc::new(Clients::new(process.url(), Arc::clone(&account)));

    let requests = TaskTracker::new();
    for number in 1..=AT_ONCE {
        let request = clients.draw(number, &mut random);
        requests.spawn(Arc::clone(&clients).make(request));
    }
    requests.close();
    requests.wait().await;
    requests.reopen();

    let started = Instant::now();
    let end = started + Duration::from_secs(seconds);
    let memory = Memory::watch(process.pid(), started, end);
    let faults = Faults {
        random: random.fork(),
        process: Arc::clone(&process),
        clients: Arc::clone(&clients),
        csp,
        upstream,
    };
    let faults = tokio::spawn(faults.run(end - LAST_QUIET));

    let mut ticks = interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = AT_ONCE;
    while Instant::now() < end {
        ticks.tick().await;
        asked += 1;
        let request = clients.draw(asked, &mut random);
        requests.spawn(Arc::clone(&clients).make(request));
    }
    requests.close();
    requests.wait().await;

    let (services, mut history) = faults.await.unwrap();
    let calls = services.csp.calls();
    history.calls = calls.iter().map(|call| call.at).collect();
    history.unauthorized = services.upstream.unauthorized();
    let verdict = account.judge(&history, end, &memory.await.unwrap());
    println!("soak: seconds                  {seconds}");
    println!("soak: seed                     {seed}");
    println!("{}", verdict.table);
    let mut problems = verdict.problems;
    if verdict.answered != asked {
        problems.push(format!("{asked} asked, {} answered", verdict.answered));
    }
    assert!(
        problems.is_empty(),
        "SOAK_SEED={seed}:\n{}",
        problems.join("\n")
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "the parameters of a command that is a test; the sidecar never sees them"
)]
fn parameter(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {value}")),
    )
}
