//! Everything at the most verbose level, and no secret in it.

/// Secrets where they do not belong, and files that hold something else.
mod mistakes;
/// Passwords of proxies, private keys and local tokens.
mod surroundings;

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use url::form_urlencoded;

use crate::support::{
    API_TOKEN, Answer, CLIENT_ID, CLIENT_SECRET, Connection, FakeCsp, FakeService, MESSAGE_CANARY,
    Process, RawServer, Reply, Settings, Sidecar, TOKEN_CANARY, eventually, eventually_async,
    http2::{self, PREFACE},
    jwt, logs, request, send_raw, try_request,
};

const SOON: Duration = Duration::from_secs(10);
const STATIC_TOKEN: &str = "canary-static-token-7e6f5a4b3c2d";
const CLIENT_CANARY: &str = "canary-of-the-client-81b2";
/// As in a URL: it holds an @.
const PROXY_PASSWORD: &str = "canary-p%40ss-of-the-proxy-6e2d";
/// In whatever place it does not belong.
const MISPLACED: &str = "canary-misplaced-7f3e+8/9=0a";
const UPSTREAM_CANARY: &str = "canary-of-the-upstream-93c4";

/// Every form in which a secret could show, and what it would give away.
fn marks() -> Vec<(&'static str, String)> {
    let mut marks = Vec::new();
    for (what, secret) in [
        ("the client secret", CLIENT_SECRET),
        ("the API token", API_TOKEN),
        ("the static token", STATIC_TOKEN),
        ("an access token", TOKEN_CANARY),
        ("a message of the token service", MESSAGE_CANARY),
        ("a credential of the client", CLIENT_CANARY),
        ("the password of a proxy", PROXY_PASSWORD),
        (
            "the password of a proxy, decoded",
            &PROXY_PASSWORD.replace("%40", "@"),
        ),
        ("a misplaced secret", MISPLACED),
    ] {
        marks.push((what, secret.to_owned()));
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        marks.push((what, encoded.replace('+', "%20")));
        marks.push((what, encoded));
        marks.push((
            what,
            serde_json::to_string(secret)
                .unwrap()
                .trim_matches('"')
                .to_owned(),
        ));
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            marks.push((what, engine.encode(secret)));
        }
        // A part of one is as bad: what a shortened form would leave of it.
        marks.push((what, secret.chars().take(20).collect()));
    }
    let form = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    for basic in [
        format!("{CLIENT_ID}:{CLIENT_SECRET}"),
        format!("{}:{}", form(CLIENT_ID), form(CLIENT_SECRET)),
        format!("proxy-user:{}", PROXY_PASSWORD.replace("%40", "@")),
    ] {
        // Its beginning is that of the id, which is no secret: the part behind is.
        let encoded = STANDARD.encode(&basic);
        marks.push((
            "the Basic credentials",
            encoded[encoded.len() / 2..].to_owned(),
        ));
        marks.push(("the Basic credentials", encoded));
    }
    marks
}

/// # Panics
/// When a secret shows in this text; says where and not what.
fn assert_clean(place: &str, text: &str) {
    for (what, mark) in marks() {
        if let Some(at) = text.find(&mark) {
            let line = text[..at].lines().count();
            panic!("{what} shows in {place}, line {line}: {}", around(text, at));
        }
    }
}

fn around(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at..]
        .find('\n')
        .map_or(text.len(), |newline| at + newline);
    &text[start..end]
}

fn assert_clean_reply(place: &str, reply: &Reply) {
    assert_clean(
        place,
        &format!(
            "{:?}\n{}",
            reply.headers,
            String::from_utf8_lossy(&reply.body)
        ),
    );
}

/// What the admin listener shows.
async fn assert_clean_admin(place: &str, admin_url: &str) {
    for path in [
        "/",
        "/livez",
        "/readyz",
        "/startupz",
        "/status",
        "/metrics",
        "/nothing",
    ] {
        let reply = request("GET", &format!("{admin_url}{path}"), &[], "").await;
        assert!(!reply.body.is_empty());
        assert_clean_reply(&format!("{path} of {place}"), &reply);
    }
}

