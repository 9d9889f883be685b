//! More bytes than fit: both ways, with a length and in chunks, and the memory meanwhile.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONTENT_LENGTH};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use tokio::time::{Instant, sleep};

use crate::{
    it::support::{
        Body, Client, Process, RawServer, Settings,
        client::Frames,
        server::{Closed, serve_http},
    },
    memory,
    scale::Scale,
};

const BLOCK: usize = 64 << 10;
/// In KiB.
const MOST_MEMORY: u64 = 32 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_any_size_arrives_as_it_was_sent_and_is_never_held() {
    let scale = Scale::of("volume");
    let mebibytes: usize = scale.pick(32, 1024);
    // Whoever reads rests once, in the middle: the other side must be made to wait.
    let pause = Duration::from_millis(scale.pick(200, 2000));
    let content = Content {
        seed: scale.seed,
        blocks: (mebibytes << 20) / BLOCK,
        pause,
    };
    let received = Arc::<Mutex<String>>::default();
    let recording = Arc::clone(&received);
    let upstream = RawServer::start(move |_, stream| {
        let received = Arc::clone(&recording);
        serve_http(stream, None, move |request| {
            serve(request, content, Arc::clone(&received))
        })
    });
    let settings = Settings::to(&format!("http://{}", upstream.address()))
        .set("auth.type", "static-token")
        .set("auth.token", "token");
    let process = Process::start(&settings).await;
    let expected = content.hash();
    let mut problems = Vec::new();

    scale.row("MiB each way", &mebibytes);
    for way in ["up, length", "up, chunked", "down, length", "down, chunked"] {
        let watch = memory::Watch::begin(process.pid());
        let started = Instant::now();
        let mut client = Client::connect(&process.url()).await;
        let with_length = way.ends_with("length");
        let (arrived, answered) = if way.starts_with("up") {
            let mut request = Request::post("/up").body(content.body()).unwrap();
            if with_length {
                request
                    .headers_mut()
                    .insert(CONTENT_LENGTH, content.length());
            }
            let sending = client.send_for_long(request).await.unwrap();
            let answer = sending.into_body().collect().await.unwrap().to_bytes();
            (
                received.lock().unwrap().clone(),
                String::from_utf8_lossy(&answer).into_owned(),
            )
        } else {
            let target = if with_length { "/down?length" } else { "/down" };
            let answer = client
                .send_for_long(Request::get(target).body(Body::empty()).unwrap())
                .await;
            let answer = answer.unwrap();
            let has_length = answer.headers().contains_key(CONTENT_LENGTH);
            assert_eq!(has_length, with_length);
            (hash_of(answer.into_body(), pause).await, expected.clone())
        };
        let seconds = started.elapsed().as_secs_f64();
        let most = watch.end().await;
        if arrived != expected || answered != expected {
            problems.push(format!(
                "{way}: {arrived} arrived and {answered} was said of {expected}"
            ));
        }
        if most.is_some_and(|most| most >= MOST_MEMORY) {
            problems.push(format!("{way}: {most:?} KiB of memory"));
        }
        scale.row(
            way,
            &format!(
                "SHA-256 {}, RssAnon at most {most:?} KiB, {seconds:.1} s",
                &arrived[..16]
            ),
        );
    }
    let peak = memory::peak(process.pid());
    scale.row("VmHWM, KiB", &format!("{peak:?}"));
    // A debug build is larger than that by itself.
    if !cfg!(debug_assertions) && peak.is_some_and(|peak| peak >= MOST_MEMORY) {
        problems.push(format!("{peak:?} KiB of memory at the most"));
    }
    scale.conclude(&problems);
}

async fn serve(
    request: Request<Incoming>,
    content: Content,
    received: Arc<Mutex<String>>,
) -> Result<Response<Body>, Closed> {
    if request.uri().path() == "/up" {
        let hash = hash_of(request.into_body(), content.pause).await;
        received.lock().unwrap().clone_from(&hash);
        return Ok(Response::new(hash.into()));
    }
    let mut answer = Response::new(content.body());
    if request.uri().query().is_some() {
        answer
            .headers_mut()
            .insert(CONTENT_LENGTH, content.length());
    }
    Ok(answer)
}

/// So many blocks, no two alike.
#[derive(Clone, Copy, Debug)]
struct Content {
    seed: u64,
    blocks: usize,
    /// What its reader rests for.
    pause: Duration,
}

impl Content {
    fn length(self) -> HeaderValue {
        HeaderValue::from(self.blocks * BLOCK)
    }

    fn each(self) -> impl Iterator<Item = Bytes> + Send {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut block = vec![0; BLOCK];
        random.fill(&mut block);
        (0..self.blocks).map(move |_| {
            // Enough to tell them apart; all of it would take longer than the way.
            let at = random.usize(..BLOCK - 8);
            random.fill(&mut block[at..at + 8]);
            Bytes::copy_from_slice(&block)
        })
    }

    fn hash(self) -> String {
        let mut hash = Context::new(&SHA256);
        self.each().for_each(|block| hash.update(&block));
        hex(hash)
    }

    fn body(self) -> Body {
        let (frames, body) = Body::channel();
        tokio::spawn(self.pour(frames));
        body
    }

    async fn pour(self, frames: Frames) {
        for block in self.each() {
            if frames.send(Ok(Frame::data(block))).await.is_err() {
                return;
            }
        }
    }
}

/// Of a body, while it comes.
async fn hash_of(mut body: Incoming, pause: Duration) -> String {
    let mut hash = Context::new(&SHA256);
    let mut read = 0_usize;
    let mut rested = false;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return format!("broken off after {read}");
        };
        let data = frame.into_data().unwrap_or_default();
        hash.update(&data);
        read += data.len();
        if !rested && read > 16 << 20 {
            rested = true;
            sleep(pause).await;
        }
    }
    hex(hash)
}

fn hex(hash: Context) -> String {
    let hash = hash.finish();
    let bytes = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    bytes.collect()
}
