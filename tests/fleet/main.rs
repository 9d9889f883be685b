//! Ten thousand sidecars and one token service, under a paused clock: what load the schedule makes.
//!
//! Everyone is the project's own refresher with the default policy; only the service is made up,
//! and only the clock is not real. `cargo test --test fleet -- --nocapture` prints the figures
//! that `docs/fleet.md` explains.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests fail by panicking, and this one is there to print its figures"
)]

/// Counting calls.
mod measure;
/// The token service.
mod service;
/// The refreshers.
mod sidecars;

use std::{fmt::Write as _, time::Duration};

use self::{
    measure::{
        Recovery, between, number, peak_by_chance, shortest_pause_after, times_without_token,
    },
    service::{Outcome, Overload, State},
    sidecars::{Fleet, Scene, dice, no_dice, seed},
};

const EVERYONE: usize = 10_000;
const LIFETIME: Duration = Duration::from_secs(1799);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Everyone, and a service that can grant 500 tokens in a second.
const SCENE: Scene = Scene {
    sidecars: EVERYONE,
    lifetime: LIFETIME,
    capacity: 500,
    overload: Overload::Refuse(Duration::from_secs(30)),
    state: State::Serving,
    random: dice,
};

#[tokio::test(start_paused = true)]
async fn renewals_are_even_after_two_lifetimes_and_nobody_is_ever_without_a_token() {
    let fleet = Fleet::start(SCENE);
    fleet.run(LIFETIME * 6).await;
    let steady = fleet.steady(LIFETIME * 2..LIFETIME * 6);
    // Chance is asked about the busiest minute, not about the mean: the fleet need not be more
    // even within a minute than strangers are. Seconds that may begin anywhere overlap, so there
    // are a few times more of them.
    let by_chance = peak_by_chance(steady.busiest_minute, 4.0 * 4.0 * LIFETIME.as_secs_f64());
    println!(
        "steady state, seed {}: {steady}, by chance up to {by_chance}",
        seed()
    );
    // A renewal comes after 92.5 % of what the lead of a tenth leaves of the lifetime.
    let expected = number(EVERYONE) / (LIFETIME.as_secs_f64() * 0.9 * 0.925);
    assert!((0.97..1.03).contains(&(steady.mean / expected)));
    assert!(steady.excess() <= 1.5, "{steady}");
    assert!(steady.busiest_second <= by_chance, "{steady}");
    assert_eq!(times_without_token(&fleet.service().calls, LIFETIME), 0);
    assert_eq!(fleet.without_token(), 0);
    fleet.assert_nobody_gave_up();
}

