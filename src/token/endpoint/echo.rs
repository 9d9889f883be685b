//! Finds secrets that a service gives back: whole or cut off, and in the spellings that services have.
//!
//! A response is looked through as it came, before anything of it is made shorter or cleaned: the half
//! of a secret that is left by a cut looks like any other word.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::StatusCode;
use percent_encoding::percent_decode;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use crate::token::FetchError;

/// How many bytes of a secret's beginning or end give it away.
const PIECE: usize = 8;

/// How many encodings inside of each other are looked through: the form of HTTP Basic credentials in a
/// form in JSON.
const DEPTH: usize = 3;

/// The longest response that is looked through; what services say of a rejection is shorter by far.
const LOOKED_THROUGH: usize = 16 * 1024;

/// What was sent, and a service must not give back.
#[derive(Debug, Default)]
pub(in crate::token) struct Secrets(Vec<SecretString>);

impl FromIterator<SecretString> for Secrets {
    fn from_iter<I: IntoIterator<Item = SecretString>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

impl Secrets {
    /// Keeps a secret that is about to be sent in mind, and returns it.
    pub(super) fn noted(&mut self, secret: SecretString) -> SecretString {
        self.0.push(secret.clone());
        secret
    }

    /// Takes the service's own words out of an error if its response holds one of the secrets, or is too
    /// long to be looked through.
    pub(in crate::token) fn conceal(
        &self,
        error: &mut FetchError,
        status: StatusCode,
        body: &[u8],
    ) {
        if body.len() <= LOOKED_THROUGH && !self.are_in(body) {
            return;
        }
        if let Some(refusal) = &mut error.refusal {
            refusal.description = None;
        }
        // What is not quoted of it is made of words that a short secret may be a part of.
        let long = self.long();
        error
            .refusal
            .take_if(|refusal| long.are_in(refusal.code.as_bytes()));
        if long.are_in(error.detail.as_bytes()) {
            error.detail = format!("status {}", status.as_u16());
        }
    }

    /// The secrets that are long enough to be no part of a word of ours.
    #[expect(
        clippy::disallowed_methods,
        reason = "only how long a secret is is looked at"
    )]
    fn long(&self) -> Self {
        let is_long = |secret: &&SecretString| secret.expose_secret().len() >= PIECE;
        self.0.iter().filter(is_long).cloned().collect()
    }

    /// Whether a text holds one of them, or its beginning or end.
    fn are_in(&self, text: &[u8]) -> bool {
        let mut layers = vec![Zeroizing::new(text.to_vec())];
        let mut newest = 0;
        for _ in 0..DEPTH {
            let next: Vec<_> = layers
                .iter()
                .skip(newest)
                .flat_map(|one| decoded(one))
                .collect();
            newest = layers.len();
            layers.extend(next);
            layers.dedup();
        }
        layers.iter().any(|layer| self.are_plainly_in(layer))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the secret is looked for where it must not be"
    )]
    fn are_plainly_in(&self, text: &[u8]) -> bool {
        let is_in = |piece: &[u8]| !piece.is_empty() && memchr::memmem::find(text, piece).is_some();
        self.0.iter().any(|secret| {
            let secret = secret.expose_secret().as_bytes();
            let first = secret.first_chunk::<PIECE>();
            let last = secret.last_chunk::<PIECE>();
            match first.zip(last) {
                Some((first, last)) => is_in(first) || is_in(last),
                None => is_in(secret),
            }
        })
    }
}

/// A text without one layer of each encoding that it may have.
fn decoded(text: &[u8]) -> [Zeroizing<Vec<u8>>; 5] {
    let plain = without_escapes(text);
    let spaced: Zeroizing<Vec<u8>> = Zeroizing::new(
        plain
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect(),
    );
    let percent = Zeroizing::new(percent_decode(&plain).collect());
    let form = Zeroizing::new(percent_decode(&spaced).collect());
    let base64 = of_base64(&plain);
    let of_page = without_references(&plain);
    // Those that are mostly alike stand side by side, so that one of them is left.
    [plain, of_page, percent, form, base64]
}

