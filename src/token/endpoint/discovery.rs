//! Where an issuer says that its token endpoint is: RFC 8414, or `OpenID` Connect Discovery 1.0.
//!
//! The metadata are read before the first token call, and again now and then, and after calls that fail
//! as they would at an address that is no longer the right one. What was read once stays in use while
//! it cannot be read again.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING},
};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::client::{CallResponse, EndpointSettings, TokenClient};
use crate::{
    outbound::UnusableRoute,
    text::unmarked_bytes,
    token::{FetchError, Reason},
};

/// An issuer, as it names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    name: String,
    url: Url,
    allow_insecure_http: bool,
}

/// What the metadata of an issuer say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where they were read.
    pub read_from: Url,
    /// The token endpoint, for a client that authenticates itself as ours does.
    pub token_endpoint: Url,
    /// The methods of client authentication that the endpoint takes.
    pub methods: Vec<String>,
    /// The grants that it has, where it says so.
    pub grants: Option<Vec<String>>,
}

/// The token endpoint of an issuer, as far as it is known.
#[derive(Debug)]
pub(super) struct Discovery {
    issuer: Issuer,
    by_certificate: bool,
    settings: EndpointSettings,
    places: [(Url, TokenClient); 2],
    found: Option<(Metadata, TokenClient)>,
    /// When the metadata are to be read again.
    next: Instant,
    /// Until when the issuer has asked to be left alone.
    not_before: Instant,
    failures: u32,
}

/// What came of a look at the metadata.
#[derive(Debug)]
pub(super) struct Looked {
    /// How many calls it took.
    pub(super) calls: u32,
    /// The status of the last response, if there was one.
    pub(super) status: Option<StatusCode>,
    /// An error only where no endpoint is known from before.
    pub(super) result: Result<(), FetchError>,
}

/// How long metadata are taken for right: an issuer that moves its endpoint keeps the old one so long.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// The least time between two looks, once there is an endpoint.
const FLOOR: Duration = Duration::from_secs(30);

impl Issuer {
    /// An issuer of that name, which is a URL.
    #[must_use]
    pub fn new(name: String, url: Url, allow_insecure_http: bool) -> Self {
        Self {
            name,
            url,
            allow_insecure_http,
        }
    }

    /// The name as a URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where the metadata are: as RFC 8414 §3 has it, and as `OpenID` Connect Discovery §4 does.
    #[must_use]
    pub fn places(&self) -> [Url; 2] {
        let path = self.url.path().trim_end_matches('/');
        [
            format!("/.well-known/oauth-authorization-server{path}"),
            format!("{path}/.well-known/openid-configuration"),
        ]
        .map(|path| {
            let mut place = self.url.clone();
            place.set_path(&path);
            place
        })
    }

