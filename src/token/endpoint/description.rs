//! What a token service says in its own words, made fit to be shown to an operator. Services echo
//! credentials there, so whatever could be one is taken out: better a gap than a secret.

use crate::text::for_terminal;

/// Longer explanations are cut.
const LONGEST: usize = 300;

/// What stands in the place of a word that could be a credential.
const GAP: &str = "…";

/// So many words behind one that names a secret, its value may follow ("the secret is hunter2").
const NEAR: usize = 3;

/// The words without what could be a credential, on one line, and short. `None` where nothing is left.
pub(super) fn shown(text: &str) -> Option<String> {
    let text = beginning(text);
    let mut words: Vec<String> = Vec::new();
    let mut since_secret = usize::MAX;
    for word in text.split_whitespace() {
        let (shown, names_secret) = screened(word, since_secret < NEAR);
        since_secret = if names_secret {
            0
        } else {
            since_secret.saturating_add(1)
        };
        if shown != GAP || words.last().is_none_or(|last| last != GAP) {
            words.push(shown);
        }
    }
    let text = words.join(" ");
    let has_words = text.contains(|c: char| c.is_alphanumeric());
    has_words.then(|| for_terminal(&text, LONGEST))
}

/// As much of a text as need be looked at, since the rest is cut off later; without a word that would
/// be cut here, whose beginning may not look like what it is the beginning of.
fn beginning(text: &str) -> &str {
    let Some((end, _)) = text.char_indices().nth(4 * LONGEST) else {
        return text;
    };
    let (text, _) = text.split_at(end);
    text.rsplit_once(char::is_whitespace)
        .map_or("", |(whole, _)| whole)
}

/// A code of Microsoft's identity platform, which says more than the error code does.
pub(super) fn aadsts(text: &str) -> Option<String> {
    const MARK: &str = "AADSTS";
    let (_, rest) = text.split_once(MARK)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let is_code = (1..=9).contains(&digits.len());
    is_code.then(|| format!("{MARK}{digits}"))
}

/// Returns the word or a gap, and whether the value of what it names may follow.
fn screened(word: &str, near_secret: bool) -> (String, bool) {
    let is_mark = |c: char| "\"'`()[]{}<>,;".contains(c);
    let bare = word.trim_matches(is_mark).trim_end_matches(['.', ':', '=']);
    let url = bare.strip_prefix("https://");
    if let Some(rest) = url.or_else(|| bare.strip_prefix("http://")) {
        // The host says where to read on; a path or a query may hold anything.
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let is_host = !host.contains('@') && host.len() < 64;
        let host = if is_host { host } else { GAP };
        return (format!("https://{host}/{GAP}"), false);
    }
    if let Some((name, _)) = bare.split_once('=') {
        return (format!("{}={GAP}", plain_or_gap(name)), false);
    }
    if let Some((name, _)) = bare.split_once(':').filter(|(name, _)| is_sensitive(name)) {
        return (format!("{}:{GAP}", plain_or_gap(name)), false);
    }
    let may_be_value = near_secret || word.starts_with(['"', '\'', '`', '<']);
    if looks_random(bare) || may_be_value && !is_plain_word(bare) && !is_aadsts(bare) {
        return (GAP.to_owned(), false);
    }
    (word.to_owned(), is_sensitive(bare))
}

fn plain_or_gap(word: &str) -> &str {
    if is_plain_word(word) { word } else { GAP }
}

/// Letters, and what joins words: no secret that was made by a machine. A capital letter behind a small
/// one is of no word, but of Base64.
fn is_plain_word(word: &str) -> bool {
    let is_of_word = |c: char| c.is_alphabetic() || matches!(c, '_' | '-' | '\'' | '.');
    let small_first = word.chars().zip(word.chars().skip(1));
    let mut turns = small_first.filter(|(one, next)| one.is_lowercase() && next.is_uppercase());
    word.len() < 40 && word.chars().all(is_of_word) && turns.next().is_none()
}

fn is_sensitive(word: &str) -> bool {
    const NAMES: [&str; 9] = [
        "basic",
        "bearer",
        "secret",
        "password",
        "passcode",
        "token",
        "credential",
        "assertion",
        "key",
    ];
    let word = word.to_ascii_lowercase();
    NAMES.iter().any(|name| word.contains(name))
}

