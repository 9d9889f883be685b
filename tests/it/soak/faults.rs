//! The faults of the soak: one after the other, sometimes one of each part at once, seeded.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::{LIFETIME, clients::Clients, upstream::Upstream};
use crate::support::{Answer, FakeCsp, Process, eventually};

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Token,
    Upstream,
    /// Whoever reads the log, which is no reason for any failure.
    Log,
}

/// One fault, with the time in which it excuses failures.
#[derive(Debug)]
pub struct Fault {
    pub kind: &'static str,
    pub part: Part,
    pub from: Instant,
    pub until: Instant,
}

/// What happened to the services.
#[derive(Debug)]
pub struct History {
    pub started: Instant,
    pub faults: Vec<Fault>,
    /// When the token service was called.
    pub calls: Vec<Instant>,
    /// How many 401s the upstream answered.
    pub unauthorized: usize,
    pub problems: Vec<String>,
}

impl History {
    pub fn by_kind(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for fault in &self.faults {
            *counts.entry(fault.kind).or_default() += 1;
        }
        counts
    }
}

/// Who makes them, and what they are made with.
#[derive(Debug)]
pub struct Faults {
    pub random: fastrand::Rng,
    pub process: Arc<Process>,
    pub clients: Arc<Clients>,
    pub csp: FakeCsp,
    pub upstream: Upstream,
}

/// What is done to the token service.
#[derive(Clone, Debug)]
enum Token {
    /// It answers so.
    Answers(Answer),
    /// It says that its tokens live so long.
    Says(Value),
    /// All tokens end; a new one can be had.
    Revoked,
    /// All tokens end while it is down.
    RevokedWhileDown,
    /// The secret changes, which ends all tokens, and the file changes with it.
    Rotated,
    /// It asks to be left alone for longer than requests are held.
    AsksToWait,
}

/// What is done to the upstream.
#[derive(Clone, Copy, Debug)]
enum Service {
    Down,
    /// Again and again, all connections end.
    Cut,
    Slow,
    /// The first of its addresses swallows what it is sent.
    HalfAway,
}

impl Faults {
    /// Makes faults until the end, and leaves the services as they should be. They are given back,
    /// since requests may still be under way.
    pub async fn run(mut self, end: Instant) -> (Self, History) {
        let mut history = History {
            started: Instant::now(),
            faults: Vec::new(),
            calls: Vec::new(),
            unauthorized: 0,
            problems: Vec::new(),
        };
        let is_long = end - history.started > Duration::from_secs(60);
        let (mut tokens, mut services) = (Vec::new(), Vec::new());
        // Each fault finds the sidecar whole: after failures in a row of several faults, a back-off
        // beyond the hold would be right, and failures after the fault its right consequence.
        while self.heals().await {
            let quiet = self.milliseconds(1000..3500);
            sleep_until(end.min(Instant::now() + quiet)).await;
            // One of the token service, one of the upstream, or both.
            let which = self.random.u32(..8);
            let token = (which < 6).then(|| draw(&mut self.random, &mut tokens, token_faults));
            let service =
                (which > 3).then(|| draw(&mut self.random, &mut services, upstream_faults));
            let stalls = self.random.u32(..4) == 0;
            let service = service.filter(|(_, service)| {
                self.upstream.has_two_addresses() || !matches!(service, Service::HalfAway)
            });
            let token = token.filter(|(_, token)| is_long || !matches!(token, Token::AsksToWait));
            let lasts = [0, 1, 2].map(|_| self.milliseconds(300..3000));
            let longest = match token {
                Some((_, Token::AsksToWait)) => WAITED,
                _ => lasts.into_iter().max().unwrap_or_default(),
            };
            if Instant::now() + longest > end {
                sleep_until(end).await;
                return (self, history);
            }
            let Self {
                random,
                process,
                clients,
                csp,
                upstream,
            } = &mut self;
            let process = &**process;
            let (one, other, third) = tokio::join!(
                async {
                    let (kind, token) = token?;
                    let from = Instant::now();
                    let until = token.happen(csp, process, random, lasts[0]).await;
                    Some(Fault {
                        kind,
                        part: Part::Token,
                        from,
                        until,
                    })
                },
                async {
                    let (kind, service) = service?;
                    let from = Instant::now();
                    let until = service.happen(upstream, clients, lasts[1]).await;
                    Some(Fault {
                        kind,
                        part: Part::Upstream,
                        from,
                        until,
                    })
                },
                async {
                    if !stalls {
                        return None;
                    }
                    let from = Instant::now();
                    process.stall_readers(true);
                    sleep(lasts[2]).await;
                    process.stall_readers(false);
                    Some(Fault {
                        kind: "log not read",
                        part: Part::Log,
                        from,
                        until: Instant::now(),
                    })
                },
            );
            let all = [one, other, third];
            history.faults.extend(all.into_iter().flatten());
        }
        history.problems.push(format!(
            "not healed within {HEALS:?} after {:?}",
            history.faults.last()
        ));
        (self, history)
    }

