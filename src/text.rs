//! Text as editors, shells and other systems leave it: what around it is no part of it.

/// What some editors put in front of UTF-8 (a byte order mark).
const MARK: char = '\u{feff}';

/// A text without the mark in front of it.
pub(crate) fn unmarked(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// The same of bytes, which need be no text.
pub(crate) fn unmarked_bytes(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A value without a mark in front of it, and without line ends behind it.
pub(crate) fn value(text: &str) -> &str {
    unmarked(text).trim_end_matches(['\r', '\n'])
}

/// Whether a value is in quotation marks. A shell takes them away, an env file leaves them.
pub(crate) fn is_in_quotes(text: &str) -> bool {
    let text = text.trim();
    let is_in = |mark: char| {
        let inner = text.strip_prefix(mark);
        inner.is_some_and(|inner| inner.ends_with(mark))
    };
    is_in('"') || is_in('\'')
}

/// Text of somebody else for a terminal: short, and without what would move the cursor or turn the
/// direction of what follows.
pub(crate) fn for_terminal(text: &str, longest: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let printable = |c: char| {
        if c.is_control() || turns(c) {
            '\u{fffd}'
        } else {
            c
        }
    };
    let mut short: String = text.chars().take(longest).map(printable).collect();
    if text.chars().nth(longest).is_some() {
        short.push('…');
    }
    short
}

/// The same text, which begins with a capital letter.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
