//! Answers that come before the body is sent: whoever reads gets them, every time.

use std::{net::SocketAddr, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{NO, in_front_of, upstream};
use crate::support::{Connection, RawServer, within_deadline};

/// The body of an upload.
const LENGTH: usize = 6 << 20;
const PIECE: usize = 64 << 10;

/// How an upstream refuses an upload.
#[derive(Clone, Copy, Debug)]
struct Refusing {
    /// How much of the body it reads before that.
    behind: usize,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    /// With what it has not read, which the system may turn into a reset.
    Close,
    /// A reset behind its last byte.
    Reset,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
struct Uploading {
    expects: Expects,
    in_chunks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Nothing,
    /// A 100, and sends without it like those who have waited long enough.
    Impatiently,
    /// A 100, and sends nothing without it.
    Patiently,
}

const CLIENTS: [Expects; 3] = [Expects::Nothing, Expects::Impatiently, Expects::Patiently];

/// How often each upload is tried.
fn tries() -> usize {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long it may take is for whoever runs it to say"
    )]
    let value = std::env::var("AUTH_SIDECAR_UPLOADS").ok();
    value.map_or(100, |value| value.parse().unwrap())
}

fn refusing(how: Refusing) -> RawServer {
    upstream(move |mut connection| async move {
        let Some(head) = connection.read_head().await else {
            return;
        };
        if how.behind > 0 {
            if head.to_ascii_lowercase().contains("\r\nexpect:") {
                connection.write("HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            connection.read_exact(how.behind).await;
        }
        connection.write(NO).await;
        connection.finish().await;
        match how.ending {
            Ending::Close => drop(connection),
            Ending::Reset => connection.reset(),
        }
    })
}

/// Uploads, and reads while it writes: the whole answer, as far as it came.
async fn upload(address: SocketAddr, how: Uploading) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // So that a test with many of them leaves no ports behind.
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let framing = if how.in_chunks {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {LENGTH}")
    };
    let expect = match how.expects {
        Expects::Nothing => "",
        Expects::Impatiently | Expects::Patiently => "Expect: 100-continue\r\n",
    };
    let head = format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n{expect}\r\n");
    writing.write_all(head.as_bytes()).await.unwrap();
    let (go_on, may_send) = tokio::sync::oneshot::channel::<()>();
    let sends_at_once = how.expects != Expects::Patiently;
    let sending = async {
        if !sends_at_once && may_send.await.is_err() {
            return;
        }
        let piece = if how.in_chunks {
            let size = format!("{PIECE:x}\r\n");
            [size.as_bytes(), &b"x".repeat(PIECE), b"\r\n"].concat()
        } else {
            vec![b'x'; PIECE]
        };
        for _ in 0..LENGTH / PIECE {
            // That nobody reads it any more is no failure of who reads the answer.
            if writing.write_all(&piece).await.is_err() {
                return;
            }
        }
        if how.in_chunks {
            drop(writing.write_all(b"0\r\n\r\n").await);
        }
    };
    let receiving = async {
        let mut go_on = Some(go_on);
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            if matches!(reading.read_buf(&mut answer).await, Ok(0) | Err(_)) {
                break;
            }
            while answer.starts_with(b"HTTP/1.1 1")
                && let Some(end) = end_of_head(&answer)
            {
                answer.drain(..end);
                if let Some(go_on) = go_on.take() {
                    let _sent = go_on.send(());
                }
            }
        }
        answer
    };
    // Who has its answer sends nothing more.
    let exchange = async {
        tokio::pin!(receiving);
        tokio::select! {
            answer = &mut receiving => answer,
            () = sending => receiving.await,
        }
    };
    within_deadline(exchange).await.unwrap()
}

fn end_of_head(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    end.map(|end| end + 4)
}

/// Whether the final answer is there with its two bytes of body.
fn is_whole(answer: &[u8]) -> bool {
    let is_final = !answer.starts_with(b"HTTP/1.1 1");
    is_final && end_of_head(answer).is_some_and(|end| answer.len() >= end + 2)
}

async fn every_upload_gets_its_answer(address: SocketAddr, tries: usize) {
    for expects in CLIENTS {
        for in_chunks in [false, true] {
            let client = Uploading { expects, in_chunks };
            for number in 0..tries {
                let answer = upload(address, client).await;
                let answer = String::from_utf8_lossy(&answer);
                assert!(
                    answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("\r\n\r\nno"),
                    "try {number} of {client:?}: {answer:?}"
                );
            }
        }
    }
}

async fn through_the_sidecar(behind: usize, ending: Ending) {
    let server = refusing(Refusing { behind, ending });
    let sidecar = in_front_of(&server);
    every_upload_gets_its_answer(sidecar.proxy_address(), tries()).await;
}

#[tokio::test]
async fn a_refusal_at_once_that_closes_reaches_every_upload() {
    through_the_sidecar(0, Ending::Close).await;
}

#[tokio::test]
async fn a_refusal_at_once_that_resets_reaches_every_upload() {
    through_the_sidecar(0, Ending::Reset).await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_that_closes_reaches_every_upload() {
    through_the_sidecar(LENGTH / 8, Ending::Close).await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_that_resets_reaches_every_upload() {
    through_the_sidecar(LENGTH / 8, Ending::Reset).await;
}

/// What these tests ask for is what there is without a sidecar.
#[tokio::test]
async fn every_upload_to_the_service_itself_gets_its_answer() {
    for behind in [0, LENGTH / 8] {
        for ending in [Ending::Close, Ending::Reset] {
            let server = refusing(Refusing { behind, ending });
            every_upload_gets_its_answer(server.address(), tries().min(20)).await;
        }
    }
}

/// An upstream that has answered need not close: what is left of the upload is then its business,
/// and the answer is there before.
#[tokio::test]
async fn a_refusal_by_an_upstream_that_neither_reads_nor_closes_is_there_at_once() {
    let server = upstream(|mut connection: Connection| async move {
        if connection.read_head().await.is_some() {
            connection.write(NO).await;
            // For as long as the test goes on, it reads nothing of what comes.
            std::future::pending::<()>().await;
        }
    });
    let sidecar = in_front_of(&server);
    for expects in CLIENTS {
        for in_chunks in [false, true] {
            let uploading = upload(sidecar.proxy_address(), Uploading { expects, in_chunks });
            let answer = timeout(Duration::from_secs(5), uploading).await;
            let answer = answer.unwrap_or_else(|_| panic!("{expects:?}: no answer"));
            assert!(
                answer.starts_with(b"HTTP/1.1 413 "),
                "{expects:?}: {}",
                answer.escape_ascii()
            );
        }
    }
}