/// Whether a word is long, or mixed as no word of a language is: a secret, a token, an identifier
/// that may be one.
fn looks_random(word: &str) -> bool {
    const LONG: usize = 40;
    const MIXED: usize = 12;
    let length = word.chars().count();
    let has_digit = word.contains(|c: char| c.is_ascii_digit());
    let has_letter = word.contains(|c: char| c.is_ascii_alphabetic());
    let has_sign = word.contains(['+', '/', '=', '~', '%', '&', '$', '!', '#', '@', '*']);
    length >= LONG || length >= MIXED && (has_sign || has_digit && has_letter) && !is_aadsts(word)
}

fn is_aadsts(word: &str) -> bool {
    aadsts(word).is_some_and(|code| code == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_helps_is_shown() {
        for text in [
            "The provided value for the input parameter 'scope' is not valid",
            "AADSTS7000215: Invalid client secret provided.",
            "Client authentication failed (e.g., unknown client)",
            "organization not found",
        ] {
            assert_eq!(shown(text).as_deref(), Some(text));
        }
        let long = "AADSTS700016: Application with identifier \
                    '6d2b4a57-0c8e-4f2e-9d1b-7f3a5c9e1b2d' was not found in the directory 'Contoso'. \
                    Trace ID: 0f9e8d7c-6b5a-4938-2716-05f4e3d2c1b0";
        let text = shown(long).unwrap();
        assert!(text.starts_with("AADSTS700016: Application with identifier … was not found"));
        assert!(
            !text.contains("6d2b4a57") && !text.contains("0f9e8d7c"),
            "{text}"
        );
        assert_eq!(aadsts(long).as_deref(), Some("AADSTS700016"));
        assert_eq!(aadsts("AADSTS"), None);
    }

    #[test]
    fn what_could_be_a_credential_is_not() {
        for secret in [
            "hunter2",
            "canary-api-token-0a1b2c3d4e5f+6a7b8c9d0e1f",
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
            "6d2b4a57-0c8e-4f2e-9d1b-7f3a5c9e1b2d",
            "p%40ssword",
            "Zm9vOmJhcjpiYXo=",
        ] {
            for text in [
                format!("invalid client secret '{secret}'"),
                format!("the secret {secret} is unknown"),
                format!("the secret is {secret}"),
                format!("client_secret={secret} is wrong"),
                format!("password:{secret}"),
                format!("token: {secret}"),
                format!("see https://h.example/x?token={secret}"),
                format!("see https://u:{secret}@h.example/"),
                format!("{{\"token\":\"{secret}\"}}"),
            ] {
                let shown_text = shown(&text).unwrap_or_default();
                assert!(!shown_text.contains(secret), "{text}: {shown_text}");
            }
        }
        // Without a digit, as short ones of HTTP Basic may be.
        assert_eq!(shown("not Basic dXNlcjpwYXNz").unwrap(), "not Basic …");
        for secret in ["canary-api-token-0a1b2c3d4e5f", "A".repeat(60).as_str()] {
            let shown_text = shown(&format!("cannot use {secret} here")).unwrap();
            assert_eq!(shown_text, "cannot use … here");
        }
    }

    #[test]
    fn a_word_that_is_too_far_behind_is_not_cut_into_one_that_looks_harmless() {
        let long = "x1".repeat((4 * LONGEST - 8) / 2);
        assert_eq!(shown(&format!("of {long} hunter2canary")).unwrap(), "of …");
        assert_eq!(shown(&"x1".repeat(4 * LONGEST)), None);
    }

    #[test]
    fn it_is_one_short_line_and_moves_no_cursor() {
        let shown_text = shown("a\u{1b}[2Jb\r\nc\u{202e}d").unwrap();
        assert!(
            !shown_text.contains(['\u{1b}', '\n', '\r', '\u{202e}']),
            "{shown_text:?}"
        );
        let shown_text = shown(&"word ".repeat(10_000)).unwrap();
        assert!(shown_text.chars().count() <= LONGEST + 1);
        assert_eq!(shown(" \n "), None);
        assert_eq!(shown("'6d2b4a57-0c8e-4f2e-9d1b-7f3a5c9e1b2d'"), None);
    }
}
