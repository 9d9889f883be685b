//! Plays the bytes of one client, and holds what became of them against what they meant.

use http_oracle::{Read, Request, Response, Sender, shown};

use crate::{
    lane::{Client, Lane, Received, usual_body},
    meant::{self, Fate, TOKEN},
};

/// What the bytes of a client mean.
#[derive(Debug)]
struct Meaning {
    requests: Vec<Request>,
    tail: Tail,
}

/// What stands behind the last whole request.
#[derive(Debug)]
enum Tail {
    /// Nothing that counts.
    Nothing,
    /// The beginning of a request, with its head if that is whole.
    Cut(Option<Request>),
    /// The same, but nothing that may follow would make it a request: it may be refused already.
    Hopeless(Option<Request>),
    /// No request; its head, if it is the body that is bad.
    Bad(Option<Request>),
}

/// What the client waits for.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    More,
    End,
    Nothing,
}

/// Sends the pieces and judges.
///
/// # Panics
/// When something else became of a request than it meant.
pub async fn play(lane: &Lane, pieces: &[&[u8]]) {
    let bytes = pieces.concat();
    // Only the sidecar may know the credential.
    if contains(&bytes, TOKEN.as_bytes()) {
        return;
    }
    // The preface of HTTP/2: what is behind it is for the target of that name.
    if bytes.starts_with(b"PRI * H") {
        return;
    }
    let meaning = Meaning::of(&bytes);
    let mut client = lane.client().await;
    for piece in pieces {
        client.send(piece).await;
        lane.settle().await;
    }
    loop {
        client.receive_rest();
        match answered(&meaning, &client, &lane.received()) {
            Ok(Need::Nothing) => break,
            Ok(Need::End) if client.is_over => break,
            Ok(Need::More | Need::End) => client.receive().await,
            Err(why) => fail(&why, &bytes, &meaning, &client, lane),
        }
    }
    // Whatever else would come, comes now.
    lane.settle().await;
    client.receive_rest();
    let judged = answered(&meaning, &client, &lane.received());
    let judged = judged.and_then(|need| match need {
        Need::More => Err("the beginning of one more answer".to_owned()),
        Need::End | Need::Nothing => Ok(()),
    });
    if let Err(why) = judged {
        fail(&why, &bytes, &meaning, &client, lane);
    }
    let received = client.received.clone();
    drop(client);
    lane.settle().await;
    if let Err(why) = recorded(&meaning, &lane.received(), &lane.upstream) {
        let client = format!("client got {}", shown(&received));
        panic!(
            "{why}\nsent {}\n{meaning:#?}\n{client}\n{:#?}",
            shown(&bytes),
            lane.received()
        );
    }
}

fn fail(why: &str, bytes: &[u8], meaning: &Meaning, client: &Client, lane: &Lane) -> ! {
    panic!(
        "{why}\nsent {}\n{meaning:#?}\nclient got {}{}\n{:#?}",
        shown(bytes),
        shown(&client.received),
        if client.is_over { " and the end" } else { "" },
        lane.received()
    );
}

impl Meaning {
    fn of(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let mut requests = Vec::new();
        let tail = loop {
            match http_oracle::request(rest, Sender::Any) {
                Read::Whole(request, length) => {
                    rest = &rest[length..];
                    let is_last = meant::closes(&request);
                    requests.push(request);
                    // What follows it is not for us to read (RFC 9112 §9.6).
                    if is_last {
                        break Tail::Nothing;
                    }
                }
                Read::Cut(head) if is_hopeless(rest) => break Tail::Hopeless(head),
                Read::Cut(head) => break Tail::Cut(head),
                Read::Bad(head, _) => break Tail::Bad(head),
            }
        };
        Self { requests, tail }
    }

    /// The head of the request of that number, if it is whole.
    fn head(&self, number: usize) -> Option<&Request> {
        match &self.tail {
            Tail::Cut(head) | Tail::Hopeless(head) | Tail::Bad(head)
                if number == self.requests.len() =>
            {
                head.as_ref()
            }
            _ => self.requests.get(number),
        }
    }
}

