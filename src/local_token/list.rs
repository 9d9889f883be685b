//! The list of clients while a line is put into it or taken out: whole, or as it was.
//!
//! Readers see the list before or the list after: the new one is made beside it, reaches the disk, and then
//! takes its place. Whoever changes a list holds it, so that what was read is still so when the new one comes.

use std::path::Path;

use anyhow::bail;
use tokio::time::Instant;

use super::place::{LOCK_TIMEOUT, Place};
use crate::client_token::{ClientName, ClientTokens, ClientTokensError, MAX_BYTES};

/// A line that was put into a list.
#[derive(Debug)]
pub(super) struct Added<'a> {
    path: &'a Path,
    line: &'a str,
    is_new_list: bool,
}

impl<'a> Added<'a> {
    /// Puts the line of a client into the list, which is made where there is none, for its owner alone.
    pub(super) fn to(path: &'a Path, name: &ClientName, line: &'a str) -> anyhow::Result<Self> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let added = |is_new_list| Self {
            path,
            line,
            is_new_list,
        };
        loop {
            let place = Place::of(path)?;
            let Some(list) = place.held(deadline)? else {
                let new = place.make(format!("{line}\n").as_bytes(), None)?;
                if new.into_free_place()? {
                    return Ok(added(true));
                }
                // Somebody else was faster, and may have taken the list back by now.
                if Instant::now() > deadline {
                    bail!("other programs make it and remove it; try again");
                }
                continue;
            };
            let after = with(&list.read()?, name, line)?;
            place.make(&after, Some(&list))?.into_place()?;
            return Ok(added(false));
        }
    }

    /// Takes the line out again, and the list where it was made for it.
    pub(super) fn take_back(self) -> anyhow::Result<()> {
        let place = Place::of(self.path)?;
        let Some(list) = place.held(Instant::now() + LOCK_TIMEOUT)? else {
            return Ok(());
        };
        let after = without(&list.read()?, self.line);
        if after.is_empty() && self.is_new_list {
            return Ok(place.clear()?);
        }
        place.make(&after, Some(&list))?.into_place()
    }
}

fn with(before: &[u8], name: &ClientName, line: &str) -> anyhow::Result<Vec<u8>> {
    match ClientTokens::of(before) {
        Ok(tokens) if tokens.iter().any(|(known, _)| known == name) => {
            bail!("it has a line for {name} already; delete that, or choose another name")
        }
        Ok(_) | Err(ClientTokensError::Empty) => {}
        Err(error) => return Err(error.into()),
    }
    let mut after = before.to_owned();
    // Somebody's editor may have left the last line open.
    if after.last().is_some_and(|last| *last != b'\n') {
        after.push(b'\n');
    }
    after.extend(format!("{line}\n").as_bytes());
    if after.len() as u64 > MAX_BYTES {
        bail!("it would be longer than 1 MiB, and no sidecar would read it");
    }
    Ok(after)
}

fn without(before: &[u8], line: &str) -> Vec<u8> {
    let lines = before.split_inclusive(|byte| *byte == b'\n');
    let others = lines.filter(|other| other.trim_ascii_end() != line.as_bytes());
    others.flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_last_and_goes_alone() {
        let other = format!("b:{}", "1".repeat(64));
        let line = format!("a:{}", "0".repeat(64));
        let name = "a".parse().unwrap();
        for (before, open) in [("", ""), ("# who\n", ""), (&*other, "\n")] {
            let after = with(before.as_bytes(), &name, &line).unwrap();
            assert_eq!(after, format!("{before}{open}{line}\n").as_bytes());
            assert_eq!(without(&after, &line), format!("{before}{open}").as_bytes());
            // What came behind it meanwhile stays.
            let more = [&after[..], b"c\n"].concat();
            assert_eq!(
                without(&more, &line),
                format!("{before}{open}c\n").as_bytes()
            );
        }
        let full = vec![b'#'; usize::try_from(MAX_BYTES).unwrap()];
        let error = with(&full, &name, &line).unwrap_err().to_string();
        assert!(error.contains("1 MiB"), "{error}");
    }
}
