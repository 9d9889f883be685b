//! The files of tokens, on a thread of their own: a disk that hangs holds up nothing else.

use std::{convert::identity, io, sync::Arc, thread};

use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    broker::{Account, DISK_TIMEOUT, FileSettings, TokenFile},
    config::Config,
    disk,
    token::TokenHandle,
};

/// The files at work. Dropped, the files are removed.
pub(super) struct TokenFiles {
    stop: DropGuard,
    looked: mpsc::Receiver<()>,
    ended: oneshot::Receiver<()>,
}

/// Sees whether the files of a configuration can be written; at the start, where nothing else is at work
/// yet.
pub(super) fn prepare_at_start(config: &Config) -> anyhow::Result<Vec<TokenFile>> {
    let files = config.broker.files.iter();
    let files = files.map(|settings| {
        let made = disk::TOKEN_FILES.within_blocking(DISK_TIMEOUT, check(settings, made));
        made.and_then(identity)
            .map_err(|error| cannot(settings, &error))
    });
    files.collect()
}

/// The same beside the configuration that is at work.
pub(super) async fn prepare(config: &Config) -> anyhow::Result<Vec<TokenFile>> {
    prepare_by(&config.broker.files, made).await
}

async fn prepare_by(files: &[FileSettings], maker: Make) -> anyhow::Result<Vec<TokenFile>> {
    let mut prepared = Vec::with_capacity(files.len());
    for settings in files {
        let made = disk::TOKEN_FILES
            .within(DISK_TIMEOUT, check(settings, maker))
            .await;
        let made = made.and_then(identity);
        prepared.push(made.map_err(|error| cannot(settings, &error))?);
    }
    Ok(prepared)
}

/// What makes one of them.
type Make = fn(FileSettings) -> io::Result<TokenFile>;

fn made(settings: FileSettings) -> io::Result<TokenFile> {
    TokenFile::new(settings, || fastrand::u64(..))
}

fn check(
    settings: &FileSettings,
    make: Make,
) -> impl FnOnce() -> io::Result<TokenFile> + Send + use<> {
    let settings = settings.clone();
    move || make(settings)
}

fn cannot(settings: &FileSettings, error: &io::Error) -> anyhow::Error {
    let path = settings.path.display();
    anyhow::anyhow!("cannot keep the file {path} (broker.file): {error}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::FileFormat;

    #[tokio::test]
    async fn a_disk_that_hangs_is_an_error_that_names_the_file_and_holds_nothing_up() {
        let settings = FileSettings {
            path: "/mnt/far/token".into(),
            mode: 0o600,
            owner: None,
            group: None,
            format: FileFormat::Raw,
        };
        let hangs: Make = |_| {
            loop {
                thread::park();
            }
        };
        let preparing = prepare_by(std::slice::from_ref(&settings), hangs);
        let mut preparing = std::pin::pin!(preparing);
        // Whatever else the program does goes on meanwhile.
        let others = timeout(DISK_TIMEOUT / 4, &mut preparing).await;
        assert!(others.is_err());
        let error = preparing.await.unwrap_err().to_string();
        assert!(
            error.contains("/mnt/far/token") && error.contains("does not respond"),
            "{error}"
        );
    }
}
