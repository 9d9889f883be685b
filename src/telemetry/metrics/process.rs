//! What every program reports about its process, under the names that client libraries of Prometheus share.

use std::{
    fmt, fs,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// One scrape's view of the process.
#[derive(Debug)]
pub(super) struct Process {
    /// `None` where nobody noted it.
    pub(super) started_at: Option<SystemTime>,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let time = Duration::try_from(time).unwrap_or_default().as_secs_f64();
        let counter = ConstCounter::new(time);
        let what = "Processor time, of the program and of the kernel for it";
        let kind = counter.metric_type();
        let metric = encoder.encode_descriptor("process_cpu_seconds", what, None, kind)?;
        counter.encode(metric)?;
        let started_at = self.started_at.map(|at| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap_or_default().as_secs_f64()
        });
        for (name, what, value) in [
            (
                "process_resident_memory_bytes",
                "Memory that the process has in use",
                resident(),
            ),
            (
                "process_open_fds",
                "Open files, sockets included",
                open_files(),
            ),
            (
                "process_max_fds",
                "The limit of open files",
                getrlimit(Resource::Nofile).current.map(float),
            ),
            (
                "process_start_time_seconds",
                "When the process started",
                started_at,
            ),
        ] {
            if let Some(value) = value {
                let gauge = ConstGauge::new(value);
                let kind = gauge.metric_type();
                gauge.encode(encoder.encode_descriptor(name, what, None, kind)?)?;
            }
        }
        Ok(())
    }
}

/// The second number of `statm` is in pages.
fn resident() -> Option<f64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(float(pages * page_size() as u64))
}

/// One of them is that of the directory itself.
fn open_files() -> Option<f64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(float(entries.saturating_sub(1) as u64))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what a float does not hold exactly is far beyond any limit of files or memory"
)]
fn float(number: u64) -> f64 {
    number as f64
}
