//! What the heap is asked for per proxied request, once everything that is kept has been opened.
//!
//! The count does not depend on the machine, so a budget stands beside each case: the figure
//! that was measured, in a debug build as in a release build. More is a regression. Fewer is a
//! reason to lower the budget: `cargo test --test allocations -- --nocapture` prints the figures.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::{
    alloc::System,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use auth_sidecar::{
    app::App,
    config::{Config, Sources},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Enough that what happens once a second, or at the growth of a table, disappears in the average.
const REQUESTS: usize = 2000;
/// What the counts of one run may differ from those of another, by timers and wake-ups.
const TOLERANCE: f64 = 0.5;

const SMALL: usize = 100;
const LARGE: usize = 64 * 1024;

struct Case {
    name: &'static str,
    request: Vec<u8>,
    answer_body: usize,
    /// Allocations and reallocations per request.
    budget: f64,
}

fn cases() -> [Case; 3] {
    let get = |path: &str| {
        let fields = "Host: localhost\r\nAccept: */*\r\nUser-Agent: test\r\n";
        format!("GET {path} HTTP/1.1\r\n{fields}\r\n").into_bytes()
    };
    let mut post =
        b"POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2048\r\n\r\n".to_vec();
    post.extend([b'x'; 2048]);
    [
        Case {
            name: "small GET",
            request: get("/small"),
            answer_body: SMALL,
            budget: GET_BUDGET,
        },
        Case {
            name: "POST 2 KiB",
            request: post,
            answer_body: SMALL,
            budget: POST_BUDGET,
        },
        Case {
            name: "GET 64 KiB",
            request: get("/large"),
            answer_body: LARGE,
            budget: LARGE_BUDGET,
        },
    ]
}

/// Measured: 1.00, the exchange on the heap.
const GET_BUDGET: f64 = 1.0;
/// Measured: 1.00.
const POST_BUDGET: f64 = 1.0;
/// Measured: 1.00.
const LARGE_BUDGET: f64 = 1.0;

#[test]
fn a_request_allocates_no_more_than_its_budget() {
    let sidecar = start(upstream());
    let mut client = TcpStream::connect(sidecar).unwrap();
    client.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 2 * LARGE];
    let mut over = Vec::new();
    for case in cases() {
        // The first requests open what later ones find open.
        exchange(&mut client, &case, &mut buffer, 200);
        let region = Region::new(ALLOCATOR);
        exchange(&mut client, &case, &mut buffer, REQUESTS);
        let change = region.change();
        let count = per_request(change.allocations + change.reallocations);
        let bytes = per_request(change.bytes_allocated);
        println!("{}: {count:.2} allocations, {bytes:.0} bytes", case.name);
        if count > case.budget + TOLERANCE {
            over.push(format!("{}: {count:.2} > {}", case.name, case.budget));
        }
    }
    assert!(over.is_empty(), "more allocations than budgeted: {over:?}");
}

#[expect(clippy::cast_precision_loss, reason = "the counts are small")]
fn per_request(total: usize) -> f64 {
    total as f64 / REQUESTS as f64
}

/// Sends a request and reads its answer so many times, and allocates nothing.
fn exchange(client: &mut TcpStream, case: &Case, buffer: &mut [u8], times: usize) {
    for _ in 0..times {
        client.write_all(&case.request).unwrap();
        let length = message(client, buffer, |_| case.answer_body).unwrap();
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200 "));
    }
}

/// Reads one message and gives its length; `body` says from its head how long its body is.
fn message(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    body: impl Fn(&[u8]) -> usize,
) -> Option<usize> {
    let (mut filled, mut total) = (0, None);
    while total.is_none_or(|total| filled < total) {
        let count = stream.read(&mut buffer[filled..]).ok()?;
        if count == 0 {
            return None;
        }
        filled += count;
        let head = &buffer[..filled];
        let end = || head.windows(4).position(|window| window == b"\r\n\r\n");
        total = total.or_else(|| end().map(|end| end + 4 + body(&head[..end])));
    }
    total
}

/// A service that allocates nothing once it has a connection.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let answer = |length: usize| {
        let fields = "Content-Type: application/json\r\nServer: upstream\r\nX-Request-Id: 1";
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {length}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; length]].concat()
    };
    let (small, large) = (answer(SMALL), answer(LARGE));
    let mut buffer = vec![0; LARGE];
    stream.set_nodelay(true).unwrap();
    let body = |head: &[u8]| if head.starts_with(b"POST") { 2048 } else { 0 };
    while message(&mut stream, &mut buffer, body).is_some() {
        let is_large = buffer.starts_with(b"GET /large");
        let answer = if is_large { &large } else { &small };
        stream.write_all(answer).unwrap();
    }
}

/// The whole program with its defaults, but for one worker, on a thread of its own.
fn start(upstream: SocketAddr) -> SocketAddr {
    let token = "t".repeat(800);
    let environment = [
        ("AUTH_SIDECAR_LISTEN__ADDRESS", "127.0.0.1:0"),
        ("AUTH_SIDECAR_LISTEN__WORKERS", "1"),
        ("AUTH_SIDECAR_ADMIN__ADDRESS", "127.0.0.1:0"),
        ("WAVEFRONT_URL", &format!("http://{upstream}")),
        ("WAVEFRONT_TOKEN", &token),
    ];
    let sources = Sources {
        environment: environment
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec(),
        ..Sources::default()
    };
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let config = Config::load(&sources).unwrap().config;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let app = App::bind(config).unwrap();
            tell.send(app.proxy_addresses()[0]).unwrap();
            app.run(std::future::pending()).await.unwrap();
        });
    });
    told.recv().unwrap()
}
