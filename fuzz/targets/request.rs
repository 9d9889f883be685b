//! The bytes of one client's connection: what the upstream gets is what they mean, or nothing.
//!
//! The two lowest bits of the first byte say how many bytes follow that each cut the rest in two
//! writes.
#![no_main]

use auth_sidecar_fuzz::{lane, requests};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((pieces, bytes)) = lane::cuts(data) else {
        return;
    };
    lane::run(|lane| async move {
        let pieces: Vec<_> = pieces
            .windows(2)
            .map(|pair| &bytes[pair[0]..pair[1]])
            .collect();
        requests::play(lane, &pieces).await;
    });
});
