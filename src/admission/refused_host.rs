//! A host that is not served here, as far as it can be shown.

use std::fmt;

/// A host that is not served here: printed in one line, and cut where a
/// part is longer than names are, since that may be a credential in the wrong place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedHost(String);

impl RefusedHost {
    /// The most characters of the whole, ...
    const MOST: usize = 64;
    /// ... of a part between dots, ...
    const LONGEST_PART: usize = 20;
    /// ... and what is left of a longer one.
    const LEFT: usize = 8;

    pub(crate) fn new(host: &str) -> Self {
        let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        let parts = host.split('.').map(|part| {
            let longest = match part.chars().nth(Self::LONGEST_PART) {
                Some(_) => Self::LEFT,
                None => Self::LONGEST_PART,
            };
            cut(part.chars().map(printable), longest)
        });
        let shown = parts.collect::<Vec<_>>().join(".");
        Self(cut(shown.chars(), Self::MOST))
    }
}

fn cut(mut text: impl Iterator<Item = char>, most: usize) -> String {
    let mut shown: String = text.by_ref().take(most).collect();
    if text.next().is_some() {
        shown.push('…');
    }
    shown
}

impl fmt::Display for RefusedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
