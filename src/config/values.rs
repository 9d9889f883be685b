//! Parsers of single values: text, numbers, times, sizes, lists. Their errors say what would be
//! right and never quote the value.

use std::{
    fmt::Display,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use figment::value::Value;
use toml::de::DeValue;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    layers::convert,
    problem::{Expected, printable},
    shape::{Shape, Shaped},
};
use crate::{
    admission::{RequiredField, Rule},
    client_token::ClientTokens,
    proxy::upstream::HttpVersion,
    telemetry::{LogFormat, spans::SampleRatio},
    tls::{Authorities, TlsError},
};

type Parsed<T> = Result<T, Expected>;

/// The longest wait for one step of a token or upstream connection.
pub(super) const STEP: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(10 * 60);

/// Text without line breaks and such, trimmed.
pub(super) fn text(value: &Value) -> Parsed<String> {
    let text = value.as_str().ok_or("must be text in quotes")?.trim();
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.chars().any(char::is_control) {
        return Err("must be one line without control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    match value {
        Value::Bool(_, yes) => Ok(*yes),
        Value::String(_, text) if text == "true" => Ok(true),
        Value::String(_, text) if text == "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A whole number.
pub(super) fn integer(
    range: RangeInclusive<usize>,
) -> Shaped<impl FnOnce(&Value) -> Parsed<usize>> {
    Shape::Integer(range.clone()).of(move |value: &Value| {
        let number: Option<usize> = match value {
            Value::Num(_, number) => number.to_i128().and_then(|number| number.try_into().ok()),
            Value::String(_, text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("must be a whole number from {least} to {most}")
            })
    })
}

/// A part of the whole, from 0 to 1.
pub(super) fn ratio() -> Shaped<impl FnOnce(&Value) -> Parsed<SampleRatio>> {
    Shape::Ratio.of(|value: &Value| {
        let number = match value {
            Value::Num(_, number) => number.to_f64().or_else(|| {
                let whole = number.to_i128()?;
                i32::try_from(whole).ok().map(f64::from)
            }),
            Value::String(_, text) => text.trim().parse().ok(),
            _ => None,
        };
        number
            .and_then(SampleRatio::new)
            .ok_or_else(|| "must be a number from 0.0 to 1.0".to_owned())
    })
}

/// A time with its unit.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> Shaped<impl FnOnce(&Value) -> Parsed<Duration>> {
    let (least, most) = (*range.start(), *range.end());
    let bounds = format!("from {} to {}", time(least), time(most));
    Shape::Time { bounds }.of(move |value: &Value| {
        let is_number = match value {
            Value::Num(..) => true,
            Value::String(_, text) => text.trim().parse::<f64>().is_ok(),
            _ => false,
        };
        let hint = if is_number {
            "; the unit is missing"
        } else {
            ""
        };
        value
            .as_str()
            .filter(|_| !is_number)
            .and_then(|text| humantime::parse_duration(text.trim()).ok())
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                let (least, most) = (time(*least), time(*most));
                format!(
                    r#"must be a time like "500ms", "10s" or "5m", from {least} to {most}{hint}"#
                )
            })
    })
}

fn time(duration: Duration) -> impl Display {
    humantime::format_duration(duration)
}

const UNITS: [(&str, usize); 4] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("B", 1),
];

/// A number of bytes, with or without a unit.
pub(super) fn size(range: RangeInclusive<usize>) -> Shaped<impl FnOnce(&Value) -> Parsed<usize>> {
    let bounds = format!(
        "from {} to {}",
        size_text(*range.start()),
        size_text(*range.end())
    );
    let shape = Shape::Size {
        range: range.clone(),
        bounds,
    };
    shape.of(move |value: &Value| {
        let bytes = match value {
            Value::Num(_, number) => number.to_i128().and_then(|number| number.try_into().ok()),
            Value::String(_, text) => bytes(text.trim()),
            _ => None,
        };
        bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
            let (least, most) = (size_text(*range.start()), size_text(*range.end()));
            format!(r#"must be a size like "64KiB", "1MiB" or bytes, from {least} to {most}"#)
        })
    })
}

