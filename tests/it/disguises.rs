//! Forbidden paths in every disguise that some server may see through.
//!
//! [`readings`] is a reader of its own, as liberal as all servers together: whatever it makes of a
//! path that is allowed has to be allowed too.

use std::collections::BTreeSet;

use auth_sidecar::admission::{Allowed, Preset};
use fastrand::Rng;
use http::Method;

use crate::support::{Connection, FakeService, Settings, Sidecar};

const SEED: u64 = 20_261_122;
const ROUNDS: u32 = 10_000;
/// One of so many is read in every way there is, since that is slow.
const SAMPLE: u32 = 20;
const FORBIDDEN: [&str; 8] = [
    "/api/v2/user",
    "/api/v2/account",
    "/api/v2/apitoken",
    "/api/v2/account/serviceaccount",
    "/api/v2/notificant",
    "/api/v2/user/admin@example.com",
    "/api/v2/search/user",
    "/api/v2/proxy/1/config",
];
/// Paths that some of the rules allow, to begin or end a disguise with.
const ALLOWED: [&str; 7] = [
    "/api/v2/alert",
    "/api/v2/chart/api",
    "/api/v2/wfproxy/checkin",
    "/report",
    "/api/v2/search/alert",
    "/api/spy/points",
    "/api/v2/source/a",
];
const CUSTOM: [&str; 5] = [
    "* /api/v2/alert/**",
    "* /api/v2/source/*/tag/**",
    "* /api/spy/*",
    "* /api/v2/*/1/history",
    "* /report",
];

