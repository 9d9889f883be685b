//! Whether what happened is what had to happen, and the differences for people to read.

use serde_json::Value;

use crate::{
    case::{Case, Content, End, Outcome, Peer, Reply, Upstream, Want},
    client::{Ending, Got, Observed},
    lane::TOKEN,
    run::short,
    upstream::Received,
    wire::Head,
};

/// Everything that was seen of one play.
#[derive(Debug)]
pub struct Played {
    pub received: Vec<Received>,
    pub observed: Observed,
    /// The authority that `Host` must name.
    pub upstream: String,
    /// Whose proxy it was, if it was not the sidecar.
    pub peer: Option<Peer>,
}

/// The differences; none if all is well.
pub fn judge(case: &Case, played: &Played) -> Vec<String> {
    let mut differences: Vec<_> = played.observed.problems.clone();
    for received in &played.received {
        differences.extend(always_upstream(received, played));
    }
    for got in &played.observed.replies {
        differences.extend(always_client(got));
    }
    for got in &played.observed.interims {
        differences.extend(always_client(got));
        differences.extend(always_interim(got));
    }
    let all: Vec<_> = case
        .outcomes
        .iter()
        .map(|outcome| compare(outcome, played))
        .collect();
    // The one that came nearest is the one to read.
    if let Some(nearest) = all.into_iter().min_by_key(Vec::len) {
        differences.extend(nearest);
    }
    if !differences.is_empty() {
        differences.extend(
            played
                .received
                .iter()
                .filter(|one| !one.is_own())
                .map(record),
        );
        let interims = played.observed.interims.iter();
        differences.extend(interims.chain(&played.observed.replies).map(|got| {
            format!(
                "client {} {} {:?} {:?}",
                got.head.start,
                short(&got.body),
                got.head.fields,
                got.trailers
            )
        }));
        differences.dedup();
    }
    differences
}

fn record(received: &Received) -> String {
    let whole = if received.is_whole { "" } else { ", not whole" };
    format!(
        "upstream {} {:?} {}{whole}",
        short(&received.head.start),
        received.head.fields,
        short(&received.body)
    )
}

fn compare(outcome: &Outcome, played: &Played) -> Vec<String> {
    let mut differences = Vec::new();
    let received: Vec<_> = played
        .received
        .iter()
        .filter(|received| !received.is_own())
        .collect();
    match &outcome.upstream {
        Upstream::Anything => {}
        Upstream::Nothing if received.is_empty() => {}
        Upstream::NothingWhole if received.iter().all(|one| !one.is_whole) => {}
        Upstream::Nothing | Upstream::NothingWhole => {
            differences.push(format!(
                "upstream should have got {:?} and got {}",
                outcome.upstream,
                received.len()
            ));
        }
        Upstream::Requests(wants) => {
            if wants.len() != received.len() {
                differences.push(format!(
                    "upstream should have got {} requests and got {}",
                    wants.len(),
                    received.len()
                ));
            }
            for (want, received) in wants.iter().zip(&received) {
                differences.extend(request(want, received));
            }
        }
    }
    for text in &outcome.never {
        let has = |received: &&&Received| {
            let whole = format!("{:?} {}", received.head, received.body);
            whole.to_ascii_lowercase().contains(text)
        };
        if received.iter().find(has).is_some() {
            differences.push(format!("upstream should never have got {text:?}"));
        }
    }
    let got = &played.observed.replies;
    if got.len() != outcome.replies.len() {
        differences.push(format!(
            "client should have got {} answers and got {}",
            outcome.replies.len(),
            got.len()
        ));
    }
    for (reply, got) in outcome.replies.iter().zip(got) {
        differences.extend(answer(reply, got, outcome.end, played.peer));
    }
    differences.extend(interims(outcome, &played.observed.interims));
    let is_right = match outcome.end {
        End::Either => true,
        End::Closed => played.observed.ending == Ending::Closed,
        End::Usable => played.observed.ending == Ending::Usable,
    };
    if !is_right {
        differences.push(format!(
            "connection should be {:?} and is {:?}",
            outcome.end, played.observed.ending
        ));
    }
    differences
}

