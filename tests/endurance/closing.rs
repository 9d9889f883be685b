//! An upstream that closes kept connections at any moment: while they are idle, as a request
//! arrives, or in the middle of the head of its answer.
//!
//! The first request of a connection is always answered, as everywhere: who starts again accepts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    it::support::{Client, Connection, Process, RawServer, Settings, peer::field},
    scale::Scale,
};

const CLIENTS: u64 = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_closes_at_any_moment_costs_no_idempotent_request() {
    let scale = Scale::of("closing");
    let requests: usize = scale.pick(2000, 100_000);
    let book = Book::default();
    let (serving, seed) = (book.clone(), scale.seed);
    let upstream = RawServer::start(move |number, stream| {
        let random = Rng::with_seed(seed ^ (number as u64) << 32);
        serve(stream, random, serving.clone())
    });
    let settings = Settings::to(&format!("http://{}", upstream.address()))
        .set("auth.type", "static-token")
        .set("auth.token", "token");
    let process = Process::start(&settings).await;

    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let share = requests / usize::try_from(CLIENTS).unwrap();
        let random = Rng::with_seed(seed ^ client);
        clients.spawn(ask(process.url(), client, share, random));
    }
    let mut account = Account::default();
    for client in clients.join_all().await {
        account.add(client);
    }
    let sent = book.sent.lock().unwrap();
    for (name, times) in sent.iter() {
        if name.starts_with("POST") && *times > 1 {
            account
                .problems
                .push(format!("{name} was sent {times} times"));
        }
    }
    for name in &account.answered {
        if !sent.contains_key(name) {
            account
                .problems
                .push(format!("{name} was answered, but not sent"));
        }
    }
    let again = sent.values().map(|times| times - 1).sum::<usize>();
    scale.row("requests", &account.answers.values().sum::<usize>());
    for (answer, count) in &account.answers {
        scale.row(&format!("  {answer}"), count);
    }
    scale.row("seconds", &started.elapsed().as_secs());
    scale.row("sent again", &again);
    scale.row("upstream connections", &upstream.connections());
    for (ending, count) in book.endings.lock().unwrap().iter() {
        scale.row(&format!("  {ending}"), count);
    }
    assert!(again > 0, "no connection ended at a bad moment");
    scale.conclude(&account.problems);
}

#[derive(Clone, Debug, Default)]
struct Book {
    /// How many times the head of each request came.
    sent: Arc<Mutex<HashMap<String, usize>>>,
    endings: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Book {
    fn ended(&self, how: &'static str) {
        *self.endings.lock().unwrap().entry(how).or_default() += 1;
    }
}

async fn serve(stream: TcpStream, mut random: Rng, book: Book) {
    let mut connection = Connection::from(stream);
    for number in 0_u32.. {
        if number > 0 && random.u32(..3) == 0 {
            // Otherwise it waits for as long as the other side likes.
            let idle = Duration::from_micros(random.u64(..50_000));
            if timeout(idle, connection.readable()).await.is_err() {
                return end(connection, "idle", &mut random, &book);
            }
        }
        let fate = if number == 0 { 9 } else { random.u32(..40) };
        if fate == 0 {
            // Nothing of what has just arrived is even read, which makes a reset of it.
            if connection.readable().await {
                end(connection, "unread", &mut random, &book);
            }
            return;
        }
        let Some(head) = connection.read_head().await else {
            return book.ended("by the sidecar");
        };
        let name = field(&head, "x-name").unwrap().to_owned();
        *book.sent.lock().unwrap().entry(name.clone()).or_default() += 1;
        if fate == 1 {
            return end(connection, "after the head", &mut random, &book);
        }
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let body = connection.read_exact(length).await;
        if fate == 2 {
            return end(connection, "after the body", &mut random, &book);
        }
        let answer = format!("{name} {}", body.len());
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        if fate == 3 {
            let part = random.usize(1..answer.find("\r\n\r\n").unwrap());
            connection.write(&answer[..part]).await;
            return end(connection, "within the answer's head", &mut random, &book);
        }
        connection.write(answer).await;
        if fate == 4 {
            return end(connection, "right after an answer", &mut random, &book);
        }
    }
}

fn end(connection: Connection, when: &'static str, random: &mut Rng, book: &Book) {
    book.ended(when);
    if random.bool() {
        connection.reset();
    }
}

/// What one client got.
#[derive(Debug, Default)]
struct Account {
    answers: BTreeMap<String, usize>,
    answered: Vec<String>,
    problems: Vec<String>,
}

impl Account {
    fn add(&mut self, other: Self) {
        for (answer, count) in other.answers {
            *self.answers.entry(answer).or_default() += count;
        }
        self.answered.extend(other.answered);
        self.problems.extend(other.problems);
    }
}

async fn ask(url: String, client: u64, requests: usize, mut random: Rng) -> Account {
    let mut account = Account::default();
    let mut kept = None;
    for number in 0..requests {
        let method = ["GET", "GET", "PUT", "DELETE", "POST"][random.usize(..5)];
        let name = format!("{method}-{client}-{number}");
        let length = match method {
            "PUT" | "POST" => {
                let most = 64 << random.u32(..11);
                random.usize(1..most)
            }
            _ => 0,
        };
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Client::connect(&url).await,
        };
        let fields = [("x-name", name.as_str())];
        let reply = connection
            .try_request(method, "/", &fields, vec![b'x'; length])
            .await;
        match reply {
            Ok(reply) => {
                let status = reply.status.as_u16();
                *account
                    .answers
                    .entry(format!("{status} to {method}"))
                    .or_default() += 1;
                let is_right = status == 200 && reply.body == format!("{name} {length}");
                let is_excused = method == "POST" && status == 502;
                if is_right {
                    account.answered.push(name);
                } else if !is_excused {
                    account
                        .problems
                        .push(format!("{name}, {length} bytes: {reply:?}"));
                }
                if reply.header("connection") != Some("close") {
                    kept = Some(connection);
                }
            }
            Err(error) => account
                .problems
                .push(format!("{name}, {length} bytes: {error:#}")),
        }
        // So that the connections to the upstream are idle for a while too.
        sleep(Duration::from_micros(random.u64(..20_000))).await;
    }
    account
}
