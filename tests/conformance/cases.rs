//! The table, by kind.

/// Pages of other sites in a browser.
mod browsers;
/// Chunks and trailers of a request.
mod chunks;
/// Several requests, and the ends of connections.
mod connections;
/// Every spelling of a credential.
mod credentials;
/// Fields that end here and fields that go on.
mod fields;
/// Host.
mod hosts;
/// Lengths and codings of a request.
mod lengths;
/// The lines of a head: their ends, their names, their values.
mod lines;
/// Methods and versions.
mod methods;
/// Heads of answers, and interim ones.
mod response_heads;
/// Answers of the upstream: their framing.
mod responses;
/// How long things may be.
mod sizes;
/// Request targets.
mod targets;
/// Upgrades and tunnels.
mod upgrades;

use crate::case::Case;

pub fn all() -> Vec<Case> {
    [
        lengths::cases(),
        chunks::cases(),
        lines::cases(),
        sizes::cases(),
        methods::cases(),
        targets::cases(),
        hosts::cases(),
        browsers::cases(),
        fields::cases(),
        credentials::cases(),
        upgrades::cases(),
        responses::cases(),
        response_heads::cases(),
        connections::cases(),
    ]
    .concat()
}
