//! What a request must become behind the sidecar, decided by the contract and the RFCs alone.

use std::collections::BTreeMap;

use http_oracle::{Fields, Request, decimal};

/// The credential that the sidecar sets.
pub const TOKEN: &str = "the-token-of-the-sidecar";

/// What must become of a request.
#[derive(Debug)]
pub enum Fate {
    /// It goes on.
    Forwarded,
    /// The sidecar answers itself.
    Denied(&'static str),
    /// Either: no rule forbids it and none demands it.
    Either,
}

/// Never goes on, whoever names it: connection fields, credentials, and what the sidecar sets.
const ENDS_HERE: [&str; 15] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
    "authorization",
    "x-auth-token",
    "csp-auth-token",
    "host",
    "via",
];

/// Names that end here also where `_` stands for `-`, or behind `HTTP_`: those that frame, route or
/// authorise, and those that are judged.
const DISGUISED: [&str; 23] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "csp-auth-token",
    "date",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "sec-fetch-site",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-auth-token",
];

/// More fields than this are refused.
const MAX_FIELDS: usize = 100;

/// Decides what must become of a request that is well-formed.
pub fn fate(request: &Request) -> Fate {
    let fields = &request.fields;
    let is = |method: &str| request.method.eq_ignore_ascii_case(method.as_bytes());
    if fields.0.len() > MAX_FIELDS {
        return Fate::Denied("too many fields");
    }
    if is("TRACE") || is("TRACK") || is("CONNECT") {
        return Fate::Denied("method");
    }
    let mut fate = Fate::Forwarded;
    let mut authority = match fields.all("host").as_slice() {
        [host] if is_ours(host) => host.to_vec(),
        [] if request.is_http_10 => Vec::new(),
        _ => return Fate::Denied("host"),
    };
    let target = request.target.as_slice();
    if target.first() == Some(&b'/') {
        // Origin-form.
    } else if target == b"*" {
        if request.method != b"OPTIONS" {
            return Fate::Denied("asterisk-form");
        }
    } else if let Some((of_target, _)) = absolute(target) {
        if !is_ours(of_target) {
            return Fate::Denied("authority of the target");
        }
        authority = of_target.to_vec();
    } else {
        return Fate::Denied("form of the target");
    }
    let mut granted = false;
    for origin in fields.all("origin") {
        match own_origin(origin, &authority) {
            Some(true) => {}
            Some(false) => fate = Fate::Either,
            None => return Fate::Denied("origin"),
        }
        granted = true;
    }
    let is_own_site = |site: &&[u8]| *site == b"same-origin" || *site == b"none";
    if !granted && !fields.all("sec-fetch-site").iter().all(is_own_site) {
        return Fate::Denied("site");
    }
    if is_loop(fields) {
        return Fate::Denied("loop");
    }
    if request.method == b"OPTIONS" {
        match fields.all("max-forwards").as_slice() {
            [] => {}
            [left] => match number(left) {
                Some(0) => return Fate::Denied("last hop"),
                Some(_) => {}
                None => return Fate::Denied("no number"),
            },
            _ => return Fate::Denied("several numbers"),
        }
    }
    fate
}

/// Whether a part of the head alone is enough to refuse it.
pub fn is_odd(request: &Request) -> bool {
    let target = request.target.as_slice();
    let is_ours = |(authority, _): (&[u8], &[u8])| is_ours(authority);
    let has_form = target.first() == Some(&b'/') || target == b"*";
    let has_form = has_form || absolute(target).is_some_and(is_ours);
    let fields = &request.fields;
    !has_form || fields.0.len() > MAX_FIELDS
}

/// Whether a received request is what became of the one that was meant.
pub fn check(meant: &Request, received: &Request, upstream: &str) -> Result<(), String> {
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    must(received.method == meant.method, "another method")?;
    must(received.target == target(meant), "another target")?;
    must(!received.is_http_10, "another version")?;
    must(received.body == meant.body, "another body")?;
    check_fields(meant, received, upstream)
}

