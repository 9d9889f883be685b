//! `auth-sidecar demo`: what it prints can be pasted into a shell as it stands.

use std::{process::Command, time::Duration};

use rustix::process::Signal;
use tokio::time::timeout;

use crate::support::{Connection, DEADLINE, Process, eventually};

/// Well below the time that the demo gives a body.
const SOON: Duration = Duration::from_secs(5);
const LAST_LINE: &str = "Ctrl-C stops the demo.";

/// What each printed `curl` line has to bring, in the order of the lines.
const EXPECTED: [&str; 9] = [
    r#""code":401"#,
    r#""totalItems":0"#,
    r#""response":""#,
    r#""name":"AWS""#,
    "202",
    r#""target":"/report?f=wavefront""#,
    r#""sleptMs":4000"#,
    "generation",
    "auth_sidecar_token_refresh_total",
];

#[tokio::test]
async fn every_printed_line_works_and_an_interrupt_ends_it_well() {
    let mut demo = demo(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let guide = demo.stdout();
    let lines: Vec<&str> = guide
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl "))
        .collect();
    assert_eq!(lines.len(), EXPECTED.len(), "{guide}");
    for (line, expected) in lines.into_iter().zip(EXPECTED) {
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{line}\n{:?}", output.stderr);
        assert!(shown.contains(expected), "{line}\n{shown}");
        assert_no_secret(&shown);
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().await.code(), Some(0), "{}", demo.output());
    assert_no_secret(&demo.output());
}

#[tokio::test]
async fn a_taken_port_is_replaced_by_a_free_one() {
    // Whether the first demo has the usual ports or something else: the second one cannot have them.
    let mut first = demo(&[]).await;
    let mut second = demo(&[]).await;
    for usual in ["127.0.0.1:9797", "127.0.0.1:9798"] {
        assert!(!second.stdout().contains(usual), "{}", second.stdout());
    }
    for demo in [&mut first, &mut second] {
        demo.signal(Signal::INT);
        assert_eq!(demo.wait().await.code(), Some(0), "{}", demo.output());
    }
}

/// An empty container image is such a system.
#[tokio::test]
async fn a_system_without_certificate_authorities_can_show_the_demo() {
    let nowhere = [
        ("SSL_CERT_FILE", "/nonexistent/certificates.pem"),
        ("SSL_CERT_DIR", "/nonexistent"),
    ];
    let any_port = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut demo = demo_in(&nowhere, &any_port).await;
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().await.code(), Some(0), "{}", demo.output());
}

#[tokio::test]
async fn a_query_reaches_the_instance_as_it_was_typed() {
    let mut demo = demo(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let mut sidecar = to_sidecar(&demo).await;
    let mut get = async |target: &[u8]| {
        let request = [b"GET ", target, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        sidecar.write(request).await;
        let (head, body) = sidecar.read_message().await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), json)
    };
    for (query, read) in [
        (&br#"ts("cpu.usage")"#[..], r#"ts("cpu.usage")"#),
        (b"<a>`b`{c}|d^e\\", r"<a>`b`{c}|d^e\"),
        ("\u{e4}\u{20ac}".as_bytes(), "\u{e4}\u{20ac}"),
        (b"caf\xe9", "caf\u{fffd}"),
        (b"a%22b+c", r#"a"b c"#),
    ] {
        let (status, chart) = get(&[b"/api/v2/chart/api?g=m&q=", query].concat()).await;
        assert_eq!((status.as_str(), &chart["query"]), ("200", &read.into()));
        assert_eq!(chart["timeseries"], serde_json::json!([]));
    }
    // What the demo does not know, whatever its path is made of.
    for path in [&b"/\"<>`{|^\xff"[..], b"/csp/\xe9"] {
        let (status, envelope) = get(path).await;
        assert_eq!(
            (status.as_str(), &envelope["status"]["code"]),
            ("404", &404.into())
        );
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.wait().await.code(), Some(0), "{}", demo.output());
}

#[tokio::test]
async fn a_client_that_waits_before_it_sends_a_body_is_asked_for_it_at_once() {
    let demo = demo(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await;
    let mut sidecar = to_sidecar(&demo).await;
    let head = "POST /report?f=wavefront HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\
                Expect: 100-continue\r\n\r\n";
    sidecar.write(head).await;
    let interim = timeout(SOON, sidecar.read_head()).await.unwrap().unwrap();
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    sidecar.write("metric 1\n").await;
    let (head, _) = sidecar.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 202 "), "{head}");
}

/// A connection to the sidecar that a demo has.
async fn to_sidecar(demo: &Process) -> Connection {
    let guide = demo.stdout();
    let line = guide.lines().find(|line| line.contains("the sidecar:"));
    let (url, _) = line.unwrap().trim().split_once(' ').unwrap();
    Connection::to(url.strip_prefix("http://").unwrap().parse().unwrap()).await
}

async fn demo(arguments: &[&str]) -> Process {
    demo_in(&[], arguments).await
}

async fn demo_in(environment: &[(&str, &str)], arguments: &[&str]) -> Process {
    let arguments: Vec<&str> = ["demo"].iter().chain(arguments).copied().collect();
    let process = Process::spawn(&arguments, environment);
    eventually(|| process.stdout().contains(LAST_LINE), DEADLINE).await;
    process
}

/// Neither a token (it starts with the base64url of `{"alg":`) nor one of the demo's secrets, which all start alike.
fn assert_no_secret(text: &str) {
    for mark in ["eyJhbGciOi", "demo-secret-"] {
        assert!(!text.contains(mark), "{text}");
    }
}

#[tokio::test]
async fn a_demo_on_a_unix_socket_alone_says_what_its_lines_need() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("demo.sock").display());
    let mut demo = Process::spawn(&["demo", "--listen", &socket], &[]);
    assert_eq!(demo.wait().await.code(), Some(1));
    assert!(demo.stderr().contains("IP:port"), "{}", demo.output());
}
