//! `traceparent` of a request (W3C Trace Context): which trace it belongs to, and which span sent it.

use super::Fields;

/// The name of the field.
pub const NAME: &[u8] = b"traceparent";

/// What a sound `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The id of the trace, which is not 0.
    pub trace: u128,
    /// The id of the span that sent the request, which is not 0.
    pub span: u64,
    /// Whether whoever began the trace has it recorded.
    pub is_sampled: bool,
}

impl TraceParent {
    /// The parent that a request with these fields names; `None` where there is none, several, or one that is not
    /// sound, as the standard has it that such are ignored.
    #[must_use]
    pub fn of(fields: &Fields) -> Option<Self> {
        let mut parents = fields.named(NAME);
        match (parents.next(), parents.next()) {
            (Some(parent), None) => Self::parse(parent),
            _ => None,
        }
    }

    /// Reads `version "-" trace-id "-" parent-id "-" flags`, where an id of zeros is none. Later versions
    /// may have more behind that.
    fn parse(parent: &[u8]) -> Option<Self> {
        let mut parts = parent.split(|byte| *byte == b'-');
        let version = hex(parts.next()?, 2)?;
        let (trace, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        let is_sound =
            version != 0xff && (version != 0 || parts.next().is_none()) && trace != 0 && span != 0;
        is_sound.then_some(Self {
            trace,
            span: u64::try_from(span).ok()?,
            is_sampled: flags & 1 == 1,
        })
    }

    /// The value of the field.
    #[must_use]
    pub fn value(&self) -> String {
        let Self { trace, span, .. } = self;
        let flags = u8::from(self.is_sampled);
        format!("00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

/// A number of so many digits, which are small letters.
fn hex(part: &[u8], digits: usize) -> Option<u128> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_right = part.len() == digits && part.iter().all(is_hex);
    let text = std::str::from_utf8(part).ok().filter(|_| is_right)?;
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parent(values: &[&str]) -> Option<TraceParent> {
        let mut fields = Fields::default();
        for value in values {
            fields.push(b"TraceParent", value.as_bytes());
        }
        TraceParent::of(&fields)
    }

    #[test]
    fn a_sound_field_names_trace_span_and_whether_it_is_recorded() {
        let found = parent(&[TRACE]).unwrap();
        assert_eq!(found.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(found.span, 0x00f0_67aa_0ba9_02b7);
        assert!(found.is_sampled);
        assert_eq!(found.value(), TRACE);
        let unsampled = TRACE.replace("-01", "-00");
        assert!(!parent(&[&unsampled]).unwrap().is_sampled);
        // Of other flags nothing is known yet.
        let random = TRACE.replace("-01", "-03");
        assert!(parent(&[&random]).unwrap().is_sampled);
        // A later version may have more behind.
        let later = TRACE.replacen("00", "01", 1) + "-more";
        assert_eq!(parent(&[&later]), Some(found));
    }

    #[test]
    fn a_field_that_is_not_sound_is_none() {
        let no_trace = TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let no_span = TRACE.replace("00f067aa0ba902b7", &"0".repeat(16));
        let (upper, signed) = (TRACE.to_uppercase(), TRACE.replacen('4', "+", 1));
        let (more, short) = (format!("{TRACE}-more"), TRACE.replace("-01", "-1"));
        let invalid = TRACE.replacen("00", "ff", 1);
        for values in [
            &[][..],
            &[""],
            &["00"],
            &[TRACE, TRACE],
            &[&no_trace],
            &[&no_span],
            &[&upper],
            &[&signed],
            &[&more],
            &[&short],
            &[&invalid],
        ] {
            assert_eq!(parent(values), None, "{values:?}");
        }
    }
}
