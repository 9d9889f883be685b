//! The grammar of HTTP that more than one part of the program reads (RFC 9110 §5.6, RFC 9112 §3):
//! tokens, numbers, lists, targets.

/// The bytes that may be in a token, as a table: each name of each head goes through it.
static TCHARS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "evaluated by the compiler, within the bounds of the table"
        )]
        {
            table[byte] = (byte as u8).is_ascii_alphanumeric()
                || matches!(
                    byte as u8,
                    b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
                );
        }
        byte += 1;
    }
    table
};

/// Whether a byte may be in a token (RFC 9110 §5.6.2).
#[must_use]
#[inline]
pub fn is_tchar(byte: u8) -> bool {
    TCHARS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Whether a byte may be in a target. RFC 9112 §3.2 has no place for `"`, `<`, `>`, `\`, `^`, a
/// backquote, braces, `|` and bytes beyond ASCII, but clients send them as they are typed, and
/// services read them: they go on as they came. White space and controls would end the line early
/// for somebody, and what follows a `#` is the client's own.
#[must_use]
pub const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != b'#' && byte != 0x7f
}

/// Whether a byte may be in a field value: no control but the tab (RFC 9110 §5.5 lets some others
/// pass; no client needs them).
#[must_use]
pub const fn is_value_byte(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// A token and nothing else; otherwise where it is none.
///
/// # Errors
/// The position of the first byte that has no place in it, and that byte; `None` for no byte at all.
pub fn token(bytes: &[u8]) -> Result<(), Option<(usize, u8)>> {
    if bytes.is_empty() {
        return Err(None);
    }
    first_but(bytes, is_tchar).map_or(Ok(()), |found| Err(Some(found)))
}

/// The first byte that is not allowed, and its position.
#[must_use]
pub fn first_but(bytes: &[u8], is_allowed: fn(u8) -> bool) -> Option<(usize, u8)> {
    let position = bytes.iter().position(|byte| !is_allowed(*byte))?;
    bytes.get(position).map(|byte| (position, *byte))
}

/// How many bytes from the first on may be in a token.
#[must_use]
#[inline]
pub fn token_length(bytes: &[u8]) -> usize {
    // Pieces of a known length, so that there is no loop within one.
    let (pieces, rest) = bytes.as_chunks::<8>();
    let end = |bytes: &[u8]| bytes.iter().position(|byte| !is_tchar(*byte));
    for (number, piece) in pieces.iter().enumerate() {
        if let Some(end) = end(piece) {
            return number * piece.len() + end;
        }
    }
    bytes.len() - rest.len() + end(rest).unwrap_or(rest.len())
}

/// Whether all bytes may be in a field value.
#[must_use]
#[inline]
pub fn is_value(value: &[u8]) -> bool {
    let (words, _) = value.as_chunks();
    // The last word begins within the one before.
    let last = value.last_chunk();
    let is_clear = last.is_some_and(|last| !may_have_control(*last))
        && !words.iter().any(|word| may_have_control(*word));
    // It is short, or there is a tab.
    is_clear || value.iter().copied().all(is_value_byte)
}

/// Whether one of eight bytes is below the space, or DEL. All of them are looked at together, as one
/// number: a subtraction sets the high bit of a byte that is too small for it.
#[inline]
fn may_have_control(bytes: [u8; 8]) -> bool {
    const fn all(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let word = u64::from_le_bytes(bytes);
    let below_space = word.wrapping_sub(all(b' ')) & !word;
    let from_del = word ^ all(0x7f);
    let is_del = from_del.wrapping_sub(all(1)) & !from_del;
    // What is borrowed may mark the byte above too, but only beside one that is marked rightly.
    (below_space | is_del) & all(0x80) != 0
}

/// `1*DIGIT` below 2^63, so that no sum of it overflows: what a `Content-Length` may be.
#[must_use]
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let value = u64::from(digit.wrapping_sub(b'0'));
        (value < 10).then_some(())?;
        number.checked_mul(10)?.checked_add(value)
    })?;
    i64::try_from(number).is_ok().then_some(number)
}

/// The elements of a comma-separated list (RFC 9110 §5.6.1), without the white space around them.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_digits_below_two_to_the_63() {
        for (digits, number) in [
            ("0", Some(0)),
            ("005", Some(5)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("00000000000000000000000000000000000007", Some(7)),
            ("9223372036854775808", None),
            ("18446744073709551621", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("0x5", None),
            ("5 5", None),
            ("5,5", None),
        ] {
            assert_eq!(decimal(digits.as_bytes()), number, "{digits:?}");
        }
    }

    #[test]
    fn a_token_is_made_of_letters_digits_and_fifteen_others() {
        let others = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255_u8 {
            let expected = byte.is_ascii_alphanumeric() || others.contains(&byte);
            assert_eq!(is_tchar(byte), expected, "{byte}");
        }
    }

    #[test]
    fn a_value_is_everything_but_controls() {
        for byte in 0..=255_u8 {
            for (before, behind) in [(1, 1), (3, 12), (9, 0), (0, 15), (16, 5)] {
                let value = [
                    &vec![b'a'; before],
                    &[byte][..],
                    &vec![b'\t'; behind % 2],
                    &vec![b'b'; behind],
                ]
                .concat();
                assert_eq!(is_value(&value), is_value_byte(byte), "{value:?}");
            }
        }
        assert!(is_value(b""));
    }

    #[test]
    fn a_token_ends_at_the_first_byte_that_may_not_be_in_it() {
        for name in [
            "",
            "te",
            "Content-Type",
            "X-B3-TraceId",
            "Strict-Transport-Security",
            "12345678-9",
            "a_b",
        ] {
            for end in [": ", " :", "\t", "\u{e9}", "\0", ""] {
                let line = format!("{name}{end}");
                assert_eq!(token_length(line.as_bytes()), name.len(), "{line:?}");
            }
        }
    }

    #[test]
    fn what_is_no_token_is_shown() {
        assert_eq!(token(b"x-a"), Ok(()));
        assert_eq!(token(b"x a"), Err(Some((1, b' '))));
        assert_eq!(token(b""), Err(None));
    }
}
