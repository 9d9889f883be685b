//! What stands in a line, to the byte.

use std::{net::IpAddr, path::Path, time::Duration};

use super::*;
use crate::message::RequestId;

fn record() -> Record<'static> {
    Record {
        id: RequestId::new(0xabc),
        is_admin: false,
        client: Client::Token("grafana"),
        address: Some(IpAddr::from([127, 0, 0, 1])),
        is_tls: false,
        asked: Some(Asked {
            method: "DELETE",
            target: b"/api/v2/alert/1 2\n\xe9?key=canary",
            version: "1.1",
        }),
        status: Some(204),
        origin: Some("upstream"),
        error: None,
        request_bytes: 0,
        response_bytes: 7,
        duration: Duration::from_micros(12_345),
        first_byte: Some(Duration::from_millis(11)),
        upstream: Some(Duration::from_millis(10)),
        held: Duration::ZERO,
        generation: Some(3),
        is_replayed: true,
        handed_out: None,
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8(line.to_vec()).unwrap()
}

fn line(format: LogFormat, has_query: bool, record: &Record<'_>) -> String {
    let access = Access::new(AccessMode::All, has_query, format, None);
    access.line(record, SystemTime::UNIX_EPOCH, text)
}

#[test]
fn a_line_of_text_is_one_line_of_names_and_values() {
    assert_eq!(
        line(LogFormat::Text, false, &record()),
        "1970-01-01T00:00:00.000000Z  INFO request \
         request_id=00000000000000000000000000000abc client.kind=token client.name=grafana \
         client.address=127.0.0.1 http.request.method=DELETE \
         url.path=\"/api/v2/alert/1 2%0A%E9\" network.protocol.version=1.1 \
         http.response.status_code=204 origin=upstream http.request.body.size=0 \
         http.response.body.size=7 duration_seconds=0.012 first_byte_seconds=0.011 \
         upstream_seconds=0.01 token.generation=3 replayed=true\n"
    );
}

#[test]
fn a_line_of_json_has_numbers_for_numbers_and_a_query_only_where_it_is_wanted() {
    let text = line(LogFormat::Json, false, &record());
    assert!(!text.contains("canary"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["url.path"], "/api/v2/alert/1 2%0A%E9");
    assert_eq!(json["http.response.status_code"], 204);
    assert_eq!(json["duration_seconds"], 0.012);
    assert_eq!(json["replayed"], true);
    assert_eq!(json["level"], "INFO");
    let text = line(LogFormat::Json, true, &record());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["url.query"], "key=canary");
}

#[test]
fn a_long_target_is_cut_and_what_was_never_read_is_left_out() {
    let long = [b"/".as_slice(), &[b'x'; 3000]].concat();
    let mut record = record();
    record.asked = Some(Asked {
        method: "GET",
        target: &long,
        version: "2",
    });
    assert!(line(LogFormat::Text, false, &record).len() < 2600);
    record.asked = None;
    record.client = Client::Unknown;
    let text = line(LogFormat::Json, false, &record);
    assert!(!text.contains("url.path") && !text.contains("client.name"));
}

#[test]
fn the_level_is_by_whose_fault_it_was() {
    let level = |status, origin, error| {
        let mut record = record();
        (record.status, record.origin, record.error) = (status, origin, error);
        let json: serde_json::Value =
            serde_json::from_str(&line(LogFormat::Json, false, &record)).unwrap();
        json["level"].as_str().unwrap().to_owned()
    };
    assert_eq!(level(Some(503), Some("upstream"), None), "WARN");
    assert_eq!(
        level(Some(502), Some("sidecar"), Some(("dns_error", "dns"))),
        "WARN"
    );
    let refused = Some(("http_request_denied", "host"));
    assert_eq!(level(Some(421), Some("sidecar"), refused), "INFO");
    assert_eq!(level(None, None, Some(("", "client_gone"))), "INFO");
    assert_eq!(
        level(Some(200), Some("upstream"), Some(("", "broken_off"))),
        "WARN"
    );
}

