//! The admin listener.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::{
    Answer, Client, Connection, FakeCsp, FakeService, Settings, Sidecar, eventually,
    eventually_async, get, peer::field, refused_address, request, send_raw,
};

const SOON: Duration = Duration::from_secs(10);

const PATHS: [&str; 10] = [
    "/",
    "/livez",
    "/healthz",
    "/liveness",
    "/readyz",
    "/readiness",
    "/startupz",
    "/startup",
    "/metrics",
    "/status",
];

async fn status(sidecar: &Sidecar) -> Value {
    serde_json::from_str(&sidecar.admin_get("/status").await.1).unwrap()
}

#[tokio::test]
async fn every_path_and_alias_answers_to_get_and_head_alone() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    let mut client = Client::connect(&sidecar.admin_url()).await;
    for path in PATHS {
        let reply = client.request("GET", path, &[], "").await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(!reply.body.is_empty());
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(
            reply.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        let kind = match path {
            "/" => "text/html; charset=utf-8",
            "/status" => "application/json",
            "/metrics" => "text/plain; version=0.0.4; charset=utf-8",
            _ => "text/plain; charset=utf-8",
        };
        assert_eq!(reply.header("content-type"), Some(kind), "{path}");
        // A probe may add a query.
        let queried = client
            .request("GET", &format!("{path}?verbose=1"), &[], "")
            .await;
        assert_eq!(queried.status, 200, "{path}");
        let head = client.request("HEAD", path, &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let reply = client.request(method, path, &[], "").await;
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD"));
        }
    }
    for path in ["/refresh", "/quitquitquit"] {
        let reply = client.request("GET", path, &[], "").await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("allow")),
            (405, Some("POST")),
            "{path}"
        );
    }
    for path in [
        "/x",
        "/livez/",
        "/readyz2",
        "//livez",
        "/api/v2/x",
        "/STATUS",
    ] {
        assert_eq!(
            client.request("GET", path, &[], "").await.status,
            404,
            "{path}"
        );
    }
    let trace = client.request("TRACE", "/livez", &[], "").await;
    assert_eq!(trace.status, 405);
    assert_eq!((csp.call_count(), service.request_count()), (1, 0));
}

