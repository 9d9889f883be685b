//! A line that has its end.

/// A line: where it was read, or put together of two reads.
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    Joined(Vec<u8>),
}

impl Line<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(line) => line,
            Self::Joined(line) => line,
        }
    }

    /// Without its CRLF; `None` for another end.
    pub(super) fn without_end(self) -> Option<Self> {
        Some(match self {
            Self::Whole(line) => Self::Whole(line.strip_suffix(b"\r\n")?),
            Self::Joined(mut line) => {
                let length = line.strip_suffix(b"\r\n")?.len();
                line.truncate(length);
                Self::Joined(line)
            }
        })
    }
}