/// Requests of every kind, with whatever hostile clients can put into a line.
fn table() -> Vec<Record<'static>> {
    let plain = record();
    let asked = |method, target, version| {
        Some(Asked {
            method,
            target,
            version,
        })
    };
    vec![
        plain,
        Record {
            client: Client::Certificate("CN=a \"b\" \\ c, O=\u{e9}\n"),
            address: Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])),
            asked: asked("M-SEARCH", b"*", "1.0"),
            status: Some(503),
            origin: Some("sidecar"),
            error: Some(("destination_unavailable", "no_token")),
            held: Duration::from_secs(8),
            first_byte: None,
            upstream: None,
            generation: None,
            is_replayed: false,
            duration: Duration::from_millis(8_001),
            ..plain
        },
        Record {
            client: Client::User(1000),
            address: None,
            asked: asked(
                "GET",
                b"/\x00\x1b[2J\"\\'=\x7f\x80\xff ?q=\"a b\"&c=\\\t\r\n%41",
                "2",
            ),
            status: Some(400),
            origin: Some("broker"),
            error: Some(("", "malformed")),
            request_bytes: u64::MAX,
            response_bytes: 0,
            duration: Duration::from_nanos(499_999),
            first_byte: Some(Duration::from_micros(500)),
            upstream: Some(Duration::from_secs(5)),
            held: Duration::from_nanos(1),
            handed_out: Some(HandedOut {
                endpoint: "oauth2",
                expires_in: 1799,
            }),
            ..plain
        },
        Record {
            is_admin: true,
            client: Client::Unknown,
            asked: None,
            status: None,
            origin: None,
            error: Some(("", "client_gone")),
            duration: Duration::new(1_234_567, 891_000_000),
            first_byte: Some(Duration::from_secs(1 << 40)),
            upstream: Some(Duration::ZERO),
            ..plain
        },
        Record {
            client: Client::Token(""),
            asked: asked("", b"?=", "1.1"),
            status: Some(599),
            ..plain
        },
    ]
}

