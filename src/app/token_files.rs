//! The files of tokens, on a thread of their own: a disk that hangs holds up nothing else.

use std::{io, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{broker::TokenFile, config::Config, telemetry::Metrics, token::TokenHandle};

/// The files at work. Dropped, they are removed.
pub(super) struct TokenFiles {
    stop: DropGuard,
    looked: mpsc::Receiver<()>,
    ended: oneshot::Receiver<()>,
}

/// How long the program waits for a disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sees whether the files of a configuration can be written.
pub(super) fn prepare(config: &Config) -> anyhow::Result<Vec<TokenFile>> {
    let files = config.broker.files.iter();
    let files = files.map(|settings| {
        TokenFile::new(settings.clone()).map_err(|error| {
            let path = settings.path.display();
            anyhow::anyhow!("cannot keep the file {path} (broker.file): {error}")
        })
    });
    files.collect()
}

impl TokenFiles {
    /// Has these files follow a token from now on.
    pub(super) fn start(
        files: Vec<TokenFile>,
        tokens: &TokenHandle,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (look, looked) = mpsc::channel(files.len().max(1));
        let (end, ended) = oneshot::channel();
        let running = Self {
            stop: stop.clone().drop_guard(),
            looked,
            ended,
        };
        if files.is_empty() {
            return Ok(running);
        }
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let (tokens, metrics) = (tokens.clone(), Arc::clone(metrics));
        thread::Builder::new()
            .name("token-files".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let mut keeping = JoinSet::new();
                    for file in files {
                        // There is a place for each.
                        let look = look.clone();
                        let looked = move || look.try_send(()).unwrap_or_default();
                        let metrics = Arc::clone(&metrics);
                        let wrote = move |succeeded| metrics.broker_file_written(succeeded);
                        keeping.spawn(file.keep(tokens.clone(), looked, wrote));
                    }
                    drop(look);
                    stop.cancelled().await;
                    keeping.shutdown().await;
                });
                end.send(()).unwrap_or_default();
            })?;
        Ok(running)
    }

    /// Waits until each of them is as the token has it.
    pub(super) async fn settled(&mut self) {
        let all = async { while self.looked.recv().await.is_some() {} };
        drop(timeout(PATIENCE, all).await);
    }

    /// Removes them.
    pub(super) async fn stop(self) {
        let Self { stop, ended, .. } = self;
        drop(stop);
        drop(timeout(PATIENCE, ended).await);
    }
}
