//! A token endpoint of OAuth 2.0 (RFC 6749), asked again and again: the request that a configuration
//! describes is sent, and its response is read. It has never heard of a vendor.

mod algorithm;
mod assertion;
mod client;
mod description;
mod discovery;
mod echo;
mod encoding;
mod outgoing;
mod request;
pub mod response;
mod rotation;
mod second_call;
mod service_account;

use std::{future::pending, path::PathBuf, time::SystemTime};

use http::{StatusCode, header::DATE};
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::{
    algorithm::Algorithm,
    assertion::{Assertion, AssertionError, Audience, KeySource, Signer, Subject, Validity},
    client::EndpointSettings,
    discovery::{Issuer, Metadata},
    request::{
        BasicEncoding, ClientAuth, FormValue, Location, NamedSecret, OAUTH2, Protocol, TokenRequest,
    },
    service_account::ServiceAccount,
};
pub(crate) use self::{client::PROXY_REFUSES, discovery::DISCOVERY};
pub(super) use self::{
    client::{CallResponse, TokenClient},
    echo::Secrets,
};
use self::{
    discovery::Discovery,
    outgoing::{Occasion, Outgoing},
    response::Granted,
    rotation::{Kept, not_stored},
    second_call::Habits,
};
use super::{FetchError, Reason, TokenResponse, TokenSource};
use crate::{
    outbound::UnusableRoute,
    secret::{Fingerprint, RotatingSecret, Which, changed, warn_of_quotes},
};

/// A token endpoint that can be asked again and again.
#[derive(Debug)]
pub struct TokenEndpoint {
    way: Way,
    request: TokenRequest,
    settings: EndpointSettings,
    /// The secrets that the request is made of.
    secrets: Vec<RotatingSecret>,
    /// Their files, and how they looked when the request was last sent.
    files: Vec<PathBuf>,
    seen: Fingerprint,
    /// The same of the refresh token, if it is made of one.
    seen_refresh_token: Fingerprint,
    /// Whether the last attempt gave no token.
    has_failed: bool,
    /// Which of two overlapping secrets was accepted last.
    accepted: Which,
    /// How many calls the last attempt took.
    calls: u32,
    /// The status of the last response of that attempt.
    status: Option<StatusCode>,
    /// By how many seconds the last response was ahead of our clock, as it dates itself.
    dated: i64,
    /// What the last attempt has learned of the refresh token.
    said_of_refresh_token: Option<Result<(), &'static str>>,
    /// What the service has shown of how it reads our credentials.
    habits: Habits,
    /// A response that is not used before its refresh token is in its place.
    kept: Option<Kept>,
    /// Whether the refresh token may have been sent, and what the response brings is not in its place.
    is_committed: watch::Sender<bool>,
    /// Cancelled when no call is to begin any more.
    stop: CancellationToken,
}

/// How the token endpoint is reached.
#[derive(Debug)]
enum Way {
    Known { url: Url, client: Box<TokenClient> },
    Discovered(Box<Discovery>),
}

impl TokenEndpoint {
    /// Sets up the client; sends nothing.
    ///
    /// # Errors
    /// When the trust store or the client certificate cannot be loaded.
    pub fn new(request: TokenRequest, settings: &EndpointSettings) -> Result<Self, UnusableRoute> {
        let way = match &request.endpoint {
            Location::Url(url) => Way::Known {
                url: url.clone(),
                client: Box::new(TokenClient::new(url, settings)?),
            },
            Location::Issuer(issuer) => {
                let by_certificate = request.is_by_certificate();
                Way::Discovered(Box::new(Discovery::new(issuer, by_certificate, settings)?))
            }
        };
        Ok(Self {
            way,
            settings: settings.clone(),
            secrets: request.secrets(),
            files: request.files(),
            seen: Fingerprint::default(),
            seen_refresh_token: Fingerprint::default(),
            has_failed: false,
            request,
            accepted: Which::Current,
            calls: 0,
            status: None,
            dated: 0,
            said_of_refresh_token: None,
            habits: Habits::default(),
            kept: None,
            is_committed: watch::Sender::new(false),
            stop: CancellationToken::new(),
        })
    }

    /// What the issuer has said of itself, where it was asked.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.way {
            Way::Known { .. } => None,
            Way::Discovered(discovery) => discovery.metadata(),
        }
    }

    /// By how many seconds the clock of the service is ahead of ours, as its last response dates
    /// itself; 0 where they agree, as far as services care.
    #[must_use]
    pub fn clock_ahead(&self) -> i64 {
        self.dated
    }

    /// Gets a token with the credentials as they are, and with the other ones where there are two and
    /// the first are not accepted.
    async fn ask_with_either(
        &mut self,
        refresh_token: Option<&SecretString>,
    ) -> Result<Granted, FetchError> {
        let first = self.accepted;
        let result = self.ask(first, refresh_token).await;
        let has_other = self.secrets.iter().any(|one| one.next_file.is_some());
        match result {
            Err(error) if has_other && may_be_the_secret(&error) && !wants_time(&error) => {
                let second = self.ask(first.other(), refresh_token).await;
                // A next secret that is not there yet says nothing of the present one.
                let granted = second.map_err(|second| weightier(error, second))?;
                self.accepted = first.other();
                Ok(granted)
            }
            result => result,
        }
    }

    async fn ask_once(
        &mut self,
        which: Which,
        refresh_token: Option<&SecretString>,
    ) -> Result<Granted, FetchError> {
        let (url, client) = match &self.way {
            Way::Known { url, client } => (url, &**client),
            Way::Discovered(discovery) => discovery.endpoint()?,
        };
        let Outgoing {
            fields,
            body,
            secrets,
        } = self.request.build(&Occasion {
            which,
            url,
            refresh_token,
            ahead: self.habits.ahead,
            other_spelling: self.habits.other_spelling,
        })?;
        self.begin_call(refresh_token)?;
        self.calls += 1;
        self.status = None;
        let response = client.post(fields, body).await?;
        self.status = Some(response.status);
        self.dated = ahead(&response).unwrap_or(0);
        let read = (self.request.protocol.read)(&response, &self.request.expected);
        read.map_err(|mut error| {
            secrets.conceal(&mut error, response.status, &response.body);
            error
        })
    }
}

