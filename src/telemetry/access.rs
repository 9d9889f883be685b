//! The access log: a line for a request, once it is over, with who asked for what and what came of it.
//!
//! Field names are those of OpenTelemetry's conventions for HTTP where it has one. A line is put
//! together here and not by `tracing`, since it costs a third of that, and a request that needs no
//! line must cost nothing.

mod file;
mod log;
mod record;
mod token;

use std::{fmt::Write as _, sync::Arc, time::SystemTime};

use serde::ser::{SerializeMap, Serializer};

use self::file::AccessFile;
pub use self::{
    log::AccessLog,
    record::{Asked, Client, Record},
    token::{HandedOut, WrittenToken},
};
use super::{LogFormat, log as main_log};
use crate::clock::{self, seconds};

/// Which requests get a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// None.
    #[default]
    Off,
    /// Those that went wrong: what we responded ourselves, a 5xx of the upstream, a response that
    /// the upstream broke off, and clients that went away before there was one.
    Errors,
    /// All.
    All,
}

/// The access log of one configuration. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Access {
    mode: AccessMode,
    has_query: bool,
    format: LogFormat,
    /// `None` for standard error.
    file: Option<Arc<AccessFile>>,
}

/// The longest text of a field, in bytes; more of it is cut.
const LONGEST: usize = 2048;

impl Access {
    /// One to standard error, or to a file.
    #[must_use]
    fn new(
        mode: AccessMode,
        has_query: bool,
        format: LogFormat,
        file: Option<Arc<AccessFile>>,
    ) -> Self {
        Self {
            mode,
            has_query,
            format,
            file,
        }
    }

