//! A local reverse proxy that keeps a short-lived access token current and puts it on every
//! request.
//!
//! Two paths meet at one value:
//!
//! ```text
//!                     token service
//!                           ▲
//!              token path   │  one task, the refresher
//!                           ▼
//!                   ╔═══════════════╗
//!                   ║ token::Snapshot║   an arc-swap cell: written by the refresher,
//!                   ╚═══════════════╝   read by every request
//!                           │
//!   client ──► server ──► proxy ──► upstream      request path
//! ```
//!
//! The token path, in [`token`]:
//! 1. [`token::Refresher::run`] wakes: the schedule, or somebody who was refused.
//! 2. [`token::endpoint::TokenEndpoint`] reads the secrets and asks the token service.
//! 3. Its `answer` module makes a token or a classed error of whatever comes back.
//! 4. [`token::schedule`] says when the next attempt is due.
//! 5. The refresher stores a new snapshot and rings the bell.
//!
//! The request path, in [`proxy`]:
//! 1. [`server::serve`] accepts, within bounds of number and time; its `framing` refuses what can
//!    be read in two ways.
//! 2. `proxy::admission` refuses what comes from where it must not.
//! 3. `proxy::fields` takes off what ends here; `proxy::upload` keeps a copy of a small body.
//! 4. [`token::TokenHandle`] gives the token, or waits for it within a bound.
//! 5. [`proxy::upstream`] sends; a 401 asks for a newer token and sends once more.
//! 6. `proxy::download` streams the answer and gives the connection back.
//!
//! A client's connection has a codec only while there is something to do (`server::codec`), and rests
//! without one in between (`server::connection`).
//!
//! Everything else is an edge: [`config`] comes in, [`telemetry`] and [`admin`] go out, [`sandbox`]
//! holds the whole process, and only [`app`] knows everybody: `app.rs` puts the program together,
//! `app/program.rs` changes its configuration and stops it. To find your way, read `app.rs`,
//! `proxy.rs` and `token.rs`, in this order.

pub mod admin;
pub mod app;
pub mod cli;
pub mod client_token;
pub mod clock;
pub mod config;
pub mod demo;
pub mod doctor;
mod gather;
pub mod local_ca;
pub mod local_token;
pub mod outbound;
pub mod output;
pub mod proxy;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod telemetry;
mod text;
pub mod tls;
pub mod token;
pub mod wait;
