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

/// What there is to do.
#[derive(Debug)]
pub(super) enum Reloaded {
    /// Nothing but, where that was asked for, to read the secrets and the other files again: the
    /// configuration is the one in use. One that was tried meanwhile is no longer wanted.
    Same { asked: bool },
    /// To change to this.
    Changed(Box<Config>),
    /// To go on as before: the configuration cannot be used, which has been reported. One that was
    /// tried meanwhile is no longer what the sources say.
    Rejected { asked: bool },
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
        match Config::load(sources) {
            Ok(Loaded { config, .. }) if config.is_same(current) => {
                if asked {
                    tracing::info!(
                        "SIGHUP: the configuration is the same; reading the secrets again"
                    );
                }
                Reloaded::Same { asked }
            }
            Ok(Loaded { config, .. }) => {
                let warnings = config.warnings.iter();
                for warning in warnings.filter(|one| !current.warnings.contains(one)) {
                    tracing::warn!("{warning}");
                }
                Reloaded::Changed(Box::new(config))
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
                Reloaded::Rejected { asked }
            }
        }
    }
}
