//! Many connections that do nothing, and a few that do.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    it::support::{Client, Connection, FakeService, Process, Settings},
    memory,
    scale::Scale,
};

const REQUESTS_PER_SECOND: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_cost_little_and_slow_nobody_down() {
    let scale = Scale::of("idle");
    let mut random = fastrand::Rng::with_seed(scale.seed);
    let count: usize = scale.pick(200, 2000);
    let time = Duration::from_secs(scale.pick(3, 60));
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();

    let service = FakeService::accepting_all();
    let settings = Settings::static_token("token", &service)
        // Longer than the whole check.
        .set("listen.keep_alive_timeout", "5m");
    let process = Process::start(&settings).await;
    let clients = Arc::new(Clients::new(&process));
    // What the first requests need is not the cost of a connection.
    for number in 0..50 {
        clients.ask(number, true).await.unwrap();
    }

    let before = memory::anonymous(process.pid());
    let mut idle = Vec::new();
    for number in 0..count {
        let mut one = Connection::to(process.proxy_address()).await;
        one.write(format!(
            "GET /idle/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
        assert!(one.read_message().await.is_some());
        idle.push(one);
    }
    let after = memory::anonymous(process.pid());

    let mut ticks = interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + time;
    let mut asking = JoinSet::new();
    let mut number = 0;
    while Instant::now() < end {
        ticks.tick().await;
        number += 1;
        let (clients, fresh) = (Arc::clone(&clients), random.u32(..10) == 0);
        asking.spawn(async move { clients.ask(number, fresh).await });
    }
    let mut problems = Vec::new();
    let mut took = Vec::new();
    for asked in asking.join_all().await {
        match asked {
            Ok(time) => took.push(time),
            Err(problem) => problems.push(problem),
        }
    }
    for (number, one) in idle.iter_mut().enumerate() {
        one.write(format!(
            "GET /idle/{number}/again HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
        let reply = one.read_message().await;
        if !reply.is_some_and(|(head, _)| head.starts_with("HTTP/1.1 200 ")) {
            problems.push(format!("idle connection {number} has ended"));
        }
    }

    took.sort_unstable();
    let part = |part: usize| {
        took.get((took.len() * part / 1000).min(took.len() - 1))
            .copied()
    };
    scale.row("idle connections", &count);
    if let (Some(before), Some(after)) = (before, after) {
        let all = after.saturating_sub(before);
        let tenths = all * 10 / u64::try_from(count).unwrap();
        let each = format!("{}.{}", tenths / 10, tenths % 10);
        let both = format!("{before} {after}");
        scale.row("RssAnon, KiB, without and with", &both);
        scale.row("  KiB a connection", &each);
        if tenths > scale.pick(MOST_EACH_OF_FEW, MOST_EACH) * 10 {
            problems.push(format!("{each} KiB for each idle connection"));
        }
    }
    scale.row("requests", &number);
    scale.row("  failed", &(number - took.len()));
    for (name, place) in [
        ("median", 500),
        ("99 %", 990),
        ("99.9 %", 999),
        ("most", 1000),
    ] {
        scale.row(
            &format!("  {name}"),
            &format!("{:?}", part(place).unwrap_or_default()),
        );
    }
    scale.conclude(&problems);
}

/// What an idle connection may cost in KiB: not its buffers.
const MOST_EACH: u64 = 8;
/// The first ones may keep them for a moment.
const MOST_EACH_OF_FEW: u64 = 32;

/// Those that do something.
struct Clients {
    url: String,
    kept: Mutex<Vec<Client>>,
}

impl Clients {
    fn new(process: &Process) -> Self {
        Self {
            url: process.url(),
            kept: Mutex::default(),
        }
    }

    /// One request, and how long it took.
    async fn ask(&self, number: usize, fresh: bool) -> Result<Duration, String> {
        let kept = if fresh {
            None
        } else {
            self.kept.lock().unwrap().pop()
        };
        let started = Instant::now();
        let mut client = match kept {
            Some(client) => client,
            None => Client::try_connect(&self.url)
                .await
                .map_err(|error| format!("{error:#}"))?,
        };
        let (method, target) = match number % 3 {
            0 => ("POST", "/echo".to_owned()),
            _ => ("GET", format!("/{number}")),
        };
        let body = if method == "POST" {
            format!("{number:02048}")
        } else {
            String::new()
        };
        let reply = client.try_request(method, &target, &[], body.clone()).await;
        let reply = reply.map_err(|error| format!("{method} {target}: {error:#}"))?;
        let expected = if body.is_empty() {
            serde_json::json!({ "path": target }).to_string()
        } else {
            body
        };
        if reply.status != 200 || reply.body != expected.as_bytes() {
            return Err(format!("{method} {target}: {reply:?}"));
        }
        let took = started.elapsed();
        self.kept.lock().unwrap().push(client);
        Ok(took)
    }
}
