//! The kinds of token sources behind one type.

use http::StatusCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Credentials},
    token::{
        FetchError, TokenResponse, TokenSource,
        endpoint::{Metadata, TokenEndpoint},
        fixed::FixedToken,
    },
};

/// Where tokens come from.
#[derive(Debug)]
pub(crate) enum Source {
    Endpoint(Box<TokenEndpoint>),
    Fixed(FixedToken),
}

impl Source {
    /// What an issuer has said of itself, where it was asked.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Endpoint(endpoint) => endpoint.metadata(),
            Self::Fixed(_) => None,
        }
    }

    /// By how many seconds the clock of the token service is ahead of ours.
    pub(crate) fn clock_ahead(&self) -> i64 {
        match self {
            Self::Endpoint(endpoint) => endpoint.clock_ahead(),
            Self::Fixed(_) => 0,
        }
    }

    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(match &config.auth.credentials {
            Credentials::Endpoint(request) => Self::Endpoint(Box::new(TokenEndpoint::new(
                request.clone(),
                &config.auth.endpoint,
            )?)),
            Credentials::Static(secret) => Self::Fixed(FixedToken::new(secret.clone())),
        })
    }
}

impl TokenSource for Source {
    async fn fetch(&mut self) -> Result<TokenResponse, FetchError> {
        match self {
            Self::Endpoint(endpoint) => endpoint.fetch().await,
            Self::Fixed(token) => token.fetch().await,
        }
    }

    fn calls(&self) -> u32 {
        match self {
            Self::Endpoint(endpoint) => endpoint.calls(),
            Self::Fixed(token) => token.calls(),
        }
    }

    fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Endpoint(endpoint) => endpoint.status(),
            Self::Fixed(token) => token.status(),
        }
    }

    fn commitment(&self) -> Option<watch::Receiver<bool>> {
        match self {
            Self::Endpoint(endpoint) => endpoint.commitment(),
            Self::Fixed(token) => token.commitment(),
        }
    }

    fn refresh_token(&self) -> Option<Result<(), &'static str>> {
        match self {
            Self::Endpoint(endpoint) => endpoint.refresh_token(),
            Self::Fixed(token) => token.refresh_token(),
        }
    }

    fn stop_with(&mut self, stop: &CancellationToken) {
        match self {
            Self::Endpoint(endpoint) => endpoint.stop_with(stop),
            Self::Fixed(token) => token.stop_with(stop),
        }
    }

    async fn settle(&mut self) {
        match self {
            Self::Endpoint(endpoint) => endpoint.settle().await,
            Self::Fixed(token) => token.settle().await,
        }
    }

    async fn changed(&mut self) {
        match self {
            Self::Endpoint(endpoint) => endpoint.changed().await,
            Self::Fixed(token) => token.changed().await,
        }
    }
}
