//! Bytes that were read and are yet to be used, and room for them only while there are any.

use std::{
    cell::RefCell,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    thread::LocalKey,
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::backlog::Share;

/// How much is read at a time, in bytes: a head and what is small, so that a request which waits
/// with the beginning of its body holds no more, ...
const SMALL: usize = 8 * 1024;
/// ... and, behind a read of as much and within the bound of all, of what is large.
const LARGE: usize = 64 * 1024;
/// How many rooms of a size a worker keeps.
const MOST: usize = 32;

type Rooms = RefCell<Vec<Box<[u8]>>>;

thread_local! {
    static SMALL_ROOMS: Rooms = const { RefCell::new(Vec::new()) };
    static LARGE_ROOMS: Rooms = const { RefCell::new(Vec::new()) };
}

/// What was read from one side of a connection.
#[derive(Default)]
pub struct Input {
    room: Option<Box<[u8]>>,
    /// There for a large room.
    share: Share,
    from: usize,
    to: usize,
    /// How much the last read of this message brought: there is probably as much again.
    last: usize,
}

impl fmt::Debug for Input {
    /// Prints no byte: there may be a credential among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({} bytes)", self.len())
    }
}

impl Input {
    /// What is there.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let room = self.room.as_deref().unwrap_or_default();
        room.get(self.from..self.to).unwrap_or_default()
    }

    /// How much is there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Has used so much of it. A buffer with nothing in it returns to the worker.
    pub fn consume(&mut self, count: usize) {
        self.from = self.to.min(self.from + count);
        if self.is_empty() {
            self.release();
        }
    }

    /// Whether more can be read ahead of whoever uses it: up to so much, and within the bound of all.
    pub fn can_read_ahead(&mut self, most: usize) -> bool {
        let size = self.room.as_ref().map_or(SMALL, |room| room.len());
        self.len() < most.min(size) || self.len() < most && self.share.resize(LARGE)
    }

    /// Says that a message begins, and that it need not be as large as the last one.
    pub fn begin_message(&mut self) {
        self.last = 0;
    }

    /// Reads more; `Ok(0)` at the end.
    ///
    /// # Errors
    /// What reading meets.
    pub fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match &self.room {
            None => {
                let is_large = self.last >= SMALL && self.share.resize(LARGE);
                self.room = Some(take(if is_large { LARGE } else { SMALL }));
            }
            Some(room) if self.to == room.len() => self.make_room(),
            Some(_) => {}
        }
        let Self { room, to, .. } = self;
        let room = room.as_deref_mut().unwrap_or_default();
        let mut free = ReadBuf::new(room.get_mut(*to..).unwrap_or_default());
        let polled = Pin::new(io).poll_read(cx, &mut free);
        let count = free.filled().len();
        *to += count;
        if self.is_empty() {
            self.release();
        }
        ready!(polled)?;
        self.last = count;
        Poll::Ready(Ok(count))
    }

    /// Makes room in one that is full.
    fn make_room(&mut self) {
        let size = self.room.as_ref().map_or(0, |room| room.len());
        if size < LARGE && (self.share.resize(LARGE) || self.from == 0) {
            // What cannot be used in part has to grow: its length has a bound of its own.
            self.move_to(take(LARGE));
        } else if self.from > 0 {
            if let Some(room) = &mut self.room {
                room.copy_within(self.from..self.to, 0);
                (self.from, self.to) = (0, self.to - self.from);
            }
        } else {
            self.move_to(vec![0; size * 2].into_boxed_slice());
        }
    }

    /// Replaces the room by a larger one.
    fn move_to(&mut self, mut larger: Box<[u8]>) {
        let length = self.len();
        if let Some(begin) = larger.get_mut(..length) {
            begin.copy_from_slice(self.bytes());
        }
        if let Some(smaller) = self.room.replace(larger) {
            give_back(smaller);
        }
        (self.from, self.to) = (0, length);
    }

    fn release(&mut self) {
        (self.from, self.to) = (0, 0);
        self.share.resize(0);
        if let Some(room) = self.room.take() {
            give_back(room);
        }
    }
}

/// The rooms of that size that the worker keeps.
fn of_size(size: usize) -> Option<&'static LocalKey<Rooms>> {
    match size {
        SMALL => Some(&SMALL_ROOMS),
        LARGE => Some(&LARGE_ROOMS),
        _ => None,
    }
}

fn take(size: usize) -> Box<[u8]> {
    let kept = of_size(size).and_then(|rooms| rooms.with_borrow_mut(Vec::pop));
    kept.unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

fn give_back(room: Box<[u8]>) {
    let Some(rooms) = of_size(room.len()) else {
        return;
    };
    // A thread that ends has no pool any more.
    let kept = rooms.try_with(|rooms| {
        let mut rooms = rooms.borrow_mut();
        if rooms.len() < MOST {
            rooms.push(room);
        }
    });
    kept.unwrap_or_default();
}

impl Drop for Input {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn fill(input: &mut Input, mut io: &[u8]) -> usize {
        let cx = &mut Context::from_waker(Waker::noop());
        match input.poll_fill(&mut io, cx) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_small_waits_in_a_small_room() {
        let mut input = Input::default();
        assert_eq!(fill(&mut input, &[b'a'; 3000]), 3000);
        input.consume(2000);
        assert_eq!(input.room.as_ref().unwrap().len(), SMALL);
        assert_eq!(input.bytes(), [b'a'; 1000]);
    }

    #[test]
    fn what_is_large_is_read_in_large_pieces_behind_the_first() {
        let mut input = Input::default();
        assert_eq!(fill(&mut input, &vec![b'a'; LARGE]), SMALL);
        input.consume(SMALL);
        // A record of TLS holds as much, and is one of many.
        for _ in 0..2 {
            assert_eq!(fill(&mut input, &[b'b'; 2 * SMALL]), 2 * SMALL);
            input.consume(2 * SMALL);
        }
        assert_eq!(fill(&mut input, &vec![b'b'; 2 * LARGE]), LARGE);
        input.consume(LARGE - 1);
        assert_eq!(fill(&mut input, b"c"), 1);
        assert_eq!(input.bytes(), b"bc");
        input.consume(2);
        assert_eq!(fill(&mut input, &vec![b'd'; LARGE]), SMALL);
        input.consume(SMALL);
        let nobody = &mut Context::from_waker(Waker::noop());
        let (mut silent, _other) = tokio::io::duplex(1);
        assert!(input.poll_fill(&mut silent, nobody).is_pending());
        assert_eq!(fill(&mut input, &vec![b'd'; 2 * LARGE]), LARGE);
        input.consume(LARGE);
        input.begin_message();
        assert_eq!(fill(&mut input, &vec![b'd'; LARGE]), SMALL);
    }

    #[test]
    fn a_head_that_is_never_used_up_grows_its_room() {
        let mut input = Input::default();
        for expected in [SMALL, LARGE - SMALL, LARGE] {
            assert_eq!(fill(&mut input, &vec![b'a'; 4 * LARGE]), expected);
        }
        assert_eq!(input.bytes(), vec![b'a'; 2 * LARGE]);
    }
}