/// The same for the fields alone: all that can be said before the body is whole.
pub fn check_fields(meant: &Request, received: &Request, upstream: &str) -> Result<(), String> {
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let fields = &received.fields;
    must(fields.all("host") == [upstream.as_bytes()], "another Host")?;
    let credential = format!("Bearer {TOKEN}");
    must(
        fields.all("authorization") == [credential.as_bytes()],
        "not the one credential",
    )?;
    let own = if meant.is_http_10 { "1.0" } else { "1.1" };
    let own = format!("{own} auth-sidecar");
    let mut via = meant.fields.all("via");
    via.push(own.as_bytes());
    must(fields.all("via") == via, "another Via")?;
    let may = ["close", "keep-alive", "te", "upgrade"];
    let is_known = |option: &Vec<u8>| may.iter().any(|known| known.as_bytes() == option);
    must(fields.list("connection").iter().all(is_known), "Connection")?;
    let upgrade = fields.all("upgrade");
    must(
        upgrade.is_empty() == !fields.connection("upgrade")
            && (upgrade.is_empty() || (upgrade == [b"websocket"] && offers_websocket(meant))),
        "Upgrade",
    )?;
    must(
        !fields.has("te") || (fields.all("te") == [b"trailers"] && fields.connection("te")),
        "TE",
    )?;
    let (wanted, found) = (by_name(&outbound(meant)), by_name(&end_to_end(fields)));
    must(
        wanted == found,
        &format!(
            "other fields: {:?}, not {:?}",
            Shown(&found),
            Shown(&wanted)
        ),
    )
}

/// The target as it goes on: origin-form, or the asterisk, which OPTIONS of an address without a
/// path becomes (RFC 9112 §3.2.4).
fn target(meant: &Request) -> Vec<u8> {
    let target = meant.target.as_slice();
    let Some((_, path)) = absolute(target).filter(|_| target.first() != Some(&b'/')) else {
        return target.to_vec();
    };
    match path.first() {
        Some(b'/') => path.to_vec(),
        None if meant.method == b"OPTIONS" => b"*".to_vec(),
        _ => [b"/", path].concat(),
    }
}

/// The fields of the client that go on.
fn outbound(meant: &Request) -> Fields {
    let nominated = meant.fields.list("connection");
    let is_protected = |name: &[u8]| {
        matches!(name, b"origin" | b"max-forwards") || name.starts_with(b"sec-fetch-")
    };
    let mut fields = end_to_end(&meant.fields);
    fields.0.retain(|(name, _)| {
        let name = name.to_ascii_lowercase();
        if meant.is_http_10 && name == b"expect" {
            return false;
        }
        is_protected(&name) || !nominated.contains(&name)
    });
    if meant.method == b"OPTIONS" {
        for (name, value) in &mut fields.0 {
            if name.eq_ignore_ascii_case(b"max-forwards")
                && let Some(left) = number(value)
            {
                *value = left.saturating_sub(1).to_string().into_bytes();
            }
        }
    }
    fields
}

fn end_to_end(fields: &Fields) -> Fields {
    let ends_here = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        ENDS_HERE.iter().any(|known| known.as_bytes() == name) || is_disguised(&name)
    };
    let kept = fields.0.iter().filter(|(name, _)| !ends_here(name));
    Fields(kept.cloned().collect())
}

/// Whether a name in small letters is one that matters for a server that hands fields to programs
/// as variables, which takes `_` for `-`.
pub fn is_disguised(name: &[u8]) -> bool {
    let plain: Vec<u8> = name.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
    let variable = plain.strip_prefix(b"http-");
    DISGUISED.iter().any(|known| {
        let known = known.as_bytes();
        (plain == known && name != plain) || variable == Some(known)
    })
}

type ByName = BTreeMap<Vec<u8>, Vec<(Vec<u8>, Vec<u8>)>>;