fn rule_sets() -> [(&'static str, Allowed); 3] {
    let custom = CUSTOM.iter().map(|rule| rule.parse().unwrap()).collect();
    [
        ("read-only", Allowed::new(Preset::ReadOnly.rules())),
        ("ingest-only", Allowed::new(Preset::IngestOnly.rules())),
        ("custom", Allowed::new(custom)),
    ]
}

fn any(of: &[&'static str], random: &mut Rng) -> &'static str {
    of[random.usize(0..of.len())]
}

/// One byte of a path, or what some server may take for it.
fn disguised_byte(byte: char, random: &mut Rng) -> String {
    let code = byte as u32;
    let full_width = char::from_u32(code + 0xfee0).unwrap_or(byte);
    let utf8_escapes = |c: char| -> String {
        let utf8 = c.to_string().into_bytes();
        let escapes = utf8.iter().map(|byte| format!("%{byte:02x}"));
        escapes.collect::<Vec<_>>().concat()
    };
    match random.u8(0..14) {
        0 => format!("%{code:02x}"),
        1 => format!("%{code:02X}"),
        2 => format!("%25{code:02x}"),
        3 => format!("%25%{:02x}%{:02x}", hex(code >> 4), hex(code & 15)),
        4 => format!("%2525{code:02X}"),
        5 => format!("%{:02x}%{:02x}", 0xc0 | (code >> 6), 0x80 | (code & 0x3f)),
        6 => format!(
            "%e0%{:02x}%{:02x}",
            0x80 | (code >> 6),
            0x80 | (code & 0x3f)
        ),
        7 => format!("%u{code:04x}"),
        8 => full_width.to_string(),
        9 => utf8_escapes(full_width),
        10 => byte.to_ascii_uppercase().to_string(),
        _ => byte.to_string(),
    }
}

fn hex(digit: u32) -> u32 {
    char::from_digit(digit, 16).unwrap() as u32
}

/// What some server takes for one slash.
fn disguised_slash(random: &mut Rng) -> String {
    let forms = [
        "/",
        "/",
        "/",
        "/",
        "/",
        "//",
        "/./",
        "/x/../",
        "/%2e/",
        "/x/%2E%2e/",
        "\\",
        "%2f",
        "%2F",
        "%5c",
        "%252f",
        "%255C",
        "/..;/x/",
        ";a=b/",
        "%3ba/",
        "%00/",
        "/%20",
        "%09/",
        "%c0%af",
        "%u2215",
        "%ef%bc%8f",
        "\u{ff0f}",
        "\u{2215}",
        "/.%00/",
        "/x/..%2f",
        "/x/..\\",
        ".%2f",
        "/;/",
        "/%3b/",
        "%2f%2e%2e%2fx%2f..%2f",
        "/x%2f..%2f",
    ];
    forms[random.usize(0..forms.len())].to_owned()
}

/// A path as an attacker may write it.
fn disguised(meant: &str, random: &mut Rng) -> String {
    // Some disguises are thin: where all is strange, no rule is put to the test.
    let thickness = [0.0, 0.02, 0.1, 0.5][random.usize(0..4)];
    let slashes = [0.0, 0.1, 0.3, 0.8][random.usize(0..4)];
    let mut path = String::new();
    if random.bool() {
        // As if it were below an allowed path.
        let allowed = any(&ALLOWED, random);
        path.push_str(allowed);
        for _ in 0..allowed.matches('/').count() {
            path.push_str(&disguised_slash(random));
            let up = [
                "..",
                "..",
                "%2e%2e",
                ".%2E",
                "%252e%252e",
                "..;",
                "..%00",
                "%u002e.",
            ];
            path.push_str(up[random.usize(0..up.len())]);
        }
    }
    for byte in meant.chars() {
        let form = match byte {
            '/' if random.f64() < slashes => disguised_slash(random),
            byte if byte != '/' && random.f64() < thickness => disguised_byte(byte, random),
            byte => byte.to_string(),
        };
        path.push_str(&form);
    }
    let ends = [
        "",
        "",
        "",
        "",
        "/",
        "/.",
        "/..",
        "//",
        ";x",
        "%3Bx",
        "%3f",
        "%23",
        "%00",
        "%20",
        ".",
        ".json",
        "/x/..",
        "%2f",
        "%2e",
        "%00/../../alert",
        "%23/api/v2/alert",
        "%3f/1/history",
        ";/1/history",
        "/%2e%2e/alert",
        "\\..\\alert",
        "/..%2f..%2f..%2freport",
        "%",
        "%0",
        "%0a",
        "+",
        "~",
    ];
    path.push_str(ends[random.usize(0..ends.len())]);
    path
}

/// All that some server may make of a path.
fn readings(path: &str) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::from([path.as_bytes().to_vec()]);
    let mut latest = found.clone();
    // More steps than any server takes.
    for _ in 0..6 {
        let mut next = BTreeSet::new();
        for path in &latest {
            next.extend(readers().iter().map(|read| read(path)));
        }
        next.retain(|path| found.insert(path.clone()));
        if next.is_empty() || found.len() > 3000 {
            break;
        }
        latest = next;
    }
    found
}

type Reader = fn(&[u8]) -> Vec<u8>;

fn readers() -> [Reader; 12] {
    [
        unescaped,
        without_overlong,
        unescaped_utf16,
        narrow,
        |path| {
            path.iter()
                .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
                .collect()
        },
        merged,
        without_dots,
        |path| segments(path, |segment| before(segment, b";")),
        // Whole paths that end early.
        |path| before(path, b"?#").to_vec(),
        |path| before(path, b"\0\n\r;").to_vec(),
        |path| segments(path, trimmed),
        |path| {
            let path = path.strip_suffix(b"/").unwrap_or(path);
            path.to_ascii_lowercase()
        },
    ]
}

fn segments(path: &[u8], read: fn(&[u8]) -> &[u8]) -> Vec<u8> {
    let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').map(read).collect();
    segments.join(&b'/')
}

fn before<'a>(text: &'a [u8], ends: &[u8]) -> &'a [u8] {
    text.split(|byte| ends.contains(byte)).next().unwrap()
}

/// As file systems do.
fn trimmed(segment: &[u8]) -> &[u8] {
    let is_dots = segment.iter().all(|byte| *byte == b'.');
    let mut segment = segment.trim_ascii();
    while let (false, [rest @ .., b'.' | b' ' | 0]) = (is_dots, segment) {
        segment = rest;
    }
    segment
}

