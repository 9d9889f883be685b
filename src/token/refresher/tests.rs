//! The token channel under a paused clock, with a scripted source.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use secrecy::SecretString;
use tokio::{
    sync::Notify,
    time::{advance, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::token::{Bearer, NoEvents, Renewal, TokenHandle, Unavailable, channel};

/// What the source returns, and after how long.
type Script = VecDeque<(Duration, Result<TokenResponse, FetchError>)>;

/// Returns what a script has, then grants a new token each time.
#[derive(Clone)]
struct Scripted {
    calls: Arc<AtomicUsize>,
    starts: Arc<Mutex<Vec<Instant>>>,
    script: Arc<Mutex<Script>>,
    lifetime: Duration,
    latency: Duration,
    changes: Arc<Notify>,
}

impl Scripted {
    fn new(lifetime: f64) -> Self {
        Self {
            calls: Arc::default(),
            starts: Arc::default(),
            script: Arc::default(),
            lifetime: seconds(lifetime),
            latency: Duration::from_millis(10),
            changes: Arc::default(),
        }
    }

    fn latency(self, latency: f64) -> Self {
        let latency = seconds(latency);
        Self { latency, ..self }
    }

    fn fails(&self, times: usize, error: &FetchError) {
        let mut script = self.script.lock().unwrap();
        script.extend((0..times).map(|_| (Duration::from_millis(10), Err(error.clone()))));
    }

    fn grants(&self, name: &str, lifetime: Lifetime) {
        let granted = (Duration::from_millis(10), Ok(response(name, lifetime)));
        self.script.lock().unwrap().push_back(granted);
    }

    fn count(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn gaps(&self) -> Vec<Duration> {
        let starts = self.starts.lock().unwrap();
        starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn start(&self) -> TokenHandle {
        self.start_with(RefreshPolicy::default())
    }

    fn start_with(&self, policy: RefreshPolicy) -> TokenHandle {
        let (refresher, tokens) = channel(self.clone(), policy, NoEvents, fastrand::f64);
        tokio::spawn(refresher.run(CancellationToken::new()));
        tokens
    }
}

impl TokenSource for Scripted {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.starts.lock().unwrap().push(Instant::now());
        let scripted = self.script.lock().unwrap().pop_front();
        let granted = || {
            let lifetime = Lifetime::Limited(self.lifetime);
            (self.latency, Ok(response(&format!("t{number}"), lifetime)))
        };
        let (latency, result) = scripted.unwrap_or_else(granted);
        sleep(latency).await;
        result
    }

    async fn changed(&mut self) {
        self.changes.notified().await;
    }
}

fn seconds(value: f64) -> Duration {
    Duration::from_secs_f64(value)
}

fn response(name: &str, lifetime: Lifetime) -> TokenResponse {
    TokenResponse::new(Bearer::new(&SecretString::from(name)).unwrap(), lifetime)
}

fn down() -> FetchError {
    FetchError::new(Reason::Network, "cannot connect")
}

async fn current(tokens: &TokenHandle) -> Result<Arc<AccessToken>, Unavailable> {
    tokens.current(Instant::now() + seconds(8.0)).await
}

async fn newer(tokens: &TokenHandle, refused: &AccessToken) -> Renewal {
    tokens
        .newer_than(refused, Instant::now() + seconds(8.0))
        .await
}

async fn all<T: Send + 'static>(
    count: usize,
    each: impl Fn() -> tokio::task::JoinHandle<T>,
) -> Vec<T> {
    let tasks: Vec<_> = (0..count).map(|_| each()).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_requests_make_one_call() {
    let source = Scripted::new(1799.0).latency(2.0);
    let tokens = source.start();
    let got = all(1000, || {
        let tokens = tokens.clone();
        tokio::spawn(async move { current(&tokens).await })
    });
    assert!(
        got.await
            .iter()
            .all(|got| got.as_ref().unwrap().generation == 1)
    );
    assert_eq!(source.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends_and_no_reader_waits() {
    for (lifetime, latency) in [(20.0, 5.0), (60.0, 5.0), (3.0, 0.5), (1799.0, 7.0)] {
        let source = Scripted::new(lifetime).latency(latency);
        let tokens = source.start();
        current(&tokens).await.unwrap();
        let end = Instant::now() + seconds(lifetime * 20.0);
        while Instant::now() < end {
            let now = Instant::now();
            let token = tokens.usable(now).expect("no reader waits");
            assert!(token.is_usable(now));
            sleep(seconds(lifetime / 40.0)).await;
        }
        let generation = tokens.snapshot().token.as_ref().unwrap().generation;
        assert!(generation >= 20, "{lifetime}: {generation}");
        assert!(source.count() <= 100, "{lifetime}: {}", source.count());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_counts_from_when_the_call_was_sent() {
    let tokens = Scripted::new(20.0).latency(5.0).start();
    let token = current(&tokens).await.unwrap();
    assert_eq!(
        token.expires_at.unwrap() - token.requested_at,
        seconds(20.0)
    );
    assert_eq!(Instant::now() - token.requested_at, seconds(5.0));
}

#[tokio::test(start_paused = true)]
async fn the_old_token_serves_through_failures_and_never_after_its_end() {
    let source = Scripted::new(60.0);
    let tokens = source.start();
    let first = current(&tokens).await.unwrap();
    source.fails(1000, &down());
    let end = first.expires_at.unwrap();
    while Instant::now() < end {
        assert_eq!(tokens.usable(Instant::now()).unwrap().generation, 1);
        sleep(seconds(0.5)).await;
    }
    assert!(tokens.usable(end).is_none());
    assert!(source.count() > 2, "it kept trying");
}

#[tokio::test(start_paused = true)]
async fn without_a_token_a_request_fails_at_once_when_the_next_attempt_is_far() {
    let source = Scripted::new(60.0);
    let slow = FetchError {
        retry_after: Some(seconds(100.0)),
        ..FetchError::new(Reason::RateLimited, "status 429")
    };
    source.fails(1, &slow);
    let tokens = source.start();
    sleep(seconds(1.0)).await;
    let asked = Instant::now();
    let unavailable = current(&tokens).await.unwrap_err();
    assert_eq!(Instant::now(), asked);
    assert_eq!(unavailable.reason, Some(Reason::RateLimited));
    let next = asked + unavailable.retry_after;
    assert!(unavailable.retry_after > seconds(90.0));
    sleep_until(next + seconds(0.1)).await;
    assert_eq!(source.count(), 2, "the promise was true");
    assert!(current(&tokens).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_an_attempt_that_comes_in_time_and_no_longer_than_it_may() {
    let source = Scripted::new(60.0);
    source.fails(2, &down());
    let tokens = source.start();
    assert_eq!(current(&tokens).await.unwrap().generation, 1);
    let hanging = Scripted::new(60.0).latency(1000.0).start();
    let asked = Instant::now();
    assert!(current(&hanging).await.is_err());
    assert_eq!(Instant::now() - asked, seconds(8.0));
}

#[tokio::test(start_paused = true)]
async fn two_hundred_refusals_make_one_call() {
    let source = Scripted::new(1799.0);
    let tokens = source.start();
    let refused = current(&tokens).await.unwrap();
    let got = all(200, || {
        let (tokens, refused) = (tokens.clone(), Arc::clone(&refused));
        tokio::spawn(async move { newer(&tokens, &refused).await })
    });
    for renewal in got.await {
        assert!(matches!(renewal, Renewal::Newer(token) if token.generation == 2));
    }
    assert_eq!(source.count(), 2);
    // Who comes late with the old one gets what is there.
    assert!(matches!(newer(&tokens, &refused).await, Renewal::Newer(_)));
    assert_eq!(source.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn refusals_that_no_renewal_helps_cost_ever_fewer_calls() {
    let source = Scripted::new(1799.0);
    let tokens = source.start();
    current(&tokens).await.unwrap();
    let end = Instant::now() + seconds(600.0);
    while Instant::now() < end {
        let token = tokens.usable(Instant::now()).unwrap();
        if let Renewal::Newer(token) = newer(&tokens, &token).await {
            // However many requests say so.
            for _ in 0..100 {
                tokens.did_not_help(&token);
            }
        }
        sleep(seconds(0.01)).await;
    }
    // One after 1, 2, 4, 8 and 16 s, then one every 32 s.
    assert!((20..30).contains(&source.count()), "{}", source.count());
    let doubled = source.gaps()[1..6]
        .windows(2)
        .all(|pair| pair[1] < pair[0] * 3);
    assert!(
        doubled && source.gaps()[1] < seconds(1.5),
        "{:?}",
        source.gaps()
    );
}

#[tokio::test(start_paused = true)]
async fn revocations_in_a_row_are_each_healed_as_long_as_renewing_helps() {
    let source = Scripted::new(1799.0);
    let tokens = source.start();
    current(&tokens).await.unwrap();
    for _ in 0..20 {
        let refused = tokens.usable(Instant::now()).unwrap();
        let Renewal::Newer(_) = newer(&tokens, &refused).await else {
            panic!("no newer token");
        };
        tokens.helped();
    }
    assert_eq!(source.count(), 21);
    assert!(source.gaps().iter().all(|gap| *gap >= seconds(0.7)));
}

#[tokio::test(start_paused = true)]
async fn the_same_token_again_is_not_a_newer_one() {
    let source = Scripted::new(1799.0);
    for _ in 0..3 {
        source.grants("same", Lifetime::Unlimited);
    }
    let tokens = source.start();
    let token = current(&tokens).await.unwrap();
    sleep(seconds(5.0)).await;
    assert!(matches!(newer(&tokens, &token).await, Renewal::NotToBlame));
    assert_eq!(source.count(), 2);
    assert_eq!(tokens.snapshot().token.as_ref().unwrap().generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_that_cannot_be_renewed_is_unavailable() {
    let source = Scripted::new(1799.0);
    let tokens = source.start();
    let token = current(&tokens).await.unwrap();
    sleep(seconds(5.0)).await;
    source.fails(1000, &down());
    let renewal = timeout(seconds(8.1), newer(&tokens, &token)).await.unwrap();
    assert!(matches!(renewal, Renewal::Unavailable(_)), "{renewal:?}");
}

#[tokio::test(start_paused = true)]
async fn absurd_lifetimes_never_break_the_floor() {
    let lifetimes = [
        Lifetime::Limited(seconds(0.001)),
        Lifetime::Limited(seconds(1.0)),
        Lifetime::Limited(Duration::MAX),
        Lifetime::Unknown,
    ];
    for lifetime in lifetimes {
        let source = Scripted::new(1.0);
        for number in 0..2000 {
            source.grants(&format!("t{number}"), lifetime);
        }
        let tokens = source.start();
        sleep(seconds(60.0)).await;
        assert!(source.count() <= 87, "{lifetime:?}: {}", source.count());
        assert!(source.gaps().iter().all(|gap| *gap >= seconds(0.7)));
        drop(tokens);
    }
}

#[tokio::test(start_paused = true)]
async fn neither_failures_nor_orders_break_the_floor() {
    for reason in Reason::ALL {
        let source = Scripted::new(60.0);
        source.fails(100_000, &FetchError::new(reason, "no"));
        let tokens = source.start();
        let end = Instant::now() + seconds(60.0);
        while Instant::now() < end {
            tokens.refresh_now();
            advance(seconds(0.05)).await;
        }
        assert!(source.count() <= 87, "{reason}: {}", source.count());
        assert!(source.gaps().iter().all(|gap| *gap >= seconds(0.7)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_life_shrinks_with_each_response_does_not_make_a_hot_loop() {
    let source = Scripted::new(1.0);
    let tokens = source.start();
    let born = Instant::now();
    // The service hands out the same token until its end.
    for _ in 0..200 {
        let left = seconds(1800.0)
            .saturating_sub(born.elapsed())
            .max(seconds(0.1));
        source.grants("same", Lifetime::Limited(left));
        sleep(seconds(9.0)).await;
    }
    assert!(source.gaps().iter().all(|gap| *gap >= seconds(0.7)));
    drop(tokens);
}

#[tokio::test(start_paused = true)]
async fn an_order_goes_before_the_back_off_but_not_before_what_the_service_asked_for() {
    let source = Scripted::new(60.0);
    source.fails(10, &down());
    let tokens = source.start();
    sleep(seconds(60.0)).await;
    let before = source.count();
    tokens.refresh_now();
    sleep(seconds(0.8)).await;
    assert_eq!(source.count(), before + 1);

    let limited = Scripted::new(60.0);
    limited.fails(
        1,
        &FetchError {
            retry_after: Some(seconds(30.0)),
            ..FetchError::new(Reason::RateLimited, "status 429")
        },
    );
    let tokens = limited.start();
    sleep(seconds(1.0)).await;
    tokens.refresh_now();
    sleep(seconds(20.0)).await;
    assert_eq!(limited.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn orders_do_not_shorten_the_back_off_after_the_credential_was_refused() {
    for reason in [Reason::InvalidClient, Reason::RateLimited] {
        let with = |orders: bool| async move {
            let source = Scripted::new(60.0);
            source.fails(10_000, &FetchError::new(reason, "no"));
            let (refresher, tokens) =
                channel(source.clone(), RefreshPolicy::default(), NoEvents, || 1.0);
            tokio::spawn(refresher.run(CancellationToken::new()));
            for _ in 0..600 {
                if orders {
                    tokens.refresh_now();
                    tokens.order_refresh().unwrap_or_default();
                }
                sleep(seconds(1.0)).await;
            }
            source.count()
        };
        let (ordered, unordered) = (with(true).await, with(false).await);
        assert_eq!(ordered, unordered, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_longer_than_its_life_a_token_is_not_sent_and_the_request_waits_for_a_new_one()
 {
    let source = Scripted::new(1799.0).latency(0.2);
    let tokens = source.start();
    current(&tokens).await.unwrap();
    sleep(seconds(10.0)).await;
    tokens.slept(seconds(3600.0));
    sleep(seconds(0.01)).await;
    assert!(tokens.usable(Instant::now()).is_none());
    assert_eq!(current(&tokens).await.unwrap().generation, 2);
    // A short one only brings the renewal forward.
    tokens.slept(seconds(60.0));
    sleep(seconds(0.01)).await;
    assert!(tokens.usable(Instant::now()).is_some());
    sleep(seconds(1.0)).await;
    assert_eq!(source.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_during_a_hanging_call_is_noted_at_once() {
    let source = Scripted::new(1799.0);
    let tokens = source.start();
    current(&tokens).await.unwrap();
    let hanging = (seconds(100.0), Err(down()));
    source.script.lock().unwrap().push_back(hanging);
    sleep(seconds(10.0)).await;
    tokens.refresh_now();
    sleep(seconds(1.0)).await;
    assert_eq!(source.count(), 2);
    tokens.slept(seconds(3600.0));
    sleep(seconds(0.01)).await;
    assert!(tokens.usable(Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_changed_credential_is_tried_at_once_even_in_the_longest_back_off() {
    let source = Scripted::new(60.0);
    source.fails(1000, &FetchError::new(Reason::InvalidClient, "no"));
    let tokens = source.start();
    sleep(seconds(3000.0)).await;
    let before = source.count();
    source.script.lock().unwrap().clear();
    source.changes.notify_one();
    sleep(seconds(0.8)).await;
    assert_eq!(source.count(), before + 1);
    assert!(tokens.usable(Instant::now()).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_does_not_cancel_the_call_of_the_others() {
    let source = Scripted::new(60.0).latency(2.0);
    let tokens = source.start();
    assert!(timeout(seconds(1.0), current(&tokens)).await.is_err());
    assert_eq!(current(&tokens).await.unwrap().generation, 1);
    assert_eq!(source.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_published_prints_a_token() {
    let source = Scripted::new(60.0);
    source.grants("canary", Lifetime::Unknown);
    let tokens = source.start();
    let token = current(&tokens).await.unwrap();
    let printed = format!("{tokens:?} {token:?} {:?}", tokens.snapshot());
    assert!(!printed.contains("canary"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_young_token_that_was_refused_while_renewing_fails_is_not_believed_to_be_good() {
    let source = Scripted::new(1799.0);
    let tokens = source.start();
    let first = current(&tokens).await.unwrap();
    let Renewal::Newer(second) = newer(&tokens, &first).await else {
        panic!("no newer token");
    };
    tokens.did_not_help(&second);
    assert!(matches!(newer(&tokens, &second).await, Renewal::NotToBlame));
    source.fails(3, &down());
    tokens.refresh_now();
    sleep(seconds(0.75)).await;
    assert!(tokens.snapshot().failure.is_some());
    let renewal = newer(&tokens, &second).await;
    assert!(matches!(renewal, Renewal::Newer(token) if token.generation == 3));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_no_request_has_tried_is_no_evidence_for_the_next_token() {
    let source = Scripted::new(1799.0);
    let tokens = source.start();
    let first = current(&tokens).await.unwrap();
    // The request that caused it was given up meanwhile.
    newer(&tokens, &first).await;
    let second = tokens.usable(Instant::now()).unwrap();
    let renewal = newer(&tokens, &second).await;
    assert!(matches!(renewal, Renewal::Newer(token) if token.generation == 3));
}

/// A service that refuses connections until then.
struct Away(Instant);

impl TokenSource for Away {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        sleep(Duration::from_millis(10)).await;
        if Instant::now() < self.0 {
            return Err(FetchError::new(Reason::Network, "refused"));
        }
        Ok(response("back", Lifetime::Limited(seconds(3.0))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_back_is_found_within_half_of_its_absence() {
    for away in [0.5, 2.0, 9.0, 40.0, 600.0] {
        let begin = Instant::now();
        let source = Away(begin + seconds(away));
        // The unluckiest dice.
        let (refresher, tokens) = channel(source, RefreshPolicy::default(), NoEvents, || 1.0);
        let running = tokio::spawn(refresher.run(CancellationToken::new()));
        while tokens.snapshot().token.is_none() {
            sleep(Duration::from_millis(10)).await;
        }
        let late = begin.elapsed().as_secs_f64() - away;
        let longest = (away / 2.0).clamp(1.0, 60.0) + 0.05;
        assert!(late <= longest, "{away} s away, found {late} s later");
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_says_what_it_has_seen_misses_no_change() {
    let source = Scripted::new(60.0);
    let tokens = source.start();
    let first = tokens.snapshot();
    assert!(first.token.is_none());
    let second = tokens.changed(&first).await;
    assert_eq!(second.token.as_ref().unwrap().generation, 1);
    // However much has changed meanwhile: it hears of it once, and at once.
    sleep(seconds(200.0)).await;
    let before = Instant::now();
    let newest = tokens.changed(&second).await;
    assert_eq!(before, Instant::now());
    let generation = newest.token.as_ref().unwrap().generation;
    assert!(generation > 4, "{generation}");
    // Nothing is new now. Who gives up waiting loses nothing.
    for _ in 0..3 {
        let waiting = timeout(Duration::from_millis(1), tokens.changed(&newest));
        assert!(waiting.await.is_err());
    }
    let next = tokens.changed(&newest).await;
    assert_eq!(next.token.as_ref().unwrap().generation, generation + 1);
    // A failure is a change, too, and one reader takes nothing from another.
    source.fails(1, &down());
    let (one, other) = tokio::join!(tokens.changed(&next), tokens.changed(&next));
    assert!(one.failure.is_some() && Arc::ptr_eq(&one, &other));
}

/// Prepares for so long, and is then committed for so long.
struct Committing {
    prepares: Duration,
    calls: Duration,
    is_committed: watch::Sender<bool>,
}

impl TokenSource for Committing {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        sleep(self.prepares).await;
        self.is_committed.send_replace(true);
        sleep(self.calls).await;
        self.is_committed.send_replace(false);
        Ok(response("t", Lifetime::Limited(seconds(60.0))))
    }

    fn commitment(&self) -> Option<watch::Receiver<bool>> {
        Some(self.is_committed.subscribe())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_whatever_waits_at_once_and_a_call_that_must_not_be_dropped_after_its_end() {
    // When it is stopped, when it ends, and whether there is a token then.
    for (stopped, ended, has_token) in [
        (0.0, 0.0, false),
        (5.0, 5.0, false),
        (15.0, 20.0, true),
        (30.0, 30.0, true),
        // The next call is due after the lead, and prepares for ten seconds.
        (52.0, 52.0, true),
    ] {
        let source = Committing {
            prepares: seconds(10.0),
            calls: seconds(10.0),
            is_committed: watch::Sender::new(false),
        };
        let (refresher, tokens) = channel(source, RefreshPolicy::default(), NoEvents, || 1.0);
        let stop = CancellationToken::new();
        let begin = Instant::now();
        let running = tokio::spawn(refresher.run(stop.clone()));
        sleep(seconds(stopped)).await;
        stop.cancel();
        running.await.unwrap();
        let took = begin.elapsed().as_secs_f64();
        assert!((took - ended).abs() < 0.1, "{stopped}: {took}");
        assert_eq!(tokens.snapshot().token.is_some(), has_token, "{stopped}");
    }
}
