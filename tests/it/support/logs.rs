//! Captures everything that the test binary logs, at TRACE and from all its threads.

use std::{
    io,
    sync::{Mutex, Once},
};

use tracing::level_filters::LevelFilter;

use super::lock;

static CAPTURED: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static INSTALLED: Once = Once::new();

/// Starts capturing; [`super::Sidecar`] calls it, so that no test can be forgotten.
pub fn capture() {
    INSTALLED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| Capture)
            .init();
    });
}

/// All lines so far, of every test that ran in this process.
pub fn captured() -> String {
    String::from_utf8_lossy(&lock(&CAPTURED)).into_owned()
}

struct Capture;

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&CAPTURED).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
