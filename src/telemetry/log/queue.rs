//! Lines that wait to be written, as many as there is room for.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    loss::{Cause, LosingLog, Loss},
    sink::Sink,
};

/// The room for lines, in bytes. As much again may be on its way out.
const ROOM: usize = 256 * 1024;
/// How long the end of the process waits for the reader of its log.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Lines on their way to one writer.
#[derive(Debug)]
pub(in crate::telemetry) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    dropped: AtomicU64,
    /// Changes while `state` is locked, so that it is never behind it: a writer that hangs cannot say
    /// that lines are lost, and whoever loses one can.
    loss: Loss,
}

#[derive(Debug)]
struct State {
    waiting: Vec<u8>,
    /// Lines that found no room since the writer took the last ones.
    overflow: u64,
    /// The writer has taken lines and not written them yet.
    writing: bool,
    /// There will be no more.
    is_closed: bool,
    /// Somebody writes. Where nobody ever has, in a program that has not started its log, lines are
    /// counted and no reader is to blame.
    is_written: bool,
}

impl Queue {
    /// A queue to this file, or to standard error.
    pub(in crate::telemetry) fn to(file: Option<PathBuf>) -> Self {
        let state = State {
            waiting: Vec::new(),
            overflow: 0,
            writing: false,
            is_closed: false,
            is_written: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            dropped: AtomicU64::new(0),
            loss: Loss::of(file),
        }
    }