/// Everything that can go wrong between a client and the upstream, each with a canary in it.
async fn provoke(place: &str, url: &str) {
    let bearer = format!("Bearer {CLIENT_CANARY}");
    let cookie = format!("session={CLIENT_CANARY}");
    let fields = [("authorization", bearer.as_str()), ("cookie", &cookie)];
    let with = |more: (&'static str, &'static str)| [fields[0], fields[1], more];
    for (method, path) in [
        ("GET", "/x"),
        ("GET", "/status/500"),
        ("GET", "/always401"),
        ("TRACE", "/x"),
        ("POST", "/status/403"),
    ] {
        let target = format!("{url}{path}?token={CLIENT_CANARY}");
        let reply = request(method, &target, &fields, CLIENT_CANARY).await;
        assert_clean_reply(place, &reply);
    }
    for more in [
        ("host", "evil.example"),
        ("origin", "http://evil.example"),
        ("via", "1.1 auth-sidecar"),
    ] {
        let reply = request("POST", &format!("{url}/x"), &with(more), CLIENT_CANARY).await;
        assert_clean_reply(place, &reply);
    }
    drop(try_request("GET", &format!("{url}/abort"), &fields, "").await);
    let address = url.trim_start_matches("http://").parse().unwrap();
    for request in [
        format!("GET /{CLIENT_CANARY} HTTP/1.1\r\nAuthorization {bearer}\r\n\r\n"),
        format!("{CLIENT_CANARY} nonsense\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {CLIENT_CANARY}@localhost\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {CLIENT_CANARY}\r\nConnection: close\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {CLIENT_CANARY}, chunked\r\n\r\n"
        ),
        format!(
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{CLIENT_CANARY}\r\n"
        ),
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {CLIENT_CANARY}\r\n\r\n"),
    ] {
        let answer = send_raw(address, request).await;
        assert_clean(place, &String::from_utf8_lossy(&answer));
    }
}

