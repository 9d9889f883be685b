//! A field that every request has to have: who can be made to fetch a URL can rarely be made to
//! add a field to it.

use std::{fmt, str::FromStr};

use http::{HeaderName, HeaderValue};

use super::Denied;
use crate::message::Fields;

/// The field, and the value that it must have, if any value will not do.
#[derive(Debug, Clone, PartialEq)]
pub struct RequiredField {
    name: HeaderName,
    value: Option<HeaderValue>,
}

/// Fields that mean something to a message, and those that clients and browsers send by
/// themselves: the field is taken off, and must be no accident.
const OTHERS: [&str; 18] = [
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "authorization",
    "cookie",
    "origin",
    "referer",
    "user-agent",
    "date",
    "via",
    "range",
    "cache-control",
    "x-auth-token",
];
const OTHER_KINDS: [&str; 6] = ["accept", "content-", "if-", "sec-", "proxy-", "csp-"];

impl FromStr for RequiredField {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "must be a field name like \"X-Auth-Sidecar\", or with its value \
                        \"X-Auth-Sidecar: yes\"";
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name, Some(value.trim())),
            None => (text, None),
        };
        let name: HeaderName = name.trim().parse().map_err(|_| expected)?;
        let is_other = OTHERS.contains(&name.as_str())
            || OTHER_KINDS
                .iter()
                .any(|kind| name.as_str().starts_with(kind));
        if is_other {
            return Err("must be a field of its own, like \"X-Auth-Sidecar\": it is taken off");
        }
        let value = match value {
            Some("") => return Err(expected),
            Some(value) => Some(value.parse().map_err(|_| expected)?),
            None => None,
        };
        Ok(Self { name, value })
    }
}

impl fmt::Display for RequiredField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_str())
    }
}

impl RequiredField {
    pub(super) fn check(&self, fields: &Fields) -> Result<(), Denied> {
        let mut values = fields.named(self.name.as_str().as_bytes()).peekable();
        let is_there = values.peek().is_some();
        let is_right = |value: &[u8]| self.value.as_ref().is_none_or(|expected| expected == value);
        if is_there && values.all(is_right) {
            Ok(())
        } else {
            Err(Denied::FieldMissing)
        }
    }

    /// Takes it off a request: it is between the client and us.
    pub fn remove(&self, fields: &mut Fields) {
        let name = self.name.as_str().as_bytes();
        fields.retain(|field| !field.name.eq_ignore_ascii_case(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_will_do_unless_one_is_named() {
        let check = |field: &str, sent: &[(&'static str, &str)]| {
            let mut fields = Fields::default();
            for (name, value) in sent {
                fields.push(name.as_bytes(), value.as_bytes());
            }
            let field: RequiredField = field.parse().unwrap();
            let is_right = field.check(&fields).is_ok();
            field.remove(&mut fields);
            assert_eq!(fields.named(b"x-mine").count(), 0);
            is_right
        };
        assert!(check("X-Mine", &[("x-mine", "anything")]));
        assert!(check("X-Mine: yes", &[("x-mine", "yes"), ("other", "no")]));
        assert!(check("X-Mine:yes", &[("x-mine", "yes"), ("x-mine", "yes")]));
        assert!(!check("X-Mine", &[("x-other", "anything")]));
        assert!(!check("X-Mine: yes", &[("x-mine", "Yes")]));
        assert!(!check(
            "X-Mine: yes",
            &[("x-mine", "yes"), ("x-mine", "no")]
        ));
    }

    #[test]
    fn it_is_a_field_of_its_own() {
        for wrong in [
            "",
            "a b",
            ": yes",
            "X-Mine:",
            "X-Mine: a\nb",
            "Host",
            "authorization: x",
            "Accept",
            "Sec-Fetch-Mode",
            "Content-Length",
            "Proxy-Connection",
        ] {
            assert!(wrong.parse::<RequiredField>().is_err(), "{wrong}");
        }
    }
}
