//! Whoever reads the log, or does not: requests are served all the same.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, pipe},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::support::{
    Client, DEADLINE, FakeCsp, FakeService, Process, Settings, eventually, eventually_async, get,
    try_request,
};

/// Connections at the same time, and the time between two requests of each: 200 a second together.
const CLIENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(40);
/// An answer that takes longer is late, on a machine that has other tests to run.
const LATE: Duration = Duration::from_secs(3);

/// How long requests are made for. 30 s where somebody has the time.
fn length() -> Duration {
    let seconds = option_env_seconds().unwrap_or(3);
    Duration::from_secs(seconds)
}

#[expect(clippy::disallowed_methods, reason = "the suite has no configuration")]
fn option_env_seconds() -> Option<u64> {
    std::env::var("LOG_READERS_SECONDS").ok()?.parse().ok()
}

/// The real binary with a standard error of the test's choice. It cannot say where it listens, so
/// it is told: on loopback addresses that nobody else uses.
struct Muted {
    child: Child,
    proxy: SocketAddr,
    admin: SocketAddr,
    _files: TempDir,
}

impl Muted {
    async fn start(settings: &Settings, stderr: impl Into<Stdio>, through: Option<&str>) -> Self {
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, high | 0x80, low, COUNT.fetch_add(1, Ordering::Relaxed));
        let (proxy, admin) = (
            SocketAddr::from((address, 9797)),
            SocketAddr::from((address, 9798)),
        );
        let settings = settings
            .clone()
            .set("listen.address", proxy.to_string())
            .set("admin.address", admin.to_string());
        let files = tempfile::tempdir().unwrap();
        let config = settings.write(files.path());
        let program = env!("CARGO_BIN_EXE_auth-sidecar");
        let mut command = match through {
            None => Command::new(program),
            Some(script) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", script, program]);
                shell
            }
        };
        let child = command
            .args(["run", "--config", config.to_str().unwrap()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut muted = Self {
            child,
            proxy,
            admin,
            _files: files,
        };
        let url = format!("http://{admin}/readyz");
        let end = Instant::now() + DEADLINE;
        while !try_request("GET", &url, &[], "")
            .await
            .is_ok_and(|reply| reply.status == 200)
        {
            let ended = muted.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}");
            assert!(Instant::now() < end, "it is not ready");
            sleep(Duration::from_millis(10)).await;
        }
        muted
    }

    /// 200 requests a second, each answered in time, and probes that answer meanwhile.
    async fn serves(&self, length: Duration) {
        let end = Instant::now() + length;
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let url = format!("http://{}", self.proxy);
            clients.spawn(async move {
                let mut client = Client::connect(&url).await;
                let mut ticks = interval(PAUSE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut answers = 0_u32;
                while Instant::now() < end {
                    ticks.tick().await;
                    let exchange = client.request("GET", "/echo", &[], "");
                    let reply = timeout(LATE, exchange).await.unwrap();
                    assert_eq!(reply.status, 200);
                    answers += 1;
                }
                answers
            });
        }
        let noise = tokio::spawn(noise(format!("http://{}", self.proxy)));
        while Instant::now() < end {
            for probe in ["livez", "readyz"] {
                let url = format!("http://{}/{probe}", self.admin);
                let reply = timeout(LATE, get(&url)).await.unwrap();
                assert_eq!(reply.status, 200, "{probe}");
            }
            sleep(Duration::from_millis(200)).await;
        }
        noise.abort();
        let answers: u32 = clients.join_all().await.into_iter().sum();
        assert!(answers > 50, "only {answers} requests were made");
    }

    /// Waits until there is room for lines again, once somebody reads.
    async fn takes_lines(&self) {
        let url = format!("http://{}/", self.proxy);
        let takes = async || {
            let before = self.dropped().await;
            for _ in 0..20 {
                drop(try_request("GET", &url, &[("host", "elsewhere.example")], "").await);
            }
            self.dropped().await == before
        };
        eventually_async(takes, DEADLINE).await;
    }

    async fn dropped(&self) -> u64 {
        dropped(get(&format!("http://{}/metrics", self.admin)).await.text())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to stop, and waits for the end.
    async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut status = None;
        let ended = || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        };
        eventually(ended, Duration::from_secs(8)).await;
        status.unwrap()
    }
}

/// Requests that are refused, and logged: in no time a pipe is full.
async fn noise(url: String) {
    let strange = [("host", "elsewhere.example")];
    loop {
        let mut client = Client::connect(&url).await;
        while let Ok(reply) = client.try_request("GET", "/", &strange, "").await {
            assert_eq!(reply.status, 421);
        }
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn dropped(metrics: &str) -> u64 {
    let name = "auth_sidecar_log_lines_dropped_total ";
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name));
    values.next().unwrap().parse().unwrap()
}

