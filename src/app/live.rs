//! A configuration at work: its token path, and the watch over its credentials.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::{Parts, Shared, reporter::Reporter};
use crate::{
    broker::ENDPOINTS,
    clock::Jump,
    config::{Config, Credentials},
    proxy::{Clients, upstream::Connector},
    server::{Address, TlsFiles},
    token::{
        self, TokenHandle,
        foresight::{Credential, Ends},
    },
};

/// One generation of the configuration. Dropped, its tasks end.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) config: Config,
    /// The addresses that are listened on for it.
    pub(super) addresses: Vec<Address>,
    pub(super) tokens: TokenHandle,
    pub(super) ends: Ends,
    pub(super) connector: Arc<Connector>,
    /// Whom local tokens let in.
    pub(super) clients: Option<Clients>,
    /// The same for the broker.
    pub(super) broker_clients: Option<Clients>,
    tls: Option<TlsFiles>,
    pub(super) tasks: JoinSet<()>,
}

impl Live {
    /// Starts the token path of a configuration.
    pub(super) fn start(config: Config, parts: Parts, shared: &Shared) -> anyhow::Result<Self> {
        let Parts {
            source,
            connector,
            clients,
            broker_clients,
            tls,
        } = parts;
        let (refresher, tokens) = token::channel(
            source,
            config.auth.policy.clone(),
            Reporter(Arc::clone(&shared.metrics)),
            fastrand::f64,
        );
        let ends = Ends::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(refresher.run());
        tasks.spawn({
            let (connector, metrics) = (Arc::clone(&connector), Arc::clone(&shared.metrics));
            async move {
                let renewed = |accepted| metrics.secret_reloaded(accepted);
                connector.follow_files(renewed).await;
            }
        });
        for credential in credentials(&config)? {
            let (tokens, ends) = (tokens.clone(), ends.clone());
            let metrics = Arc::clone(&shared.metrics);
            tasks.spawn(async move {
                // Without a token there is more urgent news than the end of a credential.
                has_token(&tokens).await;
                let checked = move |kind, known| metrics.credential_checked(kind, known);
                credential.watch(ends, checked).await;
            });
        }
        if let Some(list) = &broker_clients {
            for (name, _) in list.tokens.iter() {
                // From the start, at zero.
                for endpoint in ENDPOINTS {
                    shared.metrics.broker_tokens(name.as_str(), endpoint);
                }
            }
        }
        let [clients, broker_clients] = [clients, broker_clients].map(|list| {
            let list = list?;
            let clients = Clients::new(&list.tokens, Arc::clone(&shared.metrics));
            tasks.spawn(list.watch(clients.clone(), Arc::clone(&shared.metrics)));
            Some(clients)
        });
        Ok(Self {
            config,
            addresses: Vec::new(),
            tokens,
            ends,
            connector,
            clients,
            broker_clients,
            tls,
            tasks,
        })
    }

    /// Has TLS listeners show its certificate from now on, and follow its files.
    pub(super) fn show_certificate(&mut self, shared: &Shared) {
        shared.tls.set(self.tls.as_ref());
        if let Some(files) = self.tls.take() {
            let metrics = Arc::clone(&shared.metrics);
            let reloaded = move |accepted| metrics.secret_reloaded(accepted);
            self.tasks.spawn(files.watch(shared.tls.clone(), reloaded));
        }
    }

    /// Tells the token path of a jump of the clock.
    pub(super) fn jumped(&self, jump: Jump) {
        tracing::info!(?jump, "the clock jumped; renewing the token");
        match jump {
            Jump::Slept(duration) => self.tokens.slept(duration),
            Jump::Set => self.tokens.refresh_now(),
        }
    }

    /// Waits until it can serve.
    pub(super) async fn has_token(&self) {
        has_token(&self.tokens).await;
    }
}

/// Waits until a task ends, which none should.
pub(super) async fn ended(tasks: &mut JoinSet<()>) -> anyhow::Error {
    match tasks.join_next().await {
        Some(Err(error)) => error.into(),
        _ => anyhow::anyhow!("the refresher ended"),
    }
}

async fn has_token(tokens: &TokenHandle) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    while tokens.current(Instant::now() + DAY).await.is_err() {}
}

/// The credentials of a configuration whose end can be found out.
pub(crate) fn credentials(config: &Config) -> anyhow::Result<Vec<Credential>> {
    let mut credentials = Vec::new();
    if let Credentials::Endpoint(request) = &config.auth.credentials
        && let Some((url, secret)) = request.api_token()
    {
        let settings = &config.auth.endpoint;
        credentials.push(Credential::api_token(&url, secret.clone(), settings)?);
    }
    let mut certificates = |kind, path: Option<&PathBuf>| {
        credentials.extend(path.map(|path| Credential::certificates(kind, path.clone())));
    };
    if let Some(tls) = &config.listen.tls {
        certificates("listener", Some(&tls.cert_file));
        certificates("client_ca", tls.client_ca_file.as_ref());
    }
    for (ca, client, tls) in [
        (
            "token_service_ca",
            "token_service_client_cert",
            &config.auth.endpoint.tls,
        ),
        ("upstream_ca", "upstream_client_cert", &config.upstream.tls),
    ] {
        certificates(ca, tls.ca_file.as_ref());
        let identity = tls.identity.as_ref();
        certificates(client, identity.map(|identity| &identity.cert_file));
    }
    Ok(credentials)
}
