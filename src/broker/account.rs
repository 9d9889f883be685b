//! Keeps account of the broker: who took which token, in the metrics and in the access log. [`entry`]
//! is what it knows of one request.

mod entry;

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::Response;
use tokio::time::Instant;

pub(super) use self::entry::Entry;
use self::entry::of_user;
use super::route::ENDPOINTS;
use crate::{
    admission::Clients,
    health::Health,
    message::{RequestHead, RequestId},
    proxy::{ProxyError, responses::Fault},
    server::{AbortState, Peer, Refusal},
    telemetry::{
        Metrics,
        access::{Access, Record, WrittenToken},
    },
    token::AccessToken,
};

/// Who responds, as the access log has it.
const ORIGIN: &str = "broker";

/// The account of one configuration.
#[derive(Debug)]
pub struct Account {
    metrics: Arc<Metrics>,
    health: Health,
    access: Access,
    takers: Mutex<Takers>,
}

/// Who has got a token by `/auth`, so that the log has a line for each client and token and not for
/// each request.
#[derive(Debug, Default)]
struct Takers {
    generation: u64,
    clients: HashSet<String>,
}

impl Account {
    /// An empty account.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, health: Health, access: Access) -> Self {
        Self {
            metrics,
            health,
            access,
            takers: Mutex::default(),
        }
    }

    /// Makes the series of those who may take a token, at zero: the clients that are listed, or else
    /// these users.
    #[must_use]
    pub fn expecting(self, clients: Option<&Clients>, users: &[u32]) -> Self {
        let labels: Vec<String> = match clients {
            Some(clients) => clients.names().iter().map(ToString::to_string).collect(),
            None => users.iter().map(|user| of_user(*user)).collect(),
        };
        for label in labels {
            for endpoint in ENDPOINTS {
                self.metrics.broker_tokens(&label, endpoint);
            }
        }
        self
    }

    /// Opens the account of a request.
    pub(super) fn open<'a>(
        &'a self,
        request: &'a RequestHead,
        peer: &'a Peer,
        abort_state: Option<AbortState>,
    ) -> Entry<'a> {
        Entry::open(self, request, peer, abort_state)
    }

    /// Accounts for what was refused before there was a request to handle, and gives the response.
    pub(super) fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes> {
        let error = ProxyError::from(refusal);
        let id = RequestId::random();
        let response = error.response(id);
        self.count(&error);
        if self.access.wants(true) {
            self.access.write(&Record {
                status: Some(response.status().as_u16()),
                origin: Some(ORIGIN),
                error: Some((error.row().error, error.label())),
                response_bytes: response.body().len() as u64,
                ..Record::of(id, None, peer)
            });
        }
        response
    }

    /// Accounts for a file that was to hold a token.
    pub fn wrote(&self, path: &Path, token: &AccessToken, succeeded: bool) {
        self.metrics.broker_file_written(succeeded);
        if succeeded {
            let now = Instant::now();
            let left = |end: Instant| end.saturating_duration_since(now);
            self.access.write_token(&WrittenToken {
                path,
                generation: token.generation,
                expires_in: token.expires_at.map(left),
            });
        }
    }

    fn count(&self, error: &ProxyError) {
        let row = error.row();
        tracing::debug!(reason = row.label, "the broker refused a request: {error}");
        self.metrics.responded(row.status, row.label);
        match row.fault {
            Fault::Token => self.health.refused(),
            _ => self.metrics.rejected(row.label),
        }
    }

    /// Whether this client has not had this token by `/auth` before.
    fn is_first(&self, client: &str, generation: u64) -> bool {
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        if takers.generation != generation {
            takers.generation = generation;
            takers.clients.clear();
        }
        !takers.clients.contains(client) && takers.clients.insert(client.to_owned())
    }
}
