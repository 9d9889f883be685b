//! Pages of other sites in a browser (the contract; Fetch §3.2, §3.3).

use crate::case::{Case, End, Reply, SMUGGLED, Upstream, case, get, post};

const X: &str = "GET /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    let denied = |name, fields: &str| case("contract", name, get(fields)).denied(403);
    let served = |name, fields: &str| case("contract", name, get(fields)).forwarded(X);
    vec![
        denied("another origin is denied", "Origin: http://evil.example"),
        denied("the origin null is denied", "Origin: null"),
        denied("an empty origin is denied", "Origin:"),
        denied("our name with another port is another origin", "Origin: http://localhost:1"),
        denied("our name under another is another origin", "Origin: http://localhost.evil.example"),
        denied("our name as user information is another origin", "Origin: http://localhost@evil.example"),
        denied("our origin beside another is denied", "Origin: http://localhost\r\nOrigin: http://evil.example"),
        denied("our origin in a list is denied", "Origin: http://localhost http://evil.example"),
        denied("a nominated origin is judged all the same", "Connection: origin\r\nOrigin: http://evil.example"),
        denied("a cross-site request is denied", "Sec-Fetch-Site: cross-site"),
        denied("a same-site request is denied", "Sec-Fetch-Site: same-site"),
        denied("a nominated site is judged all the same", "Connection: sec-fetch-site\r\nSec-Fetch-Site: cross-site"),
        case("contract", "a preflight is denied without a word", "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Private-Network: true\r\n\r\n")
            .denied(403),
        case("contract", "a cross-site body is no request", post(format!("Origin: http://evil.example\r\nContent-Length: {}", SMUGGLED.len()), SMUGGLED))
            .outcome(Upstream::Nothing, vec![Reply::own(&[403])], End::Either),
        case("6455 §10.2", "a WebSocket of another origin is denied", get("Origin: http://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
            .outcome(Upstream::Nothing, vec![Reply::own(&[403])], End::Either),
        served("our own origin is served", "Origin: http://localhost").in_clear(),
        served("a same-origin request is served", "Sec-Fetch-Site: same-origin"),
        served("what a person typed is served", "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate"),
    ]
}
