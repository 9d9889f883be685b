//! Endurance: checks of the HTTP path that need many messages, many bytes or many minutes, each
//! with the real binary and an account at its end.
//!
//! Among the other tests each of them is short. `ENDURANCE=full` makes them as long as they are
//! meant, which wants a release build and one at a time:
//! `ENDURANCE=full cargo test --release --test endurance -- --nocapture --test-threads=1`.
//! `ENDURANCE_SEED` (random, printed) decides what is drawn.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests fail by panicking, and print their accounts"
)]

/// An upstream that closes kept connections at any moment.
mod closing;
/// The fakes, the client and the process of the other tests.
#[path = "../it"]
mod it {
    #[expect(dead_code, unused_imports, reason = "made for more than these checks")]
    pub mod support;
}
/// Many connections that do nothing, and a few that do.
mod idle;
/// What the system says of the process.
mod memory;
/// Messages that were changed at random, in front of a strict recorder.
mod mutation;
/// How much of it, and from which seed.
mod scale;
/// More bytes than fit.
mod volume;
