//! The one who sends the bytes of a case and reads what comes back.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    case::{Case, End, Outcome, Step},
    upstream::Recorder,
    wire::{Entrance, Fields, Flaw, Framing, Head, Wire},
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

/// The runner's own request, whose answer is known.
pub fn own_request(what: &str, number: usize) -> (String, String) {
    let target = format!("/run-{what}-{number}");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    (request, target)
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
    if is_second && let Err(what) = client.own_exchange("before", number).await {
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

impl Client<'_> {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Send(bytes) => self.wire.write(bytes).await,
            Step::Pause => sleep(Duration::from_millis(30)).await,
            Step::Finish => self.wire.finish().await,
            Step::Reply => self.reply().await,
            Step::Interim(status) => match self.wire.head().await {
                Ok(head) if status_of(&head) == *status => {
                    self.observed.interims.push(Got::interim(*status, head));
                }
                other => self.problem(format!("no interim {status} but {other:?}")),
            },
            Step::Echo(text) => {
                self.wire.write(text.as_bytes()).await;
                let mut echo = String::new();
                let read = self.wire.body(Framing::Length(text.len()), &mut echo).await;
                if read.is_err() || echo != *text {
                    self.problem(format!("{text:?} came back as {echo:?}, {read:?}"));
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
            let head = match self.wire.head().await {
                Ok(head) => head,
                Err(Flaw::Ended) => {
                    self.has_ended = true;
                    return;
                }
                Err(flaw) => {
                    self.has_ended = true;
                    self.problem(format!("instead of an answer: {flaw:?}"));
                    return;
                }
            };
            let status = status_of(&head);
            if (100..200).contains(&status) && status != 101 {
                self.observed.interims.push(Got::interim(status, head));
                continue;
            }
            let to_head = self.case.heads.contains(&self.observed.replies.len());
            let got = self.content(status, head, to_head).await;
            self.has_ended |= got.flaw.is_some();
            self.observed.replies.push(got);
            return;
        }
    }

    async fn content(&mut self, status: u16, head: Head, to_head: bool) -> Got {
        let mut body = String::new();
        let framing = match status {
            101 | 204 | 304 => Ok(Framing::None),
            _ if to_head => Ok(Framing::None),
            _ => head
                .framing()
                .map(|framing| framing.unwrap_or(Framing::ToTheEnd)),
        };
        let read = match framing {
            Ok(framing) => {
                self.has_ended |= framing == Framing::ToTheEnd;
                self.wire.body(framing, &mut body).await
            }
            Err(flaw) => Err(flaw),
        };
        let (trailers, flaw) = match read {
            Ok(trailers) => (trailers, None),
            Err(flaw) => (Fields::new(), Some(flaw)),
        };
        Got {
            status,
            head,
            body,
            trailers,
            flaw,
        }
    }

    async fn own_exchange(&mut self, what: &str, number: usize) -> Result<(), String> {
        let (request, target) = own_request(what, number);
        self.wire.write(request.as_bytes()).await;
        let head = self
            .wire
            .head()
            .await
            .map_err(|flaw| format!("the answer to {target} is {flaw:?}"))?;
        let got = self.content(status_of(&head), head, false).await;
        if got.status == 200 && got.body == target && got.flaw.is_none() {
            Ok(())
        } else {
            Err(format!("the answer to {target} is {got:?}"))
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
                Some(rest) => Ending::Wrong(format!("more: {:?}", crate::wire::latin1(&rest))),
            },
            End::Usable => {
                upstream.has_said_all().await;
                sleep(Duration::from_millis(5)).await;
                match self.own_exchange("after", number).await {
                    Ok(()) => Ending::Usable,
                    Err(what) => Ending::Wrong(what),
                }
            }
        };
    }
}

impl Got {
    fn interim(status: u16, head: Head) -> Self {
        Self {
            status,
            head,
            body: String::new(),
            trailers: Fields::new(),
            flaw: None,
        }
    }
}

/// 0 for what is no status line.
fn status_of(head: &Head) -> u16 {
    let mut parts = head.start.splitn(3, ' ');
    let version = parts.next().unwrap_or_default();
    let status = parts.next().unwrap_or_default();
    // The space behind the status belongs to the line, even if the reason is empty.
    let is_line = ["HTTP/1.1", "HTTP/1.0"].contains(&version) && parts.next().is_some();
    if is_line && status.len() == 3 {
        status.parse().unwrap_or_default()
    } else {
        0
    }
}