/// Whether every way to go on gives something bad, or what may be refused for its looks.
fn is_hopeless(begun: &[u8]) -> bool {
    const LINE: &[u8] = b"a / HTTP/1.1\r\n\r\n";
    let of_line = (0..LINE.len()).map(|at| &LINE[at..]);
    let others: [&[u8]; 4] = [b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"a:\r\n\r\n", b":\r\n\r\n"];
    let mut ends = of_line.chain(others);
    // A head that goes on and on says nothing; a body that does can still come to its end.
    let says_nothing = matches!(http_oracle::request(begun, Sender::Any), Read::Cut(None));
    ends.all(
        |end| match http_oracle::request(&[begun, end].concat(), Sender::Any) {
            Read::Whole(request, _) => meant::is_odd(&request),
            Read::Cut(_) => says_nothing,
            Read::Bad(..) => true,
        },
    )
}

/// Goes through the answers that the client got: are they those that its requests earned?
fn answered(meaning: &Meaning, client: &Client, received: &[Received]) -> Result<Need, String> {
    let mut rest = client.received.as_slice();
    if contains(rest, TOKEN.as_bytes()) {
        return Err("the client got the credential".to_owned());
    }
    let whole = received
        .iter()
        .enumerate()
        .filter_map(|(number, one)| match &one.request {
            Read::Whole(request, _) => Some((number, request)),
            _ => None,
        });
    let mut whole = whole.collect::<Vec<_>>().into_iter();
    let mut number = 0;
    loop {
        let is_tail = number == meaning.requests.len();
        let head = meaning.head(number);
        if rest.is_empty() {
            let owes_nothing = is_tail && !matches!(meaning.tail, Tail::Bad(_));
            return match (client.is_over, owes_nothing) {
                (true, true) => Err("closed without a reason".to_owned()),
                (true, false) => Err("closed without an answer".to_owned()),
                (false, true) => Ok(Need::Nothing),
                (false, false) => Ok(Need::More),
            };
        }
        let method = head.map_or(&b"GET"[..], |head| &head.method);
        let mut read = http_oracle::response(rest, method, client.is_over, Sender::Proxy);
        // What is refused half read may have been a HEAD or not: both are right.
        if let Read::Whole(answer, length) =
            http_oracle::response(rest, b"HEAD", client.is_over, Sender::Proxy)
            && is_own(&answer)
            && answer.fields.connection("close")
        {
            let has_body = rest[length..].first() == Some(&b'{');
            let method = if has_body { b"GET" } else { &b"HEAD"[..] };
            read = http_oracle::response(rest, method, client.is_over, Sender::Proxy);
        }
        let (answer, length) = match read {
            Read::Whole(answer, length) => (answer, length),
            Read::Cut(_) if client.is_over => return Err("an answer breaks off".to_owned()),
            Read::Cut(_) => return Ok(Need::More),
            Read::Bad(_, why) => return Err(format!("a malformed answer: {why}")),
        };
        rest = &rest[length..];
        if answer.status == 100 && head.is_some_and(|head| head.fields.has("expect")) {
            continue;
        }
        if is_own(&answer) {
            own_answer(meaning, number, &answer)?;
        } else {
            let request = meaning
                .requests
                .get(number)
                .ok_or("an answer to no request")?;
            let (at_upstream, forwarded) = whole.next().ok_or("an answer that nobody gave")?;
            if let Fate::Denied(why) = meant::fate(request) {
                return Err(format!("request {number} should be denied: {why}"));
            }
            let number_field = at_upstream.to_string();
            let is_its = answer.status == 200
                && answer.fields.all("x-number") == [number_field.as_bytes()]
                && (request.method == b"HEAD" || answer.body == usual_body(at_upstream));
            if !is_its {
                return Err(format!("request {number} got another answer: {answer:?}"));
            }
            if !same_method(request, forwarded) {
                return Err(format!("request {number} became another"));
            }
        }
        if let Some(name) = hop_by_hop(&answer) {
            return Err(format!("the client got {name}"));
        }
        number += 1;
        if is_tail
            || answer.fields.connection("close")
            || meaning.requests.get(number - 1).is_some_and(meant::closes)
        {
            return if rest.is_empty() {
                Ok(Need::End)
            } else {
                Err("bytes behind the last answer".to_owned())
            };
        }
    }
}

fn same_method(one: &Request, other: &Request) -> bool {
    one.method == other.method
}