/// Takes the escapes out of strings of JSON (RFC 8259 §7), wherever they stand.
fn without_escapes(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let Some((escaped, behind)) = rest.split_first().filter(|_| *byte == b'\\') else {
            plain.push(*byte);
            continue;
        };
        rest = behind;
        let first = if *escaped == b'u' { unit(behind) } else { None };
        match (first, escaped) {
            (Some((first, behind)), _) => {
                let second = behind.strip_prefix(b"\\u").and_then(unit);
                // A letter beyond the first 65,536 is two of them (RFC 8259 §7).
                let pair = second.and_then(|(second, behind)| {
                    let mut letters = char::decode_utf16([first, second]);
                    let letter = letters.next()?.ok()?;
                    (letter.len_utf16() == 2).then_some((letter, behind))
                });
                let single = || char::from_u32(first.into()).unwrap_or(char::REPLACEMENT_CHARACTER);
                let (letter, behind) = pair.unwrap_or_else(|| (single(), behind));
                rest = behind;
                plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            (None, b'n') => plain.push(b'\n'),
            (None, b't') => plain.push(b'\t'),
            (None, b'r') => plain.push(b'\r'),
            (None, other) => plain.push(*other),
        }
    }
    plain
}

/// The four hexadecimal digits at the beginning, and what is behind them.
fn unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, behind) = text.split_first_chunk::<4>()?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((unit, behind))
}

/// Takes the character references of HTML out that frameworks put in place of what has a meaning there.
fn without_references(text: &[u8]) -> Zeroizing<Vec<u8>> {
    /// Longer ones stand for letters that nobody needs to escape.
    const LONGEST: usize = 8;
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text;
    while let Some(start) = memchr::memchr(b'&', rest) {
        let (before, reference) = rest.split_at(start);
        plain.extend_from_slice(before);
        let end = memchr::memchr(b';', reference.get(..LONGEST).unwrap_or(reference));
        let named = end.and_then(|end| Some((reference.get(1..end)?, reference.get(end + 1..)?)));
        let letter = named.and_then(|(name, behind)| Some((referred_to(name)?, behind)));
        if let Some((letter, behind)) = letter {
            plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            rest = behind;
        } else {
            plain.push(b'&');
            rest = reference.get(1..).unwrap_or_default();
        }
    }
    plain.extend_from_slice(rest);
    plain
}

