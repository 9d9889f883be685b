//! Spans of requests and token calls, and the collector that gets them.

/// A collector that is away, slow or wrong.
mod outages;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auth_sidecar::client_token::Hash;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{Client, Server};

use crate::support::{
    Answer, CLIENT_ID, CLIENT_SECRET, Connection, FakeCollector, FakeCsp, FakeService, Process,
    Settings, Sidecar, TOKEN_CANARY, Traced, eventually, get, http2::Http2, request, send_raw,
};

const SOON: Duration = Duration::from_secs(15);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// Settings with a collector.
fn traced(settings: Settings, collector: &FakeCollector) -> Settings {
    settings
        .set("telemetry.otlp_endpoint", collector.url())
        .set("log.access", "off")
}

/// The span of the request for a path, as its client sees it.
async fn served(collector: &FakeCollector, path: &str) -> Traced {
    let is_it = |span: &Traced| {
        let found = span.attributes.get("url.path");
        span.kind == Server && found.is_some_and(|found| found == path)
    };
    collector.the(is_it).await
}

/// The span of the upstream's part below another.
async fn below(collector: &FakeCollector, server: &Traced) -> Traced {
    collector.the(|span| span.parent == server.id).await
}

#[tokio::test]
async fn what_a_client_says_of_its_trace_goes_on_as_it_came() {
    let collector = FakeCollector::start();
    let service = FakeService::accepting(["the-token"]);
    let settings = Settings::static_token("the-token", &service);
    let sound = traceparent("01");
    let unsampled = traceparent("00");
    let cases: [&[(&str, &str)]; 8] = [
        &[("traceparent", &sound)],
        &[("traceparent", &sound), ("tracestate", "a=1,b=t61rcWkgMzE")],
        &[("tracestate", "a=1"), ("tracestate", "b=2")],
        &[("traceparent", &unsampled)],
        &[("traceparent", "00-nonsense")],
        &[("traceparent", "")],
        &[("traceparent", &sound), ("traceparent", &unsampled)],
        &[("tracestate", "=,,="), ("baggage", "user=x;y")],
    ];
    for settings in [settings.clone(), traced(settings, &collector)] {
        let sidecar = Sidecar::start(&settings);
        sidecar.ready().await;
        for sent in cases {
            let url = format!("{}/x", sidecar.url());
            assert_eq!(request("GET", &url, sent, "").await.status, 200);
            let got = service.requests().pop().unwrap();
            for name in ["traceparent", "tracestate", "baggage"] {
                let values = got.headers.get_all(name).iter();
                let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
                let sent = sent.iter().filter(|(sent, _)| *sent == name);
                let sent: Vec<&str> = sent.map(|(_, value)| *value).collect();
                assert_eq!(values, sent, "{name}");
            }
        }
    }
    // They are the same whether HTTP/1.1 or HTTP/2 brings them.
    let sidecar = Sidecar::start(&traced(
        Settings::static_token("the-token", &service),
        &collector,
    ));
    sidecar.ready().await;
    let http2 = Http2::to(sidecar.proxy_address()).await;
    let fields = [("traceparent", sound.as_str()), ("tracestate", "a=1")];
    assert_eq!(http2.request("GET", "/h2", &fields, "").await.status, 200);
    let got = service.requests().pop().unwrap();
    assert_eq!(got.header("traceparent"), Some(&*sound));
    assert_eq!(got.header("tracestate"), Some("a=1"));
}

