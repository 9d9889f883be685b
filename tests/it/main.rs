//! What users see, over real sockets: each module is one part of the contract.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests fail by panicking, and document themselves by their names"
)]
#![expect(
    dead_code,
    reason = "the fakes can do what the tests of rotation will need"
)]

/// Who may use the port, and for what.
mod access;
/// The access log: who asked for what, and what came of it.
mod access_log;
/// Sockets that were opened before the start.
mod activation;
/// The admin listener.
mod admin;
/// How many calls an attempt to get a token takes.
mod attempts;
/// Tokens for programs that forward by themselves.
mod broker;
/// The command line as it is typed.
mod cli;
/// Clients without a shared secret: signed assertions, and certificates.
mod client_auth;
/// Bad files and variables, and the exact line that they earn.
mod config;
/// The embedded start: what it prints works as printed.
mod demo;
/// Token services of the same family that want something a little different.
mod dialects;
/// Issuers that name their own token endpoint.
mod discovery;
/// Forbidden paths in every disguise.
mod disguises;
/// The doctor: what it finds, in words.
mod doctor;
/// Names in documents.
mod documents;
/// What the log says of each change.
mod events;
/// When the credentials themselves end.
mod foresight;
/// What the upstream learns of the client.
mod forwarded;
/// Bytes, fields and methods on their way through.
mod forwarding;
/// Grants of OAuth 2.0, and what clients prove themselves by.
mod grants;
/// Both sides with HTTP/2.
mod http2;
/// Connections between their requests.
mod idle;
/// Bounds of number and time.
mod limits;
/// Certificates for localhost, made here.
mod local_ca;
/// The list of clients while a token is made.
mod local_token;
/// What localhost stands for as an address.
mod localhost;
/// Whoever reads the log, or does not.
mod log_readers;
/// What HTTP means by itself, where a proxy is tempted to know better.
mod meaning;
/// Every series of `/metrics`, and the rules that read them.
mod metrics;
/// Files that are named and are none.
mod named_files;
/// Names of the sidecar besides localhost.
mod names;
/// HTTP proxies on the way to the upstream.
mod outbound;
/// Who may write to the files that decide who is let in, and read those that hold secrets.
mod permissions;
/// The pages about providers: their configurations as written, and the token requests that they make.
mod providers;
/// The page about every key of the configuration.
mod reference;
/// Refresh tokens that the service rotates, whatever happens to the process.
mod refresh_token;
/// Who is refused: hosts, browsers, ambiguous requests.
mod refusals;
/// A configuration that changes while the sidecar runs.
mod reload;
/// What the sidecar says itself, and what to do about it.
mod responses;
/// Who was let in and would no longer be.
mod revocation;
/// Secrets that change while the sidecar runs.
mod rotation;
/// Ten faults, and what each voice of the sidecar says of them.
mod runbook;
/// What the process gives up: to be read, to write, to execute.
mod sandbox;
/// The schema of the configuration file.
mod schema;
/// Everything at the most verbose level, and no secret in it.
mod secrecy;
/// The end of the process: drains, exit codes.
mod shutdown;
/// Random faults under load, and an account of every answer; a command of its own.
mod soak;
/// Spans of requests and token calls, and the collector that gets them.
mod spans;
/// What a running sidecar says of itself.
mod status;
/// The fakes, the client, the sidecar under test.
mod support;
/// Certificates on both ways out: whom we trust, and who we are.
mod tls;
/// Clients that insist on https, on a port with TLS.
mod tls_listener;
/// How tokens are got and kept, whatever the token service does.
mod token;
mod token_calls;
/// An upstream that says 401.
mod unauthorized;
/// A socket that is a file, and who may use it.
mod unix_socket;
/// An upstream that is away, slow or broken.
mod upstream;
/// Waiting for a sidecar.
mod wait;
/// Bodies of requests that wait, and what they take meanwhile.
mod waiting;
/// WebSockets: agreed on by both sides, then bytes.
mod websocket;