    /// Takes a line, or drops it where there is no room. Nobody holds the lock for longer than it
    /// takes to copy one.
    pub(in crate::telemetry) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let change = if state.waiting.len() + line.len() > ROOM {
            state.overflow += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            if state.is_written {
                self.loss.goes_on(&Cause::NoRoom)
            } else {
                None
            }
        } else {
            state.waiting.extend_from_slice(line);
            None
        };
        drop(state);
        self.changed.notify_all();
        self.loss.report(change, self.dropped());
    }

    /// How many lines were dropped so far.
    pub(in crate::telemetry) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The log, while lines of it are lost: since the first that was, until lines get through and none is
    /// lost meanwhile.
    pub(in crate::telemetry) fn losing(&self) -> Option<LosingLog> {
        self.loss.losing()
    }

    /// Says that no more lines come: whoever writes ends with the last.
    pub(in crate::telemetry) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Writes what comes, until the queue is closed. `notice` is the line that reports dropped ones; it
    /// stands where they would have been, or before the next line that gets through.
    pub(in crate::telemetry) fn write_to(
        &self,
        sink: &mut Sink<impl Write>,
        notice: fn(u64) -> Vec<u8>,
    ) {
        self.lock().is_written = true;
        let mut owed = 0;
        while let Some((lines, overflow)) = self.take() {
            if owed > 0 && sink.write(&notice(owed)) == 0 {
                owed = 0;
            }
            let lost = sink.write(&lines);
            owed += lost + overflow;
            if lost == 0 && owed > 0 && sink.write(&notice(owed)) == 0 {
                owed = 0;
            }
            let mut state = self.lock();
            self.dropped.fetch_add(lost, Ordering::Relaxed);
            let change = match (lost, state.overflow) {
                (0, 0) => self.loss.ended(),
                // Whoever has lost a line has said so.
                (0, _) => None,
                _ => self.loss.goes_on(&Cause::Write(sink.take_error().as_ref())),
            };
            state.writing = false;
            drop(state);
            self.changed.notify_all();
            self.loss.report(change, self.dropped());
        }
    }

    /// Waits until all is written, for [`TIMEOUT`] at most.
    pub(in crate::telemetry) fn drain(&self) {
        let is_busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let state = self.lock();
        // Whether it is all written or not: that was the time for it.
        drop(self.changed.wait_timeout_while(state, TIMEOUT, is_busy));
    }

    /// Waits for lines; `None` where no more come.
    fn take(&self) -> Option<(Vec<u8>, u64)> {
        let is_empty = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
        let state = self.changed.wait_while(self.lock(), is_empty);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return None;
        }
        state.writing = true;
        let overflow = std::mem::take(&mut state.overflow);
        Some((std::mem::take(&mut state.waiting), overflow))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    /// Takes what the test lets it take; an error where the test says so.
    struct Scripted {
        script: mpsc::Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.script.recv().unwrap_or(Ok(usize::MAX))?;
            let length = most.min(bytes.len());
            self.written.lock().unwrap().extend(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(count: u64) -> Vec<u8> {
        format!("({count} dropped)\n").into_bytes()
    }

    struct Fixture {
        queue: Arc<Queue>,
        script: mpsc::Sender<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Fixture {
        fn new() -> Self {
            let (script, scripted) = mpsc::channel();
            let (queue, written) = (Arc::new(Queue::to(None)), Arc::default());
            let (own, out) = (Arc::clone(&queue), Arc::clone(&written));
            let scripted = Scripted {
                script: scripted,
                written: out,
            };
            thread::spawn(move || {
                own.write_to(&mut Sink::new(scripted), notice);
            });
            Self {
                queue,
                script,
                written,
            }
        }

        /// Everything that is written once nothing hinders it.
        fn end(self) -> String {
            drop(self.script);
            self.queue.drain();
            let written = self.written.lock().unwrap().clone();
            String::from_utf8(written).unwrap()
        }
    }

    fn error() -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Waits until the writer has taken everything and hangs in the write of it.
    fn hanging(queue: &Queue) {
        while !queue.lock().waiting.is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let fixture = Fixture::new();
        for line in ["one\n", "two\n", "three\n"] {
            fixture.queue.push(line.as_bytes());
        }
        assert_eq!(fixture.end(), "one\ntwo\nthree\n");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_reported_in_its_place() {
        let fixture = Fixture::new();
        fixture.queue.push(b"first\n");
        hanging(&fixture.queue);
        let long = [vec![b'x'; ROOM - 1], vec![b'\n']].concat();
        fixture.queue.push(&long);
        fixture.queue.push(b"lost\n");
        fixture.queue.push(b"lost\n");
        assert_eq!(fixture.queue.dropped(), 2);
        let text = fixture.end();
        assert!(text.starts_with("first\nxx"), "{text:.20}");
        assert!(text.ends_with("x\n(2 dropped)\n"));
    }

    #[test]
    fn lines_that_are_lost_show_while_the_writer_hangs_and_until_they_get_through() {
        let fixture = Fixture::new();
        fixture.queue.push(b"first\n");
        hanging(&fixture.queue);
        fixture
            .queue
            .push(&[vec![b'x'; ROOM - 1], vec![b'\n']].concat());
        assert_eq!(fixture.queue.losing(), None);
        fixture.queue.push(b"lost\n");
        fixture.queue.push(b"lost\n");
        let health = fixture.queue.losing().unwrap().health;
        assert_eq!(health.last_error.unwrap().reason, "slow");
        assert_eq!(health.failures, 2);
        let queue = Arc::clone(&fixture.queue);
        fixture.end();
        // No other line is waited for.
        assert_eq!(queue.losing(), None);
    }

    #[test]
    fn a_log_that_was_never_started_has_no_reader_to_blame() {
        let queue = Queue::to(None);
        queue.push(&vec![b'x'; ROOM]);
        queue.push(b"lost\n");
        assert_eq!((queue.dropped(), queue.losing()), (1, None));
    }

    #[test]
    fn a_write_that_fails_shows_until_one_succeeds() {
        let fixture = Fixture::new();
        fixture.script.send(error()).unwrap();
        fixture.queue.push(b"lost\n");
        fixture.queue.drain();
        let health = fixture.queue.losing().unwrap().health;
        assert_eq!(health.last_error.unwrap().reason, "write");
        fixture.queue.push(b"there\n");
        let queue = Arc::clone(&fixture.queue);
        assert_eq!(fixture.end(), "(1 dropped)\nthere\n");
        assert_eq!(queue.losing(), None);
    }

    #[test]
    fn a_write_that_fails_costs_its_lines_and_the_next_that_gets_through_reports_them() {
        let fixture = Fixture::new();
        for result in [error(), error(), error()] {
            fixture.script.send(result).unwrap();
        }
        fixture.queue.push(b"lost\nlost\n");
        while fixture.queue.dropped() < 2 {
            thread::yield_now();
        }
        // The notice does not get through either, and is not lost for that.
        fixture.queue.push(b"lost\n");
        while fixture.queue.dropped() < 3 {
            thread::yield_now();
        }
        fixture.queue.push(b"there\n");
        let queue = Arc::clone(&fixture.queue);
        assert_eq!(fixture.end(), "(3 dropped)\nthere\n");
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn a_line_that_broke_off_does_not_run_into_the_next() {
        let fixture = Fixture::new();
        for result in [Ok(6), error()] {
            fixture.script.send(result).unwrap();
        }
        fixture.queue.push(b"one\ntwo\nthree\n");
        while fixture.queue.dropped() < 2 {
            thread::yield_now();
        }
        fixture.queue.push(b"four\n");
        assert_eq!(fixture.end(), "one\ntw\n(2 dropped)\nfour\n");
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_does_not_read() {
        let fixture = Fixture::new();
        fixture.queue.push(b"never\n");
        hanging(&fixture.queue);
        let (done, end) = mpsc::channel();
        let queue = Arc::clone(&fixture.queue);
        thread::spawn(move || {
            queue.drain();
            done.send(()).unwrap();
        });
        assert!(end.recv_timeout(TIMEOUT / 2).is_err());
        end.recv_timeout(TIMEOUT * 5).unwrap();
    }
}