/// What [`table`] comes to, as the library for JSON and the formatter of strings have written it.
const TEXT: [&str; 5] = [
    r#"1970-01-01T00:00:00.000000Z  INFO request request_id=00000000000000000000000000000abc client.kind=token client.name=grafana client.address=127.0.0.1 http.request.method=DELETE url.path="/api/v2/alert/1 2%0A%E9" network.protocol.version=1.1 http.response.status_code=204 origin=upstream http.request.body.size=0 http.response.body.size=7 duration_seconds=0.012 first_byte_seconds=0.011 upstream_seconds=0.01 token.generation=3 replayed=true"#,
    r#"1970-01-01T00:00:00.000000Z  WARN request request_id=00000000000000000000000000000abc client.kind=certificate client.name="CN=a \"b\" \\ c, O=%C3%A9%0A" client.address=2001:db8::1 http.request.method=M-SEARCH url.path=* network.protocol.version=1.0 http.response.status_code=503 origin=sidecar error.type=no_token proxy_status=destination_unavailable http.request.body.size=0 http.response.body.size=7 duration_seconds=8.001 held_seconds=8"#,
    r#"1970-01-01T00:00:00.000000Z  INFO request request_id=00000000000000000000000000000abc client.kind=user client.name=1000 http.request.method=GET url.path="/%00%1B[2J\"\\'=%7F%80%FF " network.protocol.version=2 http.response.status_code=400 origin=broker error.type=malformed http.request.body.size=18446744073709551615 http.response.body.size=0 duration_seconds=0 first_byte_seconds=0.001 upstream_seconds=5 held_seconds=0 token.generation=3 replayed=true token.endpoint=oauth2 token.expires_in_seconds=1799"#,
    r"1970-01-01T00:00:00.000000Z  INFO request request_id=00000000000000000000000000000abc listener=admin client.kind=address client.address=127.0.0.1 error.type=client_gone http.request.body.size=0 http.response.body.size=7 duration_seconds=1234567.891 first_byte_seconds=1099511627776 upstream_seconds=0 token.generation=3 replayed=true",
    r#"1970-01-01T00:00:00.000000Z  WARN request request_id=00000000000000000000000000000abc client.kind=token client.address=127.0.0.1 http.request.method="" url.path="" network.protocol.version=1.1 http.response.status_code=599 origin=upstream http.request.body.size=0 http.response.body.size=7 duration_seconds=0.012 first_byte_seconds=0.011 upstream_seconds=0.01 token.generation=3 replayed=true"#,
];
const TEXT_WITH_QUERY: [&str; 5] = [
    r#"1970-01-01T00:00:00.000000Z  INFO request request_id=00000000000000000000000000000abc client.kind=token client.name=grafana client.address=127.0.0.1 http.request.method=DELETE url.path="/api/v2/alert/1 2%0A%E9" url.query="key=canary" network.protocol.version=1.1 http.response.status_code=204 origin=upstream http.request.body.size=0 http.response.body.size=7 duration_seconds=0.012 first_byte_seconds=0.011 upstream_seconds=0.01 token.generation=3 replayed=true"#,
    r#"1970-01-01T00:00:00.000000Z  WARN request request_id=00000000000000000000000000000abc client.kind=certificate client.name="CN=a \"b\" \\ c, O=%C3%A9%0A" client.address=2001:db8::1 http.request.method=M-SEARCH url.path=* network.protocol.version=1.0 http.response.status_code=503 origin=sidecar error.type=no_token proxy_status=destination_unavailable http.request.body.size=0 http.response.body.size=7 duration_seconds=8.001 held_seconds=8"#,
    r#"1970-01-01T00:00:00.000000Z  INFO request request_id=00000000000000000000000000000abc client.kind=user client.name=1000 http.request.method=GET url.path="/%00%1B[2J\"\\'=%7F%80%FF " url.query="q=\"a b\"&c=\\%09%0D%0A%41" network.protocol.version=2 http.response.status_code=400 origin=broker error.type=malformed http.request.body.size=18446744073709551615 http.response.body.size=0 duration_seconds=0 first_byte_seconds=0.001 upstream_seconds=5 held_seconds=0 token.generation=3 replayed=true token.endpoint=oauth2 token.expires_in_seconds=1799"#,
    r"1970-01-01T00:00:00.000000Z  INFO request request_id=00000000000000000000000000000abc listener=admin client.kind=address client.address=127.0.0.1 error.type=client_gone http.request.body.size=0 http.response.body.size=7 duration_seconds=1234567.891 first_byte_seconds=1099511627776 upstream_seconds=0 token.generation=3 replayed=true",
    r#"1970-01-01T00:00:00.000000Z  WARN request request_id=00000000000000000000000000000abc client.kind=token client.address=127.0.0.1 http.request.method="" url.path="" url.query="=" network.protocol.version=1.1 http.response.status_code=599 origin=upstream http.request.body.size=0 http.response.body.size=7 duration_seconds=0.012 first_byte_seconds=0.011 upstream_seconds=0.01 token.generation=3 replayed=true"#,
];
const JSON: [&str; 5] = [
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"INFO","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"token","client.name":"grafana","client.address":"127.0.0.1","http.request.method":"DELETE","url.path":"/api/v2/alert/1 2%0A%E9","network.protocol.version":"1.1","http.response.status_code":204,"origin":"upstream","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":0.012,"first_byte_seconds":0.011,"upstream_seconds":0.01,"token.generation":3,"replayed":true,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"WARN","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"certificate","client.name":"CN=a \"b\" \\ c, O=%C3%A9%0A","client.address":"2001:db8::1","http.request.method":"M-SEARCH","url.path":"*","network.protocol.version":"1.0","http.response.status_code":503,"origin":"sidecar","error.type":"no_token","proxy_status":"destination_unavailable","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":8.001,"held_seconds":8.0,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"INFO","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"user","client.name":"1000","http.request.method":"GET","url.path":"/%00%1B[2J\"\\'=%7F%80%FF ","network.protocol.version":"2","http.response.status_code":400,"origin":"broker","error.type":"malformed","http.request.body.size":18446744073709551615,"http.response.body.size":0,"duration_seconds":0.0,"first_byte_seconds":0.001,"upstream_seconds":5.0,"held_seconds":0.0,"token.generation":3,"replayed":true,"token.endpoint":"oauth2","token.expires_in_seconds":1799,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"INFO","message":"request","request_id":"00000000000000000000000000000abc","listener":"admin","client.kind":"address","client.address":"127.0.0.1","error.type":"client_gone","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":1234567.891,"first_byte_seconds":1099511627776.0,"upstream_seconds":0.0,"token.generation":3,"replayed":true,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"WARN","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"token","client.address":"127.0.0.1","http.request.method":"","url.path":"","network.protocol.version":"1.1","http.response.status_code":599,"origin":"upstream","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":0.012,"first_byte_seconds":0.011,"upstream_seconds":0.01,"token.generation":3,"replayed":true,"target":"auth_sidecar::access"}"#,
];
const JSON_WITH_QUERY: [&str; 5] = [
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"INFO","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"token","client.name":"grafana","client.address":"127.0.0.1","http.request.method":"DELETE","url.path":"/api/v2/alert/1 2%0A%E9","url.query":"key=canary","network.protocol.version":"1.1","http.response.status_code":204,"origin":"upstream","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":0.012,"first_byte_seconds":0.011,"upstream_seconds":0.01,"token.generation":3,"replayed":true,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"WARN","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"certificate","client.name":"CN=a \"b\" \\ c, O=%C3%A9%0A","client.address":"2001:db8::1","http.request.method":"M-SEARCH","url.path":"*","network.protocol.version":"1.0","http.response.status_code":503,"origin":"sidecar","error.type":"no_token","proxy_status":"destination_unavailable","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":8.001,"held_seconds":8.0,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"INFO","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"user","client.name":"1000","http.request.method":"GET","url.path":"/%00%1B[2J\"\\'=%7F%80%FF ","url.query":"q=\"a b\"&c=\\%09%0D%0A%41","network.protocol.version":"2","http.response.status_code":400,"origin":"broker","error.type":"malformed","http.request.body.size":18446744073709551615,"http.response.body.size":0,"duration_seconds":0.0,"first_byte_seconds":0.001,"upstream_seconds":5.0,"held_seconds":0.0,"token.generation":3,"replayed":true,"token.endpoint":"oauth2","token.expires_in_seconds":1799,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"INFO","message":"request","request_id":"00000000000000000000000000000abc","listener":"admin","client.kind":"address","client.address":"127.0.0.1","error.type":"client_gone","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":1234567.891,"first_byte_seconds":1099511627776.0,"upstream_seconds":0.0,"token.generation":3,"replayed":true,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"1970-01-01T00:00:00.000000Z","level":"WARN","message":"request","request_id":"00000000000000000000000000000abc","client.kind":"token","client.address":"127.0.0.1","http.request.method":"","url.path":"","url.query":"=","network.protocol.version":"1.1","http.response.status_code":599,"origin":"upstream","http.request.body.size":0,"http.response.body.size":7,"duration_seconds":0.012,"first_byte_seconds":0.011,"upstream_seconds":0.01,"token.generation":3,"replayed":true,"target":"auth_sidecar::access"}"#,
];
const TOKENS: [&str; 4] = [
    r#"2025-11-30T14:19:05.678901Z  INFO token file file.path="/run/%C3%A9 \"x\"/t=k" token.generation=7"#,
    r#"2025-11-30T14:19:05.678901Z  INFO token file file.path="/run/%C3%A9 \"x\"/t=k" token.generation=7 token.expires_in_seconds=1.5"#,
    r#"{"timestamp":"2025-11-30T14:19:05.678901Z","level":"INFO","message":"token file","file.path":"/run/%C3%A9 \"x\"/t=k","token.generation":7,"target":"auth_sidecar::access"}"#,
    r#"{"timestamp":"2025-11-30T14:19:05.678901Z","level":"INFO","message":"token file","file.path":"/run/%C3%A9 \"x\"/t=k","token.generation":7,"token.expires_in_seconds":1.5,"target":"auth_sidecar::access"}"#,
];

#[test]
fn whatever_a_request_holds_its_line_is_to_the_byte_as_it_always_was() {
    for (format, has_query, lines) in [
        (LogFormat::Text, false, TEXT),
        (LogFormat::Text, true, TEXT_WITH_QUERY),
        (LogFormat::Json, false, JSON),
        (LogFormat::Json, true, JSON_WITH_QUERY),
    ] {
        for (record, expected) in table().iter().zip(lines) {
            assert_eq!(line(format, has_query, record), format!("{expected}\n"));
        }
    }
}

#[test]
fn so_is_the_line_of_a_token_that_was_written_to_a_file() {
    let at = SystemTime::UNIX_EPOCH + Duration::new(1_764_512_345, 678_901_234);
    let mut lines = TOKENS.iter();
    for format in [LogFormat::Text, LogFormat::Json] {
        let access = Access::new(AccessMode::All, true, format, None);
        for expires_in in [None, Some(Duration::from_millis(1500))] {
            let token = WrittenToken {
                path: Path::new("/run/\u{e9} \"x\"/t=k"),
                generation: 7,
                expires_in,
            };
            let expected = lines.next().unwrap();
            assert_eq!(access.token_line(&token, at, text), format!("{expected}\n"));
        }
    }
}
