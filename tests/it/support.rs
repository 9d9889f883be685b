//! What every test needs: the three actors, a small HTTP client, and waiting with a deadline.

pub mod client;
pub mod collector;
pub mod command;
pub mod csp;
pub mod http2;
pub mod issuer;
pub mod logs;
pub mod memory;
pub mod peer;
pub mod pki;
pub mod server;
pub mod service;
pub mod sidecar;

pub use client::{Body, Client, Reply, get, next_data, request, try_request};
pub use collector::{FakeCollector, Traced, Verdict};
pub use command::ended;
pub use csp::{Answer, FakeCsp};
pub use issuer::{FakeIssuer, Said};
pub use peer::{Connection, send_raw};
pub use server::RawServer;
pub use service::{FakeService, Validator};
pub use sidecar::{Process, Settings, Sidecar};

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    panic::Location,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

/// The id of the OAuth app that [`FakeCsp`] knows.
pub const CLIENT_ID: &str = "canary-client-id-4c1d";
/// Its secret, with the characters that an encoding in the wrong place would change.
pub const CLIENT_SECRET: &str = "canary-client-secret-9+8/7=6%41&5:4~";
/// The user's API token that [`FakeCsp`] knows, as long as a real one.
pub const API_TOKEN: &str = "canary-api-token-0a1b2c3d4e5f+6a7b8c9d0e1f&2a3b4c5d6e7f=8a9b0c1d2e3f";
/// The long organisation id.
pub const ORG_ID: &str = "5c1f0b7e-9a54-4f0d-8f43-canary-org";
/// What every access token of [`FakeCsp`] contains.
pub const TOKEN_CANARY: &str = "canary-access-token";
/// What the `message` of each of its errors contains; real ones can echo a credential.
pub const MESSAGE_CANARY: &str = "canary-issuer-message";

/// No exchange of a test takes longer, unless the sidecar is stuck.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not hold `within` the time, at the caller's line.
#[track_caller]
pub fn eventually(
    mut condition: impl FnMut() -> bool,
    within: Duration,
) -> impl Future<Output = ()> {
    eventually_async(move || std::future::ready(condition()), within)
}

/// [`eventually`], for a condition that must be asked over a socket.
///
/// # Panics
/// As [`eventually`].
#[track_caller]
pub fn eventually_async<F: Future<Output = bool>>(
    mut condition: impl FnMut() -> F,
    within: Duration,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + within;
        while !condition().await {
            assert!(
                Instant::now() < deadline,
                "still not so after {within:?}, at {caller}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// An address that refuses connections for as long as the socket is kept: bound, so that no other
/// test is given the port, but not listening.
pub fn refused_address() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (address, socket)
}

/// A JSON Web Token with these claims and a signature that nobody checks.
pub fn jwt(claims: &serde_json::Value) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    format!(
        "{}.{}.{}",
        part(r#"{"alg":"RS256","typ":"JWT"}"#),
        part(&claims.to_string()),
        part(TOKEN_CANARY)
    )
}

/// A lock that a failed test elsewhere cannot poison for this one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fails instead of hanging.
pub async fn within_deadline<F: Future>(future: F) -> anyhow::Result<F::Output> {
    tokio::time::timeout(DEADLINE, future)
        .await
        .with_context(|| format!("nothing within {DEADLINE:?}"))
}
