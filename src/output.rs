//! Standard output of the commands, whose reader may have seen enough.

use std::io::{self, ErrorKind, Stdout, Write};

/// Standard output. Once its reader has gone (`check | head`), what follows is written for nobody,
/// which is no failure.
#[derive(Debug)]
pub struct Output {
    out: Stdout,
    has_reader: bool,
    /// Whatever goes wrong is no failure.
    is_extra: bool,
}

impl Output {
    /// For what somebody has asked for: a full disk is a failure.
    #[must_use]
    pub fn asked_for() -> Self {
        Self {
            out: io::stdout(),
            has_reader: true,
            is_extra: false,
        }
    }

    /// For words that accompany a program whose purpose is another.
    #[must_use]
    pub fn extra() -> Self {
        Self {
            is_extra: true,
            ..Self::asked_for()
        }
    }

    /// `written`, where nothing came of it that counts.
    fn unless_unread<T>(&mut self, result: io::Result<T>, written: T) -> io::Result<T> {
        result.or_else(|error| {
            if self.is_extra || error.kind() == ErrorKind::BrokenPipe {
                self.has_reader = false;
                return Ok(written);
            }
            let text = format!("cannot write to standard output: {error}");
            Err(io::Error::new(error.kind(), text))
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.has_reader {
            return Ok(bytes.len());
        }
        let result = self.out.write(bytes);
        self.unless_unread(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.has_reader {
            return Ok(());
        }
        let result = self.out.flush();
        self.unless_unread(result, ())
    }
}
