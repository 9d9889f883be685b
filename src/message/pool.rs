//! Buffers of the worker: heads and writes borrow one and give it back, so that a connection has
//! none while there is nothing in it.

use std::{
    cell::RefCell,
    fmt,
    ops::{Deref, DerefMut},
};

use super::Line;

/// How many buffers of a kind a worker keeps, ...
const MOST: usize = 64;
/// ... and how large one may have grown, in bytes, to be kept.
const LARGEST: usize = 64 * 1024;

thread_local! {
    static TEXTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LINES: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// A text that grows, in a buffer of the worker. An empty one that was never written to has none.
#[derive(Default)]
pub struct Text(Vec<u8>);

impl Text {
    /// An empty text with a buffer.
    #[must_use]
    pub fn new() -> Self {
        Self(TEXTS.with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    /// Gives the buffer back.
    pub fn release(&mut self) {
        give_back(&TEXTS, &mut self.0);
    }

    /// Borrows a buffer, which happens once a text: in line it would be in the way of each write.
    #[inline(never)]
    fn borrow_buffer(&mut self) {
        *self = Self::new();
    }
}

impl Deref for Text {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Text {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        if self.0.capacity() == 0 {
            self.borrow_buffer();
        }
        &mut self.0
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Text {
    /// Prints no byte: heads hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

/// The lines of a head, in a buffer of the worker.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Line>);

impl Deref for Lines {
    type Target = Vec<Line>;

    fn deref(&self) -> &Vec<Line> {
        &self.0
    }
}

impl DerefMut for Lines {
    #[inline]
    fn deref_mut(&mut self) -> &mut Vec<Line> {
        if self.0.capacity() == 0 {
            self.borrow_buffer();
        }
        &mut self.0
    }
}

impl Lines {
    /// Borrows a buffer, once a head.
    #[inline(never)]
    fn borrow_buffer(&mut self) {
        self.0 = LINES.with_borrow_mut(Vec::pop).unwrap_or_default();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        give_back(&LINES, &mut self.0);
    }
}

fn give_back<T>(pool: &'static std::thread::LocalKey<RefCell<Vec<Vec<T>>>>, buffer: &mut Vec<T>) {
    let capacity = buffer.capacity() * size_of::<T>();
    if capacity == 0 {
        return;
    }
    let mut buffer = std::mem::take(buffer);
    if capacity > LARGEST {
        return;
    }
    buffer.clear();
    // A thread that ends has no pool any more.
    let kept = pool.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < MOST {
            pool.push(buffer);
        }
    });
    kept.unwrap_or_default();
}
