//! Any response of a token service: a token that can be used, or an error that gives nothing away.
//!
//! The first two bytes are the status, the first line behind them is `Retry-After`, the rest the
//! body.
#![no_main]

use std::time::Duration;

use auth_sidecar::token::{
    Lifetime, MAX_TOKEN_BYTES,
    endpoint::response,
    schedule::{Fault, RefreshPolicy},
};
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use libfuzzer_sys::fuzz_target;

/// What stands for a secret that the service sends back: longer than any word of our own.
const CANARY: &str = "c4n4ry-that-is-a-secret-of-sixty-five-characters-as-api-tokens-are";

fuzz_target!(|data: &[u8]| {
    let Some(([high, low], rest)) = data.split_first_chunk() else {
        return;
    };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 500;
    let status = StatusCode::from_u16(status).unwrap();
    let line = rest.iter().position(|byte| *byte == b'\n');
    let (retry_after, body) = rest.split_at(line.unwrap_or(0));
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let mut fields = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(retry_after) {
        fields.insert(RETRY_AFTER, value);
    }
    judge(status, &fields, body);
    // The same with the secret wherever the response has some text.
    let body = String::from_utf8_lossy(body).replace("$", CANARY);
    judge(status, &fields, body.as_bytes());
});

fn judge(status: StatusCode, fields: &HeaderMap, body: &[u8]) {
    let policy = RefreshPolicy::default();
    match response::read(status, fields, body) {
        Ok(response) => {
            assert!(status.is_success(), "a token with status {status}");
            let value = response.bearer.as_header_value();
            let token = value.as_bytes().strip_prefix(b"Bearer ");
            let token = token.expect("the scheme is Bearer");
            assert!(!token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
            assert!(token.iter().all(u8::is_ascii_graphic));
            assert!(value.is_sensitive());
            let text = format!("{response:?}");
            assert!(token.len() < 20 || !text.contains(&String::from_utf8_lossy(token)[..]));
            let lifetime = match response.lifetime {
                Lifetime::Limited(lifetime) => lifetime,
                Lifetime::Unknown | Lifetime::Unlimited => policy.default_lifetime,
            };
            for random in [0.0, 0.5, 1.0] {
                for occasion in [
                    auth_sidecar::token::schedule::Occasion::Routine,
                    auth_sidecar::token::schedule::Occasion::Synchronised,
                ] {
                    let renewal = policy.renew_after(lifetime, occasion, random);
                    assert!(renewal >= policy.floor && renewal <= policy.max_lifetime);
                }
            }
        }
        Err(error) => {
            let text = format!("{error} {error:?}");
            assert!(!text.contains(CANARY), "{text}");
            assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
            assert!(text.len() < 2000, "{text}");
            let rejected = error.reason == auth_sidecar::token::Reason::InvalidClient;
            for failures in [0, 1, 7, u32::MAX] {
                let fault = if rejected {
                    Fault::Rejection(failures)
                } else {
                    Fault::Outage(Duration::from_secs(failures.into()))
                };
                let pause = policy.back_off(fault, error.retry_after, 1.0);
                assert!(pause >= policy.floor);
                let longest = policy.retry_after_ceiling + policy.backoff_ceiling;
                assert!(pause <= longest.max(Duration::from_secs(3600)), "{pause:?}");
            }
        }
    }
}
