//! Plays the bytes of one answer of the upstream, and holds what the client gets against them; then
//! the next client's request must get its own answer.

use std::collections::BTreeMap;

use http_oracle::{Fields, Read, Request, Response, Sender, shown, trim};

use crate::{
    lane::{Answer, Client, Lane, usual_body},
    meant::{self, TOKEN},
    requests::{contains, hop_by_hop, is_own},
};

/// Fields of an answer that end at the sidecar, and those that frame it.
const ENDS_HERE: [&str; 16] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "transfer-encoding",
    "upgrade",
    "alt-svc",
    "clear-site-data",
    "expect-ct",
    "nel",
    "public-key-pins",
    "public-key-pins-report-only",
    "report-to",
    "strict-transport-security",
    "content-length",
];

/// What the bytes of the upstream mean.
#[derive(Debug)]
enum Meaning {
    /// This answer.
    Whole(Response),
    /// An answer that breaks off, or is broken in its body.
    Broken(Response),
    /// No answer.
    Nothing,
    /// What a strict sender would not write; some read it nevertheless.
    Odd,
}

/// Asks, has the upstream say this, and judges.
///
/// # Panics
/// When the client gets anything else than it should.
pub async fn play(lane: &Lane, ask: &[u8], mut answer: Answer) {
    let Read::Whole(request, _) = http_oracle::request(ask, Sender::Any) else {
        panic!("an odd question");
    };
    let bytes = answer.parts.concat();
    if contains(&bytes, TOKEN.as_bytes()) || contains(&bytes, b"auth-sidecar; error=") {
        return;
    }
    let (meaning, is_whole) = meaning(&bytes, &request.method, answer.closes);
    // Nobody waits for what will not come.
    answer.closes |= !is_whole;
    let meaning = if is_whole {
        meaning
    } else {
        self::meaning(&bytes, &request.method, true).0
    };
    // A tunnel is another story.
    if matches!(&meaning, Meaning::Whole(answer) if answer.status == 101) {
        return;
    }
    lane.answer(answer);
    let mut client = lane.client().await;
    client.send(ask).await;
    let fail = |why: &str, client: &Client| -> ! {
        panic!(
            "{why}\nasked {}\nupstream said {}\n{meaning:?}\nclient got {}{}\n{:#?}",
            shown(ask),
            shown(&bytes),
            shown(&client.received),
            if client.is_over { " and the end" } else { "" },
            lane.received()
        );
    };
    let length = loop {
        match got(&meaning, &request, &client) {
            Ok(Some(length)) => break length,
            Ok(None) => client.receive().await,
            Err(why) => fail(&why, &client),
        }
    };
    // What is surplus has arrived by now, and nobody has asked for it.
    lane.settle().await;
    client.receive_rest();
    if client.received.len() > length {
        fail("more than the answer", &client);
    }
    if client.is_over {
        client = lane.client().await;
    } else {
        client.received.clear();
    }
    let number = lane.received().len();
    client
        .send(b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let next = loop {
        match http_oracle::response(&client.received, b"GET", client.is_over, Sender::Proxy) {
            Read::Whole(next, _) => break next,
            Read::Cut(_) if !client.is_over => client.receive().await,
            _ => fail("the next answer is malformed", &client),
        }
    };
    let received = lane.received();
    let is_its = next.status == 200 && next.body == usual_body(received.len() - 1);
    if !is_its || received.len() != number + 1 {
        fail("the next request got another answer", &client);
    }
    for one in &received {
        let Read::Whole(request, _) = &one.request else {
            fail("the upstream got something malformed", &client);
        };
        if request.fields.all("authorization") != [format!("Bearer {TOKEN}").as_bytes()] {
            fail("not the one credential", &client);
        }
    }
}

/// What the bytes mean, and whether the answer is whole before the connection ends.
fn meaning(bytes: &[u8], method: &[u8], is_over: bool) -> (Meaning, bool) {
    let mut rest = bytes;
    let mut interims = 0;
    loop {
        return match http_oracle::response(rest, method, is_over, Sender::Any) {
            Read::Whole(interim, length)
                if (100..200).contains(&interim.status) && interim.status != 101 =>
            {
                rest = &rest[length..];
                interims += 1;
                if interim.is_http_10 || interims > 20 {
                    return (Meaning::Odd, false);
                }
                continue;
            }
            Read::Whole(answer, _) if is_plain(&answer) => (Meaning::Whole(answer), true),
            Read::Whole(..) => (Meaning::Odd, false),
            Read::Cut(Some(head)) if is_plain(&head) => (Meaning::Broken(head), false),
            Read::Cut(Some(_)) => (Meaning::Odd, false),
            Read::Cut(None) => (
                if rest.contains(&b'\n') {
                    Meaning::Odd
                } else {
                    Meaning::Nothing
                },
                false,
            ),
            Read::Bad(..) => (Meaning::Odd, false),
        };
    }
}

/// Whether nothing of it is a matter of taste.
fn is_plain(answer: &Response) -> bool {
    answer.fields.0.len() < 90
}

/// How long the answer is; nothing while it is not there yet.
fn got(meaning: &Meaning, request: &Request, client: &Client) -> Result<Option<usize>, String> {
    if contains(&client.received, TOKEN.as_bytes()) {
        return Err("the client got the credential".to_owned());
    }
    let mut rest = client.received.as_slice();
    // Interim ones of the upstream are passed on.
    while let Read::Whole(interim, length) =
        http_oracle::response(rest, &request.method, client.is_over, Sender::Proxy)
        && (100..200).contains(&interim.status)
        && interim.status != 101
    {
        if let Some(name) = hop_by_hop(&interim) {
            return Err(format!("the client got {name}"));
        }
        rest = &rest[length..];
    }
    let before = client.received.len() - rest.len();
    let read = http_oracle::response(rest, &request.method, client.is_over, Sender::Proxy);
    let (answer, length, is_whole) = match read {
        Read::Whole(answer, _) if answer.is_to_the_end => {
            return Err("only the end of the connection ends it".to_owned());
        }
        Read::Whole(answer, length) => (answer, before + length, true),
        Read::Cut(Some(answer)) if client.is_over => (answer, client.received.len(), false),
        // Head and fault came at once: the end alone tells of it, and nothing is passed off.
        Read::Cut(None)
            if client.is_over
                && rest.is_empty()
                && !matches!(meaning, Meaning::Whole(_)) =>
        {
            return Ok(Some(0));
        }
        Read::Cut(None) if client.is_over => return Err("no answer".to_owned()),
        Read::Cut(_) => return Ok(None),
        Read::Bad(_, why) => return Err(format!("a malformed answer: {why}")),
    };
    if answer.status < 200 {
        return Err("an interim answer that nobody asked for".to_owned());
    }
    if let Some(name) = hop_by_hop(&answer) {
        return Err(format!("the client got {name}"));
    }
    if is_own(&answer) {
        return match meaning {
            _ if answer.status != 502 && answer.status != 504 || !is_whole => {
                Err("an odd answer of our own".to_owned())
            }
            Meaning::Whole(_) => Err("a good answer is not passed on".to_owned()),
            _ => Ok(Some(length)),
        };
    }
    match meaning {
        Meaning::Whole(meant) => {
            same_head(meant, &answer, &request.method)?;
            if !is_whole || (request.method != b"HEAD" && meant.body != answer.body) {
                return Err("another body".to_owned());
            }
        }
        Meaning::Broken(meant) => {
            same_head(meant, &answer, &request.method)?;
            if is_whole {
                return Err("a part passed off as the whole".to_owned());
            }
            if !meant.body.starts_with(&answer.body) {
                return Err("another body".to_owned());
            }
        }
        Meaning::Nothing => return Err("an answer that nobody gave".to_owned()),
        Meaning::Odd => {}
    }
    Ok(Some(length))
}

fn same_head(meant: &Response, answer: &Response, method: &[u8]) -> Result<(), String> {
    if meant.status != answer.status || answer.is_http_10 {
        return Err("another status line".to_owned());
    }
    let nominated = meant.fields.list("connection");
    let is_protected = |name: &[u8]| {
        matches!(name, b"host" | b"origin" | b"via" | b"max-forwards")
            || name.starts_with(b"sec-fetch-")
    };
    let mut wanted = by_name(&meant.fields, |name| {
        is_protected(name) || !nominated.iter().any(|one| one == name)
    });
    let mut found = by_name(&answer.fields, |_| true);
    // A recipient with a clock adds what is missing (RFC 9110 §6.6.1).
    if !wanted.contains_key(&b"date"[..]) {
        found.remove(&b"date"[..]);
    }
    // Where no trailers can follow, their announcement means nothing (RFC 9110 §6.6.2); the codec
    // leaves it out.
    let is_without_content = method == b"HEAD" || matches!(meant.status, 204 | 304);
    if is_without_content && !found.contains_key(&b"trailer"[..]) {
        wanted.remove(&b"trailer"[..]);
    }
    // A list may be joined (RFC 9110 §5.3); the codec does it to this one.
    for fields in [&mut wanted, &mut found] {
        if let Some(lines) = fields.get_mut(&b"trailer"[..]) {
            let values: Vec<_> = lines.iter().map(|line| line.1.clone()).collect();
            lines.truncate(1);
            lines[0].1 = trim(&values.join(&b", "[..])).to_vec();
        }
    }
    if wanted == found {
        Ok(())
    } else {
        Err(format!("other fields: not {wanted:?}"))
    }
}

type ByName = BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>>;

fn by_name(fields: &Fields, keeps: impl Fn(&[u8]) -> bool) -> ByName {
    let mut names = ByName::new();
    for (name, value) in &fields.0 {
        let lower = name.to_ascii_lowercase();
        let ends_here = ENDS_HERE.iter().any(|known| known.as_bytes() == lower)
            || meant::is_disguised(&lower);
        if !ends_here && keeps(&lower) {
            names
                .entry(lower)
                .or_default()
                .push((name.clone(), value.clone()));
        }
    }
    names
}

/// Whether a request goes on at all; those that are asked here do.
pub fn is_forwarded(ask: &[u8]) -> bool {
    matches!(http_oracle::request(ask, Sender::Any), Read::Whole(request, _)
        if matches!(meant::fate(&request), meant::Fate::Forwarded))
}
