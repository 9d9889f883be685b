//! The language of the table: what is sent, what the upstream answers, and what must come of it.

/// One exchange.
#[derive(Clone, Debug)]
pub struct Case {
    /// The section of the RFC that decides it, or the word of our own contract.
    pub section: &'static str,
    /// What must hold, as a sentence.
    pub name: &'static str,
    pub steps: Vec<Step>,
    /// What the upstream does with the first, the second, … request; behind that, it sends back
    /// the target.
    pub answers: Vec<Answer>,
    /// What may come of it: one of these.
    pub outcomes: Vec<Outcome>,
    /// Replies are read by the method that they answer.
    pub heads: Vec<usize>,
    /// Whether it is also played as the second request of a connection.
    pub also_second: bool,
    pub lanes: Lanes,
}

/// On which listeners a case holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    All,
    /// Where clients come by a name, which could be rebound: not on a unix socket.
    ByName,
    /// Where clients come in clear: not with TLS.
    InClear,
}

/// Somebody else's proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Nginx,
    HaProxy,
}

/// What the client does.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Gives the other side time to read what was sent so far as one piece.
    Pause,
    /// Reads the next interim answer, which has this status.
    Interim(u16),
    /// Reads the next final answer.
    Reply,
    /// Sends this through the tunnel and reads it back.
    Echo(&'static str),
    /// Sends nothing more.
    Finish,
}

/// What the upstream does with a request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub enum Part {
    Say(Vec<u8>),
    /// Reads the request's body, and gives up where it is not whole.
    Body,
    Pause,
    Close,
    Reset,
    /// Sends everything back until the end.
    Echo,
}

/// One way in which it may end well.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub upstream: Upstream,
    pub replies: Vec<Reply>,
    /// The interim answers, all of them and in this order; `None` where it does not matter.
    pub interims: Option<Vec<Reply>>,
    pub end: End,
    /// What is nowhere in what the upstream gets, in whatever case.
    pub never: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub enum Upstream {
    /// Gets nothing.
    Nothing,
    /// May get the beginning of a request, but never its end.
    NothingWhole,
    /// Gets these whole requests, in this order.
    Requests(Vec<Want>),
    Anything,
}

/// A request as the upstream must get it.
#[derive(Clone, Debug, Default)]
pub struct Want {
    pub line: String,
    /// All values of each of these.
    pub fields: Vec<(&'static str, Vec<String>)>,
    pub without: Vec<&'static str>,
    /// `None` where it does not matter.
    pub body: Option<String>,
}

/// An answer as the client must get it.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: Vec<u16>,
    pub fields: Vec<(&'static str, Vec<String>)>,
    pub without: Vec<&'static str>,
    pub body: Content,
    /// All of them, in this order.
    pub trailers: Vec<(&'static str, &'static str)>,
    /// Whether the proxy itself answers.
    pub is_own: bool,
    /// What the problem document says of it, among other things.
    pub detail: Option<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    #[default]
    Any,
    Is(String),
    /// It breaks off, so that the client can tell.
    BreaksOff,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    /// It takes one more request.
    Usable,
    Either,
}

/// The target of what stands behind a request that is refused.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// What the upstream says where a case does not care.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request of this line, for us.
pub fn line(line: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\nHost: localhost\r\n\r\n"].concat()
}

/// A GET with these field lines.
pub fn get(fields: impl AsRef<[u8]>) -> Vec<u8> {
    message("GET", fields.as_ref(), b"")
}

/// A POST with these field lines, and what stands behind its head.
pub fn post(fields: impl AsRef<[u8]>, behind: impl AsRef<[u8]>) -> Vec<u8> {
    message("POST", fields.as_ref(), behind.as_ref())
}

/// A POST in chunks, and what stands behind its head.
pub fn chunks(behind: impl AsRef<[u8]>) -> Vec<u8> {
    message("POST", b"Transfer-Encoding: chunked", behind.as_ref())
}

fn message(method: &str, fields: &[u8], behind: &[u8]) -> Vec<u8> {
    let line = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n");
    let end: &[u8] = if fields.is_empty() {
        b"\r\n"
    } else {
        b"\r\n\r\n"
    };
    [line.as_bytes(), fields, end, behind].concat()
}

/// A case that sends these bytes; what must come of it follows.
pub fn case(section: &'static str, name: &'static str, bytes: impl AsRef<[u8]>) -> Case {
    Case {
        section,
        name,
        steps: vec![Step::Send(bytes.as_ref().to_vec())],
        answers: Vec::new(),
        outcomes: Vec::new(),
        heads: Vec::new(),
        also_second: true,
        lanes: Lanes::All,
    }
}

/// The client's side.
impl Case {
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn pause(self) -> Self {
        self.step(Step::Pause)
    }

