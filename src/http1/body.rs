//! Bodies out of their framing (RFC 9112 §6, §7).

use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;

use super::{Framing, Input, chunk::Chunks};
use crate::message::{BodyLength, Fields};

/// Reads one body.
#[derive(Debug)]
pub struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    /// The number of bytes that are left.
    Length(u64),
    Chunked(Box<Chunks>),
    /// Until the connection ends.
    UntilClose,
    /// The connection has ended, and so has the body.
    Closed,
}

/// Why a body cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The framing is malformed.
    #[error("its framing is malformed")]
    Malformed,
    /// The connection ended before the body.
    #[error("it ended early")]
    Cut,
    /// The connection broke.
    #[error("its connection broke: {0}")]
    Io(std::io::ErrorKind),
}

impl Decoder {
    /// A decoder for no body at all.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Length(0))
    }

    /// A decoder for the body of a request (RFC 9112 §6.3: without a framing there is none).
    #[must_use]
    pub fn of_request(framing: Framing) -> Self {
        Self(match framing {
            Framing::None => Kind::Length(0),
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Box::default()),
        })
    }

    /// A decoder for the body of a final response to a request that may have one.
    #[must_use]
    pub fn of_response(framing: Framing) -> Self {
        match framing {
            Framing::None => Self(Kind::UntilClose),
            known => Self::of_request(known),
        }
    }

    /// What is known of the length of what is left.
    #[must_use]
    pub fn length(&self) -> BodyLength {
        match self.0 {
            Kind::Length(left) => BodyLength::Known(left),
            _ => BodyLength::Unknown,
        }
    }

    /// Whether the body is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunks) => chunks.is_done(),
            Kind::UntilClose => false,
            Kind::Closed => true,
        }
    }

    /// Whether the body ends with the connection.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, Kind::UntilClose | Kind::Closed)
    }

    /// How many of the bytes are framing, which is done with, and how many behind those are content.
    /// Neither: more bytes are needed, or the body is over.
    ///
    /// # Errors
    /// [`BodyError::Malformed`].
    pub fn next(&mut self, bytes: &[u8]) -> Result<(usize, usize), BodyError> {
        match &mut self.0 {
            Kind::Length(left) => {
                let left = usize::try_from(*left).unwrap_or(usize::MAX);
                Ok((0, bytes.len().min(left)))
            }
            Kind::Chunked(chunks) => chunks.next(bytes),
            Kind::UntilClose => Ok((0, bytes.len())),
            Kind::Closed => Ok((0, 0)),
        }
    }

    /// Reads until there is content at the beginning of `input`: how much; none at the end of the
    /// body.
    ///
    /// # Errors
    /// The framing is malformed, or the connection ends early or breaks.
    pub fn poll_content<T: AsyncRead + Unpin>(
        &mut self,
        input: &mut Input,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, BodyError>> {
        loop {
            let (framing, content) = self.next(input.bytes())?;
            input.consume(framing);
            if content > 0 || self.is_done() {
                return Poll::Ready(Ok(content));
            }
            match ready!(input.poll_fill(io, cx)) {
                Ok(1..) => {}
                Ok(0) => self.closed()?,
                Err(error) => return Poll::Ready(Err(BodyError::Io(error.kind()))),
            }
        }
    }

    /// Says that so much of the content was taken.
    pub fn consumed(&mut self, count: usize) {
        let count = count as u64;
        match &mut self.0 {
            Kind::Length(left) => *left = left.saturating_sub(count),
            Kind::Chunked(chunks) => chunks.consumed(count),
            Kind::UntilClose | Kind::Closed => {}
        }
    }

    /// Says that the connection has ended.
    ///
    /// # Errors
    /// [`BodyError::Cut`] when more was to come.
    pub fn closed(&mut self) -> Result<(), BodyError> {
        match self.0 {
            Kind::UntilClose => {
                self.0 = Kind::Closed;
                Ok(())
            }
            _ if self.is_done() => Ok(()),
            _ => Err(BodyError::Cut),
        }
    }

    /// The trailers of a body that is over.
    pub fn take_trailers(&mut self) -> Option<Fields> {
        match &mut self.0 {
            Kind::Chunked(chunks) => chunks.take_trailers(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