#[tokio::test]
async fn on_the_data_listener_its_paths_belong_to_the_upstream() {
    let service = FakeService::accepting(["a-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    for path in PATHS {
        let reply = get(&format!("{}{path}", sidecar.url())).await;
        assert_eq!(reply.json()["path"], path);
    }
    for path in ["/refresh", "/quitquitquit"] {
        let reply = request("POST", &format!("{}{path}", sidecar.url()), &[], "").await;
        assert_eq!(reply.json()["path"], path);
    }
}

#[tokio::test]
async fn an_action_with_a_body_does_not_keep_its_connection_for_ever() {
    let service = FakeService::accepting(["a-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    let address = sidecar.admin_url();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let mut client = Connection::to(address).await;
    client
        .write("POST /refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        .await;
    let (head, _) = client.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 2"), "{head}");
    assert!(client.closes_within(SOON).await);
}

#[tokio::test]
async fn hosts_and_pages_that_are_not_ours_are_refused() {
    let service = FakeService::accepting(["a-token"]);
    let settings = Settings::static_token("a-token", &service).set("admin.allow_quit", true);
    let sidecar = Sidecar::start(&settings);
    let url = sidecar.admin_url();
    for path in ["/livez", "/status", "/metrics", "/nothing"] {
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
            let reply = request("GET", &format!("{url}{path}"), &[("host", host)], "").await;
            assert_eq!(reply.status, 421, "{host}");
            assert!(reply.header("proxy-status").is_some());
        }
        let two = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n");
        let address = url.trim_start_matches("http://").parse().unwrap();
        let answer = String::from_utf8(send_raw(address, two).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    for path in ["/refresh", "/quitquitquit"] {
        for fields in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let reply = request("POST", &format!("{url}{path}"), &[fields], "").await;
            assert_eq!(reply.status, 403, "{fields:?}");
            assert!(
                !reply
                    .headers
                    .keys()
                    .any(|name| name.as_str().starts_with("access-control"))
            );
        }
    }
    let own = [("origin", url.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(
        request("GET", &format!("{url}/status"), &own, "")
            .await
            .status,
        200
    );
    for host in ["localhost", "127.0.0.1:1", "[::1]"] {
        let reply = request("GET", &format!("{url}/livez"), &[("host", host)], "").await;
        assert_eq!(reply.status, 200, "{host}");
    }
}

#[tokio::test]
async fn an_action_takes_a_request_that_no_web_page_could_send() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    let url = format!("{}/refresh", sidecar.admin_url());
    let own = sidecar.admin_url();
    for fields in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "Text/Plain; charset=utf-8")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[
            ("content-type", "application/json"),
            ("content-type", "text/plain"),
        ],
        &[("origin", own.as_str())],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        let reply = request("POST", &url, fields, "").await;
        assert_eq!(reply.status, 403, "{fields:?}");
        assert!(reply.text().contains("curl -X POST"), "{}", reply.text());
    }
    assert_eq!(csp.call_count(), 1);
    for fields in [
        &[][..],
        &[("content-type", "application/json")],
        // As fetch() of Node.js has it.
        &[("sec-fetch-mode", "cors"), ("user-agent", "node")],
        &[("user-agent", "curl/8.5.0"), ("accept", "*/*")],
    ] {
        let reply = request("POST", &url, fields, "").await;
        assert_eq!(reply.status, 202, "{fields:?}");
    }
}

#[tokio::test]
async fn a_probe_without_a_host_is_served_in_http_1_0() {
    let service = FakeService::accepting(["a-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    let address = sidecar
        .admin_url()
        .trim_start_matches("http://")
        .parse()
        .unwrap();
    let mut client = Connection::to(address).await;
    client.write("GET /livez HTTP/1.0\r\n\r\n").await;
    let (head, body) = client.read_message().await.unwrap();
    assert!(head.contains(" 200 OK\r\n"), "{head}");
    assert_eq!(body, b"alive\n");
    assert!(field(&head, "date").is_some());
}

#[tokio::test]
async fn readiness_says_why_not() {
    let csp = FakeCsp::start();
    csp.always(Answer::Hang);
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.request_timeout", "1s");
    let sidecar = Sidecar::start(&settings);
    for path in ["/readyz", "/readiness"] {
        let (code, why) = sidecar.admin_get(path).await;
        assert_eq!(code, 503);
        assert!(why.contains("the first one is being fetched"), "{why}");
    }
    for path in ["/startupz", "/startup"] {
        assert_eq!(sidecar.admin_get(path).await.0, 503);
    }
    for path in ["/livez", "/healthz", "/liveness"] {
        assert_eq!(sidecar.admin_get(path).await.0, 200);
    }
    assert_eq!(status(&sidecar).await["state"], "starting");
    csp.always(Answer::CspError(400));
    let rejected = async || {
        let (code, why) = sidecar.admin_get("/readyz").await;
        code == 503 && why.contains("no usable token: ") && why.contains("400")
    };
    eventually_async(rejected, SOON).await;
    csp.restore();
    sidecar.ready().await;
    assert_eq!(sidecar.admin_get("/startupz").await.0, 200);
    assert_eq!(status(&sidecar).await["state"], "ready");
}

#[tokio::test]
async fn a_service_that_is_away_is_named_as_the_reason() {
    let (address, _socket) = refused_address();
    let service = FakeService::accepting_all();
    let settings = Settings::new(&FakeCsp::start(), &service)
        .set("auth.base_url", format!("http://{address}"));
    let sidecar = Sidecar::start(&settings);
    let is_said =
        async || status(&sidecar).await["refresh"]["last_attempts"][0]["reason"] == "network";
    eventually_async(is_said, SOON).await;
    let (code, why) = sidecar.admin_get("/readyz").await;
    assert_eq!(code, 503);
    assert!(why.contains("no usable token: "), "{why}");
}

#[tokio::test]
async fn a_token_that_expired_is_unready_and_yet_started() {
    let csp = FakeCsp::start();
    csp.lifetime(1);
    csp.really_lives(Duration::from_secs(1));
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    csp.always(Answer::Html503);
    let expired = async || sidecar.admin_get("/readyz").await.0 == 503;
    // The token is still good, and its renewal fails.
    eventually_async(async || status(&sidecar).await["state"] != "ready", SOON).await;
    eventually_async(expired, SOON).await;
    assert_eq!(sidecar.admin_get("/startupz").await.0, 200);
    assert_eq!(sidecar.admin_get("/livez").await.0, 200);
    let status = status(&sidecar).await;
    assert_eq!(status["state"], "unavailable");
    assert_eq!(status["token"]["usable"], false);
    assert!(status["token"]["expires_in_seconds"].as_f64().unwrap() <= 0.0);
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert!(metrics.contains("auth_sidecar_token_usable 0"), "{metrics}");
}

#[tokio::test]
async fn the_status_tells_the_state_the_token_and_what_was_tried() {
    let csp = FakeCsp::start();
    csp.script([Answer::Html503, Answer::Reset]);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    let mut kept = Client::connect(&sidecar.url()).await;
    kept.request("GET", "/x", &[], "").await;
    kept.request("GET", "/x", &[("host", "evil.example")], "")
        .await;
    let first = status(&sidecar).await;
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["commit"], auth_sidecar::version::COMMIT);
    assert_eq!(first["state"], "ready");
    assert!(first["uptime_seconds"].as_f64().unwrap() > 0.0);
    let token = &first["token"];
    assert_eq!(
        (&token["usable"], &token["generation"]),
        (&Value::from(true), &Value::from(1))
    );
    assert!(token["age_seconds"].as_f64().unwrap() < 10.0);
    let left = token["expires_in_seconds"].as_f64().unwrap();
    assert!((1780.0..=1799.0).contains(&left), "{left}");
    assert!(token["expires_at"].as_str().unwrap().ends_with('Z'));
    let refresh = &first["refresh"];
    assert_eq!(
        (&refresh["attempts"], &refresh["consecutive_failures"]),
        (&Value::from(3), &Value::from(0))
    );
    let next = refresh["next_attempt_in_seconds"].as_f64().unwrap();
    assert!(next > 0.0 && next < 1799.0, "{next}");
    assert!(refresh["next_attempt_at"].as_str().unwrap().ends_with('Z'));
    let attempts = refresh["last_attempts"].as_array().unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            (
                attempt["result"].as_str().unwrap(),
                attempt["reason"].as_str(),
            )
        })
        .collect();
    let newest_first = [
        ("success", None),
        ("failure", Some("network")),
        ("failure", Some("bad_status")),
    ];
    assert_eq!(told, newest_first);
    assert_eq!(attempts[0]["generation"], 1);
    assert!(attempts[0].get("detail").is_none());
    for attempt in attempts {
        assert!(attempt["at"].as_str().unwrap().ends_with('Z'));
        assert!(attempt["duration_seconds"].is_number());
    }
    assert!(
        attempts[2]["detail"].as_str().unwrap().contains("503"),
        "{}",
        attempts[2]
    );
    let requests = &first["requests"];
    assert_eq!(requests["answered_by_upstream"], 1);
    assert_eq!(requests["answered_by_sidecar"], 1);
    assert_eq!(requests["in_flight"], 0);
    assert_eq!(first["connections"], 1);

    csp.revoke_all();
    kept.request("GET", "/x", &[], "").await;
    let second = status(&sidecar).await;
    assert_eq!(second["token"]["generation"], 2);
    assert_eq!(second["refresh"]["attempts"], 4);
    let (_, page) = sidecar.admin_get("/").await;
    assert!(
        page.contains("auth-sidecar is ready") && page.contains("number 2"),
        "{page}"
    );
}

#[tokio::test]
async fn a_token_that_does_not_end_has_no_end_in_the_status() {
    let service = FakeService::accepting(["a-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    sidecar.ready().await;
    let status = status(&sidecar).await;
    assert!(status["token"]["expires_at"].is_null(), "{status}");
    assert!(sidecar.admin_get("/").await.1.contains("does not end"));
}

#[tokio::test]
async fn all_series_appear_and_count() {
    let csp = FakeCsp::start();
    csp.script([Answer::CspError(500)]);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    let url = sidecar.url();
    get(&format!("{url}/always401")).await;
    request(
        "POST",
        &format!("{url}/echo"),
        &[("host", "evil.example")],
        "",
    )
    .await;
    request("BREW", &format!("{url}/status/404"), &[], "").await;
    let (address, _socket) = refused_address();
    let away = Sidecar::start(
        &Settings::static_token("a-token", &service)
            .set("upstream.url", format!("http://{address}")),
    );
    get(&away.url()).await;
    let answers = async || status(&sidecar).await["requests"]["answered_by_upstream"] == 2;
    eventually_async(answers, SOON).await;
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    for line in [
        concat!(
            r#"build_info{version=""#,
            env!("CARGO_PKG_VERSION"),
            r#"",commit=""#
        ),
        "token_usable 1",
        "token_expiry_timestamp_seconds ",
        "token_issued_timestamp_seconds ",
        r#"token_refresh_total{result="success",reason=""} "#,
        r#"token_refresh_total{result="failure",reason="bad_status"} 1"#,
        "token_refresh_duration_seconds_count ",
        "token_refresh_duration_seconds_sum ",
        "token_refresh_duration_seconds_bucket{le=",
        "token_refresh_consecutive_failures 0",
        r#"requests_total{method="GET",code_class="4xx",origin="upstream"} 1"#,
        r#"requests_total{method="other",code_class="4xx",origin="upstream"} 1"#,
        r#"requests_total{method="POST",code_class="4xx",origin="sidecar"} 1"#,
        "request_duration_seconds_count 3",
        "request_duration_seconds_sum ",
        "request_duration_seconds_bucket{le=",
        "upstream_unauthorized_total 1",
        r#"replays_total{result="refused"} 1"#,
        "held_requests 0",
        r#"rejected_total{reason="host"} 1"#,
        "in_flight_requests 0",
        "connections ",
    ] {
        let line = format!("\nauth_sidecar_{line}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    assert!(metrics.ends_with('\n') && !metrics.contains("# EOF"));
    let (_, metrics) = away.admin_get("/metrics").await;
    let line = r#"auth_sidecar_upstream_connect_errors_total{reason="connect"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_renewal_can_be_ordered_and_a_crowd_of_orders_is_one() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    sidecar.ready().await;
    let url = format!("{}/refresh", sidecar.admin_url());
    let reply = request("POST", &url, &[], "").await;
    assert_eq!(reply.status, 202);
    eventually(|| csp.call_count() == 2, SOON).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(csp.call_count(), 2);
    assert_eq!(status(&sidecar).await["token"]["generation"], 2);
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(request("POST", &url, &[], "").await.status, 202);
    }
    sleep(Duration::from_millis(1500)).await;
    // One a second, however long the orders themselves took.
    let most = 3 + began.elapsed().as_secs();
    let calls = u64::try_from(csp.call_count()).unwrap();
    assert!((3..=most).contains(&calls), "{calls} of at most {most}");
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(csp.concurrent_max(), 1);
}

#[tokio::test]
async fn stopping_it_by_a_request_is_off_unless_allowed() {
    let service = FakeService::accepting(["a-token"]);
    let settings = Settings::static_token("a-token", &service);
    let sidecar = Sidecar::start(&settings);
    let url = format!("{}/quitquitquit", sidecar.admin_url());
    let reply = request("POST", &url, &[], "").await;
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("admin.allow_quit"));
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);

    let sidecar = Sidecar::start(&settings.set("admin.allow_quit", true));
    let slow = format!("{}/slow?ms=800", sidecar.url());
    let slow = tokio::spawn(async move { get(&slow).await });
    eventually(|| service.in_flight() == 1, SOON).await;
    let mut admin = Client::connect(&sidecar.admin_url()).await;
    let reply = admin.request("POST", "/quitquitquit", &[], "").await;
    assert_eq!(reply.status, 200);
    let ready = admin.request("GET", "/readyz", &[], "").await;
    assert_eq!((ready.status.as_u16(), ready.text()), (503, "stopping\n"));
    // What is in flight is finished first.
    assert_eq!(slow.await.unwrap().status, 200);
    sidecar.ended().await.unwrap();
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let service = FakeService::accepting(["a-token"]);
    for off in ["off", ""] {
        let settings = Settings::static_token("a-token", &service).set("admin.address", off);
        assert!(!settings.has_admin());
        let sidecar = Sidecar::start(&settings);
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    }
}

#[tokio::test]
async fn nothing_but_a_post_acts() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("admin.allow_quit", true);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let mut client = Client::connect(&sidecar.admin_url()).await;
    for path in ["/refresh", "/quitquitquit"] {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "post"] {
            let reply = client.request(method, path, &[], "").await;
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), Some("POST"));
        }
    }
    assert_eq!(csp.call_count(), 1);
    assert_eq!(client.request("GET", "/readyz", &[], "").await.status, 200);
}

