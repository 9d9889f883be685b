//! Request targets, byte for byte.

use fastrand::Rng;
use serde_json::Value;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{OK, before, in_front_of, upstream};
use crate::support::{Connection, RawServer, Sidecar, peer::field, within_deadline};

const SEED: u64 = 20_261_130;
const ROUNDS: usize = 10_000;

/// An upstream that shows the head of each request.
fn recorder() -> (RawServer, UnboundedReceiver<Vec<u8>>) {
    let (seen, arrivals) = mpsc::unbounded_channel();
    let server = upstream(move |mut connection| {
        let seen = seen.clone();
        async move {
            while let Some(head) = connection.read_head_bytes().await {
                drop(seen.send(head));
                connection.write(OK).await;
            }
        }
    });
    (server, arrivals)
}

/// A client that connects again where it was refused.
struct Asking {
    sidecar: Sidecar,
    connection: Option<Connection>,
}

impl Asking {
    /// The status of the answer, and its body.
    async fn get(&mut self, target: &[u8]) -> (u16, Vec<u8>) {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::to(self.sidecar.proxy_address()).await,
        };
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        connection.write(request).await;
        let answer = connection.read_message().await;
        let (head, body) = answer.unwrap_or_else(|| panic!("no answer to {}", shown(target)));
        if field(&head, "connection") != Some("close") {
            self.connection = Some(connection);
        }
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }
}

fn shown(target: &[u8]) -> String {
    target.escape_ascii().to_string()
}

/// The target of a head.
fn target(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| *byte == b'\r').next().unwrap();
    let target = line.strip_prefix(b"GET ").unwrap();
    target.strip_suffix(b" HTTP/1.1").unwrap()
}

/// Printable ASCII and high bytes, `#` among them, in the lengths that clients send.
fn random_target(random: &mut Rng) -> Vec<u8> {
    let length = random.usize(1..64);
    let mut target: Vec<u8> = (0..length)
        .map(|_| match random.u8(0..5) {
            0 => random.u8(0x80..=0xff),
            1 => [b'"', b'<', b'>', b'\\', b'|'][random.usize(0..5)],
            2 => [b'/', b'?', b'%', b'.', b';'][random.usize(0..5)],
            _ => random.u8(b'!'..=b'~'),
        })
        .collect();
    if random.u8(0..50) > 0 {
        target[0] = b'/';
    }
    target
}

#[tokio::test]
async fn ten_thousand_random_targets_arrive_equal_or_are_refused_for_a_reason() {
    let (server, mut arrivals) = recorder();
    let mut client = Asking {
        sidecar: in_front_of(&server),
        connection: None,
    };
    let mut random = Rng::with_seed(SEED);
    let (mut passed, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let sent = random_target(&mut random);
        let (status, _) = client.get(&sent).await;
        let may_pass = sent[0] == b'/' && !sent.contains(&b'#');
        let expected = if may_pass { 200 } else { 400 };
        assert_eq!(status, expected, "round {round}: {}", shown(&sent));
        if may_pass {
            passed += 1;
            let arrived = within_deadline(arrivals.recv()).await.unwrap().unwrap();
            assert!(
                target(&arrived) == sent,
                "round {round}: {} arrived as {}",
                shown(&sent),
                shown(target(&arrived))
            );
        } else {
            refused += 1;
            assert!(arrivals.try_recv().is_err(), "{}", shown(&sent));
        }
    }
    assert!(passed > ROUNDS / 2, "{passed}");
    assert!(refused > ROUNDS / 50, "{refused}");
}

#[tokio::test]
async fn each_byte_passes_by_itself_in_path_and_query_or_is_named() {
    let (server, mut arrivals) = recorder();
    let mut client = Asking {
        sidecar: in_front_of(&server),
        connection: None,
    };
    // A line end ends the line, and a space the target: what is refused then is another thing.
    for byte in (0..=0xff).filter(|byte| ![b'\r', b'\n', b' '].contains(byte)) {
        for before in [&b"/a"[..], b"/x?q="] {
            let sent = [before, &[byte], b"z"].concat();
            let (status, body) = client.get(&sent).await;
            if byte != b'#' && (b'!'..=b'~').contains(&byte) || byte >= 0x80 {
                assert_eq!(status, 200, "{}", shown(&sent));
                let arrived = within_deadline(arrivals.recv()).await.unwrap().unwrap();
                assert_eq!(shown(target(&arrived)), shown(&sent));
                continue;
            }
            assert_eq!(status, 400, "{}", shown(&sent));
            let problem: Value = serde_json::from_slice(&body).unwrap();
            let what = match byte {
                b'#' => "'#'".to_owned(),
                control => format!("0x{control:02x}"),
            };
            let expected = format!("target: byte {}, {what}", before.len());
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(detail.contains(&expected), "{expected}: {problem}");
        }
    }
    assert!(arrivals.try_recv().is_err());
}

#[tokio::test]
async fn a_path_that_rules_cannot_read_is_still_no_path_that_they_allow() {
    let (server, mut arrivals) = recorder();
    let rules = ["GET /api/v2/alert/**", "GET /api/v2/chart/api"];
    let settings = before(&server).set("listen.allow", rules.as_slice());
    let mut client = Asking {
        sidecar: Sidecar::start(&settings),
        connection: None,
    };
    for refused in [
        &b"/api/v2/user/\"admin\""[..],
        b"/api/v2/\"user\"",
        b"/api/v2/alert/\"x\"",
        b"/api/v2/alert/<x>",
        b"/api/v2/alert/\xff",
        b"/api/v2/alert/\xc0\xae\xc0\xae/user",
        b"/api/v2/alert/\xef\xbc\x8e\xef\xbc\x8e\xef\xbc\x8fuser",
        b"/api/v2/alert/..\\user",
        b"/api/v2/alert\\..\\user",
        b"/api/v2/alert/..\"/user",
        b"\x80/api/v2/alert/x",
        b"/\x80/../api/v2/alert/x",
        b"/api/v2/chart/api\x85",
        b"/api/v2/chart/api\"?q=x",
    ] {
        let (status, body) = client.get(refused).await;
        let expected = if refused[0] == b'/' { 403 } else { 400 };
        assert_eq!(status, expected, "{}", shown(refused));
        let problem: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], expected);
    }
    assert!(arrivals.try_recv().is_err());
    // A query is the service's business, with rules too.
    let query = b"/api/v2/chart/api?q=ts(\"cpu.usage\", \xe9<>)".map(|byte| match byte {
        b' ' => b'+',
        other => other,
    });
    assert_eq!(client.get(&query).await.0, 200);
    let arrived = within_deadline(arrivals.recv()).await.unwrap().unwrap();
    assert_eq!(shown(target(&arrived)), shown(&query));
}
