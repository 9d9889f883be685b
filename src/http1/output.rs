//! Bytes that are yet to be written, and bodies into their framing. What is small is gathered and
//! written in one piece; what is large is not copied.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use crate::message::{Fields, Text};

/// Up to this size, bytes are gathered: one plain write of their copy costs the kernel less than a
/// vector of two.
const TOGETHER: usize = 16 * 1024;

/// What stands behind the data of a chunk.
const CHUNK_END: &[u8] = b"\r\n";

/// How a body is framed that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoder {
    /// There is none, whatever is written.
    None,
    /// By its length, of which so many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunked,
    /// In a chunk of which so much is still to come.
    Chunk(u64),
    /// By the end of the connection.
    UntilClose,
}

/// What is yet to be written to one side of a connection.
#[derive(Debug, Default)]
pub struct Output {
    pending: Text,
    /// How much of it is written.
    at: usize,
    /// Whether the connection may hold back what was written (TLS does).
    is_unflushed: bool,
    has_written: bool,
}

impl Output {
    /// Adds bytes to what is to be written, by the means of a vector.
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Whether anything was written since it was last asked to forget.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.has_written
    }

    /// Forgets that anything was written.
    pub fn forget_written(&mut self) {
        self.has_written = false;
    }

    /// Whether all is written.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty() && !self.is_unflushed
    }

    /// Takes a part of a body: how much of `data` is written, or kept to be.
    ///
    /// # Errors
    /// What writing meets; [`io::ErrorKind::InvalidInput`] for more than the length.
    pub fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        encoder: &mut Encoder,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let data = match *encoder {
            Encoder::None => return Poll::Ready(Ok(data.len())),
            Encoder::Length(left) if data.len() as u64 > left => {
                return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
            }
            Encoder::Chunk(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                data.get(..most.min(data.len())).unwrap_or_default()
            }
            Encoder::Chunked => {
                self.begin_chunk(data.len());
                *encoder = Encoder::Chunk(data.len() as u64);
                data
            }
            Encoder::Length(_) | Encoder::UntilClose => data,
        };
        if self.pending.len() + data.len() <= TOGETHER {
            self.pending.extend_from_slice(data);
            self.took(encoder, data.len(), 0);
            return Poll::Ready(Ok(data.len()));
        }
        let is_whole = *encoder == Encoder::Chunk(data.len() as u64);
        let end: &[u8] = if is_whole { CHUNK_END } else { &[] };
        loop {
            let before = self.pending.len() - self.at;
            let written = if before == 0 && end.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, data))?
            } else {
                let pending = self.pending.get(self.at..).unwrap_or_default();
                let all = [pending, data, end].map(IoSlice::new);
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &all))?
            };
            self.wrote(written.min(before))?;
            if let Some(behind @ 1..) = written.checked_sub(before) {
                let count = behind.min(data.len());
                self.is_unflushed = true;
                self.took(encoder, count, behind - count);
                return Poll::Ready(Ok(count));
            }
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    /// Ends a body: what its framing wants behind it is to be written, and trailers where it has
    /// room for them.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the length says that more was to come.
    pub fn finish(&mut self, encoder: &mut Encoder, trailers: Option<&Fields>) -> io::Result<()> {
        match *encoder {
            Encoder::Length(1..) | Encoder::Chunk(_) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Encoder::Chunked => {
                self.pending.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    trailers.write(&mut self.pending, |_| true);
                }
                self.pending.extend_from_slice(b"\r\n");
            }
            Encoder::None | Encoder::Length(0) | Encoder::UntilClose => {}
        }
        *encoder = Encoder::None;
        Ok(())
    }

    /// Writes all that is to be written.
    ///
    /// # Errors
    /// What writing meets.
    pub fn poll_flush<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let pending = self.pending.get(self.at..).unwrap_or_default();
            let written = ready!(Pin::new(&mut *io).poll_write(cx, pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(written)?;
            self.is_unflushed = true;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, count: usize) -> io::Result<()> {
        self.has_written = true;
        self.at += count;
        if self.at > self.pending.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.at == self.pending.len() {
            self.at = 0;
            self.pending.release();
        }
        Ok(())
    }

    /// Counts what was taken of a body; so much of the end of its chunk is written already.
    fn took(&mut self, encoder: &mut Encoder, count: usize, of_end: usize) {
        let count = count as u64;
        match encoder {
            Encoder::Length(left) => *left = left.saturating_sub(count),
            Encoder::Chunk(left) => {
                *left = left.saturating_sub(count);
                if *left == 0 {
                    let rest = CHUNK_END.get(of_end..).unwrap_or_default();
                    self.pending.extend_from_slice(rest);
                    *encoder = Encoder::Chunked;
                }
            }
            Encoder::None | Encoder::Chunked | Encoder::UntilClose => {}
        }
    }

    fn begin_chunk(&mut self, size: usize) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let count = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
        for at in (0..count).rev() {
            let digit = (size >> (4 * at)) & 15;
            self.pending.extend(DIGITS.get(digit));
        }
        self.pending.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
