//! The clients that local tokens let in, and what each of them has asked for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;

use super::{Admitted, Denied};
use crate::{
    client_token::{ClientName, ClientTokens, Hash},
    message::{Fields, Name},
    server::Pass,
    telemetry::Metrics,
};

/// The fields that hold a token as it is, next to `Authorization: Bearer`.
const PLAIN: [Name; 2] = [Name::XAuthToken, Name::CspAuthToken];

/// The clients that are let in. The list can change while requests run.
#[derive(Debug, Clone)]
pub struct Clients {
    known: Arc<ArcSwap<Vec<Known>>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Known {
    name: ClientName,
    hash: Hash,
    pass: Pass,
    /// Held here, so that counting a request is an addition and no look into a table.
    requests: Counter,
}

impl Clients {
    /// Lets these in.
    #[must_use]
    pub fn new(tokens: &ClientTokens, metrics: Arc<Metrics>) -> Self {
        let clients = Self {
            known: Arc::default(),
            metrics,
        };
        clients.set(tokens);
        clients
    }

    /// Lets these in from now on, and no others.
    pub fn set(&self, tokens: &ClientTokens) {
        let known = tokens.iter().map(|(name, hash)| Known {
            name: name.clone(),
            hash: *hash,
            // Of the token and not of the name, which the next token of the client will have too.
            pass: Pass::of(hash.number()),
            requests: self.metrics.client_requests(name.as_str()),
        });
        self.known.store(Arc::new(known.collect()));
    }

    /// Lets a request in that shows a valid token in any field that clients use for one. It may
    /// bring others besides: none of them goes on.
    ///
    /// # Errors
    /// [`Denied::UnknownClient`] for one that shows none.
    pub fn check(&self, fields: &Fields) -> Result<Admitted, Denied> {
        presented(fields)
            .find_map(|token| self.identify(token))
            .ok_or(Denied::UnknownClient)
    }

    /// Whose token this is, if it is one's; counts a request of that client.
    #[must_use]
    pub fn identify(&self, token: &[u8]) -> Option<Admitted> {
        let known = self.known.load();
        let client = find(&known, token)?;
        client.requests.inc();
        tracing::debug!(client = client.name.as_str(), "admitted a request");
        Some(Admitted {
            client: Some(client.name.clone()),
            pass: client.pass,
        })
    }

    /// The names of the clients that are let in.
    #[must_use]
    pub fn names(&self) -> Vec<ClientName> {
        let known = self.known.load();
        known.iter().map(|known| known.name.clone()).collect()
    }

    /// Whether the token is still listed that a request was let in by.
    #[must_use]
    pub fn know(&self, pass: Pass) -> bool {
        self.known.load().iter().any(|known| known.pass == pass)
    }
}

/// Compares with every one, so that the time shows nothing of where a match is.
fn find<'a>(known: &'a [Known], token: &[u8]) -> Option<&'a Known> {
    let hash = Hash::of(token);
    known.iter().fold(None, |found, known| {
        if known.hash.is(&hash) {
            Some(known)
        } else {
            found
        }
    })
}

/// Every token that a request shows.
fn presented(fields: &Fields) -> impl Iterator<Item = &[u8]> {
    let bearer = fields.all(Name::Authorization).filter_map(bearer);
    bearer.chain(PLAIN.into_iter().flat_map(|name| fields.all(name)))
}

/// RFC 6750 §2.1, and RFC 9110 §11.1: the scheme's case does not matter.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Clients {
        let list = format!("a:{}\nb:{}\n", Hash::of(b"token-a"), Hash::of(b"token-b"));
        Clients::new(&ClientTokens::parse(&list).unwrap(), Arc::default())
    }

    fn lets_in(clients: &Clients, fields: &[(&'static str, &str)]) -> bool {
        let mut sent = Fields::default();
        for (name, value) in fields {
            sent.push(name.as_bytes(), value.as_bytes());
        }
        let admitted = clients.check(&sent);
        assert!(matches!(admitted, Ok(_) | Err(Denied::UnknownClient)));
        admitted.is_ok()
    }

    #[test]
    fn a_token_counts_in_every_field_that_clients_use_for_one() {
        let clients = clients();
        for field in [
            ("authorization", "Bearer token-a"),
            ("authorization", "bearer  token-b"),
            ("x-auth-token", "token-a"),
            ("csp-auth-token", "token-b"),
        ] {
            assert!(lets_in(&clients, &[field]), "{field:?}");
        }
        assert!(lets_in(
            &clients,
            &[
                ("authorization", "Bearer null"),
                ("authorization", "Basic eDp5"),
                ("x-auth-token", "token-a"),
            ]
        ));
    }

    #[test]
    fn nothing_but_the_whole_token_in_its_field_counts() {
        let clients = clients();
        let hash = Hash::of(b"token-a").to_string();
        for field in [
            ("authorization", "token-a"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("authorization", "Bearer token-"),
            ("authorization", "Bearer token-ab"),
            ("authorization", "Bearer token-a, Bearer token-a"),
            ("authorization", "Bearer TOKEN-A"),
            ("authorization", "Basic token-a"),
            ("authorization", "Bearertoken-a"),
            ("proxy-authorization", "Bearer token-a"),
            ("x-auth-token", "Bearer token-a"),
            ("x-auth-token", ""),
            ("x-token", "token-a"),
            ("x-auth-token", &hash),
        ] {
            assert!(!lets_in(&clients, &[field]), "{field:?}");
        }
        assert!(!lets_in(&clients, &[]));
    }

    #[test]
    fn a_new_list_counts_at_once_and_an_empty_one_lets_nobody_in() {
        let clients = clients();
        let worker = clients.clone();
        let field = [("x-auth-token", "token-a")];
        assert!(lets_in(&worker, &field));
        clients.set(&ClientTokens::default());
        assert!(!lets_in(&worker, &field));
    }
}
