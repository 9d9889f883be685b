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
//! 3. Its `response` module makes a token or a classed error of whatever comes back.
//! 4. [`token::schedule`] says when the next attempt is due.
//! 5. The refresher stores a new snapshot and rings the bell.
//!
//! The request path, in [`proxy`]:
//! 1. [`server::serve`] accepts, within bounds of number and time; `server::http1` or
//!    `server::http2` reads a request, refuses what can be read in two ways, and makes an
//!    [`server::Exchange`] of the rest, which is all that the proxy sees of the client.
//! 2. [`admission`] refuses what comes from where it must not, here and on the other listeners.
//! 3. `proxy::fields` takes off what ends here; `proxy::upload` keeps a copy of a small body.
//! 4. [`token::TokenHandle`] gives the token, or waits for it within a bound.
//! 5. `proxy::transfer` moves both directions at once over a connection of [`proxy::upstream`]; a 401
//!    asks for a newer token and sends once more.
//!
//! [`message`] is what all of them talk about; [`http1`] is HTTP/1.1 in bytes, for both sides. One
//! task serves a client's connection and drives the connection to the upstream of its request: while
//! it rests it has neither a buffer nor a connection there.
//!
//! HTTP/1.1 of the data path is read and written here and not by hyper, since a proxy has to pass on
//! what a library for one side must not: targets that are no URI, the spelling of names, interim
//! responses, a response that overtakes its request. It also costs less: a small GET took 47,300
//! instructions and 25 allocations with hyper on both sides, and takes less than half of the one and
//! one of the other now (`bench/`). hyper serves where it is the best there is: HTTP/2 to the upstream
//! (and its codec `h2` towards clients), the token calls and the admin listener. Both ways out are one:
//! [`outbound`] makes the stream of bytes, whatever protocol is on it.
//!
//! [`health`] stands beside both: it knows since when one of them fails, and the log, `/status` and
//! `/metrics` say it. `admin::trouble` makes of it what an operator needs: who is to blame, since
//! when, and what to do.
//!
//! Everything else is an edge: [`config`] comes in, [`telemetry`] and [`admin`] go out, [`broker`] hands
//! the token to programs that forward by themselves (a reader of the token path as requests are, by
//! [`token::TokenHandle::changed`]), [`sandbox`] holds the whole process, [`permissions`] says which files
//! are to be followed, and only [`app`] knows everybody: `app.rs` puts the program together,
//! `app/program.rs` changes its configuration and stops it. To find your way, read `app.rs`,
//! `proxy.rs` and `token.rs`, in this order.

pub mod admin;
mod admin_client;
pub mod admission;
pub mod app;
mod backlog;
pub mod broker;
pub mod cli;
pub mod client_token;
pub mod clock;
pub mod config;
mod delegate;
pub mod demo;
mod descriptors;
mod disk;
pub mod doctor;
mod gather;
pub mod health;
pub mod http1;
pub mod local_ca;
pub mod local_token;
pub mod message;
mod named_file;
pub mod outbound;
pub mod output;
pub mod permissions;
pub mod proxy;
mod remedy;
pub mod sandbox;
pub mod secret;
pub mod server;
pub mod status;
mod subject;
pub mod telemetry;
mod text;
mod timer;
pub mod tls;
pub mod token;
pub mod version;
pub mod wait;
