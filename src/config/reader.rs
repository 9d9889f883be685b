//! Reads the merged layers key by key, and notes what is wrong instead of failing at it.
//!
//! After the last key, whatever was not asked for is an unknown key. What a reader with problems
//! returned is not to be used.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use figment::{
    Figment,
    value::{Dict, Value},
};
use strsim::levenshtein;
use url::{Position, Url};

use super::{
    Resolved,
    layers::{DEFAULT, Implied, Layers, Stray},
    net,
    problem::{Problem, printable},
    shape::{Parser, Shape},
};
use crate::{server::Inherited, text};

/// It cannot be printed: it holds the secrets as they were given.
pub(super) struct Reader {
    values: Dict,
    figment: Figment,
    defaults: Figment,
    known: BTreeMap<String, Shape>,
    strays: Vec<Stray>,
    unread: BTreeSet<String>,
    incomplete: bool,
    pub(super) implied: Vec<Implied>,
    /// The sockets that were passed to us.
    pub(super) inherited: Option<Inherited>,
    pub(super) resolved: Vec<Resolved>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// A value and its place.
pub(super) struct Found {
    pub(super) value: Value,
    pub(super) source: String,
}

impl Reader {
    pub(super) fn new(layers: Layers, inherited: Option<Inherited>) -> Self {
        let mut problems = layers.problems;
        let values = match layers.figment.extract() {
            Ok(values) => values,
            Err(error) => {
                let what = format!("cannot be merged ({} mistakes)", error.count());
                problems.push(Problem::missing("config", what));
                Dict::new()
            }
        };
        Self {
            values,
            figment: layers.figment,
            defaults: layers.defaults,
            known: BTreeMap::new(),
            strays: layers.strays,
            unread: layers.unread,
            incomplete: layers.incomplete,
            implied: layers.implied,
            inherited,
            resolved: Vec::new(),
            problems,
            warnings: Vec::new(),
        }
    }

    /// The value of a key, which is a known one from now on.
    pub(super) fn find(&mut self, key: &str) -> Option<Found> {
        self.note(key, Shape::AsShown);
        let (section, name) = key.split_once('.')?;
        let value = self.values.get(section)?.as_dict()?.get(name)?.clone();
        let source = self.place(&value);
        Some(Found { value, source })
    }

    /// Notes a key, and what it takes where that is known.
    pub(super) fn note(&mut self, key: &str, shape: Shape) {
        match self.known.get_mut(key) {
            Some(noted) if shape != Shape::AsShown => *noted = shape,
            Some(_) => {}
            None => drop(self.known.insert(key.to_owned(), shape)),
        }
    }

    /// Whether a key has its default, wherever it came from.
    pub(super) fn is_default(&self, key: &str, found: &Found) -> bool {
        self.defaults
            .find_value(key)
            .is_ok_and(|default| default == found.value)
    }

    /// Reads a key that has a default.
    pub(super) fn value<T: Default>(&mut self, key: &str, parser: impl Parser<T>) -> T {
        self.required(key, &[], parser).unwrap_or_default()
    }

    /// Reads a key that must be given; `also` names other ways to give it.
    pub(super) fn required<T>(
        &mut self,
        key: &str,
        also: &[&str],
        parser: impl Parser<T>,
    ) -> Option<T> {
        self.note(key, parser.shape());
        if let Some(found) = self.find(key) {
            return self.parsed(key, found, parser);
        }
        self.missing(key, also);
        None
    }

    /// Reads a key that need not be given.
    pub(super) fn optional<T>(&mut self, key: &str, parser: impl Parser<T>) -> Option<T> {
        self.note(key, parser.shape());
        if let Some(found) = self.find(key) {
            return self.parsed(key, found, parser);
        }
        self.resolved(key, "(not set)".to_owned(), DEFAULT);
        None
    }

    /// Parses a value that was found.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        found: Found,
        parser: impl Parser<T>,
    ) -> Option<T> {
        self.note(key, parser.shape());
        let is_quoted = has_quotes(&found.value);
        match parser.parse(&found.value) {
            Ok(value) => {
                self.resolved(key, shown(&found.value), &found.source);
                if is_quoted {
                    self.warn_of_quotes(key, &found.source);
                }
                Some(value)
            }
            Err(mut expected) => {
                if is_quoted {
                    expected
                        .push_str("; the quotation marks around it are part of it: remove them");
                }
                let problem = Problem::new(key, found.source, expected);
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                None
            }
        }
    }

    /// Notes that a value looks as if an env file had left quotation marks around it.
    pub(super) fn warn_of_quotes(&mut self, key: &str, source: &str) {
        self.warnings.push(format!(
            "{key} ({source}): the quotation marks around the value are part of it; if an env file \
             has left them there, remove them"
        ));
    }

    /// Notes what a key came to be.
    pub(super) fn resolved(&mut self, key: &str, value: String, source: &str) {
        // What two readers ask for is one key all the same.
        self.resolved.retain(|one| one.key != key);
        self.resolved.push(Resolved {
            key: key.to_owned(),
            value,
            source: source.to_owned(),
        });
    }

    /// Notes that a key was not given.
    pub(super) fn missing(&mut self, key: &str, also: &[&str]) {
        if self.incomplete || self.unread.contains(key) {
            return;
        }
        let mut ways = vec![key];
        ways.extend(also);
        let last = ways.pop().unwrap_or(key);
        let ways = if ways.is_empty() {
            last.to_owned()
        } else {
            format!("{} or {last}", ways.join(", "))
        };
        self.problems
            .push(Problem::missing(key, format!("missing; set {ways}")));
    }