fn interims(outcome: &Outcome, got: &[Got]) -> Vec<String> {
    let Some(wanted) = &outcome.interims else {
        return Vec::new();
    };
    let mut differences = Vec::new();
    if wanted.len() != got.len() {
        differences.push(format!(
            "client should have got {} interim answers and got {}",
            wanted.len(),
            got.len()
        ));
    }
    for (reply, got) in wanted.iter().zip(got) {
        differences.extend(answer(reply, got, End::Either, None));
    }
    differences
}

fn request(want: &Want, received: &Received) -> Vec<String> {
    let mut differences = Vec::new();
    if want.line != received.head.start {
        differences.push(format!(
            "upstream should have got the line {}",
            short(&want.line)
        ));
    }
    if !received.is_whole {
        differences.push("upstream should have got the whole request".to_owned());
    }
    if let Some(body) = &want.body
        && *body != received.body
    {
        differences.push(format!("upstream should have got the body {}", short(body)));
    }
    differences.extend(fields(
        "upstream",
        &want.fields,
        &want.without,
        &received.head,
    ));
    differences
}

fn answer(reply: &Reply, got: &Got, end: End, peer: Option<Peer>) -> Vec<String> {
    let mut differences = Vec::new();
    if !reply.status.contains(&got.status) {
        differences.push(format!("client should have got {:?}", reply.status));
    }
    match &reply.body {
        Content::BreaksOff if got.flaw.is_none() => {
            differences.push("the answer should break off".to_owned());
        }
        Content::BreaksOff => {}
        _ if got.flaw.is_some() => differences.push(format!("the answer is {:?}", got.flaw)),
        Content::Is(body) if *body != got.body => {
            differences.push(format!("client should have got the body {}", short(body)));
        }
        Content::Is(_) | Content::Any => {}
    }
    differences.extend(fields("client", &reply.fields, &reply.without, &got.head));
    let is_same = |((name, value), (wanted, wanted_value)): (&(String, String), &(&str, &str))| {
        name.eq_ignore_ascii_case(wanted) && value == wanted_value
    };
    if reply.trailers.len() != got.trailers.len()
        || !got.trailers.iter().zip(&reply.trailers).all(is_same)
    {
        differences.push(format!(
            "client should have got the trailers {:?}, not {:?}",
            reply.trailers, got.trailers
        ));
    }
    if let Some(detail) = reply.detail
        && peer.is_none()
    {
        let problem: Value = serde_json::from_str(&got.body).unwrap_or_default();
        let said = problem.get("detail").and_then(Value::as_str);
        if !said.is_some_and(|said| said.contains(detail)) {
            differences.push(format!("detail should name {detail:?} and is {said:?}"));
        }
    }
    if reply.is_own && peer.is_none() {
        differences.extend(own(got, end));
    }
    differences
}

