//! Upgrades and tunnels (RFC 9110 §7.8, RFC 6455, RFC 9931).

use crate::case::{
    Case, Content, End, Part, Reply, SMUGGLED, Step, Upstream, Want, case, get, post,
};

const X: &str = "GET /x HTTP/1.1";
const OFFER: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

pub fn cases() -> Vec<Case> {
    [tunnels(), refusals(), others()].concat()
}

/// The client's offer goes on and is accepted.
fn accepted(case: Case) -> Case {
    case.forwarded(X)
        .with("upgrade", &["websocket"])
        .with("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ=="])
        .with("sec-websocket-version", &["13"])
        .end(End::Either)
}

fn switched(mut case: Case) -> Case {
    if let Some(reply) = case
        .outcomes
        .last_mut()
        .and_then(|outcome| outcome.replies.last_mut())
    {
        reply.status = vec![101];
        reply.fields = vec![
            ("upgrade", vec!["websocket".to_owned()]),
            (
                "sec-websocket-accept",
                vec!["s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()],
            ),
        ];
        reply.body = Content::Is(String::new());
    }
    case
}

fn tunnels() -> Vec<Case> {
    let tunnel = |name, offer: &str| {
        let case =
            case("6455 §4", name, get(offer)).answers([Part::Say(SWITCH.into()), Part::Echo]);
        switched(accepted(case))
    };
    vec![
        tunnel("a WebSocket is tunnelled", OFFER).step(Step::Reply).step(Step::Echo("ping")).step(Step::Echo("pong, and more")),
        tunnel("an offer in other case is one", &OFFER.replace("websocket", "WebSocket").replace("Connection: Upgrade", "connection: keep-alive, upgrade"))
            .step(Step::Reply)
            .step(Step::Echo("ping")),
        tunnel("bytes in a tunnel are no requests", OFFER).step(Step::Reply).step(Step::Echo(SMUGGLED)),
        tunnel("a WebSocket's own fields go on", &format!("{OFFER}\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: permessage-deflate"))
            .with("sec-websocket-protocol", &["a, b"])
            .with("sec-websocket-extensions", &["permessage-deflate"])
            .step(Step::Reply)
            .step(Step::Echo("ping")),
        switched(accepted(case("6455 §4", "what comes right behind a 101 is in the tunnel", get(OFFER))
            .answers([Part::Say([SWITCH, "hello"].concat().into()), Part::Echo])
            .step(Step::Reply)
            .step(Step::Send("x".into()))
            .finish())),
        tunnel("the end of one direction is not the end of the other", OFFER)
            .step(Step::Reply)
            .step(Step::Echo("ping"))
            .finish()
            .end(End::Closed),
        tunnel("a second WebSocket is another", &format!("{OFFER}\r\nAuthorization: Bearer evil-credential"))
            .never("evil-credential")
            .step(Step::Reply)
            .step(Step::Echo("ping")),
    ]
}

fn refusals() -> Vec<Case> {
    let offer = |name| case("9110 §7.8", name, get(OFFER));
    vec![
        offer("an offer that is declined is an answered request")
            .gives(&[200])
            .body("/x"),
        offer("an offer that is refused is an answered request")
            .answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            .gives(&[403])
            .body("no"),
        // RFC 9931 §4: what is behind an offer is HTTP until a 101 says otherwise.
        case(
            "9931 §4",
            "what is behind an offer that is declined is the next request",
            [get(OFFER), SMUGGLED.into()].concat(),
        )
        .outcome(
            Upstream::Requests(vec![
                Want {
                    line: X.to_owned(),
                    ..Want::default()
                },
                Want::new("GET /smuggled HTTP/1.1", ""),
            ]),
            vec![Reply::status(&[200]), Reply::status(&[200])],
            End::Usable,
        )
        .outcome(
            Upstream::Requests(vec![Want {
                line: X.to_owned(),
                ..Want::default()
            }]),
            vec![Reply::status(&[200])],
            End::Closed,
        ),
        case(
            "9931 §4",
            "a credential behind an offer that is declined is replaced like any other",
            [get(OFFER), get("Authorization: Bearer evil-credential")].concat(),
        )
        .outcome(
            Upstream::Requests(vec![
                Want {
                    line: X.to_owned(),
                    ..Want::default()
                },
                Want::new(X, ""),
            ]),
            vec![Reply::status(&[200]), Reply::status(&[200])],
            End::Usable,
        )
        .never("evil-credential")
        .outcome(
            Upstream::Requests(vec![Want {
                line: X.to_owned(),
                ..Want::default()
            }]),
            vec![Reply::status(&[200])],
            End::Closed,
        )
        .never("evil-credential"),
        case(
            "9931 §4",
            "nonsense behind an offer that is declined is refused",
            [&get(OFFER)[..], b"\x81\x05hello\r\n\r\n"].concat(),
        )
        .outcome(
            Upstream::Requests(vec![Want {
                line: X.to_owned(),
                ..Want::default()
            }]),
            vec![Reply::status(&[200]), Reply::own(&[400])],
            End::Closed,
        )
        .outcome(
            Upstream::Requests(vec![Want {
                line: X.to_owned(),
                ..Want::default()
            }]),
            vec![Reply::status(&[200])],
            End::Closed,
        ),
        offer("a switch to another protocol is a bad answer")
            .answer_and_close(SWITCH.replace("websocket", "h2c"))
            .bad_gateway(),
        offer("a switch to nothing is a bad answer")
            .answer_and_close("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n")
            .bad_gateway(),
        case(
            "9110 §15.2.2",
            "a switch that nobody asked for is a bad answer",
            get("X-A: 1"),
        )
        .answer_and_close(SWITCH)
        .bad_gateway(),
        case(
            "9110 §15.2.2",
            "a switch that nobody asked for does not open a tunnel",
            get("X-A: 1"),
        )
        .answers([Part::Say(SWITCH.into()), Part::Echo])
        .send(SMUGGLED)
        .outcome(Upstream::Anything, vec![Reply::own(&[502])], End::Either),
    ]
}

fn others() -> Vec<Case> {
    let ignored = |section, name, bytes: &[u8]| {
        case(section, name, bytes)
            .forwarded(X)
            .without(&["upgrade", "http2-settings"])
            .never("h2c")
    };
    let fields = |fields: &str| get(fields);
    vec![
        ignored("9113 §3.1", "h2c is not offered to the upstream", &fields("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")),
        ignored("9113 §3.1", "h2c without its settings is not offered either", &fields("Connection: Upgrade\r\nUpgrade: h2c")),
        ignored("9113 §3.1", "h2c without its nomination is not offered either", &fields("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")),
        ignored("9110 §7.8", "another protocol is not offered", &fields("Connection: upgrade\r\nUpgrade: IRC/6.9, RTA/x11")),
        ignored("9110 §7.8", "TLS is not offered", &fields("Connection: upgrade\r\nUpgrade: TLS/1.0")),
        ignored("9110 §7.8", "a WebSocket without its nomination is not offered", &fields("Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
        ignored("9110 §7.8", "a WebSocket in HTTP/1.0 is not offered", format!("GET /x HTTP/1.0\r\nHost: localhost\r\n{OFFER}\r\n\r\n").as_bytes()).end(End::Closed),
        // Of a list only what we forward may go on.
        case("9110 §7.8", "of a list with a WebSocket nothing else is offered", fields(&OFFER.replace("websocket", "h2c, websocket")))
            .forwarded(X)
            .never("h2c"),
        case("9110 §7.8", "two offers are not more than one", fields(&format!("{OFFER}\r\nUpgrade: h2c")))
            .forwarded(X)
            .never("h2c")
            .or_refused(&[400]),
        case("9110 §7.8", "a body beside an offer arrives whole", post(format!("{OFFER}\r\nContent-Length: 5"), "hello"))
            .forwarded("POST /x HTTP/1.1")
            .content("hello")
            .or_refused(&[400]),
        case("9113 §3.1", "a body beside an offer of h2c arrives whole", post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 5", "hello"))
            .forwarded("POST /x HTTP/1.1")
            .content("hello")
            .without(&["upgrade", "http2-settings"]),
    ]
}
