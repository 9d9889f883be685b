//! The memory of the binary while it is soaked, as the system tells it.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, interval},
};

use crate::support::memory::anonymous;

/// The anonymous memory of a process, sampled: in KiB, with the part of the run at which.
#[derive(Debug)]
pub struct Memory {
    samples: Vec<(f64, u64)>,
    limit: u64,
}

impl Memory {
    /// Watches it until the end of the run.
    pub fn watch(pid: u32, started: Instant, end: Instant) -> JoinHandle<Self> {
        let run = end - started;
        tokio::spawn(async move {
            let mut samples = Vec::new();
            let mut ticks = interval(Duration::from_millis(500));
            while ticks.tick().await < end {
                samples.extend(
                    anonymous(pid).map(|rss| (started.elapsed().div_duration_f64(run), rss)),
                );
            }
            let limit = if run < Duration::from_secs(60) { 8 } else { 4 };
            Self {
                samples,
                limit: limit << 10,
            }
        })
    }

    /// The least in a part of the run, which is what is kept and not what is in use.
    fn least(&self, part: std::ops::Range<f64>) -> Option<u64> {
        let within = self.samples.iter().filter(|(at, _)| part.contains(at));
        within.map(|(_, rss)| *rss).min()
    }

    fn ends(&self) -> Option<(u64, u64)> {
        self.least(0.2..0.3).zip(self.least(0.9..1.1))
    }

    /// That it grew by more than it may.
    pub fn problem(&self) -> Option<String> {
        let (warm, last) = self.ends()?;
        (last > warm + self.limit).then(|| format!("memory grows: {self}"))
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((warm, last)) = self.ends() else {
            return f.write_str("not known on this system");
        };
        let most = self.samples.iter().map(|(_, rss)| *rss).max();
        let most = most.unwrap_or_default();
        write!(
            f,
            "{warm} KiB after warm-up, {last} KiB at the end, {most} KiB at most"
        )
    }
}
