//! When the configuration is loaded again: on SIGHUP, and when its file changes.

use std::{future::pending, io, path::PathBuf, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    admin::Reloads,
    config::{Config, Loaded, Sources},
    secret::{Fingerprint, changed},
    telemetry::Metrics,
};

/// Waits for reasons to load the configuration again.
#[derive(Debug)]
pub(super) struct Reload {
    /// `None` for a program whose configuration is given once and for all.
    sources: Option<(Sources, Signal)>,
    files: Vec<PathBuf>,
    seen: Fingerprint,
    metrics: Arc<Metrics>,
    reloads: Reloads,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Reloaded {
    /// Nothing but to read the secrets again.
    Same,
    /// To change to this.
    Changed(Box<Config>),
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
        let files: Vec<PathBuf> = file.into_iter().collect();
        Ok(Self {
            sources,
            seen: Fingerprint::of(&files),
            files,
            metrics,
            reloads,
        })
    }

    /// The next valid configuration. One that is not valid is reported, and the old one stays.
    pub(super) async fn next(&mut self, current: &Config) -> Reloaded {
        loop {
            let Some((sources, hangup)) = &mut self.sources else {
                return pending().await;
            };
            let asked = tokio::select! {
                Some(()) = hangup.recv() => true,
                () = changed(&self.files, &self.seen) => false,
            };
            // Looked at before it is read: what changes in between is seen as a change.
            self.seen = Fingerprint::of(&self.files);
            match Config::load(sources) {
                Ok(Loaded { config, .. }) if config == *current => {
                    if asked {
                        tracing::info!(
                            "SIGHUP: the configuration is the same; reading the secrets again"
                        );
                        return Reloaded::Same;
                    }
                }
                Ok(Loaded { config, .. }) => return Reloaded::Changed(Box::new(config)),
                Err(error) => {
                    self.metrics.config_reloaded(false);
                    self.reloads.rejected(error.to_string().replace('\n', "; "));
                    for problem in error.problems() {
                        tracing::error!(%problem, "the new configuration is wrong; the old one stays");
                    }
                }
            }
        }
    }
}