impl TokenSource for TokenEndpoint {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        // Looked at before they are read: what changes in between is seen as a change.
        let now = Fingerprint::of(&self.files);
        if now != self.seen {
            self.habits.forget_rejections();
            if self.calls > 0 {
                warn_of_quotes(&self.files);
            }
        }
        self.seen = now;
        self.calls = 0;
        self.status = None;
        self.said_of_refresh_token = None;
        let result = async {
            if let Some(file) = self.request.refresh_token() {
                let seen = file.look().await;
                self.seen_refresh_token = seen.map_err(|error| not_stored(&error))?;
            }
            if let Some(response) = self.resume().await? {
                return Ok(response);
            }
            self.is_committed.send_replace(false);
            if let Way::Discovered(discovery) = &mut self.way {
                let looked = discovery.look(fastrand::f64()).await;
                self.calls += looked.calls;
                self.status = looked.status;
                looked.result?;
            }
            let Some(held) = self.hold().await? else {
                return self.ask_with_either(None).await?.response;
            };
            match self.ask_with_either(Some(held.token())).await {
                Ok(granted) => self.store(held, granted).await,
                Err(error) => {
                    held.release().await;
                    Err(error)
                }
            }
        };
        let result = result.await;
        self.is_committed.send_replace(self.kept.is_some());
        self.calls = self.calls.max(1);
        self.has_failed = result.is_err();
        if let (Way::Discovered(discovery), Err(error)) = (&mut self.way, &result) {
            discovery.failed(error.reason, fastrand::f64());
        }
        result
    }

    fn calls(&self) -> u32 {
        self.calls
    }

    fn status(&self) -> Option<StatusCode> {
        self.status
    }

    fn commitment(&self) -> Option<watch::Receiver<bool>> {
        let refresh_token = self.request.refresh_token();
        refresh_token.map(|_| self.is_committed.subscribe())
    }

    fn refresh_token(&self) -> Option<Result<(), &'static str>> {
        self.said_of_refresh_token
    }

    fn stop_with(&mut self, stop: &CancellationToken) {
        self.stop = stop.clone();
    }

    async fn settle(&mut self) {
        self.store_kept().await;
    }

    async fn changed(&mut self) {
        let renewed = async {
            match &self.way {
                Way::Known { client, .. } => client.renewed().await,
                Way::Discovered(discovery) => discovery.renewed().await,
            }
        };
        let refresh_token = async {
            match self.request.refresh_token() {
                Some(file) if self.has_failed => file.changed(&self.seen_refresh_token).await,
                // One that works is read when it is used; another sidecar may replace it meanwhile.
                _ => pending().await,
            }
        };
        tokio::select! {
            () = changed(&self.files, &self.seen) => {}
            () = refresh_token => {}
            () = renewed => {}
        }
    }
}

/// Whether another secret could help. A 401 or 403 without a word may come from the service as well
/// as from something in between, and to ask once more costs little.
fn may_be_the_secret(error: &FetchError) -> bool {
    matches!(
        error.reason,
        Reason::InvalidClient | Reason::SecretUnreadable
    ) || ["status 401", "status 403"]
        .iter()
        .any(|status| error.detail.starts_with(status))
}

/// Whether the service asks to be left alone for a while.
fn wants_time(error: &FetchError) -> bool {
    error.reason == Reason::RateLimited || error.retry_after.is_some()
}

/// Which of two errors of one attempt counts: the first, unless the second asks for time.
fn weightier(first: FetchError, second: FetchError) -> FetchError {
    if wants_time(&second) { second } else { first }
}

/// By how many seconds the clock of the service is ahead of ours, as its response dates itself. A
/// difference that every service tolerates counts as none, and one of more than a day as nonsense.
fn ahead(response: &CallResponse) -> Option<i64> {
    const TOLERATED: i64 = 5;
    const DAY: i64 = 24 * 60 * 60;
    let date = response.fields.get(DATE)?.to_str().ok()?;
    let ahead =
        unix_seconds(httpdate::parse_http_date(date).ok()?)? - unix_seconds(SystemTime::now())?;
    let counts = (TOLERATED..DAY).contains(&ahead.abs());
    Some(if counts { ahead } else { 0 })
}

fn unix_seconds(at: SystemTime) -> Option<i64> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}
