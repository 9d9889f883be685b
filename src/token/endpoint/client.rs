//! The HTTP client of everything that is asked of the token service.

use std::{path::PathBuf, time::Duration};

use reqwest::{Client, NoProxy, Proxy, Response, redirect};
use rustls::ClientConfig;
use secrecy::zeroize::Zeroizing;
use url::Url;

use super::encoding::decoded;
use crate::{
    outbound::OutboundProxy,
    secret::{Fingerprint, SecretError, changed},
    tls::{Files, TlsError, TlsSettings, mistrusts, refuses_client},
    token::{FetchError, Reason},
};

/// The bounds of a token call, and the way to the service.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSettings {
    /// The time for everything, from the name lookup to the end of the body.
    pub request_timeout: Duration,
    /// The time for the connection, TLS included.
    pub connect_timeout: Duration,
    /// Whom to trust, and who we are.
    pub tls: TlsSettings,
    /// The HTTP proxy on the way to the token service. The environment's is not used.
    pub proxy: Option<OutboundProxy>,
}

/// Why the client of the token service could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The trust store, or the client certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The password of the proxy on the way.
    #[error("auth.proxy_password_file: {0}")]
    Proxy(#[from] SecretError),
    /// The library.
    #[error("cannot set up the client of the token service: {0}")]
    Client(#[from] reqwest::Error),
}

/// A client that follows its files.
#[derive(Debug)]
pub(in crate::token) struct Caller {
    client: Client,
    settings: EndpointSettings,
    files: Files,
    tls: ClientConfig,
    /// The file of the proxy's password, if it has one, and how it looked when it was read last.
    password_file: Vec<PathBuf>,
    password_seen: Fingerprint,
}

impl Caller {
    /// Reads the files that calls of `url` need; sends nothing.
    pub(in crate::token) fn new(
        url: &Url,
        settings: &EndpointSettings,
    ) -> Result<Self, EndpointError> {
        let proxy = settings.proxy.as_ref();
        let mut way = [Some(url), proxy.map(|proxy| &proxy.url)].into_iter();
        let is_encrypted = way.any(|url| url.is_some_and(|url| url.scheme() == "https"));
        let (files, tls) = Files::read("token service", &settings.tls, is_encrypted)?;
        let password_file = proxy.and_then(|proxy| proxy.password_file.clone());
        let password_file = Vec::from_iter(password_file);
        Ok(Self {
            // Looked at before it is read: what changes in between is seen as a change.
            password_seen: Fingerprint::of(&password_file),
            password_file,
            client: client(settings, tls.clone())?,
            settings: settings.clone(),
            files,
            tls,
        })
    }

    pub(in crate::token) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until its files have changed, and their new content is in use; broken files are
    /// reported, and the old content stays.
    ///
    /// # Cancel safety
    /// Safe: it changes whole or not at all.
    pub(in crate::token) async fn renewed(&mut self) {
        loop {
            tokio::select! {
                () = self.files.changed() => {}
                () = changed(&self.password_file, &self.password_seen) => {}
            }
            if self.renew() {
                return;
            }
        }
    }

    /// Uses its files as they are now. Says whether they have changed, and are good.
    pub(in crate::token) fn renew(&mut self) -> bool {
        let tls = self.files.renewed();
        let password = Fingerprint::of(&self.password_file);
        if tls.is_none() && password == self.password_seen {
            return false;
        }
        self.password_seen = password;
        self.tls = tls.unwrap_or_else(|| self.tls.clone());
        match client(&self.settings, self.tls.clone()) {
            Ok(client) => self.client = client,
            Err(error) => {
                tracing::error!(%error, "changed files of the token service's leg cannot be used");
                return false;
            }
        }
        true
    }
}

fn client(settings: &EndpointSettings, tls: ClientConfig) -> Result<Client, EndpointError> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .timeout(settings.request_timeout)
        .connect_timeout(settings.connect_timeout)
        // A redirect would carry the credential to a host that nobody configured.
        .redirect(redirect::Policy::none())
        // Calls are minutes apart: a kept connection would mostly be found dead.
        .pool_max_idle_per_host(0)
        .no_proxy()
        .user_agent(concat!("auth-sidecar/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = &settings.proxy {
        let no_proxy = NoProxy::from_string(&proxy.no_proxy);
        builder = builder.proxy(Proxy::all(proxy.address()?)?.no_proxy(no_proxy));
    }
    Ok(builder.build()?)
}

/// A larger answer is no token.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

pub(in crate::token) async fn read_body(
    mut response: Response,
) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let fields = response.headers().clone();
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(|e| transport(&e))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(FetchError::new(
                Reason::BadResponse,
                "the answer is larger than 256 KiB",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    decoded(&fields, body, MAX_ANSWER_BYTES)
}

/// What went wrong on the way, without the address: the library's text may quote it.
pub(in crate::token) fn transport(error: &reqwest::Error) -> FetchError {
    if let Some(why) = refuses_client(error) {
        return FetchError::new(Reason::InvalidClient, format!("cannot connect ({why})"));
    }
    if let Some(why) = mistrusts(error) {
        let detail = format!("cannot connect (the certificate is not trusted: {why})");
        return FetchError::new(Reason::Network, detail);
    }
    let reason = if error.is_timeout() {
        Reason::Timeout
    } else if error.is_body() || error.is_decode() {
        Reason::BadResponse
    } else {
        Reason::Network
    };
    let cause = root_cause(error);
    let what = match reason {
        // The library's words for a 407 to CONNECT.
        _ if cause.contains("proxy authorization required") => PROXY_REFUSES,
        Reason::Timeout => "no answer in time",
        Reason::BadResponse => "the answer broke off",
        _ if error.is_connect() => "cannot connect",
        _ => "the exchange failed",
    };
    FetchError::new(reason, format!("{what}{cause}"))
}

/// What is said of a proxy that does not accept our credentials, or has got none.
pub(crate) const PROXY_REFUSES: &str = "the proxy on the way says 407";

/// The innermost cause: what the operating system or the TLS library said.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    cause.map_or_else(String::new, |cause| format!(" ({cause})"))
}
