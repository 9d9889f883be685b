//! The fleet: as many refreshers as asked for, each the project's own, with a source that calls the one service.

use std::{
    cell::RefCell,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use auth_sidecar::token::{
    FetchError, NoEvents, TokenHandle, TokenResponse, TokenSource, channel, schedule::RefreshPolicy,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    measure::{Recovery, Steady},
    service::{Overload, PATIENCE, Service, State},
};

/// All of them start within this time.
const START: Duration = Duration::from_secs(1);
/// The longest time between two attempts while there is no token, unless the service asks for more.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// Who there is, and whom they ask.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// How many refreshers.
    pub sidecars: usize,
    /// How long a token lives.
    pub lifetime: Duration,
    /// Calls that the service can answer in a second.
    pub capacity: u32,
    /// What it does with more.
    pub overload: Overload,
    /// What it does at first.
    pub state: State,
    /// The refreshers' dice.
    pub random: fn() -> f64,
}

/// Running refreshers and their service.
#[derive(Debug)]
pub struct Fleet {
    service: Arc<Mutex<Service>>,
    tokens: Vec<TokenHandle>,
    tasks: Vec<JoinHandle<()>>,
}

struct Source {
    sidecar: usize,
    service: Arc<Mutex<Service>>,
}

impl TokenSource for Source {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        let (takes, answer) = self.service.lock().unwrap().call(self.sidecar);
        sleep(takes).await;
        answer
    }
}

impl Fleet {
    /// Starts everyone within one second, from now.
    pub fn start(scene: Scene) -> Self {
        seed_dice();
        let service = Service::new(scene.lifetime, scene.capacity, scene.overload);
        let service = Arc::new(Mutex::new(service));
        service.lock().unwrap().state = scene.state;
        let mut fleet = Self {
            service: Arc::clone(&service),
            tokens: Vec::with_capacity(scene.sidecars),
            tasks: Vec::with_capacity(scene.sidecars),
        };
        for sidecar in 0..scene.sidecars {
            let service = Arc::clone(&service);
            let source = Source { sidecar, service };
            let policy = RefreshPolicy::default();
            let (refresher, tokens) = channel(source, policy, NoEvents, scene.random);
            let delay = START.mul_f64(dice());
            fleet.tokens.push(tokens);
            fleet.tasks.push(tokio::spawn(async move {
                sleep(delay).await;
                refresher.run(CancellationToken::new()).await;
            }));
        }
        fleet
    }

    /// Lets time pass.
    pub async fn run(&self, time: Duration) {
        sleep(time).await;
    }

    /// The service, to look into its book or to change its state.
    pub fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap()
    }

    /// Who cannot send a request now.
    pub fn without_token(&self) -> usize {
        let now = Instant::now();
        let without = |tokens: &&TokenHandle| tokens.usable(now).is_none();
        self.tokens.iter().filter(without).count()
    }

    /// Who failed at the last attempt, and so will try until there is a token.
    pub fn retrying(&self) -> Vec<usize> {
        let retries = |tokens: &TokenHandle| tokens.snapshot().failure.is_some();
        let everyone = self.tokens.iter().enumerate();
        everyone
            .filter_map(|(sidecar, tokens)| retries(tokens).then_some(sidecar))
            .collect()
    }

    /// Asserts that nobody gave up: each task runs, and between its last attempt and the next
    /// are no more than the longest back-off after a failure, and a lifetime after a success.
    pub fn assert_nobody_gave_up(&self) {
        let lifetime = self.service().lifetime;
        let now = Instant::now();
        for (task, tokens) in self.tasks.iter().zip(&self.tokens) {
            assert!(!task.is_finished(), "a refresher ended");
            let snapshot = tokens.snapshot();
            let longest = match &snapshot.failure {
                Some(failure) => {
                    let asked = failure.retry_after.unwrap_or_default();
                    LONGEST_BACK_OFF.max(asked * 2)
                }
                None => lifetime,
            };
            let last = snapshot.history.front().expect("it tried");
            let pause = snapshot.next_attempt - (last.started_at + last.duration);
            assert!(pause <= longest, "{pause:?} after {:?}", last.outcome);
            // The next one may be under way.
            assert!(snapshot.next_attempt + PATIENCE >= now, "{snapshot:?}");
        }
    }

    /// The load in that time.
    pub fn steady(&self, time: Range<Duration>) -> Steady {
        Steady::of(&self.service().calls, time)
    }

    /// How those who waited at that time came to a token.
    pub fn recovery(&self, since: Duration, waiting: &[usize]) -> Recovery {
        Recovery::of(&self.service().calls, since, waiting)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

thread_local! {
    static DICE: RefCell<fastrand::Rng> = const { RefCell::new(fastrand::Rng::with_seed(0)) };
}

/// The seed of all dice: `FLEET_SEED`, or the one with which the documented figures were made.
#[expect(
    clippy::disallowed_methods,
    reason = "the rule is for the program; here it saves a rebuild for each seed"
)]
pub fn seed() -> u64 {
    let chosen = std::env::var("FLEET_SEED").ok();
    chosen.map_or(20_260, |seed| seed.parse().expect("a number"))
}

fn seed_dice() {
    DICE.set(fastrand::Rng::with_seed(seed()));
}

/// The dice of a real fleet: everyone throws their own.
pub fn dice() -> f64 {
    DICE.with_borrow_mut(fastrand::Rng::f64)
}

/// Loaded dice: without jitter, everyone waits as long as everyone else.
pub fn no_dice() -> f64 {
    1.0
}
