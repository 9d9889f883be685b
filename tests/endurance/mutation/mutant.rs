//! Good messages, and what chance makes of them.

use fastrand::Rng;

/// A request line that no body may turn into a request.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: localhost\r\nX-Hidden: yes\r\n\r\n";

/// Good connections: each a list of bytes that a client sends.
pub fn seeds(number: usize) -> Vec<Vec<u8>> {
    let get =
        format!("GET /m/{number}?a=1;b=%2F HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    let length = HIDDEN.len();
    let post = format!(
        "POST /m/{number} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"
    );
    let chunked = format!(
        "POST /m/{number} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nwiki\r\n{length:x};name=value\r\n{HIDDEN}\r\n0\r\n\r\n"
    );
    let trailers = format!(
        "PUT /m/{number} HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Sum\r\n\
         Transfer-Encoding: chunked\r\n\r\n{length:X}\r\n{HIDDEN}\r\n000\r\nX-Sum: 1\r\n\r\n"
    );
    let old =
        format!("GET /m/{number} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
    let old_post = format!(
        "POST /m/{number} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{HIDDEN}"
    );
    let absolute = format!(
        "GET http://localhost/m/{number}/../x//y HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\n\r\n"
    );
    let head = format!("HEAD /m/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let credentials = format!(
        "GET /m/{number} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer stolen\r\n\
         Connection: authorization, close\r\nX-Auth-Token: stolen\r\n\r\n"
    );
    let expect = format!(
        "POST /m/{number} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"
    );
    let websocket = format!(
        "GET /m/{number} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let h2c = format!(
        "GET /m/{number} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    );
    let delete =
        format!("\r\nDELETE /m/{number} HTTP/1.1\r\nHost:localhost\r\nContent-Length: 0\r\n\r\n");
    let pipelined = [&get, &post, &get, &chunked, &head, &get]
        .map(String::as_str)
        .concat();
    let pipelined_bodies = [&chunked, &post, &trailers, &get]
        .map(String::as_str)
        .concat();
    let offered_late = [&post, &websocket].map(String::as_str).concat();
    let offered_early = [&websocket, &get].map(String::as_str).concat();
    [
        get,
        post,
        chunked,
        trailers,
        old,
        old_post,
        absolute,
        head,
        credentials,
        expect,
        websocket,
        h2c,
        delete,
        pipelined,
        pipelined_bodies,
        offered_late,
        offered_early,
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Lines that have fooled somebody.
const LINES: &[&[u8]] = &[
    b"Content-Length: 0",
    b"Content-Length: 5",
    b"Content-Length: +5",
    b"Content-Length: 5, 5",
    b"Content-Length: 0x5",
    b"Content-Length: 18446744073709551621",
    b"Content-Length:",
    b"Content-Length : 5",
    b"Content_Length: 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"tRANSFER-eNCODING: cHUNKED",
    b" Transfer-Encoding: chunked",
    b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rContent-Length: 7",
    b"X: y\0z",
    b"Connection: content-length",
    b"Connection: transfer-encoding, host",
    b"Connection: authorization",
    b"Connection: close",
    b"Connection: keep-alive, \xff",
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Authorization: Basic eDp5",
    b"Proxy-Authorization: Basic eDp5",
    b"Host: localhost",
    b"Host: other.example",
    b"Expect: 100-continue",
    b"Expect: something",
    b"TE: trailers, deflate",
    b"Trailer: Authorization",
    b" folded",
    b"\tfolded: too",
    b": no name",
    b"no colon",
    b"Origin: http://other.example",
    b"Sec-Fetch-Site: cross-site",
    b"Via: 1.1 auth-sidecar",
    b"X: \xc2\xa0\xe2\x80\xa8",
];

/// Bytes that mean something to somebody.
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\x0b",
    b"\xa0",
    b"\xff",
    b"\"",
    b"+",
    b"-",
    b"0",
    b"f",
    b"#",
    b"@",
    b"//",
    b"http://other.example",
];

/// What may follow a message.
const TAILS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"\0",
    b"X",
    b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
];

/// Numbers that lengths are replaced by.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "+5",
    "00",
    "0x10",
    "1e1",
    "5,5",
    "ffffffffffffffff",
    "9223372036854775808",
    "18446744073709551616",
    "100000000000000000000000000000005",
];

/// Changes some of it.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..random.usize(1..=3) {
        mutate_once(bytes, random);
    }
}

