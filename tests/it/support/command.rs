//! Commands that end by themselves, or have to.

use std::{
    process::{Child, Output},
    time::{Duration, Instant},
};

use super::DEADLINE;

/// What became of a process whose output is piped; what it writes has to fit into the pipes.
///
/// # Panics
/// When it does not end within [`DEADLINE`]; it is killed then.
#[expect(clippy::disallowed_methods, reason = "a process has no paused clock")]
pub fn ended(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > DEADLINE {
            child.kill().unwrap();
            let output = child.wait_with_output();
            panic!("still running after {DEADLINE:?}: {output:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}