    /// Reads the metadata that were found at a place; `by_certificate` is whether the client
    /// authenticates itself by a certificate (RFC 8705 §5).
    ///
    /// # Errors
    /// When they are not those of this issuer, or name no endpoint that credentials may be sent to.
    /// Quotes nothing of them.
    pub fn read(
        &self,
        read_from: &Url,
        body: &[u8],
        by_certificate: bool,
    ) -> Result<Metadata, &'static str> {
        let said: Said = serde_json::from_slice(unmarked_bytes(body))
            .map_err(|_| "what is there is no metadata of an issuer")?;
        let issuer = said.issuer.ok_or("the metadata name no issuer")?;
        if issuer != self.name {
            let bare = |name: &str| name.trim_end_matches('/').to_owned();
            return Err(if bare(&issuer) == bare(&self.name) {
                "the issuer names itself otherwise than auth.issuer: the slash at the end differs"
            } else {
                "the metadata are of another issuer than auth.issuer"
            });
        }
        let by_certificate = said
            .mtls_endpoint_aliases
            .and_then(|aliases| aliases.token_endpoint)
            .filter(|_| by_certificate);
        let endpoint = by_certificate.or(said.token_endpoint);
        let endpoint = endpoint.ok_or("the metadata name no token_endpoint")?;
        Ok(Metadata {
            read_from: read_from.clone(),
            token_endpoint: self.checked(&endpoint)?,
            // What a server that does not say takes (RFC 8414 §2).
            methods: said
                .token_endpoint_auth_methods_supported
                .unwrap_or_else(|| vec!["client_secret_basic".to_owned()]),
            grants: said.grant_types_supported,
        })
    }

    /// Parses a token endpoint that credentials may be sent to: the rule is that of `auth.token_url`.
    fn checked(&self, endpoint: &str) -> Result<Url, &'static str> {
        let url = Url::parse(endpoint).map_err(|_| "its token_endpoint is no URL")?;
        let is_plain = url.scheme() == "http";
        if !url.has_host() || !is_plain && url.scheme() != "https" {
            return Err("its token_endpoint is no https:// URL");
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("its token_endpoint has a user name, a password or a fragment");
        }
        // On a plain way to the metadata whoever changes them could name any endpoint anyway.
        if is_plain
            && !(self.allow_insecure_http
                || self.url.scheme() == "http" && is_same_host(&url, &self.url))
        {
            return Err(
                "its token_endpoint begins with http://, and everybody on the way could read the \
                 credential; auth.allow_insecure_http = true accepts that",
            );
        }
        Ok(url)
    }
}

fn is_same_host(one: &Url, other: &Url) -> bool {
    one.host() == other.host()
}

/// RFC 8414 §2; unknown fields are ignored.
#[derive(Deserialize)]
struct Said {
    issuer: Option<String>,
    token_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    grant_types_supported: Option<Vec<String>>,
    mtls_endpoint_aliases: Option<Aliases>,
}

/// RFC 8705 §5.
#[derive(Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
}

