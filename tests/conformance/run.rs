//! Plays cases, on several lanes at a time.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    case::{Case, Peer, Step},
    client::{Ending, own_exchange, play},
    judge::{Played, judge},
    lane::Lane,
    wire::{Wire, latin1},
};

/// A case that did not hold.
#[derive(Debug)]
pub struct Failure {
    pub name: &'static str,
    section: &'static str,
    is_second: bool,
    sent: Vec<String>,
    differences: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = if self.is_second {
            ", as the second request"
        } else {
            ""
        };
        writeln!(f, "FAILED {} ({}{second})", self.name, self.section)?;
        for sent in &self.sent {
            writeln!(f, "    sent   {sent}")?;
        }
        for difference in &self.differences {
            writeln!(f, "    {difference}")?;
        }
        Ok(())
    }
}

/// How many cases failed, however often.
pub fn count(failures: &[Failure]) -> usize {
    let names: BTreeSet<_> = failures.iter().map(|failure| failure.name).collect();
    names.len()
}

/// Plays all cases on these lanes; the failures come in the order of the table.
pub async fn play_all(cases: &[Case], lanes: Vec<Lane>, peer: Option<Peer>) -> Vec<Failure> {
    let cases: Arc<[Case]> = cases.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut playing = JoinSet::new();
    for lane in lanes {
        let (cases, next) = (Arc::clone(&cases), Arc::clone(&next));
        playing.spawn(async move {
            let mut failures = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(number) else {
                    return failures;
                };
                for is_second in [false, true] {
                    if is_second && !case.also_second {
                        continue;
                    }
                    let failure = play_one(case, &lane, number, is_second, peer).await;
                    failures.extend(failure.map(|failure| (number, failure)));
                }
            }
        });
    }
    let mut failures: Vec<_> = playing.join_all().await.into_iter().flatten().collect();
    failures.sort_by_key(|(number, failure)| (*number, failure.is_second));
    failures.into_iter().map(|(_, failure)| failure).collect()
}

async fn play_one(
    case: &Case,
    lane: &Lane,
    number: usize,
    is_second: bool,
    peer: Option<Peer>,
) -> Option<Failure> {
    lane.upstream.begin(&case.answers);
    let mut observed = play(case, &lane.proxy, &lane.upstream, number, is_second).await;
    if let Ending::Wrong(what) = &observed.ending {
        observed.problems.push(what.clone());
    }
    lane.upstream.has_said_all().await;
    sleep(Duration::from_millis(5)).await;
    // The next client gets its own answer, and nothing that was left over.
    let mut next = Wire::to(&lane.proxy).await;
    let probed = own_exchange(&mut next, "probe", number).await;
    observed.problems.extend(probed.err());
    let received = lane.upstream.end().await;
    let played = Played {
        received,
        observed,
        upstream: lane.upstream.address().to_string(),
        peer,
    };
    let differences = judge(case, &played);
    (!differences.is_empty()).then(|| Failure {
        name: case.name,
        section: case.section,
        is_second,
        sent: case.steps.iter().map(shown).collect(),
        differences,
    })
}

fn shown(step: &Step) -> String {
    match step {
        Step::Send(bytes) => short(&latin1(bytes)),
        other => format!("({other:?})"),
    }
}

/// Long things in the middle are left out.
pub fn short(text: &str) -> String {
    let count = text.chars().count();
    if count <= 400 {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(160).collect();
    let end: String = text.chars().skip(count - 160).collect();
    format!("{start:?} … {} more … {end:?}", count - 320)
}