/// Whether an answer of the sidecar's own is what that request earns.
fn own_answer(meaning: &Meaning, number: usize, answer: &Response) -> Result<(), String> {
    let fate = meaning.head(number).map(meant::fate);
    let is_whole = number < meaning.requests.len();
    if is_whole && matches!(fate, Some(Fate::Forwarded)) {
        return Err(format!("request {number} should be forwarded"));
    }
    let is_cut_short = matches!(&meaning.tail, Tail::Cut(_)) && !is_whole;
    if is_cut_short && !matches!(fate, Some(Fate::Denied(_) | Fate::Either)) {
        return Err("an answer to a request that is not there yet".to_owned());
    }
    // A request that is passed on counts as answered by the upstream's own words; 5xx of ours
    // would mean that a malformed request got as far as to the upstream.
    let may = match answer.status {
        400..=499 | 501 | 505 => true,
        200 => matches!(fate, Some(Fate::Denied("last hop"))),
        502 => matches!(fate, Some(Fate::Denied("loop"))),
        _ => false,
    };
    let is_well_made = answer.fields.all("content-type") == [b"application/problem+json"]
        && answer.fields.all("cache-control") == [b"no-store"]
        && ![401, 404, 407].contains(&answer.status);
    if !may || !is_well_made {
        return Err(format!("an odd answer of our own: {answer:?}"));
    }
    if !is_whole && !answer.fields.connection("close") {
        return Err("the connection should close".to_owned());
    }
    Ok(())
}

/// Holds what the upstream got against what was meant.
fn recorded(meaning: &Meaning, received: &[Received], upstream: &str) -> Result<(), String> {
    let mut whole = Vec::new();
    for one in received {
        match &one.request {
            Read::Whole(request, _) => whole.push(request),
            Read::Cut(Some(request)) => {
                let meant = meaning.head(meaning.requests.len());
                let meant = meant.ok_or("the upstream got a part of what nobody sent")?;
                if matches!(meant::fate(meant), Fate::Denied(_)) {
                    return Err("the upstream got a part of what is denied".to_owned());
                }
                meant::check_fields(meant, request, upstream)?;
                if !meant.body.starts_with(&request.body) {
                    return Err("the upstream got a part of another body".to_owned());
                }
            }
            Read::Cut(None) => return Err("the upstream got a part of a head".to_owned()),
            Read::Bad(_, why) => return Err(format!("the upstream got something bad: {why}")),
        }
    }
    in_order(&meaning.requests, &whole, upstream)
}

/// Whether these whole requests are those that were meant and not denied, in their order.
fn in_order(meant: &[Request], received: &[&Request], upstream: &str) -> Result<(), String> {
    let Some((request, others)) = received.split_first() else {
        return Ok(());
    };
    let Some((first, rest)) = meant.split_first() else {
        return Err("the upstream got a request that nobody sent".to_owned());
    };
    let forwarded = || {
        meant::check(first, request, upstream)
            .map_err(|why| format!("the upstream got {why}: {request:?}"))?;
        in_order(rest, others, upstream)
    };
    let denied = || in_order(rest, received, upstream);
    match meant::fate(first) {
        Fate::Forwarded => forwarded(),
        Fate::Denied(_) => denied(),
        Fate::Either => forwarded().or_else(|_| denied()),
    }
}

/// Whether the sidecar itself answers.
pub fn is_own(answer: &Response) -> bool {
    let status = answer.fields.all("proxy-status");
    status
        .iter()
        .any(|status| status.starts_with(b"auth-sidecar; error="))
}

/// A field that ends at the connection and has no business on the client's.
pub fn hop_by_hop(answer: &Response) -> Option<&'static str> {
    let fields = &answer.fields;
    let names = ["proxy-connection", "te", "alt-svc", "proxy-authenticate"];
    if let Some(name) = names.into_iter().find(|name| fields.has(name)) {
        return Some(name);
    }
    let known: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    let foreign = fields
        .list("connection")
        .iter()
        .any(|one| !known.contains(&one.as_slice()));
    if foreign {
        return Some("Connection of another connection");
    }
    (fields.has("upgrade") && answer.status != 101).then_some("upgrade")
}

/// Whether some bytes are a part of others.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