/// Escapes with two digits; others stay.
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut rest = path;
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).unwrap_or_default();
        let is_escape =
            *first == b'%' && digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit);
        if is_escape {
            let digits = std::str::from_utf8(digits).unwrap();
            read.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &behind[2..];
        } else {
            read.push(*first);
            rest = behind;
        }
    }
    read
}

/// `%u002f`, as some servers had it.
fn unescaped_utf16(path: &[u8]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(path).into_owned();
    while let Some(at) = text.to_ascii_lowercase().find("%u") {
        let digits = text.get(at + 2..at + 6).unwrap_or_default();
        let Some(c) = u32::from_str_radix(digits, 16)
            .ok()
            .and_then(char::from_u32)
        else {
            break;
        };
        text.replace_range(at..at + 6, &c.to_string());
    }
    text.into_bytes()
}

/// UTF-8 with more bytes than a character needs.
fn without_overlong(path: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut rest = path;
    while let [first, behind @ ..] = rest {
        let (byte, length) = match rest {
            [a @ 0xc0..=0xc1, b @ 0x80..=0xbf, ..] => ((a & 1) << 6 | (b & 0x3f), 2),
            [0xe0, a @ 0x80..=0x81, b @ 0x80..=0xbf, ..] => ((a & 1) << 6 | (b & 0x3f), 3),
            _ => (*first, 1),
        };
        read.push(byte);
        rest = &behind[length - 1..];
    }
    read
}

/// Letters that look like others, folded as compatibility normalisation and code pages do.
fn narrow(path: &[u8]) -> Vec<u8> {
    let fold = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap(),
        '\u{2215}' | '\u{2044}' => '/',
        c => c,
    };
    match std::str::from_utf8(path) {
        Ok(text) => text.chars().map(fold).collect::<String>().into_bytes(),
        Err(_) => path.to_vec(),
    }
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut read = path.to_vec();
    read.dedup_by(|a, b| (*a, *b) == (b'/', b'/'));
    read
}

fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push(b"");
        }
    }
    [b"/", kept.join(&b'/').as_slice()].concat()
}

/// The methods that the rules speak of.
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::DELETE];

fn is_allowed(allowed: &Allowed, path: &str) -> bool {
    METHODS.iter().any(|method| allowed.allows(method, path))
}

/// # Panics
/// When a path is allowed of which a server could make one that is not.
fn assert_safe(name: &str, allowed: &Allowed, path: &str, readings: &BTreeSet<Vec<u8>>) {
    let methods = METHODS.iter().filter(|method| allowed.allows(method, path));
    for method in methods {
        for reading in readings {
            let text = std::str::from_utf8(reading).unwrap();
            assert!(
                allowed.allows(method, with_odd_replaced(text)),
                "{name} allows {method} {path}, which may be read as {text:?}"
            );
        }
    }
}

/// Characters that are only ever escaped stand for themselves once they are not.
fn with_odd_replaced(text: &str) -> String {
    let is_odd = |c: char| " \"<>[]^`{|}".contains(c);
    text.replace(is_odd, "_")
}

#[test]
fn ten_thousand_disguises_of_forbidden_paths_are_not_allowed() {
    let mut random = Rng::with_seed(SEED);
    let sets = rule_sets();
    let mut seen_through = 0;
    for round in 0..ROUNDS {
        let meant = any(&FORBIDDEN, &mut random);
        let path = disguised(meant, &mut random);
        for (name, allowed) in &sets {
            assert!(!is_allowed(allowed, meant));
            // Refused is safe. What is allowed is another path, on which all readers agree.
            if is_allowed(allowed, &path) {
                assert_safe(name, allowed, &path, &readings(&path));
            }
        }
        if round % SAMPLE == 0 {
            let of_meant = |reading: &Vec<u8>| reading.starts_with(meant.as_bytes());
            seen_through += u32::from(readings(&path).iter().any(of_meant));
        }
    }
    // Else the attacker would prove nothing, or the reader.
    assert!(seen_through > ROUNDS / SAMPLE / 2, "{seen_through}");
}

