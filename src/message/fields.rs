//! The fields of a message, in order and spelling, over one text: finding them, taking some away,
//! adding others, and writing them out.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Name, Text, pool::Lines};

/// The fields of a message.
///
/// A head of HTTP/1 stays the text that it was; what is known of it are places in that text.
#[derive(Debug, Default)]
pub struct Fields {
    text: Text,
    lines: Lines,
}

/// Where in the text a field is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) kind: Name,
    /// Whether the text there is `name: value CRLF`, to be written as it is.
    pub(crate) is_plain: bool,
    pub(crate) name: (u32, u32),
    pub(crate) value: (u32, u32),
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// What the name means.
    pub kind: Name,
    /// The name as it was spelled.
    pub name: &'a [u8],
    /// The value without the white space around it.
    pub value: &'a [u8],
}

impl Fields {
    /// The fields of a head of HTTP/1 that is this text.
    pub(crate) fn of_head(text: Text, lines: Lines) -> Self {
        Self { text, lines }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// All fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.iter().map(|line| self.field(line))
    }

    /// The values of each field of this kind.
    pub fn all(&self, kind: Name) -> impl Iterator<Item = &[u8]> {
        let lines = self.lines.iter().filter(move |line| line.kind == kind);
        lines.map(|line| self.at(line.value))
    }

    /// The value of the only field of this kind.
    #[must_use]
    pub fn first(&self, kind: Name) -> Option<&[u8]> {
        self.all(kind).next()
    }

    /// Whether there is a field of this kind.
    #[must_use]
    pub fn has(&self, kind: Name) -> bool {
        self.lines.iter().any(|line| line.kind == kind)
    }

    /// The values of each field of this name, in any case.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// Takes away what is not to be kept.
    pub fn retain(&mut self, keeps: impl Fn(Field<'_>) -> bool) {
        let Self { text, lines } = self;
        lines.retain(|line| keeps(field(text, line)));
    }

    /// Adds a field. The name is to be a token and the value one, as those are that were read.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let text = &mut *self.text;
        let begin = text.len();
        for part in [name, b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
        let place = |from: usize, length: usize| (narrow(from), narrow(from + length));
        self.lines.push(Line {
            kind: Name::of(name),
            is_plain: true,
            name: place(begin, name.len()),
            value: place(begin + name.len() + 2, value.len()),
        });
    }

    /// Adds a field in place of all others of its name, in the spelling of the first of them.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let is_it = |field: &Field<'_>| field.name.eq_ignore_ascii_case(name);
        let spelled = self.iter().find(is_it).map(|field| field.name.to_vec());
        self.retain(|field| !is_it(&field));
        self.push(spelled.as_deref().unwrap_or(name), value);
    }

    /// Keeps a text with the fields, which is none of theirs.
    pub(crate) fn keep(&mut self, part: &[u8]) -> (u32, u32) {
        let begin = self.text.len();
        self.text.extend_from_slice(part);
        (narrow(begin), narrow(self.text.len()))
    }

    /// A part of the text.
    pub(crate) fn at(&self, (from, to): (u32, u32)) -> &[u8] {
        at(&self.text, (from, to))
    }

    /// Writes those that `keeps` keeps as lines of a head of HTTP/1. Lines that stand side by side
    /// in the text are copied in one piece.
    pub fn write(&self, out: &mut Vec<u8>, keeps: impl Fn(Name) -> bool) {
        let mut run = (0, 0);
        for line in self.lines.iter().filter(|line| keeps(line.kind)) {
            if line.is_plain {
                if run.1 != line.name.0 {
                    out.extend_from_slice(self.at(run));
                    run.0 = line.name.0;
                }
                run.1 = line.value.1 + 2;
            } else {
                out.extend_from_slice(self.at(run));
                run = (0, 0);
                for part in [self.at(line.name), b": ", self.at(line.value), b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
        out.extend_from_slice(self.at(run));
    }

    /// The fields of a message of HTTP/2.
    #[must_use]
    pub fn of_map(map: &HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in map {
            fields.push(name.as_str().as_bytes(), value.as_bytes());
        }
        fields
    }

    /// The fields as a message of HTTP/2 has them. One that HTTP/2 has no room for is left out:
    /// there is none, since all names and values were checked when they were read.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        self.iter()
            .filter_map(|field| {
                let name = HeaderName::from_bytes(field.name).ok()?;
                Some((name, HeaderValue::from_bytes(field.value).ok()?))
            })
            .fold(
                HeaderMap::with_capacity(self.len()),
                |mut map, (name, value)| {
                    map.append(name, value);
                    map
                },
            )
    }

    fn field(&self, line: &Line) -> Field<'_> {
        field(&self.text, line)
    }
}

fn field<'a>(text: &'a [u8], line: &Line) -> Field<'a> {
    Field {
        kind: line.kind,
        name: at(text, line.name),
        value: at(text, line.value),
    }
}

fn at(text: &[u8], (from, to): (u32, u32)) -> &[u8] {
    text.get(from as usize..to as usize).unwrap_or_default()
}

/// Heads are bounded far below 4 GiB.
fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write(&mut out, |_| true);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_keep_their_order_and_spelling() {
        let mut fields = Fields::default();
        for (name, value) in [("X-a", "1"), ("HOST", "h"), ("x-A", "2")] {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(written(&fields), "X-a: 1\r\nHOST: h\r\nx-A: 2\r\n");
        assert_eq!(
            fields.named(b"x-a").collect::<Vec<_>>(),
            [&b"1"[..], &b"2"[..]]
        );
        fields.retain(|field| field.kind != Name::Host);
        assert_eq!(written(&fields), "X-a: 1\r\nx-A: 2\r\n");
        fields.set(b"x-a", b"3");
        assert_eq!(written(&fields), "X-a: 3\r\n");
    }

    #[test]
    fn a_map_and_back_is_the_same_in_small_letters() {
        let mut fields = Fields::default();
        fields.push(b"Set-Cookie", b"a=1");
        fields.push(b"set-cookie", b"b=\xe9");
        let back = Fields::of_map(&fields.to_map());
        let values: Vec<_> = back.all(Name::SetCookie).collect();
        assert_eq!(values, [&b"a=1"[..], &b"b=\xe9"[..]]);
    }
}
