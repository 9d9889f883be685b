//! Sends the bytes of a mutant and reads what comes back.

use std::{net::SocketAddr, time::Duration};

use fastrand::Rng;
use http_oracle::{Read, Sender, shown};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Whether it is the upstream's, and not the sidecar's own.
    pub is_upstreams: bool,
    pub body: Vec<u8>,
}

/// What a client got.
#[derive(Debug, Default)]
pub struct Replies {
    pub answers: Vec<Answer>,
    /// What came through the tunnel, if there was one.
    pub tunnelled: Option<Vec<u8>>,
    pub problem: Option<String>,
}

impl Replies {
    fn enter(&mut self, answer: Answer) {
        if answer.status == 101 {
            self.tunnelled = Some(Vec::new());
        }
        self.answers.push(answer);
    }
}

/// Longer than an answer takes, since nothing else runs then. What takes longer is cut off, and
/// judged as such.
const QUIET: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(10);
pub const THROUGH: &[u8] = b"through the tunnel";

/// Plays one connection: `methods` are those of the requests in it.
pub async fn play(
    address: SocketAddr,
    bytes: &[u8],
    methods: &[Vec<u8>],
    expected: usize,
    random: &mut Rng,
) -> Replies {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.into_split();
    let pieces = pieces(bytes, random);
    let writing = tokio::spawn(async move {
        for (number, piece) in pieces.into_iter().enumerate() {
            if number > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        to
    });
    let mut writing = Some(writing);
    let mut unread = Vec::new();
    let mut replies = Replies::default();
    loop {
        if replies.tunnelled.is_some()
            && let Some(writing) = writing.take()
        {
            // Dropped, it ends this direction.
            drop(writing.await.unwrap().write_all(THROUGH).await);
        }
        if replies.answers.len() >= expected
            && let Some(writing) = writing.take()
        {
            drop(writing.await);
        }
        let patience = if writing.is_some() { QUIET } else { PATIENCE };
        match timeout(patience, from.read_buf(&mut unread)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => break,
            Err(_) => {
                let Some(writing) = writing.take() else {
                    replies.problem = Some("the connection is not closed".to_owned());
                    break;
                };
                // It waits for more, which does not come.
                drop(writing.await);
            }
        }
        while replies.tunnelled.is_none() {
            let method = methods.get(replies.answers.len());
            match answer(&mut unread, method.is_some_and(|method| method == b"HEAD")) {
                Ok(Some(answer)) => replies.enter(answer),
                Ok(None) => break,
                Err(problem) => {
                    replies.problem = Some(problem);
                    return replies;
                }
            }
        }
    }
    // What cannot be read may have been a HEAD, whose answer has no body.
    if replies.tunnelled.is_none()
        && methods.get(replies.answers.len()).is_none()
        && let Ok(Some(answer)) = answer(&mut unread, true)
    {
        replies.enter(answer);
    }
    match &mut replies.tunnelled {
        Some(tunnelled) => *tunnelled = unread,
        None if unread.is_empty() => {}
        None => replies.problem = Some(format!("half an answer: {}", unread.escape_ascii())),
    }
    replies
}

/// Some mutants come at once, some in pieces.
fn pieces(bytes: &[u8], random: &mut Rng) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = (0..random.usize(..4))
        .map(|_| random.usize(..=bytes.len()))
        .collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2)
        .map(|cut| bytes[cut[0]..cut[1]].to_vec())
        .collect()
}

/// The next answer; none of the sidecar's may be framed by anything but a length, since every
/// request here is answered with one.
fn answer(unread: &mut Vec<u8>, to_head: bool) -> Result<Option<Answer>, String> {
    let method: &[u8] = if to_head { b"HEAD" } else { b"GET" };
    loop {
        let (response, length) = match http_oracle::response(unread, method, false, Sender::Proxy) {
            Read::Whole(response, length) => (response, length),
            Read::Cut(Some(response)) if response.is_to_the_end => {
                return Err(format!("an answer without a length: {response:?}"));
            }
            Read::Cut(_) => return Ok(None),
            Read::Bad(_, flaw) => return Err(format!("{flaw}: {}", shown(unread))),
        };
        unread.drain(..length);
        if response.status == 100 {
            continue;
        }
        let is_switch = response.status == 101;
        if !is_switch && !to_head && !response.fields.has("content-length") {
            return Err(format!("an answer without a length: {response:?}"));
        }
        return Ok(Some(Answer {
            status: response.status,
            is_upstreams: response.fields.has("x-upstream") || is_switch,
            body: response.body,
        }));
    }
}