fn failures() -> Vec<Answer> {
    let echo =
        format!(r#"{{"error":"invalid_grant","error_description":"{CLIENT_SECRET} {API_TOKEN}"}}"#);
    let page = format!("<html>{CLIENT_SECRET} {API_TOKEN} {TOKEN_CANARY}</html>");
    vec![
        Answer::CspError(400),
        Answer::CspError(401),
        Answer::CspError(429),
        Answer::CspError(500),
        Answer::Status(400, echo.clone(), vec![]),
        Answer::Status(
            401,
            echo.clone(),
            vec![("www-authenticate", format!("Basic realm=\"{API_TOKEN}\""))],
        ),
        Answer::Status(500, page.clone(), vec![]),
        Answer::Status(200, page, vec![]),
        Answer::Status(
            200,
            format!(r#"{{"access_token":"{TOKEN_CANARY}\n","expires_in":60}}"#),
            vec![],
        ),
        Answer::Status(
            200,
            format!(r#"{{"access_token":["{TOKEN_CANARY}"]}}"#),
            vec![],
        ),
        Answer::Status(
            200,
            format!(r#"{{"access_token":"{TOKEN_CANARY}" oops"#),
            vec![],
        ),
        Answer::Redirect(format!("http://127.0.0.1:1/{API_TOKEN}")),
        Answer::Truncated,
        Answer::DeepJson,
        Answer::grant(TOKEN_CANARY, 0),
        Answer::grant(
            jwt(&serde_json::json!({"sub": TOKEN_CANARY, "exp": 1})),
            "soon",
        ),
        Answer::Raw(format!("HTTP/1.1 200 {API_TOKEN}\r\n{API_TOKEN}\r\n\r\n").into_bytes()),
    ]
}

/// Success, a refused token, and every failure, one after the other.
async fn live_through_everything(place: &str, csp: &FakeCsp, settings: &Settings) {
    let sidecar = Sidecar::start(settings);
    sidecar.ready().await;
    provoke(place, &sidecar.url()).await;
    assert_clean_admin(place, &sidecar.admin_url()).await;
    csp.revoke_all();
    provoke(place, &sidecar.url()).await;
    for answer in failures() {
        // One that has not failed yet: no order goes before the back-off of a rejection.
        let sidecar = Sidecar::start(settings);
        sidecar.ready().await;
        csp.script([answer]);
        let calls = csp.call_count();
        let refresh = format!("{}/refresh", sidecar.admin_url());
        let asked = async || {
            request("POST", &refresh, &[], "").await;
            csp.call_count() > calls
        };
        eventually_async(asked, SOON).await;
        assert_clean_admin(place, &sidecar.admin_url()).await;
    }
    csp.always(Answer::CspError(400));
    csp.revoke_all();
    provoke(place, &sidecar.url()).await;
    assert_clean_admin(place, &sidecar.admin_url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_logs_metrics_status_or_answers() {
    let mut all = tokio::task::JoinSet::new();
    for place in [
        "an OAuth app",
        "an API token",
        "client_secret_basic",
        "client_secret_post",
    ] {
        all.spawn(async move {
            let csp = FakeCsp::start();
            let service = FakeService::start(csp.validator());
            let settings = match place {
                "an OAuth app" => Settings::new(&csp, &service),
                "an API token" => Settings::api_token(&csp, &service),
                _ => Settings::oauth2(&csp, &service).set("auth.client_auth", place),
            };
            let settings = settings.set("auth.hold_timeout", "300ms");
            live_through_everything(place, &csp, &settings).await;
        });
    }
    all.spawn(async {
        let service = FakeService::accepting([STATIC_TOKEN]);
        let sidecar = Sidecar::start(&Settings::static_token(STATIC_TOKEN, &service));
        sidecar.ready().await;
        provoke("a static token", &sidecar.url()).await;
        service.accept(crate::support::Validator::of(["another"]));
        provoke("a refused static token", &sidecar.url()).await;
        assert_clean_admin("a static token", &sidecar.admin_url()).await;
    });
    all.spawn(async {
        // One that is malformed, so that it is complained about.
        let service = FakeService::accepting_all();
        let settings = Settings::static_token("x", &service)
            .unset("auth.token")
            .file("auth.token_file", &format!("{STATIC_TOKEN}\nsecond line"))
            .set("auth.hold_timeout", "0s");
        match Sidecar::try_start(&settings) {
            Ok(sidecar) => {
                provoke("a malformed static token", &sidecar.url()).await;
                assert_clean_admin("a malformed static token", &sidecar.admin_url()).await;
            }
            Err(error) => assert_clean("the refusal of a static token", &format!("{error:?}")),
        }
    });
    all.join_all().await;
    let log = logs::captured();
    for expected in [
        "DEBUG",
        " INFO ",
        " WARN ",
        "got a token",
        "got no token",
        "refused a request",
    ] {
        assert!(log.contains(expected), "no {expected} in the log");
    }
    assert_clean("the log", &log);
}

#[tokio::test]
async fn what_an_upstream_says_in_a_broken_answer_is_not_repeated() {
    let server = RawServer::start(|_, stream| async move {
        let mut connection = Connection::from(stream);
        if connection.read_message().await.is_some() {
            let broken = format!("HTTP/1.1 200 OK\r\n{UPSTREAM_CANARY}\r\n\r\n");
            connection.write(broken).await;
        }
    });
    let settings = Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "static-token")
        .set("auth.token", STATIC_TOKEN);
    let sidecar = Sidecar::start(&settings);
    let reply = request("GET", &sidecar.url(), &[], "").await;
    assert_eq!(reply.status, 502);
    assert!(!reply.text().contains(UPSTREAM_CANARY));
    let answered = || logs::captured().contains("the upstream's response is invalid");
    eventually(answered, SOON).await;
    assert!(!logs::captured().contains(UPSTREAM_CANARY));
}

#[tokio::test]
async fn the_program_at_trace_writes_none_of_it() {
    for settings in [Settings::new, Settings::api_token] {
        let csp = FakeCsp::start();
        let service = FakeService::start(csp.validator());
        let settings = settings(&csp, &service).set("auth.hold_timeout", "200ms");
        for format in ["json", "text"] {
            csp.restore();
            let arguments = ["--log-level", "trace", "--log-format", format];
            let mut process = Process::start_with(&settings, &arguments, &[]).await;
            let ready = async || process.admin_get("/readyz").await.0 == 200;
            eventually_async(ready, SOON).await;
            provoke(format, &process.url()).await;
            csp.always(Answer::CspError(400));
            csp.revoke_all();
            provoke(format, &process.url()).await;
            assert_clean_admin(format, &process.admin_url()).await;
            process.signal(rustix::process::Signal::TERM);
            assert_eq!(process.wait().await.code(), Some(0));
            let output = process.output();
            assert!(
                output.contains("DEBUG") && output.contains("got no token"),
                "{output}"
            );
            assert_clean(&format!("the output of the program, as {format}"), &output);
        }
    }
}

/// The codec of HTTP/2 quotes what it refuses, and hyper some of it.
#[tokio::test]
async fn no_library_quotes_a_request_or_a_response_that_it_refuses() {
    const SECRET: &str = "canary-of-a-query-51d0c9";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SECRET}\r\n\r\n");
    let server = RawServer::start(move |_, stream| {
        let answer = answer.clone();
        async move {
            let mut connection = Connection::from(stream);
            if connection.read_head().await.is_some() {
                connection.write(answer).await;
            }
        }
    });
    let settings = Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "csp-api-token")
        .set("auth.api_token", API_TOKEN)
        .set("auth.base_url", format!("http://{}", server.address()));
    for level in [
        "trace",
        "trace,h2=trace,h2::server=trace,hyper::proto=trace",
    ] {
        let arguments = ["--log-level", level];
        let mut process = Process::start_with(&settings, &arguments, &[]).await;
        let path = format!("/x?token={SECRET}");
        let spaced = format!("/ x?token={SECRET}");
        for (name, value) in [
            (":path", spaced.as_str()),
            (":scheme", &spaced),
            (":authority", &spaced),
            ("te", SECRET),
            ("X-A", SECRET),
            ("connection", SECRET),
        ] {
            let fields = [
                (":method", "GET"),
                (":scheme", "http"),
                (":path", &path),
                (":authority", "localhost"),
            ];
            let mut head: Vec<_> = fields.into_iter().filter(|(own, _)| *own != name).collect();
            head.push((name, value));
            if name.starts_with(':') {
                head.rotate_right(1);
            }
            let head: Vec<u8> = head
                .iter()
                .flat_map(|(name, value)| http2::field(name, value))
                .collect();
            let frames = [PREFACE, &http2::frame(1, 5, 1, &head)].concat();
            let mut client = Connection::to(process.proxy_address()).await;
            client.write(frames).await;
            client.finish().await;
            client.read_to_end().await;
        }
        let admin = process.admin_url();
        let admin = admin.strip_prefix("http://").unwrap().parse().unwrap();
        for head in [
            format!("GET /{SECRET}\x01?{SECRET} HTTP/1.1\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nContent-Length: {SECRET}\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nTransfer-Encoding: {SECRET}\r\n\r\n"),
            format!("GET / HTTP/9.9\r\n{SECRET}\r\n\r\n"),
        ] {
            send_raw(admin, head).await;
        }
        eventually(|| process.output().contains("got no token"), SOON).await;
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait().await.code(), Some(0));
        let output = process.output();
        assert!(!output.contains(SECRET), "{output}");
        assert!(output.contains("DEBUG"), "{output}");
    }
}

#[tokio::test]
async fn a_checked_configuration_is_printed_without_its_secrets() {
    for settings in [
        Settings::to("https://example.wavefront.com")
            .set("auth.type", "csp-oauth-app")
            .set("auth.client_id", CLIENT_ID)
            .set("auth.client_secret", CLIENT_SECRET),
        Settings::to("https://example.wavefront.com")
            .set("auth.type", "csp-api-token")
            .set("auth.api_token", API_TOKEN),
        Settings::to("https://example.wavefront.com")
            .set("auth.type", "static-token")
            .set("auth.token", STATIC_TOKEN),
        // Wrong ones, whose problems are told.
        Settings::to(&format!(
            "https://user:{CLIENT_SECRET}@example.wavefront.com"
        ))
        .set("auth.type", "csp-api-token")
        .set("auth.api_token", format!("{API_TOKEN}\n"))
        .set("auth.client_secret", CLIENT_SECRET)
        .set("auth.tokn", STATIC_TOKEN),
    ] {
        let files = tempfile::tempdir().unwrap();
        let config = settings.write(files.path());
        let arguments = ["check", "--config", config.to_str().unwrap()];
        let mut check = Process::spawn(&arguments, &[]);
        let code = check.wait().await.code().unwrap();
        assert!(code == 0 || code == 2, "{code}");
        assert!(!check.output().is_empty());
        assert_clean("the output of check", &check.output());
    }
    let environment = [
        ("WAVEFRONT_URL", "https://example.wavefront.com"),
        ("CSP_APP_ID", CLIENT_ID),
        ("CSP_APP_SECRET", CLIENT_SECRET),
        ("CSP_API_TOKEN", API_TOKEN),
        ("WAVEFRONT_TOKEN", STATIC_TOKEN),
    ];
    for count in [3, 4, 5] {
        let mut check = Process::spawn(&["check"], &environment[..count]);
        let code = check.wait().await.code();
        assert_eq!(
            code,
            Some(if count == 3 { 0 } else { 2 }),
            "{}",
            check.output()
        );
        assert_clean("the output of check", &check.output());
    }
}
