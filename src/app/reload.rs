//! When the configuration is loaded again: on SIGHUP, and when its file changes.

use std::{future::pending, io, path::PathBuf, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    admin::Reloads,
    clock::seconds,
    config::{Config, Loaded, Sources},
    permissions::GuardedFiles,
    remedy,
    telemetry::Metrics,
};

/// Waits for reasons to load the configuration again.
#[derive(Debug)]
pub(super) struct Reload {
    /// `None` for a program whose configuration is given once and for all.
    sources: Option<(Sources, Signal)>,
    file: GuardedFiles,
    metrics: Arc<Metrics>,
    reloads: Reloads,
}

/// That the configuration was loaded again.
#[derive(Debug)]
pub(super) struct Reloaded {
    /// What came of it.
    pub(super) outcome: Outcome,
    /// Whether that was asked for (SIGHUP): then the secrets and the other files in use are read again,
    /// too, whatever the configuration says.
    pub(super) asked: bool,
}

/// What came of loading the configuration.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The configuration is the one in use.
    Same,
    /// There is another, to change to.
    Changed(Box<Config>),
    /// The configuration cannot be used, which has been reported; the one in use stays.
    Rejected,
}

impl Reload {
    pub(super) fn new(
        sources: Option<(Sources, Option<PathBuf>)>,
        metrics: Arc<Metrics>,
        reloads: Reloads,
    ) -> io::Result<Self> {
        let (sources, file) = match sources {
            Some((sources, file)) => (Some((sources, signal(SignalKind::hangup())?)), file),
            None => (None, None),
        };
        Ok(Self {
            sources,
            file: GuardedFiles::new(file.into_iter().collect()),
            metrics,
            reloads,
        })
    }

    /// Waits for a reason to load the configuration, and says what came of it. One that is not valid
    /// is reported.
    ///
    /// # Cancel safety
    /// Safe: what was loaded is returned at once.
    pub(super) async fn next(&mut self, current: &Config) -> Reloaded {
        let Some((sources, hangup)) = &mut self.sources else {
            return pending().await;
        };
        let asked = tokio::select! {
            Some(()) = hangup.recv() => true,
            () = self.file.changed() => false,
        };
        if asked {
            self.file.look();
        }
        let outcome = match Config::load(sources) {
            Ok(Loaded { config, .. }) if config.is_same(current) => {
                if asked {
                    tracing::info!(
                        "SIGHUP: the configuration is the same; reading the secrets again"
                    );
                }
                Outcome::Same
            }
            Ok(Loaded { config, .. }) => {
                let warnings = config.warnings.iter();
                for warning in warnings.filter(|one| !current.warnings.contains(one)) {
                    tracing::warn!("{warning}");
                }
                Outcome::Changed(Box::new(config))
            }
            Err(error) => {
                self.metrics.config_reloaded(false);
                self.reloads.rejected(error.to_string().replace('\n', "; "));
                let failing_for_seconds = seconds(self.reloads.rejected_for());
                for problem in error.problems() {
                    tracing::error!(
                        %problem,
                        failing_for_seconds,
                        remedy = remedy::REJECTED,
                        "the new configuration is wrong; the old one stays"
                    );
                }
                Outcome::Rejected
            }
        };
        Reloaded { outcome, asked }
    }
}