    pub fn finish(self) -> Self {
        self.step(Step::Finish)
    }

    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Send(bytes.as_ref().to_vec()))
    }

    pub fn then(self, bytes: impl AsRef<[u8]>) -> Self {
        self.pause().send(bytes)
    }

    /// The n-th reply is one to HEAD.
    pub fn head(mut self, index: usize) -> Self {
        self.heads.push(index);
        self
    }

    /// A unix socket has no name that could be rebound, so any is served there.
    pub fn by_name(mut self) -> Self {
        self.lanes = Lanes::ByName;
        self
    }

    /// The scheme of an origin is that of the listener.
    pub fn in_clear(mut self) -> Self {
        self.lanes = Lanes::InClear;
        self
    }

    pub fn only_first(mut self) -> Self {
        self.also_second = false;
        self
    }
}

/// The upstream's side.
impl Case {
    pub fn answer(self, bytes: impl AsRef<[u8]>) -> Self {
        self.answers([Part::Say(bytes.as_ref().to_vec())])
    }

    pub fn answer_and_close(self, bytes: impl AsRef<[u8]>) -> Self {
        self.answers([Part::Say(bytes.as_ref().to_vec()), Part::Close])
    }

    pub fn answers(self, parts: impl Into<Vec<Part>>) -> Self {
        self.answers_early([vec![Part::Body], parts.into()].concat())
    }

    /// Before the request's body is read, unless [`Part::Body`] says when. What is left of it is
    /// read in the end.
    pub fn answers_early(mut self, parts: impl Into<Vec<Part>>) -> Self {
        self.answers.push(Answer {
            parts: parts.into(),
        });
        self
    }
}

/// What must come of it.
impl Case {
    /// We answer with one of these, the upstream gets nothing, and what follows is not read as a
    /// request.
    pub fn refused(mut self, status: &[u16]) -> Self {
        self.steps.push(Step::Send(SMUGGLED.into()));
        self.or_refused(status)
    }

    /// Or it is refused like that. (The table then sends nothing behind it.)
    pub fn or_refused(self, status: &[u16]) -> Self {
        self.outcome(Upstream::Nothing, vec![Reply::own(status)], End::Closed)
    }

    /// We answer, the upstream gets nothing, and the connection goes on.
    pub fn denied(self, status: u16) -> Self {
        self.outcome(Upstream::Nothing, vec![Reply::own(&[status])], End::Usable)
    }

    /// The upstream gets exactly this, the client its answer, and the connection goes on.
    pub fn forwarded(self, line: impl AsRef<[u8]>) -> Self {
        let want = Want {
            line: crate::wire::latin1(line.as_ref()),
            body: Some(String::new()),
            ..Want::default()
        };
        self.outcome(
            Upstream::Requests(vec![want]),
            vec![Reply::status(&[200])],
            End::Usable,
        )
    }

    /// One more request, answered by one more 200.
    pub fn and_forwarded(mut self, line: &str) -> Self {
        let want = Want {
            line: line.to_owned(),
            body: Some(String::new()),
            ..Want::default()
        };
        self.wants().push(want);
        self.last().replies.push(Reply::status(&[200]));
        self
    }

    /// [`Case::forwarded`] as it came, and what the client gets is the matter.
    pub fn gives(self, status: &[u16]) -> Self {
        self.outcome(Upstream::Anything, vec![Reply::status(status)], End::Usable)
    }

    /// One more answer of the upstream.
    pub fn and_replies(mut self, status: u16) -> Self {
        self.last().replies.push(Reply::status(&[status]));
        self
    }

    /// The answer of the upstream is replaced by a 502 of ours.
    pub fn bad_gateway(self) -> Self {
        self.outcome(Upstream::Anything, vec![Reply::own(&[502])], End::Usable)
    }

