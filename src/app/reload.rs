//! When the configuration is loaded again: on SIGHUP, and when its file changes.

use std::{
    fmt,
    future::{Future, pending},
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
};

use super::Parts;
use crate::{
    admin::Reloads,
    clock::seconds,
    config::{Config, ConfigError, Loaded, Sources},
    disk,
    permissions::GuardedFiles,
    remedy,
    telemetry::Metrics,
};

/// Waits for reasons to load the configuration again.
#[derive(Debug)]
pub(super) struct Reload {
    /// `None` for a program whose configuration is given once and for all.
    sources: Option<(Sources, Signal)>,
    path: Option<PathBuf>,
    file: GuardedFiles,
    /// What is being loaded, by whoever waits next.
    loading: Option<Loading>,
    metrics: Arc<Metrics>,
    reloads: Reloads,
}

/// A configuration that is being loaded, away from the runtime: files hang where their disk does.
struct Loading {
    asked: bool,
    loaded: Pin<Box<dyn Future<Output = Result<Usable, Rejection>> + Send>>,
}

/// A valid configuration, and what is made of it before it is used.
type Usable = (Config, anyhow::Result<Parts>);

/// The time for all files that a configuration is made of.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// A reload: the configuration was loaded again.
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
    /// Another configuration, to change to, with what was made of it.
    Changed(Box<Config>, anyhow::Result<Box<Parts>>),
    /// The configuration cannot be used, which is to be reported; the one in use stays.
    Rejected(Rejection),
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub(super) enum Rejection {
    /// The configuration is wrong.
    Wrong(ConfigError),
    /// Nothing is known of it in time, or at all.
    Unreadable(io::Error),
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
            file: GuardedFiles::new(file.iter().cloned().collect()),
            path: file,
            loading: None,
            metrics,
            reloads,
        })
    }

    /// Waits for a reason to load the configuration, and says what came of it.
    ///
    /// # Cancel safety
    /// Safe: what is being loaded goes on, and the next call returns it.
    pub(super) async fn next(&mut self, current: &Config) -> Reloaded {
        let Some((sources, hangup)) = &mut self.sources else {
            return pending().await;
        };
        let loading = match &mut self.loading {
            Some(loading) => loading,
            none => {
                let asked = tokio::select! {
                    Some(()) = hangup.recv() => true,
                    () = self.file.changed() => false,
                };
                if asked {
                    self.file.look();
                }
                none.insert(Loading::begin(sources, asked))
            }
        };
        let loaded = loading.loaded.as_mut().await;
        let asked = loading.asked;
        self.loading = None;
        let outcome = match loaded {
            Ok((config, _)) if config.is_same(current) => {
                if asked {
                    tracing::info!(
                        "SIGHUP: the configuration is the same; reading the secrets again"
                    );
                }
                Outcome::Same
            }
            Ok((config, parts)) => {
                let warnings = config.warnings.iter();
                for warning in warnings.filter(|one| !current.warnings.contains(one)) {
                    tracing::warn!("{warning}");
                }
                Outcome::Changed(Box::new(config), parts.map(Box::new))
            }
            Err(rejection) => Outcome::Rejected(rejection),
        };
        Reloaded { outcome, asked }
    }

    /// Reports a configuration that cannot be used. A failure of one that was tried could be noted over
    /// it, so that one is to be given up before.
    pub(super) fn reject(&self, rejection: &Rejection) {
        self.metrics.config_reloaded(false);
        match rejection {
            Rejection::Wrong(error) => self.is_wrong(error),
            Rejection::Unreadable(error) => self.hangs(error),
        }
    }

    fn is_wrong(&self, error: &ConfigError) {
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
    }

    fn hangs(&self, error: &io::Error) {
        let path = self.path.as_ref().map(|path| path.display().to_string());
        let problem = format!(
            "{}, or a file that it names, cannot be read within {}: {error}",
            path.as_deref().unwrap_or("the configuration"),
            humantime::format_duration(DISK_TIMEOUT)
        );
        self.reloads.rejected(problem.clone());
        tracing::error!(
            %problem,
            failing_for_seconds = seconds(self.reloads.rejected_for()),
            remedy = remedy::REJECTED,
            "the new configuration cannot be read; the old one stays"
        );
    }
}

impl Loading {
    fn begin(sources: &Sources, asked: bool) -> Self {
        let (sources, runtime) = (sources.clone(), Handle::current());
        let load = move || {
            // What is made of it may have timers.
            let _runtime = runtime.enter();
            let Loaded { config, .. } = Config::load(&sources)?;
            let parts = Parts::of(&config);
            Ok((config, parts))
        };
        let loading = disk::CONFIGURATIONS.within(DISK_TIMEOUT, load);
        let loaded = async {
            match loading.await {
                Ok(loaded) => loaded.map_err(Rejection::Wrong),
                Err(error) => Err(Rejection::Unreadable(error)),
            }
        };
        Self {
            asked,
            loaded: Box::pin(loaded),
        }
    }
}

impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = &self.asked;
        f.debug_struct("Loading")
            .field("asked", asked)
            .finish_non_exhaustive()
    }
}
