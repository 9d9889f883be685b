//! The fields of a message, and the small grammar that their names and values are made of.

use std::fmt;

use crate::shown;

/// A field line: the name as it was spelled, the value without the white space around it.
pub type Field = (Vec<u8>, Vec<u8>);

/// The fields of a message, in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<Field>);

impl Fields {
    /// The values of a field, in their order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let is_it = |(found, _): &&Field| found.eq_ignore_ascii_case(name.as_bytes());
        let found = self.0.iter().filter(is_it);
        found.map(|(_, value)| value.as_slice()).collect()
    }

    /// Whether there is such a field.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The parts between commas of all values of a field, in lower case.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<Vec<u8>> {
        let all = self.all(name).into_iter();
        all.flat_map(|value| value.split(|byte| *byte == b','))
            .map(|part| trim(part).to_ascii_lowercase())
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// Whether `Connection` has that option.
    #[must_use]
    pub fn connection(&self, option: &str) -> bool {
        self.list("connection")
            .iter()
            .any(|one| one == option.as_bytes())
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter();
        f.debug_list()
            .entries(lines.map(|(name, value)| format!("{}: {}", shown(name), shown(value))))
            .finish()
    }
}

/// Whether it is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// Whether it is a field value (RFC 9110 §5.5), without the controls that a recipient may let pass.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// Reads 1*DIGIT that a machine word holds with a sign, as every parser can.
#[must_use]
pub fn decimal(digits: &[u8]) -> Option<usize> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: Option<i64> = String::from_utf8_lossy(digits).parse().ok();
    number.filter(|_| is_plain)?.try_into().ok()
}

/// Takes away the spaces and tabs at both ends.
#[must_use]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
