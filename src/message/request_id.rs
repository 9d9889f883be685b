//! The id under which a request is told of: in its response, where that is ours, and in the log.

use std::fmt;

use super::Fields;

/// That of the trace which the client says the request belongs to (W3C Trace Context), or a random
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(u128);

impl RequestId {
    /// That number.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u128(1..))
    }

    /// That of a request with these fields.
    #[must_use]
    pub fn of(fields: &Fields) -> Self {
        let mut parents = fields.named(b"traceparent");
        match (parents.next(), parents.next()) {
            (Some(parent), None) => trace(parent).map_or_else(Self::random, Self),
            _ => Self::random(),
        }
    }
}

/// `version "-" trace-id "-" parent-id "-" flags`, where an id of zeros is none. Later versions may
/// have more behind that.
fn trace(parent: &[u8]) -> Option<u128> {
    let is_hex = |part: &[u8]| {
        let mut bytes = part.iter();
        bytes.all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = parent.split(|byte| *byte == b'-');
    let (version, id) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let is_sound = version.len() == 2
        && version != b"ff"
        && id.len() == 32
        && span.len() == 16
        && flags.len() == 2
        && [version, id, span, flags].into_iter().all(is_hex)
        && (version != b"00" || parts.next().is_none());
    let id = std::str::from_utf8(id).ok().filter(|_| is_sound)?;
    u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn id(parents: &[&str]) -> String {
        let mut fields = Fields::default();
        for parent in parents {
            fields.push(b"TraceParent", parent.as_bytes());
        }
        RequestId::of(&fields).to_string()
    }

    #[test]
    fn a_request_of_a_trace_has_its_id() {
        assert_eq!(id(&[TRACE]), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(id(&[later]), "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    #[test]
    fn any_other_request_has_one_of_its_own() {
        let zeros = TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let upper = TRACE.to_uppercase();
        let more = format!("{TRACE}-more");
        for parents in [
            &[][..],
            &[""],
            &["00"],
            &[&zeros],
            &[&upper],
            &[&more],
            &[TRACE, TRACE],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ] {
            let own = id(parents);
            assert_eq!(own.len(), 32);
            assert_ne!(own, "4bf92f3577b34da6a3ce929d0e0e4736", "{parents:?}");
            assert_ne!(own, id(parents));
        }
    }
}