/// What is refused is logged.
fn talkative(csp: &FakeCsp, service: &FakeService) -> Settings {
    Settings::new(csp, service).set("log.level", "debug")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_standard_error_harms_nobody() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let settings = talkative(&csp, &service);
    let script = Some(r#"exec "$0" "$@" 2>&-"#);
    let muted = Muted::start(&settings, Stdio::null(), script).await;
    muted.serves(length()).await;
    assert_eq!(muted.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_log_that_goes_away_harms_nobody() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (reader, writer) = pipe().unwrap();
    let muted = Muted::start(&talkative(&csp, &service), writer, None).await;
    drop(reader);
    muted.serves(length()).await;
    assert!(muted.dropped().await > 0);
    assert_eq!(muted.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_behind_the_log_harms_nobody() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let muted = Muted::start(&talkative(&csp, &service), full, None).await;
    muted.serves(length()).await;
    assert!(muted.dropped().await > 0);
    assert_eq!(muted.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_harms_nobody() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (reader, writer) = pipe().unwrap();
    let muted = Muted::start(&talkative(&csp, &service), writer, None).await;
    let begun = Instant::now();
    muted.serves(length()).await;
    // How soon the pipe and the buffer before it are full depends on the machine.
    while muted.dropped().await == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        muted.serves(length()).await;
    }
    // Nothing has got through since, and nobody has to wait for that to hear of it.
    let status = get(&format!("http://{}/status", muted.admin)).await.json();
    let text = status["troubles"].to_string();
    assert!(text.contains("loses lines (slow)"), "{status}");
    let asked = Instant::now();
    assert_eq!(muted.stop().await.code(), Some(0));
    // A second for the log, the rest for the machine.
    assert!(asked.elapsed() < Duration::from_secs(6));
    drop(reader);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once_though_nobody_reads() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (reader, writer) = pipe().unwrap();
    let settings = talkative(&csp, &service);
    let muted = Muted::start(&settings, writer, None).await;
    muted.serves(Duration::from_secs(1)).await;
    let url = format!("http://{}/slow?ms=15000", muted.proxy);
    let request = tokio::spawn(async move { try_request("GET", &url, &[], "").await });
    eventually(|| service.in_flight() == 1, DEADLINE).await;
    muted.signal(Signal::TERM);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(muted.stop().await.code(), Some(1));
    assert!(request.await.unwrap().is_err());
    drop(reader);
}

/// A terminal, or a pipe that another program has set so: a write that cannot be done at once
/// fails, and the next one may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_must_not_be_waited_for_is_written_when_there_is_room() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (mut reader, writer) = pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    // Without the lines of refused requests, which would leave no room.
    let settings = talkative(&csp, &service).set("log.access", "off");
    let muted = Muted::start(&settings, writer, None).await;
    muted.serves(length()).await;
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    });
    muted.takes_lines().await;
    assert_eq!(muted.stop().await.code(), Some(0));
    let text = reading.join().unwrap();
    assert!(text.lines().any(|line| line.ends_with("stopped")), "{text}");
    assert!(text.contains("listening"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_line_that_gets_through_says_how_many_did_not() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (mut reader, writer) = pipe().unwrap();
    let settings = talkative(&csp, &service).set("log.format", "json");
    let muted = Muted::start(&settings, writer, None).await;
    let mut lost = 0;
    for _ in 0..60 {
        muted.serves(Duration::from_secs(1)).await;
        lost = muted.dropped().await;
        if lost > 0 {
            break;
        }
    }
    assert!(lost > 0);
    let text = Arc::new(Mutex::new(Vec::new()));
    let reading = std::thread::spawn({
        let text = Arc::clone(&text);
        move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut part) {
                text.lock().unwrap().extend_from_slice(&part[..count]);
            }
        }
    });
    // The next line, and one after it: all that was buffered has got through then.
    let proxy = format!("http://{}/", muted.proxy);
    let gets_through = async || {
        let refused = try_request("GET", &proxy, &[("host", "elsewhere.example")], "");
        drop(refused.await);
        let text = String::from_utf8_lossy(&text.lock().unwrap()).into_owned();
        let mut lines = text.lines();
        lines.any(|line| line.contains("\"dropped\":")) && lines.next().is_some()
    };
    eventually_async(gets_through, DEADLINE).await;
    assert_eq!(muted.stop().await.code(), Some(0));
    reading.join().unwrap();
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    // Whole lines, and JSON from the first to the last.
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let said: u64 = lines
        .iter()
        .filter_map(|line| line["dropped"].as_u64())
        .sum();
    assert!(said >= lost, "{said} of {lost}");
    let first = &lines[0];
    assert!(first["timestamp"].is_string() && first["level"].is_string());
    let end = lines.last().unwrap();
    assert_eq!(end["message"], "stopped", "{end}");
}

