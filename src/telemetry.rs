//! What the program reports about itself: the log, the metrics, and spans. None of them ever holds a
//! secret, because no type that they are given can print one.

pub mod access;
mod histogram;
pub mod log;
mod metrics;
pub mod spans;

use std::{io, path::PathBuf};

use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt};

pub use self::access::AccessMode;
pub use self::metrics::{Metrics, Origin, Sources};

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// How much is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// A filter of `tracing-subscriber`: a level, or levels by module.
    pub level: String,
    /// The format, that of the access log too.
    pub format: LogFormat,
    /// The access log.
    pub access: AccessSettings,
}

/// Which requests get a line, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// Which.
    pub mode: AccessMode,
    /// Where; `None` for standard error.
    pub file: Option<PathBuf>,
    /// Whether a line has the query, which may hold secrets.
    pub has_query: bool,
}

/// The level cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("not a log level: use off, error, warn, info, debug or trace")]
pub struct BadLevel;

impl LogSettings {
    /// The filter.
    ///
    /// # Errors
    /// When the level is no filter.
    pub fn filter(&self) -> Result<EnvFilter, BadLevel> {
        EnvFilter::try_new(&self.level).map_err(|_| BadLevel)
    }
}

/// Libraries that read messages, and quote in their log what they refuse of them: a path with its
/// query, a value that should be a length. What matters of it is logged by us, without quotes.
const QUOTING: [&str; 2] = ["h2", "hyper"];

/// Sends the log of the whole process to a writer. Does nothing when it goes somewhere already.
///
/// # Errors
/// When the level is no filter.
pub fn log_to<W>(settings: &LogSettings, writer: W) -> Result<(), BadLevel>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    use tracing_subscriber::util::SubscriberInitExt;

    let builder = tracing_subscriber::fmt()
        .with_env_filter(settings.filter()?)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        // They would go to standard error by the way that may block.
        .log_internal_errors(false)
        .with_writer(writer);
    // Whatever the level asks for.
    let quotes_nothing =
        filter_fn(|event| !QUOTING.contains(&event.target().split(':').next().unwrap_or_default()));
    let initialised = match settings.format {
        LogFormat::Text => builder
            .with_target(false)
            .finish()
            .with(quotes_nothing)
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .finish()
            .with(quotes_nothing)
            .try_init(),
    };
    // An embedding test has set one: the log is theirs.
    drop(initialised);
    Ok(())
}