    /// Whether every request gets a line.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.mode == AccessMode::All
    }

    /// Whether something gets a line, given whether it matters by itself: a request that went wrong,
    /// and a token that left the process.
    #[must_use]
    pub fn wants(&self, matters: bool) -> bool {
        match self.mode {
            AccessMode::Off => false,
            AccessMode::Errors => matters,
            AccessMode::All => true,
        }
    }

    /// Writes the line of a request.
    pub fn write(&self, record: &Record<'_>) {
        self.push(&self.line(record, SystemTime::now()));
    }

    /// Writes the line of a token that was written to a file.
    pub fn write_token(&self, token: &WrittenToken<'_>) {
        if self.wants(true) {
            let now = SystemTime::now();
            self.push(&self.render("token file", "INFO", now, |give| token.each(give)));
        }
    }

    fn push(&self, line: &[u8]) {
        match &self.file {
            Some(file) => file.push(line),
            None => main_log::push(line),
        }
    }

    fn line(&self, record: &Record<'_>, now: SystemTime) -> Vec<u8> {
        let level = match record.status {
            Some(500..) => "WARN",
            _ if record
                .error
                .is_some_and(|(_, label)| label != "client_gone") =>
            {
                "WARN"
            }
            _ => "INFO",
        };
        let level = match record.status {
            // Theirs to mend.
            Some(..500) if matches!(record.origin, Some("sidecar" | "broker")) => "INFO",
            _ => level,
        };
        self.render("request", level, now, |give| self.each(record, give))
    }

    fn render(
        &self,
        message: &str,
        level: &str,
        now: SystemTime,
        fields: impl Fn(&mut Give<'_>),
    ) -> Vec<u8> {
        let time = humantime::format_rfc3339_micros(clock::nameable(now)).to_string();
        let mut line = Vec::with_capacity(640);
        match self.format {
            LogFormat::Json => {
                let mut json = serde_json::Serializer::new(&mut line);
                // Text and numbers can always be written.
                let head = [
                    ("timestamp", &*time),
                    ("level", level),
                    ("message", message),
                ];
                drop(write_json(head, fields, &mut json));
            }
            LogFormat::Text => {
                let mut text = format!("{time} {level:>5} {message}");
                fields(&mut |name, value| {
                    let written = match value {
                        Value::Text(value) => write!(text, " {name}={}", Plain(value)),
                        Value::Number(value) => write!(text, " {name}={value}"),
                        Value::Seconds(value) => write!(text, " {name}={value}"),
                        Value::Yes => write!(text, " {name}=true"),
                    };
                    // Writing to a String cannot fail.
                    written.unwrap_or_default();
                });
                line.extend_from_slice(text.as_bytes());
            }
        }
        line.push(b'\n');
        line
    }

    /// Gives every field that there is, in the order of `docs/logs.md`.
    fn each(&self, record: &Record<'_>, give: &mut Give<'_>) {
        let seconds = |duration| Value::Seconds(seconds(duration));
        give("request_id", Value::Text(&record.id.to_string()));
        if record.is_admin {
            give("listener", Value::Text("admin"));
        }
        let user;
        let (kind, name) = match record.client {
            Client::Token(name) => ("token", name),
            Client::Certificate(subject) => ("certificate", subject),
            Client::User(id) => {
                user = id.to_string();
                ("user", &*user)
            }
            Client::Unknown => ("address", ""),
        };
        give("client.kind", Value::Text(kind));
        if !name.is_empty() {
            give("client.name", Value::Text(&shown(name.as_bytes())));
        }
        if let Some(address) = record.address {
            give("client.address", Value::Text(&address.to_string()));
        }
        if let Some(asked) = record.asked {
            let (path, query) = asked.split();
            give(
                "http.request.method",
                Value::Text(&shown(asked.method.as_bytes())),
            );
            give("url.path", Value::Text(&shown(path)));
            if let Some(query) = query.strip_prefix(b"?").filter(|_| self.has_query) {
                give("url.query", Value::Text(&shown(query)));
            }
            give("network.protocol.version", Value::Text(asked.version));
        }
        if let Some(status) = record.status {
            give("http.response.status_code", Value::Number(status.into()));
        }
        if let Some(origin) = record.origin {
            give("origin", Value::Text(origin));
        }
        if let Some((error, label)) = record.error {
            give("error.type", Value::Text(label));
            if !error.is_empty() {
                give("proxy_status", Value::Text(error));
            }
        }
        give(
            "http.request.body.size",
            Value::Number(record.request_bytes),
        );
        give(
            "http.response.body.size",
            Value::Number(record.response_bytes),
        );
        give("duration_seconds", seconds(record.duration));
        if let Some(first_byte) = record.first_byte {
            give("first_byte_seconds", seconds(first_byte));
        }
        if let Some(upstream) = record.upstream {
            give("upstream_seconds", seconds(upstream));
        }
        if !record.held.is_zero() {
            give("held_seconds", seconds(record.held));
        }
        if let Some(generation) = record.generation {
            give("token.generation", Value::Number(generation));
        }
        if record.is_replayed {
            give("replayed", Value::Yes);
        }
        if let Some(handed_out) = &record.handed_out {
            handed_out.each(give);
        }
    }
}

fn write_json<S: Serializer>(
    head: [(&str, &str); 3],
    fields: impl Fn(&mut Give<'_>),
    json: S,
) -> Result<S::Ok, S::Error> {
    let mut map = json.serialize_map(None)?;
    for (name, value) in head {
        map.serialize_entry(name, value)?;
    }
    let mut result = Ok(());
    fields(&mut |name, value| {
        if result.is_ok() {
            result = match value {
                Value::Text(value) => map.serialize_entry(name, value),
                Value::Number(value) => map.serialize_entry(name, &value),
                Value::Seconds(value) => map.serialize_entry(name, &value),
                Value::Yes => map.serialize_entry(name, &true),
            };
        }
    });
    result?;
    map.serialize_entry("target", "auth_sidecar::access")?;
    map.end()
}

/// Takes the fields of a line, one by one.
type Give<'a> = dyn FnMut(&'static str, Value<'_>) + 'a;

enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Seconds(f64),
    Yes,
}

/// Text for a line: what cannot be printed is written as `%XX` of a byte, and what is too long is cut.
pub(super) fn shown(text: &[u8]) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    for byte in text.iter().take(LONGEST) {
        if byte.is_ascii_graphic() || *byte == b' ' {
            shown.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            write!(shown, "%{byte:02X}").unwrap_or_default();
        }
    }
    if text.len() > LONGEST {
        shown.push('…');
    }
    shown
}

