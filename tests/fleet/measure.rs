//! Figures from the service's book: how many calls, how evenly, and how evenly chance alone would have it.

use std::{collections::HashMap, fmt, ops::Range, time::Duration};

use crate::service::{Call, Outcome};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Calls of a fleet that nothing happens to.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    /// Calls in all that time.
    pub calls: usize,
    /// Calls a second.
    pub mean: f64,
    /// Calls a second in the busiest minute.
    pub busiest_minute: f64,
    /// Calls in the busiest second.
    pub busiest_second: usize,
}

impl Steady {
    pub fn of(calls: &[Call], time: Range<Duration>) -> Self {
        let calls = between(calls, time.clone());
        Self {
            calls: calls.len(),
            mean: number(calls.len()) / time.end.saturating_sub(time.start).as_secs_f64(),
            busiest_minute: number(peak(calls, MINUTE)) / 60.0,
            busiest_second: peak(calls, SECOND),
        }
    }

    /// How far the busiest minute is above the mean.
    pub fn excess(&self) -> f64 {
        self.busiest_minute / self.mean
    }
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls, mean {:.2}/s; busiest minute {:.2}/s = {:.2} × mean; busiest second {} calls",
            self.calls,
            self.mean,
            self.busiest_minute,
            self.excess(),
            self.busiest_second
        )
    }
}

/// How a fleet came to its tokens after an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recovery {
    /// Calls a second during the event.
    pub meanwhile: f64,
    /// Who had failed and was trying again at its end.
    pub waiting: usize,
    /// Who had no token then.
    pub without_token: usize,
    /// Until the last of those who waited had a token.
    pub took: Duration,
    /// Those who never got one.
    pub left: usize,
    /// All calls until then.
    pub calls: usize,
    /// Sidecars that got a token until then: the calls that could not be saved.
    pub needed: usize,
    /// Calls in the busiest second.
    pub busiest_second: usize,
}

impl Recovery {
    /// What happened from `since`, when these were waiting.
    pub fn of(calls: &[Call], since: Duration, waiting: &[usize]) -> Self {
        let calls = between(calls, since..Duration::MAX);
        let mut first = HashMap::new();
        for call in calls {
            if call.outcome == Outcome::Granted {
                first.entry(call.sidecar).or_insert(call.done);
            }
        }
        let served = || waiting.iter().filter_map(|sidecar| first.get(sidecar));
        let end = served().max().map_or(since, |last| *last);
        let calls = between(calls, since..end);
        Self {
            waiting: waiting.len(),
            took: end.saturating_sub(since),
            left: waiting.len() - served().count(),
            calls: calls.len(),
            // Not one that was asked for before the end, but was not there yet.
            needed: first.values().filter(|done| **done <= end).count(),
            busiest_second: peak(calls, SECOND),
            ..Self::default()
        }
    }

    /// Calls for each call that was needed.
    pub fn excess(&self) -> f64 {
        number(self.calls) / number(self.needed).max(1.0)
    }

    /// Soon over for everyone, and without asking the service more than twice what was needed.
    pub fn is_gentle(&self) -> bool {
        self.left == 0 && self.took <= MINUTE * 2 && self.calls <= 2 * self.needed
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.meanwhile > 0.0 {
            write!(
                f,
                "{:.0} calls/s meanwhile; at its end {} were trying, {} without a token; ",
                self.meanwhile, self.waiting, self.without_token
            )?;
        }
        match self.left {
            0 => f.write_str("everyone")?,
            left => write!(f, "{left} never, the others")?,
        }
        write!(
            f,
            " served after {:.1} s; {} calls for {} needed = {:.2}; busiest second {} calls",
            self.took.as_secs_f64(),
            self.calls,
            self.needed,
            self.excess(),
            self.busiest_second
        )
    }
}

/// The calls that came within that time.
pub fn between(calls: &[Call], time: Range<Duration>) -> &[Call] {
    let from = calls.partition_point(|call| call.at < time.start);
    let until = calls.partition_point(|call| call.at < time.end);
    &calls[from..until]
}

/// The most calls within any window of that length, wherever it begins.
fn peak(calls: &[Call], window: Duration) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, call) in calls.iter().enumerate() {
        while call.at >= calls[first].at + window {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

/// The number of calls that chance makes in the busiest of so many windows, when callers know
/// nothing of each other and `mean` of them come in a window: a larger one is less likely than
/// one in a thousand (the tail of the Poisson distribution).
pub fn peak_by_chance(mean: f64, windows: f64) -> usize {
    let mut calls = 0_u32;
    let mut exactly = (-mean).exp();
    let mut more = 1.0 - exactly;
    while windows * more > 0.001 {
        calls += 1;
        exactly *= mean / f64::from(calls);
        more -= exactly;
    }
    calls as usize
}

/// A count, to calculate with.
pub fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a count of calls"))
}

/// How often somebody's token ended before the next one was there.
pub fn times_without_token(calls: &[Call], lifetime: Duration) -> usize {
    let mut ends = HashMap::new();
    let granted = calls.iter().filter(|call| call.outcome == Outcome::Granted);
    granted
        .filter(|call| {
            let end = ends.insert(call.sidecar, call.at + lifetime);
            end.is_some_and(|end| call.done > end)
        })
        .count()
}

/// The shortest time between an answer with that outcome and the next call of the same sidecar.
pub fn shortest_pause_after(calls: &[Call], outcome: Outcome) -> Option<Duration> {
    let mut last: HashMap<_, &Call> = HashMap::new();
    let pauses = calls.iter().filter_map(|call| {
        let before = last.insert(call.sidecar, call)?;
        (before.outcome == outcome).then(|| call.at.saturating_sub(before.done))
    });
    pauses.min()
}