fn referred_to(name: &[u8]) -> Option<char> {
    match std::str::from_utf8(name).ok()? {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        number => {
            let number = number.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

/// Everything in a text that could be Base64, decoded; from each of the four places where a group could
/// begin, since something may stand in front.
fn of_base64(text: &[u8]) -> Zeroizing<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    let standard: Zeroizing<Vec<u8>> = Zeroizing::new(
        text.iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect(),
    );
    let is_other = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"+/".contains(byte));
    let mut found = Zeroizing::new(Vec::new());
    for run in standard.split(is_other).filter(|run| run.len() >= PIECE) {
        for start in 0..4 {
            let run = run.get(start..).unwrap_or_default();
            // One letter of a group says nothing.
            let length = run.len() - usize::from(run.len() % 4 == 1);
            let decoded = ENGINE.decode(run.get(..length).unwrap_or_default());
            found.extend_from_slice(&Zeroizing::new(decoded.unwrap_or_default()));
            found.push(b'\n');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use url::form_urlencoded::byte_serialize;

    use super::*;
    use crate::token::endpoint::response::refused;

    const SECRET: &str = "Sesam/öffne dich+&\"jetzt\"";

    fn is_in(text: &str) -> bool {
        let secrets = Secrets::from_iter([SecretString::from("other"), SECRET.into()]);
        secrets.are_in(text.as_bytes())
    }

    fn form(text: &str) -> String {
        byte_serialize(text.as_bytes()).collect()
    }

    #[test]
    fn a_secret_is_found_in_every_spelling() {
        let json = serde_json::to_string(SECRET).unwrap();
        let twice = serde_json::to_string(&json).unwrap();
        let units = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
        let escaped = units.collect::<Vec<_>>().concat();
        let lower = form(SECRET).to_ascii_lowercase().replace("sesam", "Sesam");
        let basic = BASE64_STANDARD.encode(format!("app:{}", form(SECRET)));
        for text in [
            SECRET.to_owned(),
            json,
            twice,
            escaped,
            form(SECRET),
            lower,
            form(SECRET).replace('+', "%20"),
            form(&form(SECRET)),
            BASE64_STANDARD.encode(SECRET),
            BASE64_URL_SAFE_NO_PAD.encode(SECRET),
            BASE64_STANDARD.encode(format!("app:{SECRET}")),
            form(&basic),
            basic.replace('/', "\\/"),
            format!("Basic:{basic}"),
            basic,
        ] {
            for text in [
                text.clone(),
                format!("{{\"error_description\":\"the value {text} is wrong\"}}"),
                format!("x{text}x"),
            ] {
                assert!(is_in(&text), "{text}");
            }
        }
    }

    #[test]
    fn a_secret_of_letters_that_are_escaped_in_pairs_or_for_a_page_is_found() {
        const SECRET: &str = "\u{1f511}<&>\u{1f511}'\"/\u{1f511}";
        let secrets = Secrets::from_iter([SecretString::from(SECRET)]);
        let units = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        let pairs = units.collect::<Vec<_>>().concat();
        let page = SECRET
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('\'', "&#39;")
            .replace('"', "&quot;")
            .replace('/', "&#x2F;");
        for text in [pairs, page] {
            assert!(secrets.are_in(text.as_bytes()), "{text}");
        }
        for text in [
            "\\ud83d\\u",
            "\\ud83d\\u0041",
            "\\uxyzw",
            "&;&&amp&#x;&#99999999;",
        ] {
            assert!(!secrets.are_in(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_words_of_an_ordinary_rejection_are_shown() {
        let body = br#"{"type":"about:blank","title":"Unauthorized","status":401,"error":"invalid_client","error_description":"The client secret has ended"}"#;
        let assertion = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhcHAiLCJzdWIiOiJhcHAifQ.c2lnbmF0dXJl";
        let secrets = Secrets::from_iter([SecretString::from(assertion), SECRET.into()]);
        let mut error = refused(StatusCode::UNAUTHORIZED, None, body);
        secrets.conceal(&mut error, StatusCode::UNAUTHORIZED, body);
        let refusal = error.refusal.unwrap();
        assert_eq!(refusal.code, "invalid_client");
        assert_eq!(
            refusal.description.as_deref(),
            Some("The client secret has ended")
        );
    }

    #[test]
    fn the_words_of_a_response_that_is_too_long_to_be_looked_through_are_not_shown() {
        let body = format!(
            r#"{{"error":"invalid_client","error_description":"no","more":"{}"}}"#,
            "x".repeat(LOOKED_THROUGH)
        );
        let mut error = refused(StatusCode::UNAUTHORIZED, None, body.as_bytes());
        Secrets::default().conceal(&mut error, StatusCode::UNAUTHORIZED, body.as_bytes());
        let refusal = error.refusal.unwrap();
        assert_eq!(
            (refusal.code.as_str(), refusal.description),
            ("invalid_client", None)
        );
    }

    #[test]
    fn a_secret_that_is_cut_off_is_found_at_either_end() {
        for text in [
            "starts with Sesam/ö",
            "ends with &\\\"jetzt\\\"",
            "Sesam%2f%C3%B6ff",
        ] {
            assert!(is_in(text), "{text}");
        }
        for text in [
            "",
            "Sesam",
            "jetzt",
            "other things, Sesam, jetzt",
            "% \\ \\u12 +",
        ] {
            assert_eq!(is_in(text), text.contains("other"), "{text}");
        }
        assert!(!Secrets::from_iter([SecretString::from("")]).are_in(b"anything"));
        // One of few letters is in every other word.
        let short = Secrets::from_iter([SecretString::from("s")]);
        assert!(short.are_in(b"status") && !short.long().are_in(b"status"));
    }
}