fn fields(
    who: &str,
    with: &[(&'static str, Vec<String>)],
    without: &[&str],
    head: &Head,
) -> Vec<String> {
    let missing = with
        .iter()
        .filter(|(name, values)| head.all(name) != *values)
        .map(|(name, values)| {
            format!(
                "{who} should have got {name}: {values:?}, not {:?}",
                head.all(name)
            )
        });
    let surplus = without
        .iter()
        .filter(|name| head.has(name))
        .map(|name| format!("{who} should not have got {name}: {:?}", head.all(name)));
    missing.chain(surplus).collect()
}

/// What frames a request or authorises it, and may not be there in disguise.
const DISGUISED: [&str; 7] = [
    "transfer-encoding",
    "content-length",
    "authorization",
    "proxy-authorization",
    "http-authorization",
    "x-auth-token",
    "csp-auth-token",
];

/// What holds for each request that leaves the proxy.
fn always_upstream(received: &Received, played: &Played) -> Vec<String> {
    let head = &received.head;
    let mut differences = Vec::new();
    if let Some(flaw) = &received.flaw {
        differences.push(format!("upstream got something malformed: {flaw}"));
        return differences;
    }
    let mut must = |holds: bool, what: &str| {
        if !holds {
            differences.push(format!("upstream: {what}: {:?}", head.fields));
        }
    };
    must(
        head.all("authorization") == [format!("Bearer {TOKEN}")],
        "not the one credential",
    );
    must(
        head.all("host") == [played.upstream.as_str()],
        "another Host",
    );
    for name in [
        "proxy-authorization",
        "proxy-connection",
        "keep-alive",
        "http2-settings",
        "x-auth-token",
        "csp-auth-token",
    ] {
        must(!head.has(name), name);
    }
    // To who hands fields to a program as variables, `_` and `-` are the same.
    for (name, _) in &head.fields {
        let other = name.to_ascii_lowercase().replace('_', "-");
        let is_disguise = name.contains('_') && DISGUISED.contains(&other.as_str());
        must(!is_disguise, name);
    }
    let text = format!("{:?}", head.fields);
    must(!text.contains("evil-credential"), "a client's credential");
    let connection = options(head);
    must(
        connection
            .iter()
            .all(|option| ["close", "keep-alive", "te", "upgrade"].contains(&option.as_str())),
        "Connection",
    );
    let names = |name: &str| connection.iter().any(|option| option == name);
    must(
        !head.has("upgrade") || (head.all("upgrade") == ["websocket"] && names("upgrade")),
        "Upgrade",
    );
    must(
        !head.has("te") || (head.all("te") == ["trailers"] && names("te")),
        "TE",
    );
    differences
}

/// What holds for each answer that leaves the proxy.
fn always_client(got: &Got) -> Vec<String> {
    let head = &got.head;
    let mut differences = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            differences.push(format!("client: {what}"));
        }
    };
    let text = format!("{:?} {}", head.fields, got.body);
    must(!text.contains(TOKEN), "got the credential");
    for name in ["proxy-connection", "te", "alt-svc"] {
        must(!head.has(name), name);
    }
    must(head.has("upgrade") <= (got.status == 101), "Upgrade");
    must(
        options(head)
            .iter()
            .all(|option| ["close", "keep-alive", "upgrade"].contains(&option.as_str())),
        "Connection names fields of another connection",
    );
    differences
}

/// An interim response has no body (RFC 9110 §8.6, RFC 9112 §6.1), and says nothing of the connection.
fn always_interim(got: &Got) -> Vec<String> {
    ["content-length", "transfer-encoding", "keep-alive"]
        .into_iter()
        .filter(|name| got.head.has(name))
        .map(|name| format!("client: {name} in an interim answer"))
        .collect()
}

fn options(head: &Head) -> Vec<String> {
    head.all("connection")
        .iter()
        .flat_map(|value| value.split(','))
        .map(|option| option.trim().to_ascii_lowercase())
        .filter(|option| !option.is_empty())
        .collect()
}

/// What holds for each answer that the sidecar makes itself (RFC 9209, and our own contract).
fn own(got: &Got, end: End) -> Vec<String> {
    let head = &got.head;
    let one = |name: &str| match head.all(name).as_slice() {
        [value] => (*value).to_owned(),
        other => format!("{other:?}"),
    };
    let mut differences = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            differences.push(format!("own answer: {what}"));
        }
    };
    let status = one("proxy-status");
    must(
        status.starts_with("auth-sidecar; error=") && status.contains("; details="),
        "Proxy-Status",
    );
    must(
        one("content-type") == "application/problem+json",
        "Content-Type",
    );
    must(one("cache-control") == "no-store", "Cache-Control");
    must(one("x-content-type-options") == "nosniff", "nosniff");
    must(
        ![401, 404, 407].contains(&got.status),
        "a status that loses data",
    );
    must(head.has("allow") == (got.status == 405), "Allow");
    must(
        head.has("retry-after") == (got.status == 503),
        "Retry-After",
    );
    must(
        !head
            .fields
            .iter()
            .any(|(name, _)| name.to_ascii_lowercase().starts_with("access-control")),
        "a grant to a browser",
    );
    let problem: Result<Value, _> = serde_json::from_str(&got.body);
    let says = problem.is_ok_and(|problem| problem.get("status") == Some(&got.status.into()));
    must(says || got.body.is_empty(), "no problem document");
    if end == End::Closed {
        must(
            options(head).contains(&"close".to_owned()),
            "Connection: close",
        );
    }
    differences
}