    /// Or, as RFC 9110 §9.2.2 allows for a GET on a kept connection that ended, sent once more.
    pub fn or_again(self) -> Self {
        let wants = vec![Want::new("GET /x HTTP/1.1", ""); 2];
        self.outcome(
            Upstream::Requests(wants),
            vec![Reply::status(&[200])],
            End::Usable,
        )
    }

    pub fn outcome(mut self, upstream: Upstream, replies: Vec<Reply>, end: End) -> Self {
        self.outcomes.push(Outcome {
            upstream,
            replies,
            interims: None,
            end,
            never: Vec::new(),
        });
        self
    }

    /// The request's content.
    pub fn content(mut self, body: impl AsRef<[u8]>) -> Self {
        self.want().body = Some(crate::wire::latin1(body.as_ref()));
        self
    }

    /// All values of a field at the upstream.
    pub fn with(mut self, name: &'static str, values: &[&str]) -> Self {
        let values = values.iter().map(ToString::to_string).collect();
        self.want().fields.push((name, values));
        self
    }

    /// Fields that the upstream does not get.
    pub fn without(mut self, names: &[&'static str]) -> Self {
        self.want().without.extend(names);
        self
    }

    /// Text that the upstream does not get.
    pub fn never(mut self, text: &'static str) -> Self {
        self.last().never.push(text);
        self
    }

    /// The answer's content, as the client gets it.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.reply().body = Content::Is(crate::wire::latin1(body.as_ref()));
        self
    }

    /// The answer breaks off, and the connection with it.
    pub fn breaks_off(mut self) -> Self {
        self.reply().body = Content::BreaksOff;
        self.end(End::Closed)
    }

    /// All values of a field of the answer, as the client gets them.
    pub fn reply_with(mut self, name: &'static str, values: &[&str]) -> Self {
        let values = values.iter().map(ToString::to_string).collect();
        self.reply().fields.push((name, values));
        self
    }

    /// Fields that the client does not get.
    pub fn reply_without(mut self, names: &[&'static str]) -> Self {
        self.reply().without.extend(names);
        self
    }

    /// The answer's trailers, all of them.
    pub fn trailers(mut self, trailers: &[(&'static str, &'static str)]) -> Self {
        self.reply().trailers = trailers.to_vec();
        self
    }

    /// What the problem document of our refusal names.
    pub fn detail(mut self, detail: &'static str) -> Self {
        self.reply().detail = Some(detail);
        self
    }

    /// One more interim answer, behind those before it.
    pub fn interim(mut self, status: u16) -> Self {
        let interims = &mut self.last().interims;
        interims
            .get_or_insert_default()
            .push(Reply::status(&[status]));
        self
    }

    /// All values of a field of that interim answer.
    pub fn interim_with(mut self, name: &'static str, values: &[&str]) -> Self {
        let values = values.iter().map(ToString::to_string).collect();
        self.last_interim().fields.push((name, values));
        self
    }

    /// Fields that that interim answer has not.
    pub fn interim_without(mut self, names: &[&'static str]) -> Self {
        self.last_interim().without.extend(names);
        self
    }

    pub fn no_interim(mut self) -> Self {
        self.last().interims = Some(Vec::new());
        self
    }

    pub fn end(mut self, end: End) -> Self {
        self.last().end = end;
        self
    }

    fn last(&mut self) -> &mut Outcome {
        self.outcomes.last_mut().unwrap()
    }

    fn wants(&mut self) -> &mut Vec<Want> {
        let name = self.name;
        match &mut self.last().upstream {
            Upstream::Requests(wants) => wants,
            other => panic!("{name}: {other:?} has no request"),
        }
    }

    fn want(&mut self) -> &mut Want {
        self.wants().last_mut().unwrap()
    }

    fn last_interim(&mut self) -> &mut Reply {
        self.last()
            .interims
            .as_mut()
            .and_then(|interims| interims.last_mut())
            .unwrap()
    }

    fn reply(&mut self) -> &mut Reply {
        self.last().replies.last_mut().unwrap()
    }
}

impl Reply {
    pub fn status(status: &[u16]) -> Self {
        Self {
            status: status.to_vec(),
            ..Self::default()
        }
    }

    pub fn own(status: &[u16]) -> Self {
        Self {
            is_own: true,
            ..Self::status(status)
        }
    }
}

impl Want {
    pub fn new(line: &str, body: &str) -> Self {
        Self {
            line: line.to_owned(),
            body: Some(body.to_owned()),
            ..Self::default()
        }
    }
}