fn mutate_once(bytes: &mut Vec<u8>, random: &mut Rng) {
    let at = place(bytes, random);
    match random.u32(..15) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.u32(..8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.u8(..);
            }
        }
        2 | 3 => insert(bytes, at, one_of(PIECES, random)),
        4 => drop(bytes.drain(at..bytes.len().min(at + random.usize(1..=4)))),
        5 | 6 => {
            let line = [one_of(LINES, random), b"\r\n"].concat();
            insert(bytes, next_line(bytes, at), &line);
        }
        7 => {
            let line = bytes[line_of(bytes, at)].to_vec();
            let to = next_line(bytes, place(bytes, random));
            insert(bytes, to, &line);
        }
        8 => drop(bytes.drain(line_of(bytes, at))),
        9 => {
            // Two lines become one, or are ended as they may not be.
            let end = next_line(bytes, at);
            if end >= 2 {
                let ends: [&[u8]; 7] = [b", ", b"\n", b"\r", b"\r\n ", b"\n\r", b"", b"\r\r\n"];
                bytes.splice(end - 2..end, random.choice(ends).unwrap().iter().copied());
            }
        }
        10 => {
            let line = line_of(bytes, at);
            for byte in &mut bytes[line] {
                if random.bool() && byte.is_ascii_alphabetic() {
                    *byte ^= 0x20;
                }
            }
        }
        11 | 12 => renumber(bytes, at, random),
        13 => bytes.truncate(random.usize(..=bytes.len())),
        _ => bytes.extend_from_slice(one_of(TAILS, random)),
    }
}

/// Mostly in a head, where most of the meaning is.
fn place(bytes: &[u8], random: &mut Rng) -> usize {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    match head {
        Some(head) if random.u32(..4) != 0 => random.usize(..head + 4),
        _ => random.usize(..=bytes.len()),
    }
}

fn one_of(choices: &[&'static [u8]], random: &mut Rng) -> &'static [u8] {
    choices[random.usize(..choices.len())]
}

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    drop(bytes.splice(at..at, more.iter().copied()));
}

/// Where the line after this place begins.
fn next_line(bytes: &[u8], at: usize) -> usize {
    let rest = bytes[at..].iter();
    rest.copied()
        .position(|byte| byte == b'\n')
        .map_or(bytes.len(), |end| at + end + 1)
}

/// The line around this place, with its end.
fn line_of(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let before = bytes[..at].iter().rposition(|byte| *byte == b'\n');
    before.map_or(0, |end| end + 1)..next_line(bytes, at)
}

/// The next number becomes another one; hexadecimal, as sizes of chunks are.
fn renumber(bytes: &mut Vec<u8>, at: usize, random: &mut Rng) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[at..]
        .iter()
        .position(is_digit)
        .map(|start| at + start)
    else {
        return;
    };
    let length = bytes[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let digits = String::from_utf8_lossy(&bytes[start..start + length]).into_owned();
    let number = digits.parse::<u64>().unwrap_or(16);
    let new = match random.u32(..5) {
        0 => number.saturating_add(1).to_string(),
        1 => number.saturating_sub(1).to_string(),
        2 => format!("0{digits}"),
        3 => random.u64(..200).to_string(),
        _ => (*random.choice(NUMBERS).unwrap()).to_owned(),
    };
    drop(bytes.splice(start..start + length, new.into_bytes()));
}
