//! The clients of the soak: what they ask, over kept and fresh connections, and what they must get.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;

use super::account::{Account, Outcome};
use crate::support::{Client, Reply};

/// Connections that are kept; what a long hold needed beyond is closed.
const KEPT: usize = 64;
/// Well below the listener's own patience, so that a kept connection never ends at its reuse.
const IDLE: Duration = Duration::from_secs(30);

/// All of them.
#[derive(Debug)]
pub struct Clients {
    url: String,
    kept: Mutex<Vec<(Instant, Client)>>,
    slow: AtomicBool,
    account: Arc<Account>,
}

/// One request and its right answer.
#[derive(Debug)]
pub struct Ask {
    /// When it was drawn: before what the fault of then made of it ended.
    from: Instant,
    method: &'static str,
    target: String,
    body: String,
    fresh: bool,
    expected: (u16, String),
}

impl Clients {
    pub fn new(url: String, account: Arc<Account>) -> Self {
        Self {
            url,
            kept: Mutex::default(),
            slow: AtomicBool::new(false),
            account,
        }
    }

    /// From now on some requests are for what the service answers slowly, or too slowly.
    pub fn ask_for_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::SeqCst);
    }

    /// The request of that number; no two are alike, so a swapped answer shows.
    pub fn draw(&self, number: usize, random: &mut fastrand::Rng) -> Ask {
        let from = Instant::now();
        let target = format!("/api/v2/soak/{number}?n={number}");
        let echoed = |length| format!("{number:016} ").repeat(length);
        let (method, target, body, expected) = match random.u32(..20) {
            0..7 if self.slow.load(Ordering::SeqCst) => {
                let target = format!("/slow?ms={}", random.u32(300..7000));
                let body = json!({"slow": true}).to_string();
                ("GET", target, String::new(), (200, body))
            }
            0..10 => {
                let path = target.split('?').next();
                let body = json!({ "path": path }).to_string();
                ("GET", target, String::new(), (200, body))
            }
            // 2 KiB and some.
            10..15 => ("POST", "/echo".to_owned(), echoed(121), (200, echoed(121))),
            15..19 => ("PUT", "/echo".to_owned(), echoed(20), (200, echoed(20))),
            // The upstream's own 503 is an answer like any other.
            _ => {
                let body = json!({"code": 503}).to_string();
                ("GET", "/status/503".to_owned(), String::new(), (503, body))
            }
        };
        Ask {
            from,
            method,
            target,
            body,
            fresh: random.u32(..4) == 0,
            expected,
        }
    }

    /// Makes it, and enters its outcome into the account.
    pub async fn make(self: Arc<Self>, ask: Ask) {
        let reply = self.exchange(&ask).await;
        let outcome = match reply {
            Ok(reply) => judge(&ask, &reply),
            Err(error) => Outcome::Wrong(format!("{error:#}, on {} {}", ask.method, ask.target)),
        };
        self.account.enter(ask.from, outcome);
    }

    async fn exchange(&self, ask: &Ask) -> anyhow::Result<Reply> {
        let kept = if ask.fresh { None } else { self.take() };
        let mut client = match kept {
            Some(client) => client,
            None => Client::try_connect(&self.url).await?,
        };
        let reply = client
            .try_request(ask.method, &ask.target, &[], ask.body.clone())
            .await?;
        let mut kept = self.kept.lock().unwrap();
        if reply.header("connection") != Some("close") && kept.len() < KEPT {
            kept.push((Instant::now(), client));
        }
        Ok(reply)
    }

    fn take(&self) -> Option<Client> {
        let mut kept = self.kept.lock().unwrap();
        kept.retain(|(since, _)| since.elapsed() < IDLE);
        kept.pop().map(|(_, client)| client)
    }
}

fn judge(ask: &Ask, reply: &Reply) -> Outcome {
    let status = reply.status.as_u16();
    let ours = reply.header("proxy-status");
    let (expected, body) = &ask.expected;
    if ours.is_none() && status == *expected && reply.body == body.as_bytes() {
        return Outcome::Right(status);
    }
    let details = ours
        .and_then(|ours| ours.strip_prefix("auth-sidecar; error="))
        .and_then(|error| error.split_once("; details=\""))
        .and_then(|(_, details)| details.strip_suffix('"'));
    let retry_after = reply.header("retry-after").map(str::parse::<u64>);
    match (status, details, retry_after) {
        (503, Some(details), Some(Ok(after @ 1..))) => {
            Outcome::token(details, Duration::from_secs(after))
        }
        (502 | 504, Some(details), None) => Outcome::upstream(status, details),
        _ => None,
    }
    .unwrap_or_else(|| Outcome::Wrong(format!("{reply:?} to {} {}", ask.method, ask.target)))
}