#[tokio::test]
async fn the_count_of_dropped_lines_is_there_from_the_start() {
    let service = FakeService::accepting_all();
    let sidecar = Process::start(&Settings::static_token("token", &service)).await;
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert_eq!(dropped(&metrics), 0);
    let kind = "# TYPE auth_sidecar_log_lines_dropped_total counter";
    assert!(metrics.lines().any(|line| line == kind), "{metrics}");
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    assert!(!lines.is_empty());
    for line in &lines {
        assert!(line["timestamp"].is_string(), "{line}");
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    lines
}

#[tokio::test]
async fn failures_of_the_start_are_json_where_the_log_is_to_be() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    // The mistake is below the key, and above another.
    std::fs::write(
        &file,
        "[log]\nformat = \"json\"\n[listen]\nadress = \"x\"\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&broken, "[log]\nformat = \"json\"\n[listen]\naddress = \n").unwrap();
    let broken_path = broken.path().to_str().unwrap().to_owned();
    let json = ("AUTH_SIDECAR_LOG__FORMAT", "json");
    let credential = ("WAVEFRONT_TOKEN", "a-token");
    let url = ("WAVEFRONT_URL", "http://127.0.0.1:1");
    for (arguments, environment, code, word) in [
        (vec!["--log-format", "json"], vec![], 2, "upstream.url"),
        (vec!["run", "--log-format=json"], vec![], 2, "auth.type"),
        (vec!["run"], vec![json], 2, "upstream.url"),
        (vec!["run", "--config", &path], vec![], 2, "listen.adress"),
        (
            vec!["run", "--config", &broken_path],
            vec![],
            2,
            "is no TOML",
        ),
        (
            vec![],
            vec![("AUTH_SIDECAR_CONFIG", path.as_str())],
            2,
            "listen.adress",
        ),
        // Not even understood what is to be run.
        (
            vec!["run", "--log-format", "json", "--nonsense"],
            vec![],
            2,
            "--nonsense",
        ),
        (vec!["run", "--nonsense"], vec![json], 2, "--nonsense"),
        // The log is there already.
        (
            vec!["--listen", &taken],
            vec![json, credential, url],
            1,
            "listen.address",
        ),
        (
            vec!["--listen", &taken, "--log-level", "off"],
            vec![json, credential, url],
            1,
            "listen.address",
        ),
    ] {
        let mut sidecar = Process::spawn(&arguments, &environment);
        assert_eq!(sidecar.wait().await.code(), Some(code), "{arguments:?}");
        assert_eq!(sidecar.stdout(), "");
        let stderr = sidecar.stderr();
        let lines: Vec<&str> = stderr
            .lines()
            .filter(|line| !line.contains("\"INFO\""))
            .collect();
        let lines = json_lines(&lines.join("\n"));
        let is_there = |line: &Value| line["message"].as_str().unwrap().contains(word);
        assert!(lines.iter().any(is_there), "{word} in {stderr}");
    }
}

#[tokio::test]
async fn the_format_of_a_wrong_configuration_is_text_by_default() {
    let mut sidecar = Process::spawn(&["run"], &[]);
    assert_eq!(sidecar.wait().await.code(), Some(2));
    let stderr = sidecar.stderr();
    assert!(
        stderr
            .lines()
            .any(|line| line.starts_with("upstream.url: missing")),
        "{stderr}"
    );
}

/// A command whose reader has gone before the first line.
fn unread(arguments: &[&str], environment: &[(&str, &str)]) -> std::process::Output {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap()
}

#[test]
fn a_command_whose_reader_has_seen_enough_is_no_failure() {
    let environment = [
        ("WAVEFRONT_URL", "http://127.0.0.1:1"),
        ("WAVEFRONT_TOKEN", "a-token"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();
    for (arguments, code) in [
        (vec!["check"], 0),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["local-ca", "--dir", directory], 0),
        // It has found something, whether somebody reads it or not.
        (vec!["doctor"], 1),
    ] {
        let output = unread(&arguments, &environment);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {output:?}"
        );
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn notes_that_cannot_be_written_do_not_fail_a_command() {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("clients");
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(["local-token", "grafana", "--file", list.to_str().unwrap()])
        .stdin(Stdio::null())
        .stderr(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"sidecar_"));
}

#[test]
fn what_was_asked_for_and_cannot_be_written_is_a_failure() {
    let environment = [
        ("WAVEFRONT_URL", "http://127.0.0.1:1"),
        ("WAVEFRONT_TOKEN", "a-token"),
    ];
    let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .arg("check")
        .env_clear()
        .envs(environment)
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("standard output"), "{stderr}");
}

#[tokio::test]
async fn a_demo_goes_on_without_a_reader_of_its_guide() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut child = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(["demo", "--log-level", "info"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    let ended = child.try_wait().unwrap();
    drop(child.kill());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        ended.is_none() && stderr.contains("got a token"),
        "{stderr}"
    );
}