#[test]
fn disguises_of_allowed_paths_lead_nowhere_else() {
    let mut random = Rng::with_seed(SEED);
    let sets = rule_sets();
    let mut let_through = 0;
    for _ in 0..ROUNDS {
        let path = disguised(any(&ALLOWED, &mut random), &mut random);
        for (name, allowed) in &sets {
            if is_allowed(allowed, &path) {
                assert_safe(name, allowed, &path, &readings(&path));
                let_through += 1;
            }
        }
    }
    assert!(let_through > ROUNDS / 100, "{let_through}");
}

#[test]
fn ordinary_paths_stay_allowed_and_so_does_all_that_can_be_made_of_them() {
    let sets = rule_sets();
    for (set, path) in [
        (0, "/api/v2/chart/api"),
        (0, "/api/v2/alert/1459375928549"),
        (0, "/api/v2/dashboard/My-Board_2.1~x"),
        (0, "/api/v2/source/my%20host%3A9100"),
        (0, "/api/v2/source/a.b.example"),
        (0, "/api/spy/points"),
        (1, "/report"),
        (1, "/api/v2/wfproxy/config/processed"),
        (2, "/api/v2/source/h@x/tag/env=a,b"),
        (2, "/api/v2/alert/1/history"),
    ] {
        let (name, allowed) = &sets[set];
        assert!(is_allowed(allowed, path), "{path}");
        assert_safe(name, allowed, path, &readings(path));
    }
}

#[tokio::test]
async fn no_disguise_reaches_the_service_through_the_proxy() {
    const TOKEN: &str = "a-token";
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.preset", "read-only")
        .set("listen.allow", ["PUT /api/v2/alert/*/tag/*"].to_vec());
    let sidecar = Sidecar::start(&settings);
    let mut random = Rng::with_seed(SEED);
    let mut connection = Connection::to(sidecar.proxy_address()).await;
    let send = async |connection: &mut Connection, method: &str, path: &str, more: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        connection.write(head).await;
        let (head, _) = connection.read_message().await.unwrap();
        let denied = head.contains("details=\"not_allowed\"");
        (head.split(' ').nth(1).unwrap().to_owned(), denied)
    };
    for _ in 0..500 {
        let path = disguised(any(&FORBIDDEN, &mut random), &mut random);
        let (status, denied) = send(&mut connection, "GET", &path, "").await;
        match status.as_str() {
            "403" => assert!(denied, "{path}"),
            "400" => connection = Connection::to(sidecar.proxy_address()).await,
            other => panic!("{path}: {other}"),
        }
    }
    assert_eq!(service.request_count(), 0);
    // The same connection serves what is allowed, with any query, and nothing else.
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, path, more, expected) in [
        ("GET", "/api/v2/chart/api?q=/../user%2F..", "", "200"),
        (
            "PUT",
            "/api/v2/alert/1/tag/x",
            "Content-Length: 0\r\n",
            "200",
        ),
        ("DELETE", "/api/v2/alert/1/tag/x", "", "403"),
        ("GET", "http://localhost/api/v2/alert", "", "200"),
        ("GET", "http://localhost/api/v2/user", "", "403"),
        ("GET", "/api/v2/user", upgrade, "403"),
        (
            "GET",
            "/api/v2/alert",
            "X-HTTP-Method-Override: DELETE\r\n",
            "403",
        ),
        ("OPTIONS", "*", "", "403"),
    ] {
        let (status, denied) = send(&mut connection, method, path, more).await;
        assert_eq!(status, expected, "{method} {path}");
        assert_eq!(denied, expected == "403");
    }
    assert_eq!(service.request_count(), 3);
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert!(metrics.contains("auth_sidecar_rejected_total{reason=\"not_allowed\"}"));
}
