//! What may be asked for, where that is less than everything: methods and paths.
//!
//! Servers differ in how they read an odd path, so one that can be read in two ways is no path
//! that a rule could allow, whatever the rule says.

mod pattern;
mod presets;

use std::{fmt, str::FromStr, sync::Arc};

use http::Method;

use self::pattern::Pattern;
pub use self::presets::Preset;
use super::Denied;
use crate::message::{Name, RequestHead};

/// The requests that are let through: those that one of the rules allows. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Allowed(Arc<[Rule]>);

impl Allowed {
    /// What these rules allow, and nothing else.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules.into())
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }

    /// Whether a method and a path, without its query, are allowed. In time proportional to the
    /// length of the path.
    #[must_use]
    pub fn allows(&self, method: &Method, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        is_plain(path) && self.0.iter().any(|rule| rule.allows(method, path))
    }

    pub(super) fn check(&self, head: &RequestHead) -> Result<(), Denied> {
        // No field may ask a server behind us for another method or path.
        if self.allows(&head.method, head.path()) && !head.fields.has(Name::Override) {
            Ok(())
        } else {
            Err(Denied::NotAllowed)
        }
    }
}

/// Some methods of some paths, written `GET,HEAD /api/v2/alert/**`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// None of them: every method.
    methods: Vec<Method>,
    pattern: Pattern,
}

impl Rule {
    fn allows(&self, method: &Method, path: &[u8]) -> bool {
        (self.methods.is_empty() || self.methods.contains(method)) && self.pattern.matches(path)
    }
}

impl FromStr for Rule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "must be methods and a path, like \"GET,HEAD /api/v2/alert/**\" or \"* /x\"";
        let (methods, pattern) = text.trim().split_once(' ').ok_or(expected)?;
        let method = |name: &str| {
            let is_name = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
            name.parse().ok().filter(|_| name.bytes().all(is_name))
        };
        let methods = match methods {
            "*" => Vec::new(),
            names => names
                .split(',')
                .map(method)
                .collect::<Option<_>>()
                .ok_or("must begin with methods in capitals, separated by commas, or with *")?,
        };
        let pattern = pattern.trim().parse()?;
        Ok(Self { methods, pattern })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let methods = if methods.is_empty() {
            "*".to_owned()
        } else {
            methods.join(",")
        };
        write!(f, "{methods} {}", self.pattern)
    }
}

/// Whether every server reads a path in the same way: segments of plain characters that are
/// neither empty (but for the last) nor dots, and that begin and end with no escaped space.
fn is_plain(path: &[u8]) -> bool {
    let Some(path) = path.strip_prefix(b"/") else {
        return false;
    };
    let mut segments = path.split(|byte| *byte == b'/');
    let last = segments.next_back().unwrap_or_default();
    segments.all(|segment| !segment.is_empty() && is_plain_segment(segment))
        && is_plain_segment(last)
}

fn is_plain_segment(segment: &[u8]) -> bool {
    let is_dots = !segment.is_empty() && segment.iter().all(|byte| *byte == b'.');
    if is_dots || segment.starts_with(b"%20") || segment.ends_with(b"%20") {
        return false;
    }
    let mut bytes = segment.iter();
    while let Some(byte) = bytes.next() {
        let is_plain = match byte {
            b'%' => escaped(&mut bytes).is_some_and(is_plain_when_escaped),
            // `;` begins parameters, which some servers cut off.
            byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(byte),
        };
        if !is_plain {
            return false;
        }
    }
    true
}

fn escaped<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> Option<u8> {
    let mut digit = || char::from(*bytes.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

/// Escapes that mean the same before and after they are decoded: not those of letters, digits and
/// `-._~`, which need none, nor of what separates, cuts or escapes again, nor of anything that is
/// not ASCII, where servers fold one letter into another.
fn is_plain_when_escaped(byte: u8) -> bool {
    (byte == b' ' || byte.is_ascii_punctuation()) && !b"-._~/\\%;?#".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(rules: &[&str]) -> Allowed {
        Allowed::new(rules.iter().map(|rule| rule.parse().unwrap()).collect())
    }

    #[test]
    fn a_rule_is_methods_and_a_path() {
        let allowed = allowed(&["GET,HEAD /api/v2/alert/**", "POST /report", "* /any"]);
        for (method, path, is_allowed) in [
            ("GET", "/api/v2/alert", true),
            ("HEAD", "/api/v2/alert/1/history", true),
            ("POST", "/api/v2/alert", false),
            ("get", "/api/v2/alert", false),
            ("GET", "/api/v2/alerts", false),
            ("POST", "/report", true),
            ("POST", "/report/", false),
            ("PUT", "/report", false),
            ("PURGE", "/any", true),
            ("GET", "/", false),
            ("OPTIONS", "*", false),
            ("GET", "", false),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(allowed.allows(&method, path), is_allowed, "{method} {path}");
        }
        let shown: Vec<String> = allowed.rules().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["GET,HEAD /api/v2/alert/**", "POST /report", "* /any"]
        );
    }

    #[test]
    fn a_rule_that_is_none_is_refused() {
        for wrong in [
            "",
            "/api",
            "GET",
            "get /api",
            "GET,,PUT /api",
            "GET, PUT /api",
            "GET,* /api",
            "GET api",
            "GET /a b",
            "GET /a//b",
            "GET /a/../b",
            "GET /a/.",
            "GET /a;b",
            "GET /a?b",
            "GET /a%2Fb",
            "GET /%61",
            "GET /\u{e9}",
            "GET /***",
        ] {
            assert!(wrong.parse::<Rule>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_never_allowed() {
        let everything = allowed(&["* /**"]);
        for path in [
            "/",
            "/a/",
            "/a/b.c",
            "/a/..b",
            "/a:b@c",
            "/a%20b",
            "/x%3A%5By%5D",
            "/~a/*/+=,",
        ] {
            assert!(everything.allows(&Method::GET, path), "{path}");
        }
        for path in [
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/...",
            "/%2e",
            "/%2E%2e/a",
            "/.%2e",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a;b",
            "/a%3Bb",
            "/a%00",
            "/a%0a",
            "/a%7f",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/%61pi",
            "/%2d",
            "/%7E",
            "/%252e",
            "/a%3Fb",
            "/a%23",
            "/%c0%af",
            "/%C3%A9",
            "/\u{e9}",
            "/a b",
            "/a\tb",
            "/a\"",
            "/a|b",
            "/%u002f",
            "/%20",
            "/a%20/b",
            "/a/%20b",
        ] {
            assert!(!everything.allows(&Method::GET, path), "{path}");
        }
    }

    #[test]
    fn what_asks_for_another_method_or_path_is_refused() {
        let everything = allowed(&["* /**"]);
        let check = |name: &str| {
            let mut head = RequestHead::to(Method::GET, b"/");
            head.fields.push(name.as_bytes(), b"x");
            everything.check(&head)
        };
        assert_eq!(check("x-other"), Ok(()));
        for name in ["X-HTTP-Method-Override", "X-Original-URL", "x_rewrite_url"] {
            assert_eq!(check(name), Err(Denied::NotAllowed));
        }
    }
}
