//! How long things may be (RFC 9110 §2.3, §4.1, §5.4; the bounds are our own).

use crate::case::{Case, End, Reply, Upstream, case, get, line, post};

const X: &str = "GET /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    let target = |length: usize| format!("GET /{} HTTP/1.1", "a".repeat(length - 1));
    let fields = |count: usize| "X-A: 1\r\n".repeat(count - 2) + "X-A: 1";
    vec![
        case(
            "9110 §4.1",
            "a target of 8000 bytes goes on",
            line(target(8000)),
        )
        .forwarded(target(8000)),
        case(
            "contract",
            "a target of 16 KiB goes on",
            line(target(16 * 1024)),
        )
        .forwarded(target(16 * 1024)),
        case(
            "9110 §15.5.15",
            "a target over 16 KiB is too long",
            line(target(16 * 1024 + 1)),
        )
        .refused(&[414]),
        case(
            "9110 §15.5.15",
            "a target of 100 KiB is too long",
            line(target(100 * 1024)),
        )
        .refused(&[414]),
        case(
            "9110 §15.5.15",
            "a target without an end is too long",
            format!("GET /{}", "a".repeat(100 * 1024)),
        )
        .refused(&[414]),
        case(
            "contract",
            "a field of 16 KiB goes on",
            get(format!("X-A: {}", "a".repeat(16 * 1024))),
        )
        .forwarded(X)
        .with("x-a", &[&"a".repeat(16 * 1024)]),
        case(
            "contract",
            "cookies of 40 KiB go on",
            get(["Cookie: a="; 5]
                .map(|name| name.to_owned() + &"b".repeat(8000))
                .join("\r\n")),
        )
        .forwarded(X),
        case(
            "6585 §5",
            "a field over 64 KiB is too large",
            get(format!("X-A: {}", "a".repeat(70_000))),
        )
        .refused(&[431]),
        case(
            "6585 §5",
            "fields over 64 KiB together are too large",
            get(["X-A: "; 9]
                .map(|name| name.to_owned() + &"b".repeat(8000))
                .join("\r\n")),
        )
        .refused(&[431]),
        case(
            "6585 §5",
            "a field name over 64 KiB is too large",
            get(format!("{}: 1", "a".repeat(70_000))),
        )
        .refused(&[431]),
        case(
            "6585 §5",
            "a field without an end is too large",
            format!("GET /x HTTP/1.1\r\nX-A: {}", "a".repeat(70_000)),
        )
        .refused(&[431]),
        case("contract", "a hundred fields go on", get(fields(100)))
            .forwarded(X)
            .with("x-a", &["1"; 99]),
        case(
            "6585 §5",
            "more than a hundred fields are too many",
            get(fields(101)),
        )
        .refused(&[431]),
        case(
            "6585 §5",
            "ten thousand fields are too many",
            get("a:\r\n".repeat(9999) + "a:"),
        )
        .refused(&[431]),
        // §9 knows no bound; a method of this length is nobody's.
        case(
            "9112 §3",
            "a long method is served or refused",
            line(format!("{} /x HTTP/1.1", "M".repeat(1000))),
        )
        .forwarded(format!("{} /x HTTP/1.1", "M".repeat(1000)))
        .outcome(
            Upstream::Nothing,
            vec![Reply::own(&[400, 414, 501])],
            End::Either,
        ),
        case(
            "9112 §3",
            "a method without an end is refused",
            "M".repeat(100 * 1024),
        )
        .refused(&[400, 414, 431, 501]),
        case(
            "contract",
            "a body of 300 KiB arrives whole",
            post(
                format!("Content-Length: {}", 300 * 1024),
                "ab".repeat(150 * 1024),
            ),
        )
        .forwarded("POST /x HTTP/1.1")
        .content("ab".repeat(150 * 1024)),
        case(
            "contract",
            "a chunk of 300 KiB arrives whole",
            post(
                "Transfer-Encoding: chunked",
                format!("4b000\r\n{}\r\n0\r\n\r\n", "ab".repeat(150 * 1024)),
            ),
        )
        .forwarded("POST /x HTTP/1.1")
        .content("ab".repeat(150 * 1024)),
        case(
            "contract",
            "an answer of 300 KiB arrives whole",
            get("X-A: 1"),
        )
        .answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
            300 * 1024,
            "ab".repeat(150 * 1024)
        ))
        .gives(&[200])
        .body("ab".repeat(150 * 1024)),
    ]
}
