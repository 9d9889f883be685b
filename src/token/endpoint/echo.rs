//! Finds secrets that a service gives back: whole or cut off, and in whatever spelling it has them.
//!
//! A response is looked through as it came, before anything of it is made shorter or cleaned: the half
//! of a secret that is left by a cut looks like any other word.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

/// So many bytes of a secret's beginning or end give it away.
const PIECE: usize = 8;

/// How many encodings inside of each other are looked through: the form of HTTP Basic credentials in a
/// form in JSON.
const DEPTH: usize = 3;

/// What a service must not give back.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<SecretString>);

impl FromIterator<SecretString> for Secrets {
    fn from_iter<I: IntoIterator<Item = SecretString>>(secrets: I) -> Self {
        Self(secrets.into_iter().collect())
    }
}

impl Secrets {
    /// Whether a text holds one of them, or its beginning or end.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
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
fn decoded(text: &[u8]) -> [Zeroizing<Vec<u8>>; 4] {
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
    // Those that are mostly alike stand side by side, so that one of them is left.
    [plain, percent, form, base64]
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
        let digits = behind.first_chunk::<4>().filter(|_| *escaped == b'u');
        let code = digits
            .and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (code, escaped) {
            (Some(code), _) => {
                rest = behind.get(4..).unwrap_or_default();
                // A half of a pair is no part of a secret that was typed.
                let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
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
    }
}