fn bytes(text: &str) -> Option<usize> {
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))
        .unwrap_or((text, 1));
    number.trim_end().parse::<usize>().ok()?.checked_mul(factor)
}

fn size_text(bytes: usize) -> String {
    UNITS
        .iter()
        .rev()
        .find(|(_, factor)| *factor > 1 && bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(
            || bytes.to_string(),
            |(unit, factor)| format!("{}{unit}", bytes / factor),
        )
}

/// A list, or text whose parts end at the characters that `separates` matches.
pub(super) fn list(separates: fn(char) -> bool) -> impl Fn(&Value) -> Parsed<Vec<String>> {
    move |value| {
        let items = match value {
            Value::Array(_, items) => items.clone(),
            Value::String(_, text) => array(text).unwrap_or_else(|| vec![value.clone()]),
            _ => return Err("must be text in quotes or a list of such".to_owned()),
        };
        let mut parts = Vec::new();
        for item in &items {
            let item = item
                .as_str()
                .ok_or("must be text in quotes or a list of such")?;
            parts.extend(
                item.split(separates)
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned),
            );
        }
        Ok(parts)
    }
}

/// A list that stands in a text as it would in the file: a variable has nothing but text.
fn array(text: &str) -> Option<Vec<Value>> {
    let value = DeValue::parse(text.trim()).ok()?;
    let Value::Array(_, items) = convert(value.get_ref()) else {
        return None;
    };
    let is_list = !items.is_empty() && items.iter().all(|item| item.as_str().is_some());
    is_list.then_some(items)
}

/// A table that stands in a text as it would in the file.
pub(super) fn table(text: &str) -> Option<Value> {
    let value = DeValue::parse(text.trim()).ok()?;
    let value = convert(value.get_ref());
    value.as_dict().is_some().then_some(value)
}

/// What is asked for: text like any other list, or a list, in which a comma may be part of an item.
pub(super) fn scopes(value: &Value) -> Parsed<Vec<String>> {
    match value {
        Value::String(_, text) if array(text).is_none() => list(comma_or_space)(value),
        _ => list(char::is_whitespace)(value),
    }
}

/// Commas and white space: neither is part of an address, a host or an origin.
pub(super) fn comma_or_space(c: char) -> bool {
    c == ',' || c.is_whitespace()
}

/// A list of which each item is parsed.
pub(super) fn each<T>(
    parse: impl Fn(&str) -> Parsed<T>,
) -> Shaped<impl FnOnce(&Value) -> Parsed<Vec<T>>> {
    Shape::List.of(move |value: &Value| {
        let items = list(comma_or_space)(value)?;
        items.iter().map(|item| parse(item)).collect()
    })
}

/// One of some words, each with its meaning.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> Shaped<impl FnOnce(&Value) -> Parsed<T>> {
    let names = words.iter().map(|(word, _)| (*word).to_owned()).collect();
    Shape::OneOf(names).of(move |value: &Value| {
        let text = value.as_str().map(str::trim);
        words
            .iter()
            .find(|(word, _)| Some(*word) == text)
            .map(|(_, meaning)| *meaning)
            .ok_or_else(|| {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("must be one of {}", words.join(", "))
            })
    })
}

/// Hosts that are reached without a proxy, as `NO_PROXY` lists them.
pub(super) fn no_proxy() -> Shaped<impl FnOnce(&Value) -> Parsed<Vec<String>>> {
    each(|host| {
        let is_host = !host.contains("://") && !host.contains(|c: char| c == '@' || c.is_control());
        is_host.then(|| host.to_owned()).ok_or_else(|| {
            r#"must be hosts, addresses or networks like "h.example, 10.0.0.0/8""#.to_owned()
        })
    })
}

