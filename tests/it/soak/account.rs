//! The account of the soak: every outcome, and whether a fault that was on then excuses it.

use std::{collections::BTreeMap, fmt::Write as _, sync::Mutex, time::Duration};

use auth_sidecar::token::schedule::RefreshPolicy;
use tokio::time::Instant;

use super::{
    TOKEN_TIMEOUT,
    faults::{Fault, History, Part},
    memory::Memory,
};

/// What the clock of a busy machine may be wrong by: two calls are timed where they arrive.
const JITTER: Duration = Duration::from_millis(100);

/// What became of one request.
#[derive(Debug)]
pub enum Outcome {
    /// The upstream's answer, as it should be.
    Right(u16),
    /// Our own failure, in the form that it should have.
    Failure {
        name: String,
        /// Whose fault it says it is.
        part: Part,
        retry_after: Option<Duration>,
    },
    /// What no fault excuses.
    Wrong(String),
}

impl Outcome {
    /// A 503, if it is one that a token service can cause.
    pub fn token(details: &str, retry_after: Duration) -> Option<Self> {
        let known = ["token_unavailable", "credentials_rejected", "token_renewed"];
        known.contains(&details).then(|| Self::Failure {
            name: format!("503 {details}"),
            part: Part::Token,
            retry_after: Some(retry_after),
        })
    }

    /// A 502 or a 504, if it is one that an upstream can cause.
    pub fn upstream(status: u16, details: &str) -> Option<Self> {
        let known = [
            (502, "connect"),
            (502, "terminated"),
            (504, "connect_timeout"),
            (504, "answer_timeout"),
        ];
        known.contains(&(status, details)).then(|| Self::Failure {
            name: format!("{status} {details}"),
            part: Part::Upstream,
            retry_after: None,
        })
    }
}

/// All outcomes so far.
#[derive(Debug, Default)]
pub struct Account(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    counts: BTreeMap<String, usize>,
    failures: Vec<Failure>,
    wrong: Vec<Failure>,
}

#[derive(Debug)]
struct Failure {
    name: String,
    part: Option<Part>,
    retry_after: Option<Duration>,
    from: Instant,
    until: Instant,
}

/// What is printed, and what is wrong.
#[derive(Debug)]
pub struct Verdict {
    pub table: String,
    pub answered: usize,
    pub problems: Vec<String>,
}

impl Account {
    pub fn enter(&self, from: Instant, outcome: Outcome) {
        let until = Instant::now();
        let mut entries = self.0.lock().unwrap();
        let name = match outcome {
            Outcome::Right(status) => format!("{status} of the upstream"),
            Outcome::Wrong(name) => {
                entries.wrong.push(Failure {
                    name,
                    part: None,
                    retry_after: None,
                    from,
                    until,
                });
                "wrong".to_owned()
            }
            Outcome::Failure {
                name,
                part,
                retry_after,
            } => {
                entries.failures.push(Failure {
                    name: name.clone(),
                    part: Some(part),
                    retry_after,
                    from,
                    until,
                });
                name
            }
        };
        *entries.counts.entry(name).or_default() += 1;
    }

    pub fn judge(&self, history: &History, end: Instant, memory: &Memory) -> Verdict {
        let entries = self.0.lock().unwrap();
        let mut problems = history.problems.clone();
        let wrong = entries.wrong.iter().take(10);
        problems.extend(wrong.map(|wrong| format!("wrong: {}", wrong.tell(history))));
        let unexcused = entries.failures.iter().filter_map(|failure| {
            let excused = history.faults.iter().any(|fault| fault.excuses(failure));
            (!excused).then(|| format!("no fault was on: {}", failure.tell(history)))
        });
        problems.extend(unexcused.take(10));
        let untrue = entries.failures.iter().filter_map(|failure| {
            let promised = failure.until + failure.retry_after?;
            // A second is also what is said while an attempt is under way.
            let earliest = if failure.retry_after == Some(Duration::from_secs(1)) {
                failure.until - TOKEN_TIMEOUT
            } else {
                failure.until
            };
            let range = earliest..=promised + Duration::from_secs(1);
            // What was promised for later than the end cannot be known.
            let is_true = promised > end || history.calls.iter().any(|call| range.contains(call));
            (!is_true).then(|| format!("untrue Retry-After: {}", failure.tell(history)))
        });
        problems.extend(untrue.take(10));

        let floor = RefreshPolicy::default().floor;
        let gaps = history.calls.windows(2).map(|pair| pair[1] - pair[0]);
        let least = gaps.min().unwrap_or_default();
        if least + JITTER < floor {
            problems.push(format!("two token calls within {least:?}"));
        }
        let run = history
            .calls
            .first()
            .map_or(Duration::ZERO, |first| end - *first);
        let most = run.div_duration_f64(floor) + 1.0;
        let calls = u32::try_from(history.calls.len()).unwrap();
        if f64::from(calls) > most {
            problems.push(format!(
                "{calls} token calls, at most {most:.0} are allowed"
            ));
        }
        problems.extend(memory.problem());
        let answered = entries.counts.values().sum();
        let right = entries.counts.get("200 of the upstream").copied();
        if right.unwrap_or_default() * 2 < answered {
            problems.push("most requests failed".to_owned());
        }

        let mut table = String::new();
        let mut row = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(table, "soak: {name:<24} {value}").unwrap();
        };
        row("requests", &answered);
        for (name, count) in &entries.counts {
            row(&format!("  {name}"), count);
        }
        row("faults", &history.faults.len());
        for (name, count) in history.by_kind() {
            row(&format!("  {name}"), &count);
        }
        row("401s of the upstream", &history.unauthorized);
        row("token calls", &format_args!("{calls} (at most {most:.0})"));
        row(
            "  least gap",
            &format_args!("{least:.3?} (floor {floor:?})"),
        );
        row("RssAnon", memory);
        Verdict {
            table,
            answered,
            problems,
        }
    }
}

impl Fault {
    fn excuses(&self, failure: &Failure) -> bool {
        Some(self.part) == failure.part && self.from <= failure.until && failure.from <= self.until
    }
}

impl Failure {
    /// With the faults around it, by which the cause is found.
    fn tell(&self, history: &History) -> String {
        let since = |at: Instant| at.saturating_duration_since(history.started).as_secs_f64();
        let before = history.faults.iter().rev();
        let before = before.filter(|fault| fault.from <= self.until).take(3);
        let before = before.map(|fault| {
            let (from, until) = (since(fault.from), since(fault.until));
            format!("{} {from:.3}..{until:.3}", fault.kind)
        });
        let calls = history.calls.iter().map(|call| since(*call));
        let near =
            calls.filter(|call| (since(self.from) - 10.0..since(self.until) + 5.0).contains(call));
        format!(
            "{} at {:.3}..{:.3}, Retry-After {:?}; the last faults: {:?}; token calls {:.3?}",
            self.name,
            since(self.from),
            since(self.until),
            self.retry_after,
            before.collect::<Vec<_>>(),
            near.collect::<Vec<_>>(),
        )
    }
}
