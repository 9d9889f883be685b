use std::{net::SocketAddr, time::Duration};

use rustix::process::Signal;
use tokio::time::Instant;

use crate::support::{
    Connection, DEADLINE, FakeService, Process, Settings, Sidecar, eventually, get,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// More connections than are kept ready for their next request.
const CROWD: usize = 160;

async fn crowd(address: SocketAddr) -> Vec<Connection> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(Connection::to(address).await);
    }
    crowd
}

async fn is_answered(client: &mut Connection) -> bool {
    let answer = client.read_message().await;
    answer.is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200 "))
}

#[tokio::test]
async fn each_connection_of_a_crowd_is_served_however_often_it_was_idle() {
    let service = FakeService::accepting_all();
    let sidecar = Sidecar::start(&Settings::static_token("token", &service));
    let mut crowd = crowd(sidecar.proxy_address()).await;
    for _ in 0..3 {
        for client in &mut crowd {
            client.write(GET).await;
            assert!(is_answered(client).await);
        }
    }
    // Two at once, and a part of a third.
    for client in &mut crowd {
        client.write([GET, GET, "GET /la"].concat()).await;
        assert!(is_answered(client).await);
        assert!(is_answered(client).await);
    }
    for client in &mut crowd {
        client.write("st HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(is_answered(client).await);
    }
    // A body in pieces, and an empty line behind it (RFC 9112 §2.2).
    for client in &mut crowd {
        let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";
        client.write(head).await;
        client.write("ab").await;
    }
    for client in &mut crowd {
        client.write("cd\r\n").await;
        let (_, body) = client.read_message().await.unwrap();
        assert_eq!(body, b"abcd");
    }
    for client in &mut crowd {
        client.write(GET).await;
        assert!(is_answered(client).await);
        client
            .write("GET /x HTTP/1.1\r\nHost : localhost\r\n\r\n")
            .await;
        let (head, _) = client.read_message().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(client.read_to_end().await.is_empty());
    }
    assert_eq!(service.request_count(), CROWD * 8);
}

#[tokio::test]
async fn what_follows_an_early_answer_in_a_crowd_is_still_the_body() {
    let service = FakeService::accepting_all();
    let sidecar = Sidecar::start(&Settings::static_token("token", &service));
    let mut crowd = crowd(sidecar.proxy_address()).await;
    for client in &mut crowd {
        let head = "POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n";
        client.write(head).await;
        assert!(is_answered(client).await);
    }
    for client in &mut crowd {
        client.write("GET ").await;
        client.write("/ HT").await;
        client.finish().await;
        assert!(client.read_to_end().await.is_empty());
    }
}

#[tokio::test]
async fn the_idle_connections_of_a_crowd_are_closed_in_time_and_in_silence() {
    let service = FakeService::accepting_all();
    let settings =
        Settings::static_token("token", &service).set("listen.keep_alive_timeout", "600ms");
    let sidecar = Sidecar::start(&settings);
    let mut crowd = crowd(sidecar.proxy_address()).await;
    for client in &mut crowd {
        client.write(GET).await;
        assert!(is_answered(client).await);
    }
    let began = Instant::now();
    for client in &mut crowd {
        assert!(client.read_to_end().await.is_empty());
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{began:?}");
}

#[tokio::test]
async fn the_idle_connections_of_a_crowd_do_not_delay_the_end() {
    let service = FakeService::accepting_all();
    let mut sidecar = Process::start(&Settings::static_token("token", &service)).await;
    let mut crowd = crowd(sidecar.proxy_address()).await;
    for client in &mut crowd {
        client.write(GET).await;
        assert!(is_answered(client).await);
    }
    let asked = Instant::now();
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5));
    for client in &mut crowd {
        assert!(client.read_to_end().await.is_empty());
    }
}

/// How often a thread of a process has gone to sleep so far.
fn sleeps(process: &Process, thread: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let is_it = |path: &std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm"));
        name.is_ok_and(|name| name.trim() == thread)
    };
    let status = std::fs::read_to_string(tasks.find(is_it).unwrap().join("status")).unwrap();
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_worker_without_work_sleeps_and_closes_what_is_idle_all_the_same() {
    let service = FakeService::accepting_all();
    let settings = Settings::static_token("token", &service)
        .set("listen.workers", 1)
        .set("listen.keep_alive_timeout", "200ms")
        .set("upstream.idle_timeout", "200ms")
        // So that the test can look into `/proc`.
        .set("process.sandbox", false);
    let sidecar = Process::start(&settings).await;
    for _ in 0..2 {
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 200);
        eventually(|| service.open_connections() == 0, DEADLINE).await;
        // For a second nothing wakes it: of what once did, five would have come.
        let mut since = (Instant::now(), sleeps(&sidecar, "worker-0"));
        let rests = || {
            let now = sleeps(&sidecar, "worker-0");
            if now > since.1 + 1 {
                since = (Instant::now(), now);
            }
            since.0.elapsed() > Duration::from_secs(1)
        };
        eventually(rests, DEADLINE).await;
    }
}
