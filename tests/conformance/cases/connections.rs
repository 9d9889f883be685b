//! Several requests, and the ends of connections (RFC 9112 §9).

use crate::case::{
    Case, End, OK, Part, Reply, SMUGGLED, Step, Upstream, Want, case, get, line, post,
};

const X: &str = "GET /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    [pipelines(), ends(), retries(), early()].concat()
}

fn pipelines() -> Vec<Case> {
    let y = || line("GET /y HTTP/1.1");
    vec![
        case("9112 §9.3.2", "requests in one piece are answered in their order", [get(""), y(), line("GET /z HTTP/1.1")].concat())
            .forwarded(X)
            .body("/x")
            .and_forwarded("GET /y HTTP/1.1")
            .body("/y")
            .and_forwarded("GET /z HTTP/1.1")
            .body("/z"),
        case("9112 §9.3.2", "a slow first answer does not lose its place", [get(""), y()].concat())
            .answers([Part::Pause, Part::Say(OK.into())])
            .forwarded(X)
            .body("ok")
            .and_forwarded("GET /y HTTP/1.1")
            .body("/y"),
        case("9112 §9.3.2", "bodies of requests in one piece stay apart", [post("Content-Length: 3", "one"), post("Transfer-Encoding: chunked", "3\r\ntwo\r\n0\r\n\r\n"), y()].concat())
            .outcome(
                Upstream::Requests(vec![Want::new("POST /x HTTP/1.1", "one"), Want::new("POST /x HTTP/1.1", "two"), Want::new("GET /y HTTP/1.1", "")]),
                vec![Reply::status(&[200]), Reply::status(&[200]), Reply::status(&[200])],
                End::Usable,
            )
            .body("/y"),
        case("9112 §9.3.2", "an answer to HEAD is no hole in the order", [line("HEAD /x HTTP/1.1"), y()].concat())
            .head(0)
            .forwarded("HEAD /x HTTP/1.1")
            .and_forwarded("GET /y HTTP/1.1")
            .body("/y"),
        case(
            "9112 §9.3.2",
            "requests of every kind in one piece are answered in their order",
            [
                get(""),
                post("Content-Length: 3", "one"),
                line("HEAD /h HTTP/1.1"),
                post("Transfer-Encoding: chunked", "3\r\ntwo\r\n0\r\n\r\n"),
                y(),
            ]
            .concat(),
        )
        .head(2)
        .answers([Part::Pause, Part::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1".into())])
        .answer("HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n")
        .answer("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        .answers([Part::Pause, Part::Say(b"HTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\n4".into())])
        .outcome(
            Upstream::Requests(vec![
                Want::new(X, ""),
                Want::new("POST /x HTTP/1.1", "one"),
                Want::new("HEAD /h HTTP/1.1", ""),
                Want::new("POST /x HTTP/1.1", "two"),
                Want::new("GET /y HTTP/1.1", ""),
            ]),
            vec![Reply::status(&[200])],
            End::Usable,
        )
        .body("1")
        .and_replies(201)
        .body("2")
        .and_replies(200)
        .reply_with("content-length", &["1000"])
        .and_replies(202)
        .body("4")
        .and_replies(200)
        .body("/y"),
        case("9112 §9.3.2", "a 204 and a 304 are no holes in the order", [get(""), get(""), y()].concat())
            .answer("HTTP/1.1 204 No Content\r\n\r\n")
            .answer("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n")
            .outcome(
                Upstream::Anything,
                vec![Reply::status(&[204]), Reply::status(&[304]), Reply::status(&[200])],
                End::Usable,
            )
            .body("/y"),
        case("9112 §9.3.2", "what came before a malformed request is answered first", [get(""), y(), b"GET /bad HTTP/1.1\r\nX y: z\r\n\r\n".to_vec(), SMUGGLED.into()].concat())
            .outcome(
                Upstream::Requests(vec![Want::new(X, ""), Want::new("GET /y HTTP/1.1", "")]),
                vec![Reply::status(&[200]), Reply::status(&[200]), Reply::own(&[400])],
                End::Closed,
            ),
        case("9112 §9.6", "nothing follows the last answer, whatever stands behind a request to close", [get("Connection: close"), b"GET /bad HTTP/1.1\r\nX y: z\r\n\r\n".to_vec()].concat())
            .forwarded(X)
            .end(End::Closed),
        case("9112 §9.6", "nothing follows the last answer, whatever stands behind HTTP/1.0", b"GET /x HTTP/1.0\r\n\r\n\0\r\n")
            .forwarded(X)
            .end(End::Closed),
        case("9112 §9.6", "nothing follows a refusal that closes", [b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n".to_vec(), b"\0\r\n".to_vec()].concat())
            .or_refused(&[400]),
        case("9112 §9.3.2", "a request behind one that is denied is served", [get("Origin: http://evil.example"), y()].concat())
            .outcome(
                Upstream::Requests(vec![Want::new("GET /y HTTP/1.1", "")]),
                vec![Reply::own(&[403]), Reply::status(&[200])],
                End::Usable,
            )
            .body("/y"),
        case("9112 §9.3.2", "the Host of the first request is not that of the second", [get(""), b"GET /y HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec()].concat())
            .outcome(
                Upstream::Requests(vec![Want::new(X, "")]),
                vec![Reply::status(&[200]), Reply::own(&[421])],
                End::Usable,
            )
            .by_name(),
        case("9112 §9.3.2", "a request cut in two behind another is one", [get(""), b"GET /y HT".to_vec()].concat())
            .then("TP/1.1\r\nHost: localhost\r\n\r\n")
            .forwarded(X)
            .and_forwarded("GET /y HTTP/1.1")
            .body("/y"),
        case("9112 §2.2", "an empty line between requests is passed over", [post("Content-Length: 3", "one"), b"\r\n".to_vec(), y()].concat())
            .outcome(
                Upstream::Requests(vec![Want::new("POST /x HTTP/1.1", "one"), Want::new("GET /y HTTP/1.1", "")]),
                vec![Reply::status(&[200]), Reply::status(&[200])],
                End::Usable,
            ),
        case("9112 §6.3", "more than a body's length is the next request, and refused if it is none", post("Content-Length: 3", "one-and-more\r\n\r\n"))
            .outcome(
                Upstream::Requests(vec![Want::new("POST /x HTTP/1.1", "one")]),
                vec![Reply::status(&[200]), Reply::own(&[400])],
                End::Closed,
            ),
        case("contract", "the body of a request that is denied is no request", format!("POST /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()))
            .outcome(Upstream::Nothing, vec![Reply::own(&[403])], End::Either),
        case("contract", "the chunks of a request that is denied are no request", format!("POST /x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()))
            .outcome(Upstream::Nothing, vec![Reply::own(&[403])], End::Either),
    ]
}

fn ends() -> Vec<Case> {
    vec![
        // RFC 9112 §9.6 leaves it open; whoever pipes a request into a socket ends its side so.
        case(
            "contract",
            "a client that ends its side gets its answer",
            get(""),
        )
        .finish()
        .forwarded(X)
        .body("/x")
        .end(End::Closed),
        case(
            "contract",
            "a client that ends its side behind a body gets its answer",
            post("Content-Length: 5", "hello"),
        )
        .finish()
        .forwarded("POST /x HTTP/1.1")
        .content("hello")
        .body("/x")
        .end(End::Closed),
        case(
            "contract",
            "a client that ends its side behind chunks gets its answer",
            post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        )
        .finish()
        .forwarded("POST /x HTTP/1.1")
        .content("hello")
        .body("/x")
        .end(End::Closed),
        case(
            "contract",
            "a client that ends its side gets the whole of a slow answer",
            get(""),
        )
        .finish()
        .answers([
            Part::Pause,
            Part::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n".into()),
            Part::Pause,
            Part::Say(b"3\r\ntwo\r\n".into()),
            Part::Pause,
            Part::Say(b"0\r\n\r\n".into()),
        ])
        .forwarded(X)
        .body("onetwo")
        .end(End::Closed),
        case(
            "contract",
            "a client that ends its side gets an answer to each of its requests",
            [
                get(""),
                post("Content-Length: 5", "hello"),
                line("GET /y HTTP/1.1"),
            ]
            .concat(),
        )
        .finish()
        .outcome(
            Upstream::Requests(vec![
                Want::new(X, ""),
                Want::new("POST /x HTTP/1.1", "hello"),
                Want::new("GET /y HTTP/1.1", ""),
            ]),
            vec![
                Reply::status(&[200]),
                Reply::status(&[200]),
                Reply::status(&[200]),
            ],
            End::Closed,
        )
        .body("/y"),
        case(
            "9112 §9.6",
            "a client that says nothing and leaves gets nothing",
            "",
        )
        .finish()
        .outcome(Upstream::Nothing, vec![], End::Closed)
        .only_first(),
        case(
            "9112 §9.6",
            "a client that leaves between requests gets nothing more",
            get(""),
        )
        .step(Step::Reply)
        .finish()
        .forwarded(X)
        .end(End::Closed),
        case(
            "9112 §9.6",
            "an answer that closes at the upstream leaves the client's connection",
            [get(""), line("GET /y HTTP/1.1")].concat(),
        )
        .answer_and_close("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        .forwarded(X)
        .and_forwarded("GET /y HTTP/1.1")
        .body("/y"),
    ]
}

/// RFC 9110 §9.2.2: sent again only where that is harmless, and only for a kept connection that
/// ended. The second of two plays has such a connection, so these have their own first request.
fn retries() -> Vec<Case> {
    let second = |name, request: Vec<u8>| {
        case("9110 §9.2.2", name, get(""))
            .step(Step::Reply)
            .send(request)
            .answer(OK)
            .answers([Part::Close])
            .answer(OK)
            .only_first()
    };
    vec![
        second(
            "a GET on a kept connection that ends is sent again",
            line("GET /y HTTP/1.1"),
        )
        .outcome(
            Upstream::Requests(vec![
                Want::new(X, ""),
                Want::new("GET /y HTTP/1.1", ""),
                Want::new("GET /y HTTP/1.1", ""),
            ]),
            vec![Reply::status(&[200]), Reply::status(&[200])],
            End::Usable,
        )
        .body("ok"),
        second(
            "a POST on a kept connection that ends is not",
            post("Content-Length: 5", "hello"),
        )
        .outcome(
            Upstream::Requests(vec![
                Want::new(X, ""),
                Want::new("POST /x HTTP/1.1", "hello"),
            ]),
            vec![Reply::status(&[200]), Reply::own(&[502])],
            End::Usable,
        ),
        second(
            "a method that nobody knows is not either",
            line("BREW /y HTTP/1.1"),
        )
        .outcome(
            Upstream::Requests(vec![Want::new(X, ""), Want::new("BREW /y HTTP/1.1", "")]),
            vec![Reply::status(&[200]), Reply::own(&[502])],
            End::Usable,
        ),
    ]
}

fn early() -> Vec<Case> {
    const NO: &str = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
    vec![
        case(
            "9112 §9.5",
            "an answer before the body is whole is delivered",
            post("Content-Length: 10", "hello"),
        )
        .answers_early([Part::Say(NO.into())])
        .step(Step::Reply)
        .send("hello")
        .outcome(Upstream::Anything, vec![Reply::status(&[413])], End::Either)
        .body("no"),
        case(
            "9112 §9.5",
            "an answer before the body and the end are delivered",
            post("Content-Length: 10", "hello"),
        )
        .answers_early([Part::Say(NO.into()), Part::Close])
        .step(Step::Reply)
        .outcome(Upstream::Anything, vec![Reply::status(&[413])], End::Either)
        .body("no"),
        // What the client still sends of its body is its body, whatever it looks like.
        case(
            "9112 §9.5",
            "the rest of a body behind an early answer is no request",
            post(format!("Content-Length: {}", SMUGGLED.len() + 5), "hello"),
        )
        .answers_early([Part::Say(NO.into())])
        .step(Step::Reply)
        .send(SMUGGLED)
        .outcome(
            Upstream::Requests(vec![Want {
                line: "POST /x HTTP/1.1".to_owned(),
                body: Some(format!("hello{SMUGGLED}")),
                ..Want::default()
            }]),
            vec![Reply::status(&[413])],
            End::Either,
        )
        .outcome(
            Upstream::NothingWhole,
            vec![Reply::status(&[413])],
            End::Either,
        ),
        case(
            "9112 §9.5",
            "the rest of chunks behind an early answer is no request",
            post("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        )
        .answers_early([Part::Say(NO.into())])
        .step(Step::Reply)
        .send(format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len()))
        .outcome(
            Upstream::Requests(vec![Want {
                line: "POST /x HTTP/1.1".to_owned(),
                body: Some(format!("hello{SMUGGLED}")),
                ..Want::default()
            }]),
            vec![Reply::status(&[413])],
            End::Either,
        )
        .outcome(
            Upstream::NothingWhole,
            vec![Reply::status(&[413])],
            End::Either,
        ),
        case(
            "9112 §9.5",
            "an early answer of 200 and a body that goes on both arrive",
            post("Content-Length: 10", "hello"),
        )
        .answers_early([Part::Say(OK.into())])
        .then("world")
        .outcome(
            Upstream::Requests(vec![Want {
                line: "POST /x HTTP/1.1".to_owned(),
                body: Some("helloworld".to_owned()),
                ..Want::default()
            }]),
            vec![Reply::status(&[200])],
            End::Either,
        )
        .outcome(
            Upstream::NothingWhole,
            vec![Reply::status(&[200])],
            End::Either,
        ),
    ]
}
