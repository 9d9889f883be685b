//! The tasks that send spans: they outlive the configuration that began them, until their last span is
//! sent, and the program does not end before them, but soon.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::telemetry::spans::Exporter;

/// All exporters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Exporters {
    tasks: TaskTracker,
    finish: CancellationToken,
}

/// How long the end of the program waits for a collector. With the drain it has to fit into the 30 s that
/// Kubernetes grants.
const TIMEOUT: Duration = Duration::from_secs(2);

impl Exporters {
    /// Starts an exporter.
    pub(super) fn start(&self, exporter: Exporter) {
        self.tasks.spawn(exporter.run(self.finish.clone()));
    }

    /// Has all exporters send what is left, and waits for that, but not for long.
    pub(super) async fn finish(&self) {
        self.finish.cancel();
        self.tasks.close();
        if timeout(TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the collector was too slow for the last spans: they are lost");
        }
    }
}