impl Discovery {
    /// Sets up the clients; reads nothing.
    pub(super) fn new(
        issuer: &Issuer,
        by_certificate: bool,
        settings: &EndpointSettings,
    ) -> Result<Self, UnusableRoute> {
        let [first, second] = issuer.places();
        let clients = [
            TokenClient::new(&first, settings)?,
            TokenClient::new(&second, settings)?,
        ];
        let [of_first, of_second] = clients;
        Ok(Self {
            issuer: issuer.clone(),
            by_certificate,
            settings: settings.clone(),
            places: [(first, of_first), (second, of_second)],
            found: None,
            next: Instant::now(),
            not_before: Instant::now(),
            failures: 0,
        })
    }

    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.found.as_ref().map(|(metadata, _)| metadata)
    }

    /// The token endpoint, once it is known.
    pub(super) fn endpoint(&self) -> Result<(&Url, &TokenClient), FetchError> {
        let found = self.found.as_ref();
        found
            .map(|(metadata, client)| (&metadata.token_endpoint, client))
            .ok_or_else(|| wrong("the metadata were not read yet"))
    }

    /// Reads the metadata if it is time to.
    pub(super) async fn look(&mut self, random: f64) -> Looked {
        let mut looked = Looked {
            calls: 0,
            status: None,
            result: Ok(()),
        };
        if Instant::now() >= self.next {
            let read = self.read(&mut looked).await;
            looked.result = self.learn(read, random);
        }
        looked
    }

    /// Uses what was read, or keeps what is known from before.
    fn learn(&mut self, read: Result<Metadata, FetchError>, random: f64) -> Result<(), FetchError> {
        let read = read.and_then(|metadata| {
            let is_known = self.metadata().is_some_and(|known| *known == metadata);
            if !is_known {
                let endpoint = &metadata.token_endpoint;
                let client = TokenClient::new(endpoint, &self.settings);
                let client = client.map_err(|error| wrong(&error.to_string()))?;
                tracing::info!(%endpoint, "the issuer has named its token endpoint");
                self.found = Some((metadata, client));
            }
            Ok(())
        });
        match read {
            Ok(()) => {
                self.failures = 0;
                self.next = Instant::now() + KEPT.mul_f64(0.8 + 0.2 * random);
                Ok(())
            }
            Err(error) if self.found.is_some() => {
                self.failures = self.failures.saturating_add(1);
                let now = Instant::now();
                self.not_before = now + error.retry_after.unwrap_or_default().min(KEPT);
                self.next = (now + again_after(self.failures, random)).max(self.not_before);
                tracing::debug!(%error, "cannot read the metadata of the issuer again; those of before stay");
                Ok(())
            }
            // The next attempt to get a token is the next to read them, with its back-off.
            Err(error) => Err(error),
        }
    }

    /// Notes that a token call has failed: an endpoint that has moved fails so.
    pub(super) fn failed(&mut self, reason: Reason, random: f64) {
        let may_have_moved = matches!(
            reason,
            Reason::Network | Reason::Timeout | Reason::BadStatus | Reason::BadResponse
        );
        if may_have_moved && self.found.is_some() {
            let soon = Instant::now() + again_after(self.failures, random);
            self.next = self.next.min(soon.max(self.not_before));
        }
    }

    /// Waits until the files of the client have changed.
    pub(super) async fn renewed(&self) {
        match &self.found {
            Some((_, client)) => client.renewed().await,
            None => self.places[0].1.renewed().await,
        }
    }

    /// Asks at one place, and at the other where the first has nothing.
    async fn read(&self, looked: &mut Looked) -> Result<Metadata, FetchError> {
        let mut last = wrong("nothing was asked");
        // How long one place wants to be left alone holds for both.
        let after = |last: &FetchError, error: FetchError| FetchError {
            retry_after: error.retry_after.max(last.retry_after),
            ..error
        };
        for (place, client) in &self.places {
            client.renew();
            looked.calls += 1;
            looked.status = None;
            let response = client.get(fields()).await;
            let response = response.map_err(|error| after(&last, of_way(error)))?;
            looked.status = Some(response.status);
            match self.metadata_of(place, &response) {
                Ok(metadata) => return Ok(metadata),
                Err(error) if error.reason == Reason::RateLimited => {
                    return Err(after(&last, error));
                }
                // A server of the kind that has the other place alone says so, in whatever way.
                Err(error) => last = after(&last, error),
            }
        }
        Err(last)
    }

    /// Reads the metadata in the response of a place.
    fn metadata_of(&self, place: &Url, response: &CallResponse) -> Result<Metadata, FetchError> {
        if response.status != StatusCode::OK {
            let status = response.status.as_u16();
            let what = format!("status {status} instead of the metadata of the issuer");
            let reason = match response.status {
                StatusCode::TOO_MANY_REQUESTS => Reason::RateLimited,
                _ => Reason::BadStatus,
            };
            return Err(FetchError {
                retry_after: super::response::retry_after(&response.fields),
                ..FetchError::new(reason, format!("{DISCOVERY}: {what}"))
            });
        }
        let read = self.issuer.read(place, &response.body, self.by_certificate);
        read.map_err(wrong)
    }
}

/// How a failure of discovery begins.
pub(crate) const DISCOVERY: &str = "discovery";

fn wrong(what: &str) -> FetchError {
    FetchError::new(Reason::BadResponse, format!("{DISCOVERY}: {what}"))
}

fn of_way(error: FetchError) -> FetchError {
    FetchError {
        detail: format!("{DISCOVERY}: {}", error.detail),
        ..error
    }
}

fn fields() -> HeaderMap {
    [(ACCEPT, "application/json"), (ACCEPT_ENCODING, "identity")]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect()
}

/// How long after a failure the metadata are read again: longer with each, up to the time that they
/// are kept for.
fn again_after(failures: u32, random: f64) -> Duration {
    let step = FLOOR * 2_u32.pow(failures.min(8));
    step.min(KEPT)
        .mul_f64(1.0 + random.clamp(0.0, 1.0))
        .min(KEPT)
}

#[cfg(test)]
mod tests;
