//! The `demo` command: an embedded token service, an embedded service instance, and the real sidecar between them.

use std::{io::Write, net::TcpListener, sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    app::App,
    config::{Config, Flags, Sources},
};

mod cloud_integrations;
mod csp_error;
mod envelope;
mod guide;
mod http;
pub mod instance;
mod issued;
mod random;
mod received;
pub mod token_service;

use guide::Guide;
use instance::Instance;
use token_service::TokenService;

/// Short enough to watch renewals, long enough to see that a token serves many requests.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3);

const LISTEN: &str = "127.0.0.1:9797";
const ADMIN: &str = "127.0.0.1:9798";

/// What can be chosen for a demo. Where nothing is chosen, the usual address is used, or a free port when it is taken.
#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    /// The sidecar's own address, as in `listen.address`.
    pub listen: Option<String>,
    /// The address of its admin listener, as in `admin.address`.
    pub admin: Option<String>,
}

/// Runs both services and the sidecar until `shutdown`; writes to `out` what runs where and what to try.
///
/// # Errors
///
/// When a chosen address cannot be used, when `out` cannot be written, or when the sidecar fails.
pub async fn run(
    options: DemoOptions,
    out: &mut impl Write,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let tokens = Arc::new(TokenService::new(TOKEN_LIFETIME));
    let instance = Arc::new(Instance::new(Arc::clone(&tokens)));
    let (token_listener, token_service) = http::bind().await.context("the demo needs loopback")?;
    let (instance_listener, service_instance) =
        http::bind().await.context("the demo needs loopback")?;

    // As a user would: the addresses by flags, the rest by the names that the ecosystem knows.
    let sources = Sources {
        flags: Flags {
            listen: Some(options.listen.unwrap_or_else(|| free_address(LISTEN))),
            admin: Some(options.admin.unwrap_or_else(|| free_address(ADMIN))),
            ..Flags::default()
        },
        ..Sources::of_environment([
            ("WAVEFRONT_URL", format!("http://{service_instance}")),
            ("CSP_API_URL", format!("http://{token_service}")),
            ("CSP_APP_ID", tokens.client_id().to_owned()),
            ("CSP_APP_SECRET", tokens.client_secret().to_owned()),
            ("CSP_ORG_ID", tokens.org_id().to_owned()),
        ])
    };
    let app = App::bind(Config::load(&sources)?.config)?;
    let guide = Guide {
        sidecar: *app.proxy_addresses().first().context(
            "the first address of the demo has to be IP:port, for the lines that it prints",
        )?,
        admin: app.admin_address(),
        token_service,
        service_instance,
        token_lifetime: TOKEN_LIFETIME,
        external_id: instance.issue_external_id(),
    };
    write!(out, "{guide}")?;
    out.flush()?;

    tokio::select! {
        stopped = app.run(shutdown) => stopped,
        // Neither ends before it is dropped.
        () = http::serve(token_listener, tokens) => Ok(()),
        () = http::serve(instance_listener, instance) => Ok(()),
    }
}

/// Serves a token service until it is dropped.
pub async fn serve_tokens(listener: tokio::net::TcpListener, tokens: Arc<TokenService>) {
    http::serve(listener, tokens).await;
}

/// Serves a service instance until it is dropped.
pub async fn serve_instance(listener: tokio::net::TcpListener, instance: Arc<Instance>) {
    http::serve(listener, instance).await;
}

/// The usual address, unless something listens there; a race lost after this look ends in a clear error.
fn free_address(usual: &str) -> String {
    match TcpListener::bind(usual) {
        Ok(_) => usual.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}
