//! The memory of the process under test, as the system tells it.

use std::time::Duration;

use tokio::{sync::oneshot, task::JoinHandle, time::interval};

pub use crate::it::support::memory::{anonymous, peak};

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
