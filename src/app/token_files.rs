//! The files of tokens, on a thread of their own: a disk that hangs holds up nothing else.

use std::{io, sync::Arc, thread, time::Duration};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    broker::{Account, FileSettings, TokenFile},
    config::Config,
    token::TokenHandle,
};

/// The files at work. Dropped, the files are removed.
pub(super) struct TokenFiles {
    stop: DropGuard,
    looked: mpsc::Receiver<()>,
    ended: oneshot::Receiver<()>,
}

/// Time that the program gives a disk.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

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
        account: &Arc<Account>,
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
        let (tokens, account) = (tokens.clone(), Arc::clone(account));
        thread::Builder::new()
            .name("token-files".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let mut keeping = JoinSet::new();
                    for file in files {
                        // There is a place for each.
                        let look = look.clone();
                        let looked = move || look.try_send(()).unwrap_or_default();
                        let account = Arc::clone(&account);
                        let wrote = move |settings: &FileSettings, token: &_, succeeded| {
                            account.wrote(&settings.path, token, succeeded);
                        };
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

    /// Waits until each file is as the token has it.
    pub(super) async fn settled(&mut self) {
        let all = async { while self.looked.recv().await.is_some() {} };
        drop(timeout(DISK_TIMEOUT, all).await);
    }

    /// Removes the files.
    pub(super) async fn stop(self) {
        let Self { stop, ended, .. } = self;
        drop(stop);
        drop(timeout(DISK_TIMEOUT, ended).await);
    }
}