/// Fields of one name keep their order; those of different names need not (RFC 9110 §5.3).
fn by_name(fields: &Fields) -> ByName {
    let mut names = ByName::new();
    for (name, value) in &fields.0 {
        let same = names.entry(name.to_ascii_lowercase()).or_default();
        same.push((name.clone(), value.clone()));
    }
    names
}

struct Shown<'a>(&'a ByName);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = self.0.values().flatten().cloned().collect();
        write!(f, "{:?}", Fields(fields))
    }
}

/// Whether it wants to become a WebSocket, and nothing else (RFC 6455 §4.1).
pub fn offers_websocket(request: &Request) -> bool {
    let protocol = request.fields.all("upgrade");
    request.method == b"GET"
        && !request.is_http_10
        && matches!(protocol.as_slice(), [one] if one.eq_ignore_ascii_case(b"websocket"))
        && request.fields.connection("upgrade")
}

/// Whether the connection ends behind the answer (RFC 9112 §9.3).
pub fn closes(request: &Request) -> bool {
    request.fields.connection("close")
        || (request.is_http_10 && !request.fields.connection("keep-alive"))
}

/// `http://authority` and what follows it.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let scheme = target.iter().position(|byte| *byte == b':')?;
    let (scheme, behind) = target.split_at(scheme);
    let behind = behind.strip_prefix(b"://")?;
    let is_http = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    let end = behind.iter().position(|byte| matches!(byte, b'/' | b'?'));
    is_http.then(|| behind.split_at(end.unwrap_or(behind.len())))
}

/// `uri-host [ ":" port ]` that names this machine's loopback or `localhost`.
fn is_ours(authority: &[u8]) -> bool {
    let bracket = authority.iter().rposition(|byte| *byte == b']');
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let colon = colon.filter(|colon| bracket.is_none_or(|bracket| bracket < *colon));
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    let port = port.strip_prefix(b":").unwrap_or_default();
    let is_port = port.is_empty() || decimal(port).is_some_and(|port| port <= 65535);
    is_port && is_own_host(host)
}

fn is_own_host(host: &[u8]) -> bool {
    let text = String::from_utf8_lossy(host).to_ascii_lowercase();
    if let Some(address) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        return address
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    let is_octet = |part: &str| {
        let is_plain = part == "0" || !part.starts_with('0');
        is_plain && part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u8>().is_ok()
    };
    let octets: Vec<_> = text.split('.').collect();
    let is_loopback = octets.len() == 4 && octets[0] == "127" && octets.iter().all(|o| is_octet(o));
    text == "localhost" || is_loopback
}

/// `Some(true)` for an origin of the authority's own, `None` for another one, `Some(false)` for
/// what is its own by a forgiving reading.
fn own_origin(origin: &[u8], authority: &[u8]) -> Option<bool> {
    let is_authority = |text: &[u8]| !text.is_empty() && text.eq_ignore_ascii_case(authority);
    for scheme in ["http://", "https://"] {
        if origin
            .strip_prefix(scheme.as_bytes())
            .is_some_and(is_authority)
        {
            return Some(true);
        }
    }
    let behind = origin.windows(3).position(|three| three == b"://");
    let behind = behind.map_or(origin, |at| &origin[at + 3..]);
    let end = behind
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    is_authority(&behind[..end.unwrap_or(behind.len())]).then_some(false)
}

/// RFC 9110 §7.6.3: `[ protocol-name "/" ] protocol-version RWS received-by [ RWS comment ]`.
fn is_loop(fields: &Fields) -> bool {
    fields.list("via").iter().any(|hop| {
        let hop = String::from_utf8_lossy(hop);
        let mut words = hop.split([' ', '\t']).filter(|word| !word.is_empty());
        let by = words.nth(1).unwrap_or_default();
        by == "auth-sidecar" || by.starts_with("auth-sidecar(")
    })
}

/// 1*DIGIT, the largest one for those that are larger.
fn number(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number = String::from_utf8_lossy(digits).parse();
    is_plain.then(|| number.unwrap_or(u64::MAX))
}
