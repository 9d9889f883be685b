//! Conformance: a table of raw-byte exchanges, each with the section of the RFC that it comes from,
//! what the upstream must have recorded and what the client must have got.
//!
//! `case` is the language of the table, `cases` the table; `run` plays a case between `client` and
//! `upstream`, two peers that read as strictly as `wire` can, and `judge` compares. The script
//! `peers` plays the same table through nginx and HAProxy.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "tests fail by panicking, document themselves by their names, and a table is long"
)]

/// The language of the table.
mod case;
/// The table.
mod cases;
/// The one who sends the bytes of a case and reads what comes back.
mod client;
/// Where other proxies differ, and why.
mod differences;
/// Whether what happened is what had to happen.
mod judge;
/// A proxy and the upstream behind it: the sidecar, or another one.
mod lane;
/// Plays cases, on several lanes at a time.
mod run;
/// The one behind the proxy: records what it gets, and answers what the case says.
mod upstream;
/// Strict reading of messages from a socket.
mod wire;

use self::{
    case::{Lanes, Peer},
    lane::Lane,
    run::{Failure, play_all},
};

/// Lanes that run at the same time.
const LANES: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_case_of_the_table_holds() {
    every_case_holds(Lane::with_sidecar, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_case_holds_on_a_unix_socket() {
    every_case_holds(Lane::on_a_unix_socket, |lanes| lanes != Lanes::ByName).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_case_holds_with_tls() {
    every_case_holds(Lane::with_tls, |lanes| lanes != Lanes::InClear).await;
}

async fn every_case_holds(lane: fn() -> Lane, is_for: fn(Lanes) -> bool) {
    let mut cases = cases::all();
    cases.retain(|case| is_for(case.lanes));
    assert!(cases.len() >= 200, "only {} cases", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair.first(), pair.last(), "two cases of this name");
    }
    let lanes = (0..LANES).map(|_| lane()).collect();
    let failures = play_all(&cases, lanes, None).await;
    assert!(
        failures.is_empty(),
        "{} of {} cases fail\n\n{}",
        run::count(&failures),
        cases.len(),
        failures
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    );
}

/// `PEER` is `nginx` or `haproxy`, `LANES` a list of `listener:upstream` ports that it serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs nginx and HAProxy; tests/conformance/peers starts them"]
async fn a_peer_differs_only_where_the_table_says_why() {
    let (peer, ports) = lane::from_environment();
    let cases = cases::all();
    let lanes = ports.into_iter().map(Lane::in_front).collect();
    let failures = play_all(&cases, lanes, Some(peer)).await;
    let differs = |name: &str| failures.iter().any(|failure| failure.name == name);
    let mut unexplained = Vec::new();
    for case in &cases {
        match (
            differs(case.name),
            differences::explanation(peer, case.name),
        ) {
            (true, Some(why)) => println!("{peer:?} differs: {}\n    {why}", case.name),
            (true, None) => unexplained.push(case.name),
            (false, Some(_)) => println!("{peer:?} does not differ this time: {}", case.name),
            (false, None) => {}
        }
    }
    let count = run::count(&failures);
    println!("{peer:?}: {count} of {} cases differ", cases.len());
    let texts: Vec<_> = failures
        .iter()
        .filter(|failure| unexplained.contains(&failure.name))
        .map(Failure::to_string)
        .collect();
    assert!(
        texts.is_empty(),
        "{} differences of {peer:?} are not explained\n\n{}",
        unexplained.len(),
        texts.join("\n")
    );
}

impl Peer {
    const ALL: [(Self, &'static str); 2] = [(Self::Nginx, "nginx"), (Self::HaProxy, "haproxy")];
}
