//! The configuration: flags, environment, file and defaults become settings that need no second
//! look; or every mistake is reported, each with its key, its place and what would be right.
//!
//! `layers` collects the values, `reader` hands them out key by key, `values` and `net` parse
//! one value and name its `shape`, `sections`, `listen`, `sockets`, `auth`, `legs`, `secrets`, `telemetry`
//! and `broker` know the keys. `schema` makes the schema of the file of what these ask for; `running` finds
//! the sidecar that a configuration belongs to.

mod auth;
mod broker;
mod files;
mod layers;
mod legs;
mod listen;
mod net;
mod problem;
mod reader;
mod running;
mod schema;
mod secrets;
mod sections;
mod shape;
mod sockets;
mod table;
mod telemetry;
mod values;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use url::Url;

pub use self::{
    auth::{Provider, advice},
    broker::broker_address,
    net::plain_address,
    problem::{ConfigError, Problem},
    running::admin_address,
    schema::schema,
    table::Table,
};
use self::{layers::Layers, reader::Reader, shape::Parser};
use crate::{
    broker::FileSettings,
    proxy::{ProxySettings, upstream::UpstreamSettings},
    sandbox::Writable,
    secret::SecretSource,
    server::{Address, Inherited, Peers, ServerSettings, TlsSettings},
    telemetry::{LogFormat, LogSettings, spans::OtlpSettings},
    token::{
        endpoint::{EndpointSettings, TokenRequest},
        schedule::RefreshPolicy,
    },
};

/// Where a configuration comes from, besides the file that one of the two may name.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The flags of the command line.
    pub flags: Flags,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The sockets that were passed to this process; `None` where nothing is going to be served, so
    /// that nothing is known of them.
    pub inherited: Option<Inherited>,
    /// Whether it was loaded before. A pipe has nothing the second time, which must not pass for a
    /// configuration without its rules.
    pub is_reload: bool,
}

/// Flags that set a key. None takes a secret: process listings show the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        value_hint = clap::ValueHint::FilePath,
        help = "The configuration file, TOML [environment: AUTH_SIDECAR_CONFIG]"
    )]
    pub config: Option<PathBuf>,
    /// Where clients connect; several are separated by commas [default: 127.0.0.1:9797]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The service behind the sidecar.
    #[arg(
        long,
        value_name = "URL",
        help = "The service behind the sidecar [environment: WAVEFRONT_URL]"
    )]
    pub upstream: Option<String>,
    /// Where health, metrics and status are served, or "off" [default: 127.0.0.1:9798]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// What the program is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The listeners of clients.
    pub listen: Listen,
    /// The service behind us.
    pub upstream: UpstreamSettings,
    /// The request path.
    pub proxy: ProxySettings,
    /// The token path.
    pub auth: Auth,
    /// The admin listener.
    pub admin: Admin,
    /// The broker.
    pub broker: Broker,
    /// The log.
    pub log: LogSettings,
    /// The collector of spans; `None` where nobody traces requests.
    pub telemetry: Option<OtlpSettings>,
    /// The process itself.
    pub process: Process,
    /// The sockets that were passed to it.
    pub inherited: Option<Inherited>,
    /// What is allowed but probably not meant, for the log.
    pub warnings: Vec<String>,
}

/// The listeners of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// At least one; port 0 picks a free one.
    pub addresses: Vec<Address>,
    /// Our side of TLS, for the addresses that are so.
    pub tls: Option<TlsSettings>,
    /// The files of unix sockets.
    pub unix: UnixAccess,
    /// Threads that serve; 0 is one a core.
    pub workers: usize,
    /// For how long it serves on when it is asked to stop.
    pub drain_delay: Duration,
    /// The bounds of connections.
    pub server: ServerSettings,
    /// The list of the clients that are let in; `None` lets everybody in who reaches the port.
    pub client_tokens_file: Option<PathBuf>,
}

/// Whose the file of a unix socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAccess {
    /// Its permissions.
    pub mode: u32,
    /// The id of its owner; `None` leaves it ours.
    pub owner: Option<u32>,
    /// The id of its group; `None` leaves it ours.
    pub group: Option<u32>,
}

/// Where tokens come from, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// The name of the kind, as `auth.type` has it.
    pub kind: &'static str,
    /// The provider, where one is named.
    pub provider: Option<&'static Provider>,
    /// The kind of credentials, and they themselves.
    pub credentials: Credentials,
    /// The bounds of a token call.
    pub endpoint: EndpointSettings,
    /// When to renew.
    pub policy: RefreshPolicy,
}

impl Auth {
    /// Where tokens are asked for; `None` where nobody is called for them.
    #[must_use]
    pub fn token_url(&self) -> Option<&Url> {
        match &self.credentials {
            Credentials::Endpoint(request) => Some(request.url()),
            Credentials::Static(_) => None,
        }
    }

    /// The host of the token service, and its port where that is not the usual one; `None` where
    /// there is none.
    #[must_use]
    pub fn token_service(&self) -> Option<String> {
        let Credentials::Endpoint(request) = &self.credentials else {
            return None;
        };
        let host = request.url().host_str()?;
        Some(match request.url().port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        })
    }
}

/// What proves who we are.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, so a smaller one would save nothing"
)]
pub enum Credentials {
    /// A request for a token, to a token endpoint.
    Endpoint(TokenRequest),
    /// The token itself.
    Static(SecretSource),
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Its address; `None` when it is off.
    pub address: Option<Address>,
    /// Whether `POST /quitquitquit` stops the program.
    pub allow_quit: bool,
}

