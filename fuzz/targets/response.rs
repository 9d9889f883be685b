//! The bytes of an answer of the upstream: the client gets what they mean, or a 502, and the next
//! request gets its own answer.
//!
//! The two lowest bits of the first byte say how many bytes follow the second that each cut the
//! rest in two writes; bit 2 of it closes the connection behind them. The second byte chooses the
//! request.
#![no_main]

use auth_sidecar_fuzz::{
    answers,
    lane::{self, Answer},
};
use libfuzzer_sys::fuzz_target;

const ASKS: [&[u8]; 4] = [
    b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD /first HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /first HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\none",
    b"GET /first HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
];

fuzz_target!(|data: &[u8]| {
    let [first, ask, rest @ ..] = data else {
        return;
    };
    let Some((cuts, bytes)) =
        lane::cuts(&[&[*first], rest].concat()).map(|(cuts, bytes)| (cuts, bytes.to_vec()))
    else {
        return;
    };
    let answer = Answer {
        parts: cuts
            .windows(2)
            .map(|pair| bytes[pair[0]..pair[1]].to_vec())
            .collect(),
        closes: first & 4 != 0,
    };
    let ask = ASKS[usize::from(*ask) % ASKS.len()];
    lane::run(|lane| answers::play(lane, ask, answer));
});
