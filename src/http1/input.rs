//! Bytes that were read and are yet to be used, and room for them only while there are any.

use std::{
    cell::RefCell,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// How much is read at a time, at most.
const ROOM: usize = 64 * 1024;
/// How many rooms a worker keeps.
const MOST: usize = 32;

thread_local! {
    static ROOMS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// What was read from one side of a connection.
#[derive(Default)]
pub struct Input {
    room: Option<Box<[u8]>>,
    from: usize,
    to: usize,
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

    /// Reads more; `Ok(0)` at the end.
    ///
    /// # Errors
    /// What reading meets.
    pub fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
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
        Poll::Ready(Ok(count))
    }

    fn make_room(&mut self) {
        let room = self.room.get_or_insert_with(|| {
            let kept = ROOMS.with_borrow_mut(Vec::pop);
            kept.unwrap_or_else(|| vec![0; ROOM].into_boxed_slice())
        });
        if self.to < room.len() {
            return;
        }
        if self.from > 0 {
            room.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        } else {
            let mut larger = vec![0; room.len() * 2].into_boxed_slice();
            if let Some(begin) = larger.get_mut(..room.len()) {
                begin.copy_from_slice(room);
            }
            *room = larger;
        }
    }

    fn release(&mut self) {
        (self.from, self.to) = (0, 0);
        let Some(room) = self.room.take().filter(|room| room.len() == ROOM) else {
            return;
        };
        // A thread that ends has no pool any more.
        let kept = ROOMS.try_with(|rooms| {
            let mut rooms = rooms.borrow_mut();
            if rooms.len() < MOST {
                rooms.push(room);
            }
        });
        kept.unwrap_or_default();
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.release();
    }
}