#[tokio::test(start_paused = true)]
async fn without_jitter_the_same_measures_show_a_fleet_in_step() {
    // Only a tenth of everyone, at a tenth of the capacity: this one need not be exact.
    let scene = Scene {
        sidecars: EVERYONE / 10,
        random: no_dice,
        ..SCENE
    };
    let fleet = Fleet::start(Scene {
        capacity: u32::MAX,
        ..scene
    });
    fleet.run(LIFETIME * 6).await;
    let steady = fleet.steady(LIFETIME * 2..LIFETIME * 6);
    println!("without jitter: {steady}");
    assert!(steady.excess() > 1.5, "{steady}");
    let fleet = Fleet::start(Scene {
        capacity: SCENE.capacity / 10,
        state: State::Away,
        ..scene
    });
    let recovery = outage(&fleet, State::Away, MINUTE * 10).await;
    println!("without jitter, an outage: {recovery}");
    assert!(!recovery.is_gentle(), "{recovery}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_calls() {
    let mut books = Vec::new();
    for _ in 0..2 {
        let fleet = Fleet::start(Scene {
            sidecars: EVERYONE / 10,
            capacity: SCENE.capacity / 10,
            ..SCENE
        });
        fleet.run(LIFETIME * 2).await;
        books.push(fleet.service().calls.clone());
    }
    assert!(books[0] == books[1]);
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_of_everyone_within_one_second() {
    // The backlog of this start takes 20 s to work off. Who asks to come back sooner gets what
    // was asked for: calls that must be refused again.
    for (name, overload, most) in [
        ("429, Retry-After 30", Overload::Refuse(SECOND * 30), 2.0),
        ("429, Retry-After 5", Overload::Refuse(SECOND * 5), 5.0),
        ("429, Retry-After 1", Overload::Refuse(SECOND), 5.0),
        ("a queue", Overload::Queue, 2.0),
        ("a queue that serves the dead", Overload::QueueBlindly, 2.5),
    ] {
        let fleet = Fleet::start(Scene { overload, ..SCENE });
        fleet.run(MINUTE * 5).await;
        let everyone: Vec<_> = (0..EVERYONE).collect();
        let start = fleet.recovery(Duration::ZERO, &everyone);
        println!("cold start, {name}: {start}");
        assert_eq!((start.left, fleet.without_token()), (0, 0));
        assert!(start.took <= MINUTE * 2, "{start}");
        assert!(start.excess() <= most, "{start}");
        fleet.assert_nobody_gave_up();
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_into_an_outage() {
    // Everyone fails together, so they are as close to each other as they will ever be.
    for seconds in [2, 10, 60] {
        let state = State::Away;
        let fleet = Fleet::start(Scene { state, ..SCENE });
        let recovery = outage(&fleet, state, SECOND * seconds).await;
        println!("started {seconds} s before the end of an outage: {recovery}");
        assert!(recovery.is_gentle(), "{recovery}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_two_minutes_costs_nobody_a_token() {
    let fleet = Fleet::start(SCENE);
    fleet.run(LIFETIME * 2).await;
    let recovery = outage(&fleet, State::Away, SECOND * 119).await;
    println!("outage of 2 min: {recovery}");
    assert!(recovery.waiting > 0);
    assert_eq!(times_without_token(&fleet.service().calls, LIFETIME), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_ten_minutes() {
    let fleet = Fleet::start(SCENE);
    fleet.run(LIFETIME * 3).await;
    let recovery = outage(&fleet, State::Away, MINUTE * 10).await;
    println!("outage of 10 min: {recovery}");
    assert!(recovery.is_gentle(), "{recovery}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_outlives_every_token() {
    let fleet = Fleet::start(SCENE);
    fleet.run(LIFETIME).await;
    let recovery = outage(&fleet, State::Away, LIFETIME + MINUTE).await;
    println!("outage of 31 min: {recovery}");
    assert_eq!(
        (recovery.without_token, recovery.needed),
        (EVERYONE, EVERYONE)
    );
    assert!(recovery.is_gentle(), "{recovery}");
    // They came back within a minute, and must not come back together for ever.
    let now = fleet.service().now();
    fleet.run(LIFETIME * 2).await;
    let steady = fleet.steady(now..now + LIFETIME * 2);
    println!("the two lifetimes after it: {steady}");
    assert!(steady.excess() <= 1.5, "{steady}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_limiter_for_everyone_from_the_start() {
    let asked = SECOND * 30;
    let state = State::Limiting(asked);
    let fleet = Fleet::start(Scene { state, ..SCENE });
    let recovery = outage(&fleet, state, MINUTE * 10).await;
    let pause = shortest_pause_after(&fleet.service().calls, Outcome::Limited).unwrap();
    let pause_seconds = pause.as_secs_f64();
    println!(
        "429 for 10 min: {recovery}; nobody called sooner than {pause_seconds:.1} s after a 429"
    );
    assert!(pause >= asked, "{pause:?}");
    assert_eq!(recovery.needed, EVERYONE);
    assert!(recovery.is_gentle(), "{recovery}");
}

#[tokio::test(start_paused = true)]
async fn the_table_of_loads() {
    let mut table = String::from(
        "| sidecars | lifetime | mean, calls/s | busiest minute, calls/s | busiest second, calls \
         | in an outage, calls/s | after it: waiting | busiest second, calls | all served after |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for lifetime in [MINUTE, LIFETIME, SECOND * 18_000] {
        for sidecars in [1, 10, 100, 1000, EVERYONE] {
            let fleet = Fleet::start(Scene {
                sidecars,
                lifetime,
                capacity: u32::MAX,
                ..SCENE
            });
            fleet.run(lifetime * 4).await;
            let steady = fleet.steady(lifetime * 2..lifetime * 4);
            let recovery = outage(&fleet, State::Away, MINUTE * 5).await;
            writeln!(
                table,
                "| {sidecars} | {} s | {:.4} | {:.3} | {} | {:.2} | {} | {} | {:.0} s |",
                lifetime.as_secs(),
                steady.mean,
                steady.busiest_minute,
                steady.busiest_second,
                recovery.meanwhile,
                recovery.waiting,
                recovery.busiest_second,
                recovery.took.as_secs_f64()
            )
            .unwrap();
            // Not whether it was gentle: who lives for a minute calls again before that is over.
            assert_eq!(recovery.left, 0, "{recovery}");
            assert!(recovery.took <= MINUTE * 2, "{recovery}");
        }
    }
    println!("{table}");
}

/// Lets the service be in that state for a time, then serve again, and watches how everyone gets
/// over it.
async fn outage(fleet: &Fleet, state: State, length: Duration) -> Recovery {
    fleet.service().state = state;
    let begin = fleet.service().now();
    fleet.run(length).await;
    fleet.assert_nobody_gave_up();
    let (waiting, without_token) = (fleet.retrying(), fleet.without_token());
    fleet.service().state = State::Serving;
    let end = fleet.service().now();
    fleet.run(MINUTE * 5).await;
    fleet.assert_nobody_gave_up();
    let calls = between(&fleet.service().calls, begin..end).len();
    let recovery = fleet.recovery(end, &waiting);
    Recovery {
        meanwhile: number(calls) / length.as_secs_f64(),
        without_token,
        left: recovery.left.max(fleet.without_token()),
        ..recovery
    }
}