    /// Notes a problem with a key that was read before.
    pub(super) fn wrong(&mut self, key: &str, text: impl Into<String>) {
        let source = self.find(key).map(|found| found.source);
        self.problems.push(Problem {
            key: key.to_owned(),
            source,
            text: text.into(),
        });
    }

    /// Whether a problem with a key was noted.
    pub(super) fn has_problem(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// Notes every key that nobody asked for.
    pub(super) fn reject_unknown(&mut self) {
        let mut unknown = Vec::new();
        for (section, values) in &self.values {
            for (key, value) in values.as_dict().into_iter().flatten() {
                let name = format!("{section}.{key}");
                if !self.known.contains_key(&name) {
                    let text = self.unknown(&name);
                    unknown.push(Problem::new(&name, self.place(value), text));
                }
            }
        }
        for stray in &self.strays {
            let prefix = format!("{}.", stray.name);
            let is_section = self.known.keys().any(|known| known.starts_with(&prefix));
            let text = match (is_section, stray.is_empty_section) {
                (true, true) => continue,
                (true, false) => format!("must be a section: [{}] and its keys", stray.name),
                (false, _) => self.unknown(&stray.name),
            };
            unknown.push(Problem::new(&stray.name, stray.source.as_str(), text));
        }
        self.problems.append(&mut unknown);
    }

    fn unknown(&self, name: &str) -> String {
        match nearest(name, &self.known) {
            Some(known) => {
                let variable = known.to_uppercase().replace('.', "__");
                format!("unknown key; did you mean {known} (AUTH_SIDECAR_{variable})?")
            }
            None => "unknown key; see the commented file config/auth-sidecar.toml".to_owned(),
        }
    }

    /// The keys that were asked for, and what each takes.
    pub(super) fn known(&self) -> &BTreeMap<String, Shape> {
        &self.known
    }

    fn place(&self, value: &Value) -> String {
        self.figment
            .get_metadata(value.tag())
            .map_or_else(|| DEFAULT.to_owned(), |metadata| metadata.name.to_string())
    }
}

/// Whether a text of the value is in quotation marks.
fn has_quotes(value: &Value) -> bool {
    match value {
        Value::String(_, text) => text::is_in_quotes(text),
        Value::Array(_, items) => items.iter().any(has_quotes),
        Value::Dict(_, table) => table.values().any(has_quotes),
        _ => false,
    }
}

/// A value that is no secret, for people.
fn shown(value: &Value) -> String {
    match value {
        // A query may hold a key of its own.
        Value::String(_, text) => match text.split_once('?') {
            Some((before, _)) => printable(&format!("{}?…", without_user(before.trim()))),
            None => printable(&without_user(text.trim())),
        },
        Value::Bool(_, yes) => yes.to_string(),
        Value::Num(_, number) => number
            .to_i128()
            .map(|number| number.to_string())
            .or_else(|| number.to_f64().map(|number| format!("{number:?}")))
            .unwrap_or_default(),
        Value::Array(_, items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Dict(_, table) => {
            let items: Vec<String> = table
                .keys()
                .map(|key| format!("{}=(set)", printable(key)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        Value::Char(..) | Value::Empty(..) => String::new(),
    }
}

/// A URL without its user name and password; either may be a secret. Other text stays as it is.
fn without_user(text: &str) -> Cow<'_, str> {
    match Url::parse(text) {
        Ok(url) if net::has_user(&url) => {
            let (scheme, rest) = (url.scheme(), &url[Position::BeforeHost..]);
            format!("{scheme}://…@{rest}").into()
        }
        _ => text.into(),
    }
}

/// The known key that was probably meant: one whose last part, or all of it, is a slip away.
fn nearest<'a>(name: &str, known: &'a BTreeMap<String, Shape>) -> Option<&'a str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let slips = |text: &str| (text.chars().count() / 3).min(3);
    known
        .keys()
        .filter(|key| {
            levenshtein(name, key) <= slips(name)
                || levenshtein(&last(name), &last(key)) <= slips(&last(name)).min(2)
        })
        .min_by_key(|key| levenshtein(name, key))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_nonsense_is_not() {
        let known = [
            "listen.address",
            "upstream.url",
            "auth.client_secret",
            "auth.org_id",
        ]
        .map(|key| (key.to_owned(), Shape::AsShown))
        .into();
        for (name, meant) in [
            ("listen.adress", Some("listen.address")),
            ("listen_address", Some("listen.address")),
            ("server.url", Some("upstream.url")),
            ("url", Some("upstream.url")),
            ("auth.clientsecret", Some("auth.client_secret")),
            ("auth.password", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, &known), meant, "{name}");
        }
    }

    #[test]
    fn a_shown_value_has_no_query_and_no_control_characters() {
        assert_eq!(
            shown(&Value::from("https://h/t?key=canary")),
            "https://h/t?…"
        );
        assert_eq!(shown(&Value::from("a\u{1b}[2Jb")), "a\\u{1b}[2Jb");
    }

    #[test]
    fn a_shown_url_has_no_user_and_no_password() {
        for (given, expected) in [
            ("http://u:canary@proxy:3128", "http://…@proxy:3128/"),
            ("https://canary@h/path?k=canary", "https://…@h/path?…"),
            // The parser takes these for the same URL.
            ("http:u:canary@h", "http://…@h/"),
            ("HTTP:\\\\u:canary@h", "http://…@h/"),
            ("client@org", "client@org"),
            ("https://h/a@b", "https://h/a@b"),
        ] {
            assert_eq!(shown(&Value::from(given)), expected, "{given}");
        }
    }
}