    /// Waits until there is a token, and the last attempt to get one went well.
    async fn heals(&self) -> bool {
        let deadline = Instant::now() + HEALS;
        while Instant::now() < deadline {
            let (_, status) = self.process.admin_get("/status").await;
            let status: Value = serde_json::from_str(&status).unwrap();
            if status["token"]["usable"] == true && status["refresh"]["consecutive_failures"] == 0 {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }

    fn milliseconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.u64(range))
    }
}

/// The hold, and some more.
const HEALS: Duration = Duration::from_secs(10);
/// How long [`Token::AsksToWait`] takes at most: what it asks for, as much again, and the time
/// until it is asked.
const WAITED: Duration = Duration::from_secs(30);

impl Token {
    /// Makes it happen and ends it, and says when it was over.
    async fn happen(
        self,
        csp: &FakeCsp,
        process: &Process,
        random: &mut fastrand::Rng,
        lasts: Duration,
    ) -> Instant {
        match self {
            Self::Answers(answer) => {
                csp.always(answer);
                sleep(lasts).await;
            }
            Self::Says(lifetime) => {
                csp.lifetime(lifetime);
                sleep(lasts).await;
                csp.lifetime(LIFETIME.as_secs());
            }
            Self::Revoked => csp.revoke_all(),
            Self::RevokedWhileDown => {
                csp.always(Answer::Html503);
                csp.revoke_all();
                sleep(lasts).await;
            }
            Self::Rotated => {
                let secret = format!("canary-client-secret-{:x}", random.u64(..));
                csp.rotate_secret(&secret);
                process.rewrite("auth.client_secret_file", &secret);
            }
            Self::AsksToWait => {
                csp.always(Answer::rate_limited("12"));
                let calls = csp.call_count();
                eventually(|| csp.call_count() > calls, WAITED).await;
                csp.restore();
                let calls = csp.call_count();
                eventually(|| csp.call_count() > calls, WAITED).await;
                // Until that call has brought its token.
                sleep(Duration::from_millis(200)).await;
            }
        }
        csp.restore();
        Instant::now()
    }
}

impl Service {
    async fn happen(self, upstream: &mut Upstream, clients: &Clients, lasts: Duration) -> Instant {
        let end = Instant::now() + lasts;
        match self {
            Self::Down => {
                upstream.stop();
                sleep_until(end).await;
                upstream.start();
            }
            Self::Cut => {
                while Instant::now() < end {
                    upstream.stop();
                    upstream.start();
                    sleep(Duration::from_millis(150)).await;
                }
            }
            Self::HalfAway => {
                upstream.swallow(true);
                // What is kept needs no address: so that new connections are needed.
                upstream.stop();
                upstream.start();
                sleep_until(end).await;
                upstream.swallow(false);
            }
            Self::Slow => {
                clients.ask_for_slow(true);
                sleep_until(end).await;
                clients.ask_for_slow(false);
            }
        }
        Instant::now()
    }
}

/// One of all, none twice before each came once.
fn draw<T>(random: &mut fastrand::Rng, deck: &mut Vec<T>, all: fn() -> Vec<T>) -> T {
    if deck.is_empty() {
        *deck = all();
        random.shuffle(deck);
    }
    deck.pop().unwrap()
}

fn upstream_faults() -> Vec<(&'static str, Service)> {
    vec![
        ("upstream down", Service::Down),
        ("connections cut", Service::Cut),
        ("slow answers", Service::Slow),
        ("first address dead", Service::HalfAway),
    ]
}

fn token_faults() -> Vec<(&'static str, Token)> {
    let answers = [
        ("html 503", Answer::Html503),
        ("firewall's 403", Answer::Html403),
        ("html 200", Answer::Html200),
        ("empty 200", Answer::Empty200),
        ("truncated", Answer::Truncated),
        ("endless", Answer::Endless),
        ("drip", Answer::Drip),
        ("hang", Answer::Hang),
        ("reset", Answer::Reset),
        ("close", Answer::Close),
        ("deep JSON", Answer::DeepJson),
        ("400", Answer::CspError(400)),
        ("401", Answer::CspError(401)),
        ("404", Answer::CspError(404)),
        ("409", Answer::CspError(409)),
        ("429", Answer::CspError(429)),
        ("429, Retry-After 1", Answer::rate_limited("1")),
        ("500", Answer::CspError(500)),
        ("slow tokens", Answer::Default.after(Duration::from_secs(2))),
        ("redirect", Answer::Redirect("/elsewhere".to_owned())),
    ];
    let says = [
        ("expires_in 0", json!(0)),
        ("expires_in -5", json!(-5)),
        ("expires_in \"3\"", json!("3")),
        ("expires_in too long", json!(1799)),
    ];
    let mut all = vec![
        ("revoked", Token::Revoked),
        ("revoked while down", Token::RevokedWhileDown),
        ("secret rotated", Token::Rotated),
        ("429, Retry-After 12", Token::AsksToWait),
    ];
    all.extend(answers.map(|(kind, answer)| (kind, Token::Answers(answer))));
    all.extend(says.map(|(kind, lifetime)| (kind, Token::Says(lifetime))));
    all
}