/// A path of a URL.
pub(super) fn url_path(value: &Value) -> Parsed<String> {
    let path = text(value)?;
    let is_path = path.starts_with('/') && !path.contains(['?', '#', '\\', ' ']);
    is_path
        .then_some(path)
        .ok_or_else(|| r#"must be a path that begins with "/", without a query"#.to_owned())
}

/// The path of a file, which need not exist yet.
pub(super) fn path(value: &Value) -> Parsed<PathBuf> {
    named(&text(value)?)
}

/// The path of a file that is made where there is none. From the root, so that a secret in its place
/// is no path.
pub(super) fn new_path(value: &Value) -> Parsed<PathBuf> {
    let path = PathBuf::from(text(value)?);
    let is_right = path.is_absolute() && path.file_name().is_some();
    is_right
        .then_some(path)
        .ok_or_else(|| "must be the path of a file that begins with /".to_owned())
}

/// A path that may be shown. Messages name files, so a secret in the place of a path would be in
/// them: it is known by being neither a path from the root nor a file.
pub(super) fn named(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() || path.exists() {
        return Ok(path);
    }
    let which = if has_name_of_file(&path) {
        format!(" as {}", printable(text))
    } else {
        String::new()
    };
    Err(format!(
        "must be a path that begins with /, since there is no such file here{which}"
    ))
}

/// Whether a text is a path that may be shown.
pub(super) fn may_be_shown(text: &str) -> bool {
    named(text).is_ok() || has_name_of_file(Path::new(text))
}

/// Whether a text ends as no secret does.
fn has_name_of_file(path: &Path) -> bool {
    const ENDINGS: [&str; 7] = ["toml", "pem", "crt", "cer", "key", "json", "txt"];
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

/// The form of log lines.
pub(super) fn log_format() -> Shaped<impl FnOnce(&Value) -> Parsed<Option<LogFormat>>> {
    one_of(&[
        ("text", Some(LogFormat::Text)),
        ("json", Some(LogFormat::Json)),
    ])
}

/// The version of HTTP towards the upstream.
pub(super) fn http_version() -> Shaped<impl FnOnce(&Value) -> Parsed<HttpVersion>> {
    one_of(&[
        ("1.1", HttpVersion::Http1),
        ("2", HttpVersion::Http2),
        ("auto", HttpVersion::Auto),
    ])
}

/// Directives of what to log.
pub(super) fn log_level(value: &Value) -> Parsed<String> {
    let text = text(value)?;
    // The library takes any lone word for the name of a module, so a misspelt level would be
    // accepted and nothing logged.
    let is_directive =
        |part: &str| part.contains(['=', '[']) || LevelFilter::from_str(part.trim()).is_ok();
    let is_right = text.split(',').all(is_directive) && EnvFilter::try_new(&text).is_ok();
    is_right.then_some(text).ok_or_else(|| {
        "must be off, error, warn, info, debug or trace, or directives like \
         \"info,auth_sidecar::token=debug\""
            .to_owned()
    })
}

/// A PEM file of certificates, read once now to see that it is one.
pub(super) fn ca_file(value: &Value) -> Parsed<PathBuf> {
    let path = path(value)?;
    match Authorities::of_file(&path) {
        Ok(_) => Ok(path),
        Err(error @ TlsError::NotRegular { .. }) => Err(error.to_string()),
        Err(_) => Err(format!(
            "{} must be a readable PEM file with certificates",
            path.display()
        )),
    }
}

/// A field that every request must have.
pub(super) fn required_field(value: &Value) -> Parsed<RequiredField> {
    text(value)?.parse().map_err(str::to_owned)
}

/// Rules of what is allowed. Text holds several between semicolons, which no rule has.
pub(super) fn rules(value: &Value) -> Parsed<Vec<Rule>> {
    let texts = list(|c| c == ';')(value)?;
    let texts = texts.iter().filter(|text| !text.trim().is_empty());
    let (mut rules, mut mistakes) = (Vec::new(), Vec::new());
    for (number, text) in (1..).zip(texts) {
        match text.parse() {
            Ok(rule) => rules.push(rule),
            Err(expected) => mistakes.push(format!("rule {number} {expected}")),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes.join("; "));
    }
    if rules.is_empty() {
        return Err("must hold a rule; without this key everything is allowed".to_owned());
    }
    Ok(rules)
}

/// A list of client tokens, read once now to see that it is one.
pub(super) fn client_tokens_file(value: &Value) -> Parsed<PathBuf> {
    let path = path(value)?;
    match ClientTokens::read(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::shape::Parser, *};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_time_needs_a_unit_and_a_range() {
        let parse = |value: Value| duration(SECOND..=60 * SECOND).parse(&value);
        assert_eq!(parse("1s".into()).unwrap(), SECOND);
        assert_eq!(parse("1500ms".into()).unwrap(), Duration::from_millis(1500));
        assert_eq!(parse(" 1m ".into()).unwrap(), 60 * SECOND);
        for wrong in ["10", "1.5", "0s", "61s", "soon", ""] {
            assert!(parse(wrong.into()).unwrap_err().contains("from 1s to 1m"));
        }
        assert!(parse(10.into()).unwrap_err().contains("unit is missing"));
        assert!(parse("10".into()).unwrap_err().contains("unit is missing"));
        assert!(parse(true.into()).is_err());
    }

    #[test]
    fn a_size_may_have_a_unit() {
        let parse = |value: Value| size(0..=1 << 30).parse(&value);
        for (written, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("12B", 12),
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse(written.into()).unwrap(), bytes, "{written}");
        }
        assert_eq!(parse(1024.into()).unwrap(), 1024);
        for wrong in [
            "",
            "KiB",
            "64KB",
            "1.5MiB",
            "-1",
            "2GiB",
            "99999999999999999999GiB",
        ] {
            assert!(parse(wrong.into()).unwrap_err().contains("from 0 to 1GiB"));
        }
        assert!(parse((-1).into()).is_err());
    }

    #[test]
    fn a_number_may_come_as_text() {
        let parse = |value: Value| integer(1..=9).parse(&value);
        assert_eq!(parse(3.into()).unwrap(), 3);
        assert_eq!(parse("3".into()).unwrap(), 3);
        for wrong in ["0", "10", "3.0", "three"] {
            assert_eq!(
                parse(wrong.into()).unwrap_err(),
                "must be a whole number from 1 to 9"
            );
        }
        assert!(parse((-3).into()).is_err() && parse(true.into()).is_err());
    }

    #[test]
    fn a_ratio_is_a_part_of_the_whole() {
        let parse = |value: Value| ratio().parse(&value);
        for (written, meant) in [
            (Value::from(0.25), 0.25),
            (1.into(), 1.0),
            (0.into(), 0.0),
            ("0.5".into(), 0.5),
        ] {
            assert_eq!(parse(written).unwrap(), SampleRatio::new(meant).unwrap());
        }
        for wrong in ["", "1.1", "-0.1", "10%", "NaN", "inf"] {
            assert!(parse(wrong.into()).is_err(), "{wrong}");
        }
        assert!(parse(true.into()).is_err() && parse((-1).into()).is_err());
    }

    #[test]
    fn a_list_may_come_as_text() {
        let parse = |value: Value| list(comma_or_space)(&value).unwrap();
        assert_eq!(parse("a, b,c".into()), ["a", "b", "c"]);
        assert_eq!(parse(vec!["a", "b"].into()), ["a", "b"]);
        assert!(parse("".into()).is_empty());
        assert!(list(comma_or_space)(&vec![1, 2].into()).is_err());
    }

    #[test]
    fn hosts_without_a_proxy_become_one_list() {
        assert_eq!(
            no_proxy()
                .parse(&"localhost, .h.example 10.0.0.0/8,*".into())
                .unwrap(),
            ["localhost", ".h.example", "10.0.0.0/8", "*"]
        );
        assert_eq!(
            no_proxy().parse(&vec!["a", "b:1"].into()).unwrap(),
            ["a", "b:1"]
        );
        assert!(no_proxy().parse(&"".into()).unwrap().is_empty());
        for wrong in ["http://h", "user@h", "a,b\u{1b}"] {
            assert!(no_proxy().parse(&wrong.into()).is_err(), "{wrong}");
        }
        assert!(no_proxy().parse(&true.into()).is_err());
    }

    #[test]
    fn a_misspelt_level_is_not_the_name_of_a_module() {
        for right in [
            "info",
            "OFF",
            "warn,auth_sidecar=debug",
            "auth_sidecar::token=trace",
        ] {
            assert!(log_level(&right.into()).is_ok(), "{right}");
        }
        for wrong in ["inof", "info,debgu", "auth_sidecar=loud", ""] {
            assert!(log_level(&wrong.into()).is_err(), "{wrong}");
        }
    }
}
