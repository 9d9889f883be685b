//! Files that somebody has named: read within a bound, and without waiting for whoever does not come.
//!
//! A path may lead to a pipe, a terminal or a device. Opening one can wait for ever, and reading it need
//! not end.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    io::Errno,
};
use tokio::time::Instant;

/// No text that is read once is longer.
const LONGEST_TEXT: u64 = 1 << 20;
/// How long a pipe may take: whoever writes to it may have to ask a store of secrets first.
const PIPE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read from a pipe at once: as much as it holds.
const PIECE: usize = 64 * 1024;

/// Why a file cannot be read.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The operating system says why.
    Io(io::Error),
    /// A directory, a pipe, a device.
    NotRegular,
    /// The file holds more than is read.
    TooLarge,
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens a regular file.
///
/// # Errors
/// When it cannot be opened, or is none.
pub(crate) fn open(path: &Path) -> Result<File, FileError> {
    let file = open_any(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(FileError::NotRegular)
    }
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// When it cannot be read, is none, or larger.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    whole(&open(path)?, most)
}

/// Reads an open regular file of at most `most` bytes.
///
/// # Errors
/// When it cannot be read, or is larger.
pub(crate) fn whole(file: &File, most: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(FileError::TooLarge);
    }
    Ok(bytes)
}

/// Reads a text that is read once, and so may come through a pipe, as `<(…)` of a shell is one.
///
/// # Errors
/// When it cannot be read, is longer than 1 MiB, is not UTF-8, or does not come in time.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    utf8(text_within(path, PIPE_TIMEOUT)?)
}

/// Reads a text that was read before, which only a regular file has again.
///
/// # Errors
/// When it cannot be read, is none, is longer than 1 MiB or is not UTF-8.
pub(crate) fn text_again(path: &Path) -> io::Result<String> {
    let bytes = read(path, LONGEST_TEXT).map_err(|error| match error {
        FileError::NotRegular => io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file, so it cannot be read again",
        ),
        error => in_io(error),
    })?;
    utf8(bytes)
}

fn utf8(bytes: Vec<u8>) -> io::Result<String> {
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8 text");
    String::from_utf8(bytes).map_err(not_text)
}

fn in_io(error: FileError) -> io::Error {
    match error {
        FileError::Io(error) => error,
        FileError::NotRegular => ErrorKind::InvalidInput.into(),
        FileError::TooLarge => io::Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"),
    }
}

fn text_within(path: &Path, limit: Duration) -> io::Result<Vec<u8>> {
    let file = open_any(path)?;
    let kind = file.metadata()?.file_type();
    let read = if kind.is_file() || kind.is_dir() {
        whole(&file, LONGEST_TEXT)
    } else {
        piped(&file, LONGEST_TEXT, limit)
    };
    read.map_err(in_io)
}

/// Reads what comes until its end.
fn piped(file: &File, most: u64, limit: Duration) -> Result<Vec<u8>, FileError> {
    let deadline = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        // Before the first read too: a pipe that nobody has opened yet looks as if it had ended.
        wait_for_input(file, deadline, limit)?;
        match (&*file).read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend(piece.iter().take(count)),
            Err(error) => match error.kind() {
                // Somebody else has read it.
                ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                _ => return Err(error.into()),
            },
        }
        if bytes.len() as u64 > most {
            return Err(FileError::TooLarge);
        }
    }
}

fn wait_for_input(file: &File, deadline: Instant, limit: Duration) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => {
                let limit = humantime::format_duration(limit);
                let text = format!("its end did not come within {limit}");
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens whatever is there, without waiting for the other side of a pipe.
fn open_any(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, thread};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn a_pipe_is_read_to_its_end_and_one_without_an_end_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let silent = text_within(&path, SHORT).unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::TimedOut);
        // Opened for both, so that it neither waits for a reader nor is the last writer.
        let mut both = File::options().read(true).write(true).open(&path).unwrap();
        both.write_all(b"half").unwrap();
        let half = text_within(&path, SHORT).unwrap_err();
        assert_eq!(half.kind(), ErrorKind::TimedOut);
        drop(both);
        let large = vec![b'x'; usize::try_from(LONGEST_TEXT).unwrap()];
        for extra in [&b""[..], b"x"] {
            let content = [&large, extra].concat();
            let to = path.clone();
            let writer = thread::spawn(move || drop(fs::write(to, content)));
            let read = text_within(&path, PIPE_TIMEOUT);
            writer.join().unwrap();
            match read {
                Ok(read) => assert_eq!((read.len(), extra.len()), (large.len(), 0)),
                Err(error) => assert_eq!((error.kind(), extra.len()), (ErrorKind::FileTooLarge, 1)),
            }
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened_as_one() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path(), Path::new("/dev/zero")] {
            assert!(matches!(open(path), Err(FileError::NotRegular)));
        }
        assert!(text(Path::new("/dev/null")).unwrap().is_empty());
        assert!(text(directory.path()).is_err());
        let path = directory.path().join("file");
        fs::write(&path, [0xff, b'x']).unwrap();
        assert!(matches!(read(&path, 1), Err(FileError::TooLarge)));
        assert_eq!(read(&path, 2).unwrap(), [0xff, b'x']);
        assert_eq!(text(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
