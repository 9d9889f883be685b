//! Well-formed heads with every mixture of fields, both ways: `Connection` that names anything,
//! repeated fields, every spelling, every credential that a client could bring.
#![no_main]

use arbitrary::Arbitrary;
use auth_sidecar_fuzz::{
    answers,
    lane::{self, Answer},
    requests,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    method: u8,
    is_http_10: bool,
    fields: Vec<Field>,
    chunked: Option<Vec<u8>>,
    again: bool,
    answer: Option<Vec<Field>>,
}

#[derive(Arbitrary, Debug)]
struct Field {
    name: u8,
    /// Which letters are spelled large.
    large: u16,
    value: Value,
}

#[derive(Arbitrary, Debug)]
enum Value {
    /// One of the usual.
    Usual(u8),
    /// Names of fields, as `Connection` has them.
    Names(Vec<(u8, u16)>),
    Bytes(Vec<u8>),
}

const METHODS: [&str; 6] = ["GET", "POST", "OPTIONS", "DELETE", "HEAD", "PURGE"];

const NAMES: [&str; 36] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    "proxy-authorization",
    "authorization",
    "x-auth-token",
    "x_auth_token",
    "csp-auth-token",
    "csp_auth_token",
    "via",
    "max-forwards",
    "origin",
    "sec-fetch-site",
    "sec-fetch-mode",
    "cookie",
    "set-cookie",
    "x-a",
    "x-b",
    "date",
    "server",
    "alt-svc",
    "proxy-authenticate",
    "www-authenticate",
    "accept",
    "user-agent",
    "forwarded",
    "x-forwarded-for",
    "cache-control",
    "content-type",
    "host",
    "content-length",
];

const USUAL: [&str; 18] = [
    "close",
    "keep-alive",
    "upgrade",
    "websocket",
    "h2c",
    "trailers",
    "100-continue",
    "Bearer evil-credential",
    "1.1 auth-sidecar",
    "1.0 fred",
    "0",
    "7",
    "same-origin",
    "http://localhost",
    "http://evil.example",
    "a=b",
    "",
    "localhost",
];

fn spelled(name: u8, large: u16) -> String {
    let name = NAMES[usize::from(name) % NAMES.len()];
    let is_large = |at: usize| large >> (at % 16) & 1 == 1;
    let letters = name.char_indices();
    letters
        .map(|(at, c)| {
            if is_large(at) {
                c.to_ascii_uppercase()
            } else {
                c
            }
        })
        .collect()
}

/// The lines of fields. What frames or addresses the message is left to the caller.
fn lines(fields: &[Field]) -> Vec<u8> {
    let mut lines = Vec::new();
    for field in fields.iter().take(40) {
        let name = spelled(field.name, field.large);
        if ["host", "content-length"].contains(&&name.to_ascii_lowercase()[..]) {
            continue;
        }
        lines.extend_from_slice(name.as_bytes());
        lines.extend_from_slice(b": ");
        match &field.value {
            Value::Usual(usual) => {
                lines.extend_from_slice(USUAL[usize::from(*usual) % USUAL.len()].as_bytes());
            }
            Value::Names(names) => {
                let names: Vec<_> = names
                    .iter()
                    .map(|(name, large)| spelled(*name, *large))
                    .collect();
                lines.extend_from_slice(names.join(" ,\t").as_bytes());
            }
            Value::Bytes(bytes) => {
                lines.extend(
                    bytes
                        .iter()
                        .filter(|byte| matches!(byte, b' '..=b'~' | 0x80..)),
                );
            }
        }
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

fn request(input: &Input) -> Vec<u8> {
    let method = METHODS[usize::from(input.method) % METHODS.len()];
    let version = if input.is_http_10 { "1.0" } else { "1.1" };
    let mut bytes = format!("{method} /x HTTP/{version}\r\nHost: localhost\r\n").into_bytes();
    bytes.extend(lines(&input.fields));
    match &input.chunked {
        Some(body) if !input.is_http_10 && !body.is_empty() => {
            bytes.extend(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).bytes());
            bytes.extend(body);
            // A trailer is no field.
            bytes.extend(b"\r\n0\r\nAuthorization: Bearer evil-credential\r\nX-A: trailer\r\n\r\n");
        }
        Some(body) => {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            bytes.extend(body);
        }
        None => bytes.extend(b"\r\n"),
    }
    bytes
}

fuzz_target!(|input: Input| {
    let bytes = request(&input);
    if let Some(fields) = &input.answer {
        let ask = &b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n"[..];
        let fields = lines(fields);
        let head = [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"[..],
            fields.as_slice(),
            b"\r\nok",
        ];
        let answer = Answer {
            parts: vec![head.concat()],
            closes: false,
        };
        lane::run(|lane| answers::play(lane, ask, answer));
    }
    lane::run(|lane| async move {
        let pieces = [bytes.as_slice(), bytes.as_slice()];
        requests::play(lane, if input.again { &pieces } else { &pieces[..1] }).await;
    });
});