#[tokio::test]
async fn an_order_says_when_it_has_to_wait_for_the_back_off() {
    let csp = FakeCsp::start();
    csp.always(Answer::CspError(400));
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::between(&csp, &service);
    // After so many rejections the next attempt is seconds away, mostly.
    let url = format!("{}/refresh", sidecar.admin_url());
    let is_away = async || {
        let status = status(&sidecar).await;
        status["refresh"]["next_attempt_in_seconds"]
            .as_f64()
            .unwrap()
            > 2.0
    };
    eventually_async(is_away, Duration::from_secs(60)).await;
    let before = csp.call_count();
    let reply = request("POST", &url, &[], "").await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    let after: f64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(after >= 1.0);
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(csp.call_count(), before);
}

#[tokio::test]
async fn idle_connections_do_not_keep_the_probes_out() {
    let service = FakeService::accepting(["a-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    let address = sidecar.admin_url();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let mut idle = Vec::new();
    for number in 0..600 {
        let mut client = Connection::to(address).await;
        // Half of them have begun a request.
        if number % 2 == 0 {
            client.write("GET /livez HTTP/1.1\r\nHo").await;
        }
        idle.push(client);
        if number % 100 == 99 {
            assert_eq!(sidecar.admin_get("/livez").await.0, 200, "{number}");
            assert_eq!(sidecar.admin_get("/metrics").await.0, 200, "{number}");
        }
    }
}

#[tokio::test]
async fn actions_take_a_local_token_where_requests_do() {
    const TOKEN: &str = "local-token-of-ops";
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let hash = auth_sidecar::client_token::Hash::of(TOKEN.as_bytes());
    let settings = Settings::new(&csp, &service)
        .set("admin.allow_quit", true)
        .file("listen.client_tokens_file", &format!("ops:{hash}\n"));
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let url = sidecar.admin_url();
    let post = async |path: &str, fields: &[(&str, &str)]| {
        request("POST", &format!("{url}{path}"), fields, "").await
    };
    for path in ["/refresh", "/quitquitquit"] {
        for fields in [&[][..], &[("x-auth-token", "guess")]] {
            let reply = post(path, fields).await;
            assert_eq!(reply.status, 403, "{path}");
            assert!(reply.text().contains("local token"), "{}", reply.text());
        }
    }
    assert_eq!(csp.call_count(), 1);
    // Probes have none.
    assert_eq!(sidecar.admin_get("/livez").await.0, 200);
    let bearer = format!("Bearer {TOKEN}");
    let reply = post("/refresh", &[("authorization", &bearer)]).await;
    assert_eq!(reply.status, 202);
    assert_eq!(
        post("/quitquitquit", &[("x-auth-token", TOKEN)])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn actions_take_what_else_requests_take() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("unix:{}", directory.path().join(name).display());
    let field = Settings::new(&csp, &service).set("listen.require_field", "X-Sidecar: yes");
    let sidecar = Sidecar::start(&field);
    sidecar.ready().await;
    let url = format!("{}/refresh", sidecar.admin_url());
    assert_eq!(request("POST", &url, &[], "").await.status, 403);
    let with_it = request("POST", &url, &[("x-sidecar", "yes")], "").await;
    assert_eq!(with_it.status, 202);
    // Requests come by a file alone, which keeps others out; so do actions.
    let files = Settings::new(&csp, &service).set("listen.address", at("proxy"));
    let sidecar = Sidecar::start(&files);
    let reply = request("POST", &format!("{}/refresh", sidecar.admin_url()), &[], "").await;
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("unix socket"), "{}", reply.text());
    drop(sidecar);
    let tokens = Settings::new(&csp, &service)
        .file("listen.client_tokens_file", "# nobody\n")
        .set("admin.address", at("admin"));
    let _sidecar = Sidecar::start(&tokens);
    let stream = tokio::net::UnixStream::connect(directory.path().join("admin")).await;
    let mut stream = stream.unwrap();
    let order = b"POST /refresh HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(order).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[tokio::test]
async fn other_machines_see_metrics_and_health_alone() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service)
        .set("admin.address", "0.0.0.0:0")
        .set("admin.allow_remote", true)
        .set("admin.allow_quit", true);
    let sidecar = Sidecar::start(&settings);
    let url = sidecar.admin_url().replace("0.0.0.0", "127.0.0.1");
    let ready = async || get(&format!("{url}/readyz")).await.status == 200;
    eventually_async(ready, SOON).await;
    for path in PATHS {
        let reply = get(&format!("{url}{path}")).await;
        let status = if ["/", "/status"].contains(&path) {
            403
        } else {
            200
        };
        assert_eq!(reply.status, status, "{path}");
    }
    for path in ["/refresh", "/quitquitquit"] {
        let reply = request("POST", &format!("{url}{path}"), &[], "").await;
        assert_eq!(reply.status, 403, "{path}");
        assert!(reply.text().contains("admin.address"), "{}", reply.text());
    }
    assert_eq!(csp.call_count(), 1);
}
