//! The access log of the process: opened once, and anew on SIGHUP.

use std::{future::Future, io, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    super::{
        LogSettings,
        log::{self, LosingLog},
    },
    Access,
    file::AccessFile,
};

/// Where lines go, for every configuration. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AccessLog(Option<Arc<AccessFile>>);

impl AccessLog {
    /// Opens the file, where there is one.
    ///
    /// # Errors
    /// When it cannot be opened, or is not one that may be written to.
    pub fn open(settings: &LogSettings) -> io::Result<Self> {
        let file = settings.access.file.as_deref().map(AccessFile::open);
        Ok(Self(file.transpose()?.map(Arc::new)))
    }

    /// What a configuration wants of it.
    #[must_use]
    pub fn of(&self, settings: &LogSettings) -> Access {
        let wanted = &settings.access;
        Access::new(
            wanted.mode,
            wanted.has_query,
            settings.format,
            self.0.clone(),
        )
    }

    /// What opens the file anew on each SIGHUP; for ever. `None` where there is no file.
    ///
    /// # Errors
    /// When the signal cannot be listened to.
    pub fn rotation(&self) -> io::Result<Option<impl Future<Output = ()> + Send + use<>>> {
        let Some(file) = self.0.clone() else {
            return Ok(None);
        };
        let mut hangup = signal(SignalKind::hangup())?;
        Ok(Some(async move {
            while hangup.recv().await.is_some() {
                file.reopen();
            }
        }))
    }

    /// Lines of the file that could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |file| file.dropped())
    }

    /// The logs that lose lines now: the file, and standard error.
    #[must_use]
    pub fn losing(&self) -> Vec<LosingLog> {
        let of_file = self.0.as_ref().and_then(|file| file.losing());
        of_file.into_iter().chain(log::losing()).collect()
    }

    /// Waits until what was logged is written, but not for long.
    pub fn finish(&self) {
        if let Some(file) = &self.0 {
            file.finish();
        }
    }
}