/// Text in a line of text: in quotation marks where it could be taken for something else.
struct Plain<'a>(&'a str);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() || self.0.contains([' ', '"', '=', '\\']) {
            write!(f, "{:?}", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;
    use crate::message::RequestId;

    fn record() -> Record<'static> {
        Record {
            id: RequestId::new(0xabc),
            is_admin: false,
            client: Client::Token("grafana"),
            address: Some(IpAddr::from([127, 0, 0, 1])),
            is_tls: false,
            asked: Some(Asked {
                method: "DELETE",
                target: b"/api/v2/alert/1 2\n\xe9?key=canary",
                version: "1.1",
            }),
            status: Some(204),
            origin: Some("upstream"),
            error: None,
            request_bytes: 0,
            response_bytes: 7,
            duration: Duration::from_micros(12_345),
            first_byte: Some(Duration::from_millis(11)),
            upstream: Some(Duration::from_millis(10)),
            held: Duration::ZERO,
            generation: Some(3),
            is_replayed: true,
            handed_out: None,
        }
    }

    fn line(format: LogFormat, has_query: bool, record: &Record<'_>) -> String {
        let access = Access::new(AccessMode::All, has_query, format, None);
        String::from_utf8(access.line(record, SystemTime::UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn a_line_of_text_is_one_line_of_names_and_values() {
        assert_eq!(
            line(LogFormat::Text, false, &record()),
            "1970-01-01T00:00:00.000000Z  INFO request \
             request_id=00000000000000000000000000000abc client.kind=token client.name=grafana \
             client.address=127.0.0.1 http.request.method=DELETE \
             url.path=\"/api/v2/alert/1 2%0A%E9\" network.protocol.version=1.1 \
             http.response.status_code=204 origin=upstream http.request.body.size=0 \
             http.response.body.size=7 duration_seconds=0.012 first_byte_seconds=0.011 \
             upstream_seconds=0.01 token.generation=3 replayed=true\n"
        );
    }

    #[test]
    fn a_line_of_json_has_numbers_for_numbers_and_a_query_only_where_it_is_wanted() {
        let text = line(LogFormat::Json, false, &record());
        assert!(!text.contains("canary"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["url.path"], "/api/v2/alert/1 2%0A%E9");
        assert_eq!(json["http.response.status_code"], 204);
        assert_eq!(json["duration_seconds"], 0.012);
        assert_eq!(json["replayed"], true);
        assert_eq!(json["level"], "INFO");
        let text = line(LogFormat::Json, true, &record());
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["url.query"], "key=canary");
    }

    #[test]
    fn a_long_target_is_cut_and_what_was_never_read_is_left_out() {
        let long = [b"/".as_slice(), &[b'x'; 3000]].concat();
        let mut record = record();
        record.asked = Some(Asked {
            method: "GET",
            target: &long,
            version: "2",
        });
        assert!(line(LogFormat::Text, false, &record).len() < 2600);
        record.asked = None;
        record.client = Client::Unknown;
        let text = line(LogFormat::Json, false, &record);
        assert!(!text.contains("url.path") && !text.contains("client.name"));
    }

    #[test]
    fn the_level_is_by_whose_fault_it_was() {
        let level = |status, origin, error| {
            let mut record = record();
            (record.status, record.origin, record.error) = (status, origin, error);
            let json: serde_json::Value =
                serde_json::from_str(&line(LogFormat::Json, false, &record)).unwrap();
            json["level"].as_str().unwrap().to_owned()
        };
        assert_eq!(level(Some(503), Some("upstream"), None), "WARN");
        assert_eq!(
            level(Some(502), Some("sidecar"), Some(("dns_error", "dns"))),
            "WARN"
        );
        let refused = Some(("http_request_denied", "host"));
        assert_eq!(level(Some(421), Some("sidecar"), refused), "INFO");
        assert_eq!(level(None, None, Some(("", "client_gone"))), "INFO");
        assert_eq!(
            level(Some(200), Some("upstream"), Some(("", "broken_off"))),
            "WARN"
        );
    }
}
