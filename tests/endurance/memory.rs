//! The memory of the process under test, as the system tells it.

use std::time::Duration;

use tokio::{sync::oneshot, task::JoinHandle, time::interval};

/// Anonymous memory of a process now, in KiB; `None` where the system does not tell.
pub fn anonymous(pid: u32) -> Option<u64> {
    figure(pid, "RssAnon:")
}

/// The most memory of any kind that it ever had, in KiB.
pub fn peak(pid: u32) -> Option<u64> {
    figure(pid, "VmHWM:")
}

fn figure(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The most anonymous memory, looked at all the time.
#[derive(Debug)]
pub struct Watch {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<Option<u64>>,
}

impl Watch {
    pub fn begin(pid: u32) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let watching = tokio::spawn(async move {
            let mut most = None;
            let mut ticks = interval(Duration::from_millis(50));
            loop {
                most = most.max(anonymous(pid));
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = &mut stopped => return most,
                }
            }
        });
        Self { stop, watching }
    }

    /// In KiB.
    pub async fn end(self) -> Option<u64> {
        drop(self.stop);
        self.watching.await.unwrap()
    }
}