/// The broker, which hands tokens to other programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    /// Where the broker is asked; nowhere, when it is off.
    pub addresses: Vec<Address>,
    /// Further names that clients may use for it, without a port.
    pub allow_hosts: Vec<String>,
    /// The list of its clients; `None`: whoever the unix socket lets in.
    pub client_tokens_file: Option<PathBuf>,
    /// Who may connect to its unix sockets.
    pub peers: Peers,
    /// The files that it keeps.
    pub files: Vec<FileSettings>,
}

/// The process itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Whether it restricts itself. Debuggers want it off.
    pub sandbox: bool,
}

/// A configuration, and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the program is to do.
    pub config: Config,
    /// Every key that counts, section by section.
    pub resolved: Vec<Resolved>,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
}

impl Resolved {
    /// Whether something other than a default gave its value.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.source != layers::DEFAULT && !self.source.ends_with("(default)")
    }
}

/// One key as it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// The key, as `section.key`.
    pub key: String,
    /// Its value as written; never that of a secret.
    pub value: String,
    /// Where the value came from.
    pub source: String,
}

impl Sources {
    /// The two together.
    #[must_use]
    pub fn new(flags: Flags, environment: Vec<(OsString, OsString)>) -> Self {
        Self {
            flags,
            environment,
            ..Self::default()
        }
    }

    /// The same for a run that may use these sockets.
    #[must_use]
    pub fn with_sockets(self, inherited: Inherited) -> Self {
        Self {
            inherited: Some(inherited),
            ..self
        }
    }

    /// A variable of the environment, if it is text.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let mut variables = self.environment.iter();
        let (_, value) = variables.find(|(given, _)| given == name)?;
        value.to_str()
    }

    /// Nothing but an environment.
    pub fn of_environment<N, V>(variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        let environment = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            environment,
            ..Self::default()
        }
    }

    /// Nothing but a file.
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        let config = Some(path.into());
        Self {
            flags: Flags {
                config,
                ..Flags::default()
            },
            ..Self::default()
        }
    }
}

/// The format that the log is to have, whatever is wrong with the rest of a configuration.
#[must_use]
pub fn log_format(sources: &Sources) -> LogFormat {
    Gathered::of(sources).log_format()
}

/// All that is given of a configuration, read and yet to be checked. A source is read once: a pipe has
/// nothing the second time.
pub struct Gathered(Layers);

impl Gathered {
    /// Reads the sources.
    #[must_use]
    pub fn of(sources: &Sources) -> Self {
        Self(Layers::collect(sources))
    }

    /// The format that the log is to have, whatever is wrong with the rest.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        let asked = self.0.figment.find_value("log.format").ok();
        let format = asked.and_then(|value| values::log_format().parse(&value).ok());
        format.flatten().unwrap_or(LogFormat::Text)
    }

    /// Makes a configuration of what was read, which may use these sockets.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn load(self, inherited: Option<Inherited>) -> Result<Loaded, ConfigError> {
        let Self(mut layers) = self;
        let file = layers.file.take();
        let mut reader = Reader::new(layers, inherited);
        let config = sections::read(&mut reader);
        reader.reject_unknown();
        let Reader {
            mut resolved,
            problems,
            mut warnings,
            ..
        } = reader;
        resolved.sort_by_key(|resolved| sections::rank(&resolved.key));
        match config {
            Some(config) if problems.is_empty() => {
                let problems = files::overwritten(&config, &resolved, file.as_deref());
                if !problems.is_empty() {
                    return Err(ConfigError::new(problems));
                }
                warnings.extend(files::warnings(&config, &resolved, file.as_deref()));
                Ok(Loaded {
                    config: Config { warnings, ..config },
                    resolved,
                    file,
                })
            }
            _ => Err(ConfigError::new(problems)),
        }
    }
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").finish_non_exhaustive()
    }
}

/// The environment of this process. Nothing else reads it.
#[must_use]
pub fn process_environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

impl Config {
    /// Loads a configuration: reads its files, and connects nowhere.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        Gathered::of(sources).load(sources.inherited.clone())
    }
}

impl Config {
    /// Whether it is the same but for its warnings, which are of files as they are and not of what is
    /// configured.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let silent = |config: &Self| Self {
            warnings: Vec::new(),
            ..config.clone()
        };
        silent(self) == silent(other)
    }

    /// What the process goes on writing to: the directories of its sockets, of the access log, and of
    /// the files of tokens.
    #[must_use]
    pub fn writable(&self) -> Writable {
        let addresses = self.listen.addresses.iter().chain(&self.admin.address);
        let addresses = addresses.chain(&self.broker.addresses);
        let sockets = addresses.filter_map(|address| match address {
            Address::Unix(path) => Some(directory_of(path)),
            _ => None,
        });
        let tokens = self.broker.files.iter();
        let tokens = tokens.map(|file| directory_of(&file.path));
        Writable {
            sockets: sockets.collect(),
            // The log is made anew behind a rotation.
            log: self.log.access.file.as_deref().map(directory_of),
            tokens: tokens.chain(self.refresh_token_directory()).collect(),
        }
    }

    /// Where a refresh token is replaced when its service rotates it.
    #[must_use]
    pub fn refresh_token_directory(&self) -> Option<PathBuf> {
        self.refresh_token_file().map(|file| directory_of(file))
    }

    fn refresh_token_file(&self) -> Option<&PathBuf> {
        match &self.auth.credentials {
            Credentials::Endpoint(request) => Some(request.refresh_token()?.path()),
            Credentials::Static(_) => None,
        }
    }
}

/// The directory of a file; that of a name alone is where the process was started.
fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests;
