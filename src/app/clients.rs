//! The file that lists the clients: read at the start, and again when it changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use tokio::sync::Notify;

use crate::{
    admission::Clients, client_token::ClientTokens, config::Config, permissions::GuardedFiles,
    server::Connections, telemetry::Metrics,
};

/// The list as it was read.
#[derive(Debug)]
pub(super) struct ClientList {
    /// The key that names it.
    key: &'static str,
    path: PathBuf,
    file: GuardedFiles,
    pub(super) tokens: ClientTokens,
}

impl ClientList {
    /// Reads the list of a configuration, if it has one.
    pub(super) fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let file = config.listen.client_tokens_file.clone();
        Self::named("listen.client_tokens_file", file)
    }

    /// Reads the list of the broker of a configuration, if it has one.
    pub(super) fn of_broker(config: &Config) -> anyhow::Result<Option<Self>> {
        let file = config.broker.client_tokens_file.clone();
        Self::named("broker.client_tokens_file", file)
    }

    fn named(key: &'static str, file: Option<PathBuf>) -> anyhow::Result<Option<Self>> {
        let list = file.map(|path| {
            // Looked at before it is read: what changes in between is seen as a change.
            let file = GuardedFiles::new(vec![path.clone()]);
            let tokens = read(key, &path)?;
            Ok(Self {
                key,
                path,
                file,
                tokens,
            })
        });
        list.transpose()
    }

    /// Has `clients` follow the file, for ever, and those end in `connections` whom it lists no more;
    /// reads it also when `asked`. A list that is wrong is reported and the one before stays: a slip
    /// of an editor must not turn every client away.
    pub(super) async fn watch(
        self,
        clients: Clients,
        connections: Connections,
        asked: Arc<Notify>,
        metrics: Arc<Metrics>,
    ) {
        let Self {
            key,
            path,
            mut file,
            ..
        } = self;
        loop {
            file.changed_or(&asked).await;
            match read(key, &path) {
                Ok(tokens) => {
                    clients.set(&tokens);
                    connections.review();
                    metrics.client_tokens_reloaded(true);
                    let count = tokens.len();
                    tracing::info!(count, "the changed list of clients is in use");
                }
                Err(error) => {
                    metrics.client_tokens_reloaded(false);
                    tracing::error!(
                        "the changed list of clients cannot be used; the one before stays: {error:#}"
                    );
                }
            }
        }
    }
}

fn read(key: &str, path: &Path) -> anyhow::Result<ClientTokens> {
    let tokens = ClientTokens::read(path).with_context(|| format!("{key}: {}", path.display()))?;
    if tokens.is_empty() {
        tracing::warn!("{key} lists nobody: every request is refused");
    }
    Ok(tokens)
}
