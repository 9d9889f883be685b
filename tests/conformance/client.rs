//! The one who sends the bytes of a case and reads what comes back.

use std::time::Duration;

use http_oracle::Response;
use tokio::time::sleep;

use crate::{
    case::{Case, End, Outcome, Step},
    upstream::Recorder,
    wire::{Entrance, Fields, Flaw, Head, Wire, latin1, text_of},
};

/// What the client got.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub replies: Vec<Got>,
    /// Heads of the interim answers.
    pub interims: Vec<Got>,
    /// What did not go as the steps say.
    pub problems: Vec<String>,
    pub ending: Ending,
}

/// One answer, as far as it came.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: u16,
    pub head: Head,
    pub body: String,
    pub trailers: Fields,
    pub flaw: Option<Flaw>,
}

/// What was found when everything was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    #[default]
    NotAsked,
    Closed,
    StillOpen,
    Usable,
    /// There was something, or not what should have been.
    Wrong(String),
}

/// A client in the middle of a case.
struct Client<'a> {
    wire: Wire,
    case: &'a Case,
    observed: Observed,
    has_ended: bool,
}

/// Makes the runner's own exchange.
pub async fn own_exchange(wire: &mut Wire, what: &str, number: usize) -> Result<(), String> {
    let target = format!("/run-{what}-{number}");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire.write(request.as_bytes()).await;
    match wire.response(b"GET").await {
        (Some(got), None) if got.status == 200 && got.body == target.as_bytes() => Ok(()),
        other => Err(format!("the answer to {target} is {other:?}")),
    }
}

/// Plays a case; as the second request of its connection, if `is_second`.
pub async fn play(
    case: &Case,
    proxy: &Entrance,
    upstream: &Recorder,
    number: usize,
    is_second: bool,
) -> Observed {
    let mut client = Client {
        wire: Wire::to(proxy).await,
        case,
        observed: Observed::default(),
        has_ended: false,
    };
    if is_second && let Err(what) = own_exchange(&mut client.wire, "before", number).await {
        client.observed.problems.push(format!("at first, {what}"));
        return client.observed;
    }
    for step in &case.steps {
        client.step(step).await;
    }
    let expected = case.outcomes.iter().map(|outcome| outcome.replies.len());
    let expected = expected.max().unwrap_or_default();
    while client.observed.replies.len() < expected && !client.has_ended {
        client.reply().await;
    }
    client.end(upstream, number).await;
    client.observed
}

impl Got {
    fn of(response: &Response, flaw: Option<Flaw>) -> Self {
        Self {
            status: response.status,
            head: response.into(),
            body: latin1(&response.body),
            trailers: text_of(&response.trailers),
            flaw,
        }
    }
}

impl Client<'_> {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Send(bytes) => self.wire.write(bytes).await,
            Step::Pause => sleep(Duration::from_millis(30)).await,
            Step::Finish => self.wire.finish().await,
            Step::Reply => self.reply().await,
            Step::Interim(status) => match self.wire.response(b"GET").await {
                (Some(interim), None) if interim.status == *status => {
                    self.observed.interims.push(Got::of(&interim, None));
                }
                other => self.problem(format!("no interim {status} but {other:?}")),
            },
            Step::Echo(text) => {
                self.wire.write(text.as_bytes()).await;
                let echo = latin1(&self.wire.exact(text.len()).await);
                if echo != *text {
                    self.problem(format!("{text:?} came back as {echo:?}"));
                }
            }
        }
    }

    fn problem(&mut self, problem: String) {
        self.observed.problems.push(problem);
    }

    /// Reads a final answer and the interim ones before it.
    async fn reply(&mut self) {
        loop {
            let to_head = self.case.heads.contains(&self.observed.replies.len());
            let method: &[u8] = if to_head { b"HEAD" } else { b"GET" };
            let (response, flaw) = self.wire.response(method).await;
            self.has_ended |= flaw.is_some();
            let Some(response) = response else {
                if flaw != Some(Flaw::Ended) {
                    self.problem(format!("instead of an answer: {flaw:?}"));
                }
                return;
            };
            let status = response.status;
            if (100..200).contains(&status) && status != 101 {
                self.observed.interims.push(Got::of(&response, None));
                continue;
            }
            self.has_ended |= response.is_to_the_end;
            self.observed.replies.push(Got::of(&response, flaw));
            return;
        }
    }

    /// Finds out what became of the connection.
    async fn end(&mut self, upstream: &Recorder, number: usize) {
        let fits = |outcome: &&Outcome| {
            let (replies, got) = (&outcome.replies, &self.observed.replies);
            let same =
                |(reply, got): (&crate::case::Reply, &Got)| reply.status.contains(&got.status);
            replies.len() == got.len() && replies.iter().zip(got).all(same)
        };
        let outcomes = &self.case.outcomes;
        let outcome = outcomes.iter().find(fits).or(outcomes.first());
        let end = outcome.map_or(End::Either, |outcome| outcome.end);
        self.observed.ending = match end {
            _ if self.has_ended => Ending::Closed,
            End::Either => Ending::NotAsked,
            End::Closed => match self.wire.rest().await {
                None => Ending::StillOpen,
                Some(rest) if rest.is_empty() => Ending::Closed,
                Some(rest) => Ending::Wrong(format!("more: {:?}", latin1(&rest))),
            },
            End::Usable => {
                upstream.has_said_all().await;
                sleep(Duration::from_millis(5)).await;
                match own_exchange(&mut self.wire, "after", number).await {
                    Ok(()) => Ending::Usable,
                    Err(what) => Ending::Wrong(what),
                }
            }
        };
    }
}
