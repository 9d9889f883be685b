//! A pattern of paths: `*` stands for characters within a segment, `**` for any, and `/**` at the
//! end for the path in front of it and everything below.

use std::{fmt, str::FromStr};

use super::is_plain;

/// A set of places in a pattern, a bit each. It bounds how long a pattern can be.
type Places = u128;

/// A pattern. Matching takes time proportional to the path, however the two are made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    text: String,
    /// What is in front of the first star, and decides most of the time.
    prefix: Vec<u8>,
    tokens: Vec<Token>,
    /// Whether everything below is meant too.
    below: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token {
    Byte(u8),
    /// One character of a segment.
    Character,
    /// Any number of characters of a segment.
    Characters,
    /// Any number of characters.
    Anything,
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !is_plain(text.replace('*', "x").as_bytes()) || text.contains("***") {
            return Err(
                "must have a path that begins with / and holds neither escapes that no path needs, \
                 nor \"//\", \".\", \"..\", \";\", \"?\", \"***\" or spaces",
            );
        }
        let (path, below) = match text.strip_suffix("/**") {
            Some(path) => (path, true),
            None => (text, false),
        };
        let fixed = path.find('*').unwrap_or(path.len());
        let (prefix, rest) = path.split_at_checked(fixed).unwrap_or_default();
        let tokens = tokens(prefix, rest);
        if tokens.len() >= Places::BITS as usize {
            return Err("must have a path of at most 127 characters behind its first *");
        }
        Ok(Self {
            text: text.to_owned(),
            prefix: prefix.as_bytes().to_vec(),
            tokens,
            below,
        })
    }
}

fn tokens(prefix: &str, rest: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut before = prefix.bytes().last();
    let mut rest = rest.as_bytes().iter().peekable();
    while let Some(byte) = rest.next() {
        if *byte != b'*' {
            tokens.push(Token::Byte(*byte));
        } else if rest.next_if(|next| **next == b'*').is_some() {
            tokens.push(Token::Anything);
        } else {
            let begins = before == Some(b'/');
            let ends = rest.peek().is_none_or(|next| **next == b'/');
            // A segment of its own is no empty one.
            if begins && ends {
                tokens.push(Token::Character);
            }
            tokens.push(Token::Characters);
        }
        before = Some(*byte);
    }
    tokens
}

impl Pattern {
    /// Whether a path is meant. Follows every way to read it at once, as a set of places: there is
    /// nothing to go back to.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let Some(path) = path.strip_prefix(self.prefix.as_slice()) else {
            return false;
        };
        let end = place(self.tokens.len());
        let mut reached = self.with_skipped(1);
        for byte in path {
            if self.below && *byte == b'/' && reached & end != 0 {
                return true;
            }
            reached = self.with_skipped(self.step(reached, *byte));
            if reached == 0 {
                return false;
            }
        }
        reached & end != 0
    }

    /// Where one more byte leads.
    fn step(&self, reached: Places, byte: u8) -> Places {
        let mut next = 0;
        for (number, token) in self.tokens.iter().enumerate() {
            let (here, behind) = (place(number), place(number + 1));
            if reached & here == 0 {
                continue;
            }
            next |= match token {
                Token::Byte(expected) if byte == *expected => behind,
                Token::Character if byte != b'/' => behind,
                Token::Characters if byte != b'/' => here,
                Token::Anything => here,
                _ => 0,
            };
        }
        next
    }

    /// Stars may stand for nothing.
    fn with_skipped(&self, mut reached: Places) -> Places {
        for (number, token) in self.tokens.iter().enumerate() {
            if matches!(token, Token::Characters | Token::Anything) && reached & place(number) != 0
            {
                reached |= place(number + 1);
            }
        }
        reached
    }
}

/// The place in front of a token, or behind the last one.
fn place(number: usize) -> Places {
    1 << number
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn stars_stand_for_what_is_between_slashes_or_across_them() {
        for (text, path, is_match) in [
            ("/report", "/report", true),
            ("/report", "/report/", false),
            ("/report", "/reports", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", false),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a//c", false),
            ("/a/b*", "/a/b", true),
            ("/a/b*d", "/a/bcdd", true),
            ("/a/b*d", "/a/b/d", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/a/*/**", "/a/b", true),
            ("/a/*/**", "/a/b/c", true),
            ("/a/*/**", "/a", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/a/**/z", "/a/b/c/z", true),
            ("/a/**/z", "/a/z", false),
            ("/a/**/*x/z", "/a/x/yx/z", true),
            ("/", "/", true),
            ("/", "/a", false),
        ] {
            assert_eq!(
                pattern(text).matches(path.as_bytes()),
                is_match,
                "{text} {path}"
            );
        }
    }

    /// The same by going back and trying again.
    fn slow(pattern: &[u8], path: &[u8], before: u8) -> bool {
        match pattern {
            [] => path.is_empty(),
            b"/**" => path.is_empty() || path[0] == b'/',
            [b'*', b'*', rest @ ..] => {
                (0..=path.len()).any(|taken| slow(rest, &path[taken..], b'*'))
            }
            [b'*', rest @ ..] => {
                let alone = before == b'/' && rest.first().is_none_or(|next| *next == b'/');
                let segment = path.iter().take_while(|byte| **byte != b'/').count();
                (usize::from(alone)..=segment).any(|taken| slow(rest, &path[taken..], b'*'))
            }
            [byte, rest @ ..] => path.first() == Some(byte) && slow(rest, &path[1..], *byte),
        }
    }

    #[test]
    fn random_patterns_match_what_a_search_by_trial_finds() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut text = |of: &[&str], most| -> String {
            let parts = (0..random.usize(0..most)).map(|_| of[random.usize(0..of.len())]);
            format!("/{}", parts.collect::<String>())
        };
        let (mut tried, mut matched) = (0, 0);
        while tried < 50_000 {
            let Ok(pattern) = text(&["a", "b", "/", "*", "**", "/**", "/*"], 7).parse::<Pattern>()
            else {
                continue;
            };
            let path = text(&["a", "b", "/"], 8);
            let expected = slow(pattern.text.as_bytes(), path.as_bytes(), 0);
            assert_eq!(
                pattern.matches(path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
            tried += 1;
            matched += u32::from(expected);
        }
        assert!(matched > 5000, "{matched}");
    }

    #[test]
    fn the_worst_pattern_takes_no_longer_than_its_path() {
        let text = format!("/{}b", "**a".repeat(70));
        assert!(text[..100].parse::<Pattern>().is_ok() && text.parse::<Pattern>().is_err());
        let pattern = pattern(&format!("/{}b", "*a".repeat(62)));
        let path = format!("/{}", "a".repeat(100_000));
        // Going back and trying again would not end today.
        assert!(!pattern.matches(path.as_bytes()));
    }
}
