//! The file that lists the clients: read at the start, and again when it changes.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;

use crate::{
    client_token::ClientTokens,
    config::Config,
    proxy::Clients,
    secret::{Fingerprint, changed},
    telemetry::Metrics,
};

/// The list as it was read.
#[derive(Debug)]
pub(super) struct ClientList {
    /// The key that names it.
    key: &'static str,
    file: PathBuf,
    seen: Fingerprint,
    pub(super) tokens: ClientTokens,
}

impl ClientList {
    /// That of a configuration, if it has one.
    pub(super) fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let file = config.listen.client_tokens_file.clone();
        file.map(|file| Self::read("listen.client_tokens_file", file))
            .transpose()
    }

    /// That of the broker of a configuration, if it has one.
    pub(super) fn of_broker(config: &Config) -> anyhow::Result<Option<Self>> {
        let file = config.broker.client_tokens_file.clone();
        file.map(|file| Self::read("broker.client_tokens_file", file))
            .transpose()
    }

    fn read(key: &'static str, file: PathBuf) -> anyhow::Result<Self> {
        // Looked at before it is read: what changes in between is seen as a change.
        let seen = Fingerprint::of(std::slice::from_ref(&file));
        let tokens =
            ClientTokens::read(&file).with_context(|| format!("{key}: {}", file.display()))?;
        if tokens.is_empty() {
            tracing::warn!("{key} lists nobody: every request is refused");
        }
        Ok(Self {
            key,
            file,
            seen,
            tokens,
        })
    }

    /// Has `clients` follow the file, for ever. A list that is wrong is reported and the one
    /// before stays: a slip of an editor must not turn every client away.
    pub(super) async fn watch(self, clients: Clients, metrics: Arc<Metrics>) {
        let Self {
            key,
            file,
            mut seen,
            ..
        } = self;
        let files = [file.clone()];
        loop {
            changed(&files, &seen).await;
            seen = Fingerprint::of(&files);
            match Self::read(key, file.clone()) {
                Ok(list) => {
                    clients.set(&list.tokens);
                    metrics.client_tokens_reloaded(true);
                    let count = list.tokens.len();
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
