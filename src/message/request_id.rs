//! The id of a request: in its response, where that is ours, and in the log.

use std::fmt;

use super::{Fields, TraceParent};

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
        TraceParent::of(fields).map_or_else(Self::random, |parent| Self(parent.trace))
    }

    /// The number itself.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }
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
    }

    #[test]
    fn any_other_request_has_one_of_its_own() {
        for parents in [&[][..], &["00"], &[TRACE, TRACE]] {
            let own = id(parents);
            assert_eq!(own.len(), 32);
            assert_ne!(own, "4bf92f3577b34da6a3ce929d0e0e4736", "{parents:?}");
            assert_ne!(own, id(parents));
        }
    }
}