#[tokio::test]
async fn a_request_has_a_span_in_its_clients_trace_and_the_upstream_one_below_it() {
    let collector = FakeCollector::start();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = traced(Settings::new(&csp, &service), &collector)
        .set("telemetry.service_name", "the-sidecar");
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let parent = traceparent("01");
    let before = SystemTime::now();
    let url = format!("{}/slow?ms=60&key=canary", sidecar.url());
    let reply = request("POST", &url, &[("traceparent", &parent)], "0123456789").await;
    assert_eq!(reply.status, 200);
    let server = served(&collector, "/slow").await;
    // A request is over behind its response.
    let after = SystemTime::now();
    assert_eq!((server.name.as_str(), server.kind), ("POST", Server));
    assert_eq!((&*server.trace, &*server.parent), (TRACE, PARENT));
    // Recorded, and the parent is known to be another process.
    assert_eq!(server.flags, 0x301);
    assert!(!server.is_error);
    let port = sidecar.proxy_address().port().to_string();
    for (name, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/slow"),
        ("url.scheme", "http"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("http.request.body.size", "10"),
        ("http.response.body.size", "13"),
        ("auth_sidecar.origin", "upstream"),
        ("auth_sidecar.client.kind", "address"),
        ("auth_sidecar.token.generation", "1"),
    ] {
        assert_eq!(server.get(name), value, "{name}");
    }
    for absent in ["error.type", "url.query", "auth_sidecar.proxy_status"] {
        assert!(!server.attributes.contains_key(absent), "{absent}");
    }
    assert_eq!(server.resource["service.name"], "the-sidecar");
    assert_eq!(
        server.resource["service.version"],
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(server.resource["service.instance.id"].len(), 32);
    let client = below(&collector, &server).await;
    assert_eq!((client.name.as_str(), client.kind), ("POST", Client));
    assert_eq!((&*client.trace, client.flags), (TRACE, 1));
    assert!(!client.is_error);
    let port = service.address().port().to_string();
    for (name, value) in [
        ("http.request.method", "POST"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
        ("url.full", &format!("{}/slow", service.url())),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(client.get(name), value, "{name}");
    }
    let wait: f64 = client
        .get("auth_sidecar.first_byte_seconds")
        .parse()
        .unwrap();
    assert!((0.06..10.0).contains(&wait), "{wait}");
    // One within the other, at the time at which it was.
    let moment =
        |time: SystemTime| u64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_nanos());
    assert!(moment(before).unwrap() <= server.start && server.start <= client.start);
    assert!(client.end <= server.end && server.end <= moment(after).unwrap());
    assert!(client.end - client.start >= 60_000_000);
}

#[tokio::test]
async fn a_request_without_a_trace_begins_one_that_the_upstream_is_told_of() {
    let collector = FakeCollector::start();
    let service = FakeService::accepting(["the-token"]);
    let settings = traced(Settings::static_token("the-token", &service), &collector);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    assert_eq!(get(&format!("{}/one", sidecar.url())).await.status, 200);
    let told = service.requests().pop().unwrap();
    let told = told.header("traceparent").unwrap().to_owned();
    let server = served(&collector, "/one").await;
    let client = below(&collector, &server).await;
    assert_eq!(server.parent, "");
    assert_eq!(told, format!("00-{}-{}-01", client.trace, client.id));
    // A malformed one is none: the trace is ours, and the field is the client's all the same.
    let url = format!("{}/two", sidecar.url());
    let fields = [("traceparent", "00-nonsense")];
    assert_eq!(request("GET", &url, &fields, "").await.status, 200);
    let server = served(&collector, "/two").await;
    assert_eq!((server.trace.len(), &*server.parent), (32, ""));
    // A response of our own names its trace.
    let url = format!("{}/three", sidecar.url());
    let refused = request("GET", &url, &[("host", "evil.example")], "").await;
    let server = served(&collector, "/three").await;
    assert_eq!(refused.json()["instance"], *server.trace);
    // Over HTTP/2 it is the same.
    let http2 = Http2::to(sidecar.proxy_address()).await;
    assert_eq!(http2.request("GET", "/four", &[], "").await.status, 200);
    let server = served(&collector, "/four").await;
    assert_eq!(server.get("network.protocol.version"), "2");
    let told = service.requests().pop().unwrap();
    assert!(told.header("traceparent").unwrap().contains(&server.trace));
}

#[tokio::test]
async fn what_went_wrong_is_named_and_whose_failure_it_is() {
    let collector = FakeCollector::start();
    let mut service = FakeService::accepting(["the-token"]);
    let settings = traced(Settings::static_token("the-token", &service), &collector);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let url = |path: &str| format!("{}{path}", sidecar.url());
    for (path, status, server_fails, client_fails) in [
        ("/status/404", "404", false, true),
        ("/status/503", "503", true, true),
    ] {
        get(&url(path)).await;
        let server = served(&collector, path).await;
        let client = below(&collector, &server).await;
        assert_eq!(server.get("http.response.status_code"), status);
        assert_eq!(client.get("error.type"), status);
        assert_eq!(
            (server.is_error, client.is_error),
            (server_fails, client_fails),
            "{path}"
        );
        let named = server.attributes.get("error.type").map(String::as_str);
        assert_eq!(named, server_fails.then_some(status));
    }
    // It breaks off in the middle, behind a status of success.
    drop(crate::support::try_request("GET", &url("/abort"), &[], "").await);
    let server = served(&collector, "/abort").await;
    assert_eq!(server.get("error.type"), "broken_off");
    assert!(server.is_error && below(&collector, &server).await.is_error);
    // A method that is none of the usual ones is no name.
    request("PURGE", &url("/purge"), &[], "").await;
    let server = served(&collector, "/purge").await;
    assert_eq!(server.name, "HTTP");
    assert_eq!(server.get("http.request.method"), "_OTHER");
    assert_eq!(server.get("http.request.method_original"), "PURGE");
    // What is refused is the client's own failure, and no request of the upstream.
    request("GET", &url("/evil"), &[("host", "evil.example")], "").await;
    let server = served(&collector, "/evil").await;
    assert_eq!(server.get("http.response.status_code"), "421");
    assert_eq!(server.get("auth_sidecar.origin"), "sidecar");
    assert!(!server.get("error.type").is_empty() && !server.is_error);
    let malformed = "GET / HTTP/1.1\r\nBad Name: x\r\n\r\n";
    send_raw(sidecar.proxy_address(), malformed).await;
    let unread = |span: &Traced| span.kind == Server && span.get("http.request.method") == "_OTHER";
    let read = |span: &Traced| span.attributes.contains_key("url.path");
    let refused = collector.the(|span| unread(span) && !read(span)).await;
    assert_eq!(refused.get("http.response.status_code"), "400");
    service.stop();
    assert_eq!(get(&url("/away")).await.status, 502);
    let server = served(&collector, "/away").await;
    assert!(server.is_error);
    assert_eq!(server.get("http.response.status_code"), "502");
    assert!(server.attributes.contains_key("auth_sidecar.proxy_status"));
    let spans = collector.spans();
    for refused in ["/evil", "/away"] {
        let told = spans.iter().filter(|span| {
            let full = span.attributes.get("url.full");
            full.is_some_and(|full| full.ends_with(refused))
        });
        assert_eq!(told.count(), 0, "{refused}");
    }
}

#[tokio::test]
async fn what_the_sidecar_breaks_off_is_no_failure_of_the_upstream() {
    let collector = FakeCollector::start();
    let service = FakeService::accepting(["the-token"]);
    let settings = traced(Settings::static_token("the-token", &service), &collector)
        .file("listen.client_tokens_file", &client_line("grafana", "one"));
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let mut client = Connection::to(sidecar.proxy_address()).await;
    client
        .write("GET /stream?ms=20 HTTP/1.1\r\nHost: localhost\r\nX-AUTH-TOKEN: one\r\n\r\n")
        .await;
    assert!(client.read_head().await.unwrap().contains(" 200 "));
    sidecar.rewrite(
        "listen.client_tokens_file",
        &client_line("telegraf", "another"),
    );
    let server = served(&collector, "/stream").await;
    assert_eq!(server.get("error.type"), "revoked");
    assert!(server.is_error);
    assert!(!below(&collector, &server).await.is_error);
}

fn client_line(name: &str, token: &str) -> String {
    format!("{name}:{}\n", Hash::of(token.as_bytes()))
}

#[tokio::test]
async fn who_asked_and_what_became_of_a_401_is_told() {
    let collector = FakeCollector::start();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let list = format!("grafana:{}\n", Hash::of(b"canary-local"));
    let settings =
        traced(Settings::new(&csp, &service), &collector).file("listen.client_tokens_file", &list);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    csp.revoke_all();
    let url = format!("{}/again", sidecar.url());
    let reply = request("GET", &url, &[("x-auth-token", "canary-local")], "").await;
    assert_eq!(reply.status, 200);
    let server = served(&collector, "/again").await;
    assert_eq!(server.get("auth_sidecar.client.kind"), "token");
    assert_eq!(server.get("auth_sidecar.client.name"), "grafana");
    assert_eq!(server.get("auth_sidecar.token.generation"), "2");
    let held: f64 = server.get("auth_sidecar.held_seconds").parse().unwrap();
    assert!(held > 0.0);
    let client = below(&collector, &server).await;
    assert_eq!(client.get("http.request.resend_count"), "1");
}

#[tokio::test]
async fn a_token_call_has_a_span_that_says_why_it_was_made_and_what_came_of_it() {
    let collector = FakeCollector::start();
    let csp = FakeCsp::start();
    csp.script([Answer::Html503]);
    let service = FakeService::start(csp.validator());
    let settings = traced(Settings::new(&csp, &service), &collector)
        // A trace that begins elsewhere decides for itself; none does here.
        .set("telemetry.otlp_sample_ratio", 1);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let calls = || collector.of_kind(Client);
    eventually(|| calls().len() >= 2, SOON).await;
    let calls = calls();
    assert_eq!(calls.len(), 2, "{calls:#?}");
    let [failed, good] = &calls[..] else { panic!() };
    let port = csp.address().port().to_string();
    for call in [failed, good] {
        assert_eq!((&*call.name, &*call.parent), ("POST", ""));
        assert_eq!(call.get("http.request.method"), "POST");
        assert_eq!(call.get("server.address"), "127.0.0.1");
        assert_eq!(call.get("server.port"), port);
        assert!(call.get("url.full").starts_with(&csp.base_url()));
        assert!(call.end >= call.start);
    }
    assert_ne!(failed.trace, good.trace);
    assert_eq!(failed.get("http.response.status_code"), "503");
    assert_eq!(failed.get("error.type"), "bad_status");
    assert_eq!(failed.get("auth_sidecar.token.cause"), "start");
    assert!(failed.is_error && !good.is_error);
    assert_eq!(good.get("http.response.status_code"), "200");
    assert_eq!(good.get("auth_sidecar.token.cause"), "schedule");
    assert_eq!(good.get("auth_sidecar.token.generation"), "1");
    // The token service is told nothing of a trace.
    let told = |call: &crate::support::csp::Call| call.headers.contains_key("traceparent");
    assert!(!csp.calls().iter().any(told));
}

#[tokio::test]
async fn what_nobody_wants_recorded_is_not_and_the_upstream_hears_nothing_of_it() {
    let collector = FakeCollector::start();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings =
        traced(Settings::new(&csp, &service), &collector).set("telemetry.otlp_sample_ratio", 0.0);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let url = |path: &str| format!("{}{path}", sidecar.url());
    assert_eq!(get(&url("/root")).await.status, 200);
    let told = service.requests().pop().unwrap();
    assert_eq!(told.header("traceparent"), None);
    let unsampled = traceparent("00");
    let fields = [("traceparent", unsampled.as_str())];
    assert_eq!(request("GET", &url("/not"), &fields, "").await.status, 200);
    // Of a trace that is recorded elsewhere it is a part, whatever the ratio.
    let sampled = traceparent("01");
    let fields = [("traceparent", sampled.as_str())];
    assert_eq!(request("GET", &url("/yes"), &fields, "").await.status, 200);
    let server = served(&collector, "/yes").await;
    below(&collector, &server).await;
    assert_eq!(collector.spans().len(), 2, "{:#?}", collector.spans());
}

#[tokio::test]
async fn no_query_no_credential_and_no_secret_is_in_a_span() {
    let collector = FakeCollector::start();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let fields_file = "# the key\nAuthorization: Bearer canary-of-the-collector\nX-Tenant: one\n";
    let settings = traced(Settings::new(&csp, &service), &collector)
        .file("telemetry.otlp_headers_file", fields_file)
        .set("log.access_query", true);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let fields = [
        ("authorization", "Bearer canary-of-the-client"),
        ("cookie", "session=canary-of-the-client"),
        ("x-auth-token", "canary-of-the-client"),
        ("tracestate", "vendor=canary-of-the-client"),
        ("user-agent", "canary-of-the-client"),
    ];
    for path in ["/seen", "/status/500", "/always401", "/abort"] {
        let url = format!("{}{path}?key=canary-of-the-query#x", sidecar.url());
        drop(crate::support::try_request("GET", &url, &fields, "canary-of-the-body").await);
    }
    // An authority with a user, which is refused, in a target that is an address.
    let absolute = "GET http://user:canary-of-the-user@localhost/absolute HTTP/1.1\r\n\
                    Host: user:canary-of-the-user@localhost\r\nConnection: close\r\n\r\n";
    send_raw(sidecar.proxy_address(), absolute).await;
    served(&collector, "/seen").await;
    drop(sidecar);
    let exports = collector.exports();
    assert!(!exports.is_empty());
    let mut spans = 0;
    for export in &exports {
        let text = String::from_utf8_lossy(&export.body);
        for secret in ["canary", CLIENT_SECRET, CLIENT_ID, TOKEN_CANARY, "Bearer"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        spans += text.matches("url.").count();
        assert_eq!(export.path, "/v1/traces");
        assert_eq!(export.headers["content-type"], "application/x-protobuf");
        assert_eq!(
            export.headers["authorization"],
            "Bearer canary-of-the-collector"
        );
        assert_eq!(export.headers["x-tenant"], "one");
    }
    assert!(spans > 10, "{spans}");
    let logged = crate::support::logs::captured();
    assert!(!logged.contains("canary-of-the-collector"));
}

#[tokio::test]
async fn a_collector_behind_tls_is_trusted_by_the_programs_own_settings() {
    let collector = FakeCollector::start_tls();
    let service = FakeService::accepting(["the-token"]);
    let settings = traced(Settings::static_token("the-token", &service), &collector)
        .file("telemetry.ca_file", collector.ca_pem());
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    assert_eq!(get(&format!("{}/tls", sidecar.url())).await.status, 200);
    served(&collector, "/tls").await;
    assert_eq!(get(&format!("{}/kept", sidecar.url())).await.status, 200);
    served(&collector, "/kept").await;
    // One connection for all of it.
    assert_eq!(collector.connections(), 1);
}

#[tokio::test]
async fn what_is_left_is_sent_at_the_end_and_the_sandbox_lets_it() {
    let collector = FakeCollector::start();
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = traced(Settings::new(&csp, &service), &collector)
        .file("telemetry.otlp_headers_file", "X-Key: canary-one\n");
    let mut sidecar = Process::start(&settings).await;
    let url = format!("{}/last", sidecar.url());
    assert_eq!(get(&url).await.status, 200);
    sidecar.signal(rustix::process::Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    // It is there already: the process does not end before.
    let spans = collector.of_kind(Server);
    assert_eq!(spans.len(), 1, "{spans:#?}");
    assert_eq!(spans[0].get("url.path"), "/last");
    let output = sidecar.output();
    assert!(output.contains("sandbox: "), "{output}");
    assert!(!output.contains("canary"), "{output}");
}

#[tokio::test]
async fn a_new_configuration_leads_to_another_collector_or_to_none() {
    let (first, second) = (FakeCollector::start(), FakeCollector::start());
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let base = Settings::new(&csp, &service);
    let settings = traced(base.clone(), &first).file("telemetry.otlp_headers_file", "X-Key: one\n");
    let sidecar = Process::start(&settings).await;
    let url = |path: &str| format!("{}{path}", sidecar.url());
    assert_eq!(get(&url("/first")).await.status, 200);
    served(&first, "/first").await;
    assert_eq!(first.exports()[0].headers["x-key"], "one");
    // The file is read when it is used.
    sidecar.rewrite("telemetry.otlp_headers_file", "X-Key: two\n");
    assert_eq!(get(&url("/rotated")).await.status, 200);
    served(&first, "/rotated").await;
    assert_eq!(first.exports().last().unwrap().headers["x-key"], "two");
    let changes = |count: usize| {
        let said = sidecar.stderr();
        said.matches("the new configuration is in use").count() == count
    };
    // What waits for the first one still gets there.
    assert_eq!(get(&url("/between")).await.status, 200);
    sidecar.reconfigure(&traced(base.clone(), &second));
    eventually(|| changes(1), SOON).await;
    served(&first, "/between").await;
    assert_eq!(get(&url("/second")).await.status, 200);
    served(&second, "/second").await;
    // The token path goes on, and its calls are told to the new one.
    csp.revoke_all();
    assert_eq!(get(&url("/renewed")).await.status, 200);
    let is_renewal = |span: &Traced| {
        let cause = span.attributes.get("auth_sidecar.token.cause");
        cause.is_some_and(|cause| cause == "unauthorized")
    };
    second.the(is_renewal).await;
    assert!(!first.spans().iter().any(is_renewal));
    sidecar.reconfigure(&base);
    eventually(|| changes(2), SOON).await;
    let told = second.exports().len();
    assert_eq!(get(&url("/none")).await.status, 200);
    let last = service.requests().pop().unwrap();
    assert_eq!(last.header("traceparent"), None);
    assert!(second.exports().len() <= told + 1);
    assert!(
        !second
            .spans()
            .iter()
            .any(|span| span.attributes.get("url.path") == Some(&"/none".to_owned()))
    );
}
