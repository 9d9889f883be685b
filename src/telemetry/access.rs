//! The access log: a line for a request, once it is over, with who asked for what and what came of it.
//!
//! Field names are those of OpenTelemetry's conventions for HTTP where it has one. A request that needs
//! no line must cost nothing.

mod file;
mod line;
mod log;
mod record;
mod token;

use std::{sync::Arc, time::SystemTime};

pub(super) use self::line::shown;
use self::{file::AccessFile, line::Line};
pub use self::{
    log::AccessLog,
    record::{Asked, Client, Record},
    token::{HandedOut, WrittenToken},
};
use super::{LogFormat, log as main_log};

/// The word for a client that went away, which is nobody's failure.
pub const CLIENT_GONE: &str = "client_gone";

/// Which requests get a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessMode {
    /// None.
    #[default]
    Off,
    /// Those that went wrong: what we responded ourselves, a 5xx of the upstream, a response that
    /// the upstream or we broke off, and clients that went away before there was one.
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
        self.line(record, SystemTime::now(), |line| self.push(line));
    }

    /// Writes the line of a token that was written to a file.
    pub fn write_token(&self, token: &WrittenToken<'_>) {
        if self.wants(true) {
            self.token_line(token, SystemTime::now(), |line| self.push(line));
        }
    }

    fn push(&self, line: &[u8]) {
        match &self.file {
            Some(file) => file.push(line),
            None => main_log::push(line),
        }
    }

    fn line<T>(&self, record: &Record<'_>, now: SystemTime, take: impl FnOnce(&[u8]) -> T) -> T {
        let level = match record.status {
            Some(500..) => "WARN",
            _ if record.error.is_some_and(|(_, label)| label != CLIENT_GONE) => "WARN",
            _ => "INFO",
        };
        let level = match record.status {
            // Theirs to mend.
            Some(..500) if matches!(record.origin, Some("sidecar" | "broker")) => "INFO",
            _ => level,
        };
        let fields = |line: &mut Line<'_>| self.put(record, line);
        line::with(self.format, now, level, "request", fields, take)
    }

    fn token_line<T>(
        &self,
        token: &WrittenToken<'_>,
        now: SystemTime,
        take: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let fields = |line: &mut Line<'_>| token.put(line);
        line::with(self.format, now, "INFO", "token file", fields, take)
    }

    /// Puts every field that there is, in the order of `docs/logs.md`.
    fn put(&self, record: &Record<'_>, line: &mut Line<'_>) {
        line.word("request_id", record.id);
        if record.is_admin {
            line.text("listener", "admin");
        }
        let kind = match record.client {
            Client::Token(_) => "token",
            Client::Certificate(_) => "certificate",
            Client::User(_) => "user",
            Client::Unknown => "address",
        };
        line.text("client.kind", kind);
        match record.client {
            Client::Token(name) | Client::Certificate(name) if !name.is_empty() => {
                line.text("client.name", name);
            }
            Client::User(id) => line.word("client.name", id),
            _ => {}
        }
        if let Some(address) = record.address {
            line.word("client.address", address);
        }
        if let Some(asked) = record.asked {
            let (path, query) = asked.split();
            line.text("http.request.method", asked.method);
            line.text("url.path", path);
            if let Some(query) = query.strip_prefix(b"?").filter(|_| self.has_query) {
                line.text("url.query", query);
            }
            line.text("network.protocol.version", asked.version);
        }
        if let Some(status) = record.status {
            line.value("http.response.status_code", status);
        }
        if let Some(origin) = record.origin {
            line.text("origin", origin);
        }
        if let Some((error, label)) = record.error {
            line.text("error.type", label);
            if !error.is_empty() {
                line.text("proxy_status", error);
            }
        }
        line.value("http.request.body.size", record.request_bytes);
        line.value("http.response.body.size", record.response_bytes);
        line.seconds("duration_seconds", record.duration);
        if let Some(first_byte) = record.first_byte {
            line.seconds("first_byte_seconds", first_byte);
        }
        if let Some(upstream) = record.upstream {
            line.seconds("upstream_seconds", upstream);
        }
        if !record.held.is_zero() {
            line.seconds("held_seconds", record.held);
        }
        if let Some(generation) = record.generation {
            line.value("token.generation", generation);
        }
        if record.is_replayed {
            line.value("replayed", true);
        }
        if let Some(handed_out) = &record.handed_out {
            handed_out.put(line);
        }
    }
}

#[cfg(test)]
mod tests;
