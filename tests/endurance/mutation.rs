//! Messages that were changed at random go through the sidecar; a strict recorder behind it must
//! get what the client meant, or nothing.
//!
//! What the client meant is decided by the oracle. The sidecar may refuse more than the oracle
//! does, but must not pass on anything else: every request that the recorder gets is, in order and
//! byte for byte of its method, target and body, one that was meant.

mod client;
mod mutant;
mod recorder;

use std::collections::BTreeMap;

use http_oracle::{Read, Request, Sender, requests};

use self::{
    client::{Replies, THROUGH, play},
    mutant::{mutate, seeds},
    recorder::{Record, Recorder, TOKEN, receipt},
};
use crate::{
    it::support::{Client, Process, Settings},
    memory,
    scale::Scale,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutation_makes_a_message_that_nobody_meant() {
    let scale = Scale::of("mutation");
    let mut random = fastrand::Rng::with_seed(scale.seed);
    let count = scale.pick(500, 10_000);
    let recorder = Recorder::start();
    let settings = Settings::to(&format!("http://{}", recorder.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
        .set("admin.address", "off");
    let process = Process::start(&settings).await;

    let mut stage = Stage {
        neighbour: Client::connect(&process.url()).await,
        process,
        recorder,
        random: random.fork(),
    };
    let mut account = Account::default();

    for (number, bytes) in seeds(0).into_iter().enumerate() {
        let played = stage.play(number, &bytes).await;
        let whole = played.records.iter().filter(|record| record.is_whole);
        // What is behind an offer is for the tunnel or comes too early: it is no request.
        let offers = String::from_utf8_lossy(&bytes).contains("Upgrade: websocket");
        let meant = if offers {
            played.replies.answers.len()
        } else {
            played.meaning.whole.len()
        };
        assert_eq!(whole.count(), meant, "seed {number}: {played:?}");
        account.judge(number, &bytes, &played);
    }

    let pid = stage.process.pid();
    let mut warm = None;
    for number in 0..count {
        let mut seeds = seeds(number);
        let mut bytes = seeds.swap_remove(random.usize(..seeds.len()));
        mutate(&mut bytes, &mut random);
        let played = stage.play(number, &bytes).await;
        account.judge(number, &bytes, &played);
        if number == count / 10 {
            warm = memory::anonymous(pid);
        }
    }
    let end = memory::anonymous(pid);
    account.print(&scale, count);
    scale.row("RssAnon, KiB, warm and end", &format!("{warm:?} {end:?}"));
    if let (Some(warm), Some(end)) = (warm, end)
        && end > warm + MEMORY
    {
        account
            .problems
            .push(format!("memory grows from {warm} to {end} KiB"));
    }
    // Otherwise nothing was tried.
    assert!(account.recorded > count / 4 && account.refused > count / 10);
    scale.conclude(&account.problems);
}

/// What memory may differ by, in KiB: the allocator's.
const MEMORY: u64 = 4 << 10;

/// All requests of a connection that can be read in one way.
#[derive(Debug)]
struct Meaning {
    /// The whole ones.
    whole: Vec<Request>,
    /// How many bytes each of them took.
    lengths: Vec<usize>,
    /// The beginning of one more, if its head is there.
    part: Option<Request>,
    /// Why they end before the bytes do.
    flaw: Option<&'static str>,
    /// Whether there are bytes of an unfinished request.
    is_unfinished: bool,
}

impl Meaning {
    fn of(bytes: &[u8]) -> Self {
        let (whole, behind) = requests(bytes, Sender::Any);
        let (whole, lengths): (_, Vec<_>) = whole.into_iter().unzip();
        let (part, flaw) = match behind {
            Read::Whole(part, _) => (Some(part), None),
            Read::Cut(part) => (part, None),
            Read::Bad(part, flaw) => (part, Some(flaw)),
        };
        Self {
            is_unfinished: flaw.is_none() && lengths.iter().sum::<usize>() < bytes.len(),
            whole,
            lengths,
            part,
            flaw,
        }
    }
}

/// What became of a connection.
#[derive(Debug)]
struct Played {
    meaning: Meaning,
    replies: Replies,
    records: Vec<Record>,
    flaws: Vec<String>,
}

/// Everybody.
#[derive(Debug)]
struct Stage {
    process: Process,
    recorder: Recorder,
    /// A client whose connection lasts through everything.
    neighbour: Client,
    random: fastrand::Rng,
}

impl Stage {
    async fn play(&mut self, number: usize, bytes: &[u8]) -> Played {
        let meaning = Meaning::of(bytes);
        let known = meaning.whole.iter().chain(&meaning.part);
        let methods: Vec<_> = known.map(|request| request.method.clone()).collect();
        let is_incomplete = meaning.flaw.is_some() || meaning.is_unfinished;
        let expected = meaning.whole.len() + usize::from(is_incomplete);
        let address = self.process.proxy_address();
        let replies = play(address, bytes, &methods, expected, &mut self.random).await;

        let target = format!("/good/{number}");
        let good = self.neighbour.try_request("GET", &target, &[], "").await;
        // With the neighbour's request there, the recorder has read all that came before.
        let (mut records, mut flaws) = self.recorder.take().await;
        match good {
            Ok(reply) if reply.body == format!("GET {target} 0") => {}
            other => flaws.push(format!("the neighbour gets {other:?}")),
        }
        let before = records.len();
        records.retain(|record| record.request.target != target.as_bytes());
        if before != records.len() + 1 {
            flaws.push("the neighbour's request is not there once".to_owned());
        }
        Played {
            meaning,
            replies,
            records,
            flaws,
        }
    }
}

/// All connections so far.
#[derive(Debug, Default)]
struct Account {
    kinds: BTreeMap<&'static str, usize>,
    answers: BTreeMap<String, usize>,
    recorded: usize,
    aborted: usize,
    refused: usize,
    problems: Vec<String>,
}

impl Account {
    fn judge(&mut self, number: usize, bytes: &[u8], played: &Played) {
        let Played {
            meaning,
            replies,
            records,
            ..
        } = played;
        let kind = match (meaning.flaw, meaning.is_unfinished) {
            (Some(_), _) => "malformed",
            (None, true) => "unfinished",
            (None, false) => "well-formed",
        };
        *self.kinds.entry(kind).or_default() += 1;
        for answer in &replies.answers {
            let whose = if answer.is_upstreams {
                "of the upstream"
            } else {
                "of the sidecar"
            };
            *self
                .answers
                .entry(format!("{} {whose}", answer.status))
                .or_default() += 1;
            self.refused += usize::from(!answer.is_upstreams);
        }
        self.recorded += records.iter().filter(|record| record.is_whole).count();
        self.aborted += records.iter().filter(|record| !record.is_whole).count();

        let mut problems = played.flaws.clone();
        problems.extend(unmeant(meaning, records).map(|record| format!("nobody meant {record:?}")));
        problems.extend(replies.problem.clone());
        problems.extend(misplaced(meaning, replies));
        if let Some(tunnelled) = &replies.tunnelled {
            // What comes behind an offer comes too early, or is for the tunnel.
            let offer = meaning.lengths.iter().take(replies.answers.len());
            let behind = offer.sum::<usize>();
            if *tunnelled != [&bytes[behind..], THROUGH].concat() {
                problems.push(format!("the tunnel brought {}", tunnelled.escape_ascii()));
            }
        }
        if !problems.is_empty() {
            let sent = bytes.escape_ascii();
            self.problems.push(format!(
                "{number}: {problems:#?}\n    sent {sent}\n    {played:?}"
            ));
        }
    }

    fn print(&self, scale: &Scale, count: usize) {
        scale.row("connections", &count);
        for (kind, count) in &self.kinds {
            scale.row(&format!("  {kind}"), count);
        }
        scale.row("answers", &self.answers.values().sum::<usize>());
        for (answer, count) in &self.answers {
            scale.row(&format!("  {answer}"), count);
        }
        scale.row("whole at the upstream", &self.recorded);
        scale.row("broken off there", &self.aborted);
        scale.row("problems", &self.problems.len());
    }
}

/// The first request at the upstream that was not meant, or not in this order.
fn unmeant<'a>(meaning: &Meaning, records: &'a [Record]) -> Option<&'a Record> {
    let whole = meaning.whole.iter().map(|request| (request, true));
    let mut meant = whole.chain(meaning.part.iter().map(|part| (part, false)));
    records.iter().find(|record| {
        let got = &record.request;
        !meant.any(|(request, is_whole)| {
            let same = request.method == got.method && origin_form(request) == got.target;
            let same_body = if record.is_whole {
                is_whole && request.body == got.body
            } else {
                request.body.starts_with(&got.body)
            };
            same && same_body
        })
    })
}

/// An answer of the upstream that is not the one to the request in its place.
fn misplaced(meaning: &Meaning, replies: &Replies) -> Option<String> {
    let answers = replies.answers.iter().enumerate();
    let mut upstreams = answers.filter(|(_, answer)| answer.status == 200);
    upstreams.find_map(|(place, answer)| {
        let Some(request) = meaning.whole.get(place) else {
            return Some(format!("an answer to nothing: {answer:?}"));
        };
        let request = Request {
            target: origin_form(request).to_vec(),
            ..request.clone()
        };
        let is_right = answer.body == receipt(&request) || request.method == b"HEAD";
        (!is_right).then(|| format!("the answer to another request: {answer:?}"))
    })
}

/// The target as the upstream gets it (RFC 9112 §3.2.1).
fn origin_form(request: &Request) -> &[u8] {
    let target = &request.target[..];
    let scheme = target
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case(b"http://"));
    let Some(scheme) = scheme else { return target };
    let rest = &target[scheme.len()..];
    let path = rest.iter().position(|byte| *byte == b'/');
    path.map_or(b"/", |path| &rest[path..])
}
