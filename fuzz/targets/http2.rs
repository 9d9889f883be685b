//! Frames of HTTP/2 behind the preface: whatever they are, the upstream gets well-formed requests
//! with our credential alone, and the connection leaves nothing behind.
#![no_main]

use arbitrary::Arbitrary;
use auth_sidecar_fuzz::{lane, meant::TOKEN, requests::contains};
use http_oracle::Read;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Frame {
    /// A head that could be one.
    Request {
        stream: u8,
        ends: bool,
        is_whole: bool,
        pseudo: [u8; 4],
        fields: Vec<(u8, u8)>,
    },
    Data {
        stream: u8,
        ends: bool,
        bytes: Vec<u8>,
    },
    Any {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: Vec<u8>,
    },
    /// Lets the other side work.
    Pause,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const PSEUDO: [(&str, [&str; 6]); 4] = [
    (
        ":method",
        ["GET", "POST", "HEAD", "CONNECT", "OPTIONS", "G T"],
    ),
    (":scheme", ["http", "https", "", "ftp", "h\r\n", "http"]),
    (
        ":authority",
        [
            "localhost",
            "127.0.0.1:80",
            "evil.example",
            "u@localhost",
            "",
            "a\r\nb: c",
        ],
    ),
    (":path", ["/x", "/y?z", "*", "", "/\r\nb: c", "x"]),
];

const FIELDS: [&str; 20] = [
    "host",
    "authorization",
    "x-auth-token",
    "connection",
    "transfer-encoding",
    "te",
    "upgrade",
    "content-length",
    "cookie",
    "x-a",
    "X-Upper",
    ":path",
    "bad name",
    "x\r\ny",
    "via",
    "origin",
    "expect",
    "trailer",
    "proxy-authorization",
    "content-type",
];

const VALUES: [&str; 14] = [
    "localhost",
    "Bearer evil-credential",
    "chunked",
    "trailers",
    "close, x-a",
    "3",
    "0",
    "a\r\nb: c",
    "a\0b",
    "",
    "1.1 fred",
    "http://localhost",
    "100-continue",
    "application/grpc",
];

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend_from_slice(text.as_bytes());
    }
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags, 0, 0, 0, stream]);
    bytes.extend_from_slice(payload);
}

fn pieces(frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut piece = PREFACE.to_vec();
    frame(&mut piece, 4, 0, 0, &[]);
    let mut pieces = Vec::new();
    for one in frames.iter().take(60) {
        match one {
            Frame::Request {
                stream,
                ends,
                is_whole,
                pseudo,
                fields,
            } => {
                let mut block = Vec::new();
                for ((name, values), choice) in PSEUDO.iter().zip(pseudo) {
                    // Mostly what is right; now and then nothing at all.
                    let choice = usize::from(*choice);
                    if choice < 250 {
                        literal(
                            &mut block,
                            name,
                            values[if choice < 180 { 0 } else { choice % 6 }],
                        );
                    }
                }
                for (name, value) in fields.iter().take(20) {
                    let name = FIELDS[usize::from(*name) % FIELDS.len()];
                    literal(&mut block, name, VALUES[usize::from(*value) % VALUES.len()]);
                }
                let flags = u8::from(*ends) | if *is_whole { 4 } else { 0 };
                frame(&mut piece, 1, flags, stream | 1, &block);
            }
            Frame::Data {
                stream,
                ends,
                bytes,
            } => {
                frame(&mut piece, 0, u8::from(*ends), stream | 1, bytes);
            }
            Frame::Any {
                kind,
                flags,
                stream,
                payload,
            } => {
                frame(&mut piece, kind % 12, *flags, *stream, payload);
            }
            Frame::Pause => pieces.push(std::mem::take(&mut piece)),
        }
    }
    pieces.push(piece);
    pieces
}

fuzz_target!(|frames: Vec<Frame>| {
    let pieces = pieces(&frames);
    if contains(&pieces.concat(), TOKEN.as_bytes()) {
        return;
    }
    lane::run(|lane| async move {
        let mut client = lane.client().await;
        for piece in &pieces {
            client.send(piece).await;
            lane.settle().await;
            client.receive_rest();
        }
        lane.settle().await;
        client.receive_rest();
        assert!(
            !contains(&client.received, TOKEN.as_bytes()),
            "the client got the credential"
        );
        drop(client);
        lane.settle().await;
        for one in lane.received() {
            let request = match &one.request {
                Read::Whole(request, _) | Read::Cut(Some(request)) => request,
                other => panic!("the upstream got {other:?}"),
            };
            let fields = &request.fields;
            let credential = format!("Bearer {TOKEN}");
            assert_eq!(
                fields.all("authorization"),
                [credential.as_bytes()],
                "{request:?}"
            );
            assert_eq!(
                fields.all("host"),
                [lane.upstream.as_bytes()],
                "{request:?}"
            );
            for name in [
                "x-auth-token",
                "proxy-authorization",
                "upgrade",
                "x-upper",
                "b",
            ] {
                assert!(!fields.has(name), "{name} in {request:?}");
            }
        }
    });
});
