//! The command line: commands, flags, and help for someone who reads nothing else.

mod help;
pub mod manual;
mod order;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};

use self::help::{
    CHECK, COMPLETIONS, DEMO, DOCTOR, DOCTOR_EXIT_CODES, EXIT_CODES, LOCAL_CA, LOCAL_TOKEN, MAN,
    SCHEMA, START, STATUS, STATUS_EXIT_CODES, WAIT,
};
use crate::{
    broker::command::{HELP as TOKEN, TokenFlags},
    client_token::ClientName,
    config::{self, ConfigError, Flags, Sources, plain_address},
    demo::DemoOptions,
    local_ca::{self, HostName, Wish},
    server::Address,
    telemetry::{AccessSettings, LogFormat, LogSettings},
    version,
};

/// A local reverse proxy that keeps a short-lived access token current and puts it on every request.
///
/// Clients that cannot renew tokens talk to the sidecar on this machine as if it were the service.
/// The sidecar gets a token from the token service, renews it in time, and sends every request on
/// with it. One process serves one identity and one upstream.
#[derive(Debug, Parser)]
#[command(
    name = "auth-sidecar",
    version = version::SHORT,
    long_version = version::long(),
    args_conflicts_with_subcommands = true,
    after_long_help = format!("{START}\n{EXIT_CODES}")
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the sidecar; so does no command at all.
    #[command(after_long_help = format!("{START}\n{EXIT_CODES}"))]
    Run(Flags),
    /// Validates the configuration, offline, and shows what came of it.
    #[command(long_about = CHECK, after_long_help = EXIT_CODES)]
    Check(CheckFlags),
    /// Gets a token, calls the service with it, and says in words what is wrong.
    #[command(long_about = DOCTOR, after_long_help = DOCTOR_EXIT_CODES)]
    Doctor(DoctorFlags),
    /// Runs everything on this machine, without configuration, with lines to try.
    #[command(long_about = DEMO, after_long_help = EXIT_CODES)]
    Demo(DemoFlags),
    /// Makes a certificate for localhost, and an authority that clients can trust.
    #[command(long_about = LOCAL_CA, after_long_help = EXIT_CODES)]
    LocalCa(LocalCaFlags),
    /// Makes a token for one client of the sidecar.
    #[command(long_about = LOCAL_TOKEN, after_long_help = EXIT_CODES)]
    LocalToken(LocalTokenFlags),
    /// Prints a token of a running sidecar, for a script.
    #[command(long_about = TOKEN, after_long_help = EXIT_CODES)]
    Token(TokenFlags),
    /// Waits until a running sidecar is ready.
    #[command(long_about = WAIT, after_long_help = EXIT_CODES)]
    Wait(WaitFlags),
    /// Says how a running sidecar is, in words.
    #[command(long_about = STATUS, after_long_help = STATUS_EXIT_CODES)]
    Status(StatusFlags),
    /// Prints the JSON schema of the configuration file.
    #[command(long_about = SCHEMA)]
    Schema,
    /// Prints completions for a shell.
    #[command(long_about = COMPLETIONS)]
    Completions(CompletionsFlags),
    /// Writes the manual pages.
    #[command(long_about = MAN)]
    Man(ManFlags),
}

/// How a command prints what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The flags of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckFlags {
    /// The flags that are keys of the configuration.
    #[command(flatten)]
    pub flags: Flags,
    /// Shows only the keys that something other than a default has set
    #[arg(long)]
    pub changed: bool,
    /// For people or for programs
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub output: Form,
}

/// The flags of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorFlags {
    /// The flags that are keys of the configuration.
    #[command(flatten)]
    pub flags: Flags,
    /// What to ask of the service, with GET [default: one source of Wavefront, or /]
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub path: Option<String>,
    /// For people or for programs
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub output: Form,
}

/// The flags of `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoFlags {
    /// Where clients connect [default: 127.0.0.1:9797, or a free port]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where health, metrics and status are served [default: 127.0.0.1:9798, or a free port]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: tracing::level_filters::LevelFilter,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = log_format)]
    log_format: LogFormat,
}

/// The flags of `local-ca`.
#[derive(Clone, Debug, Args)]
pub struct LocalCaFlags {
    /// Further names or IP addresses of the sidecar: localhost and its addresses are always there
    #[arg(value_name = "NAME")]
    names: Vec<HostName>,
    /// Where the files go; made where there is none
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// Makes a certificate for this client, too; can be repeated
    #[arg(long = "client", value_name = "NAME")]
    clients: Vec<local_ca::ClientName>,
    /// Replaces files that are there already
    #[arg(long)]
    replace: bool,
}

/// The flags of `local-token`.
#[derive(Clone, Debug, Args)]
pub struct LocalTokenFlags {
    /// What the client is called in the list, in logs and in metrics
    pub name: ClientName,
    /// The list to add it to; made where there is none
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Which running sidecar is meant.
#[derive(Clone, Debug, Args)]
pub struct RunningFlags {
    /// Configuration file of the sidecar
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help = "Its configuration file, of which admin.address is read [environment: AUTH_SIDECAR_CONFIG]"
    )]
    config: Option<PathBuf>,
    /// The admin listener.
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "The admin listener to ask: IP:port, or unix: and a path [default: admin.address]",
        value_parser = plain_address
    )]
    admin: Option<Address>,
}

/// The flags of `wait`.
#[derive(Clone, Debug, Args)]
pub struct WaitFlags {
    /// Which sidecar to wait for.
    #[command(flatten)]
    pub running: RunningFlags,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

/// The flags of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusFlags {
    /// Which sidecar to ask.
    #[command(flatten)]
    pub running: RunningFlags,
    /// For people or for programs
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub output: Form,
}

/// The flags of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsFlags {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// The flags of `man`.
#[derive(Clone, Debug, Args)]
pub struct ManFlags {
    /// Where the pages go; made where there is none
    #[arg(value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
}

/// Reads a command line; options may stand before the command as well as after it.
///
/// # Errors
/// With what is wrong with it, or the help or the version that it asks for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let arguments = order::command_first(arguments.into_iter().collect(), &Cli::command());
    let Cli { command, flags } = Cli::try_parse_from(arguments)?;
    Ok(command.unwrap_or(Command::Run(flags)))
}

/// What a command line that is wrong says about the log of `run`, if that was meant.
#[must_use]
pub fn salvage(arguments: impl IntoIterator<Item = OsString>) -> Option<Flags> {
    let arguments = order::command_first(arguments.into_iter().collect(), &Cli::command());
    let arguments: Vec<String> = arguments
        .iter()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let command = arguments.first().filter(|first| !first.starts_with('-'));
    if command.is_some_and(|command| command != "run") {
        return None;
    }
    let value = |flag: &str| {
        let mut rest = arguments.iter().skip_while(|argument| {
            let name = argument.split('=').next();
            name != Some(flag)
        });
        let found = rest.next()?;
        let joined = found.split_once('=').map(|(_, value)| value.to_owned());
        joined.or_else(|| rest.next().cloned())
    };
    Some(Flags {
        config: value("--config").map(PathBuf::from),
        log_format: value("--log-format"),
        ..Flags::default()
    })
}

impl RunningFlags {
    /// The address of its admin listener.
    ///
    /// # Errors
    /// When neither the flag nor the configuration names one that can be asked.
    pub fn address(&self, environment: Vec<(OsString, OsString)>) -> Result<Address, ConfigError> {
        if let Some(address) = &self.admin {
            return Ok(address.clone());
        }
        let flags = Flags {
            config: self.config.clone(),
            ..Flags::default()
        };
        config::admin_address(&Sources::new(flags, environment))
    }
}

impl LocalCaFlags {
    /// What is to be made.
    #[must_use]
    pub fn wish(&self) -> Wish<'_> {
        Wish {
            names: &self.names,
            clients: &self.clients,
            directory: &self.dir,
            replace: self.replace,
        }
    }
}

impl DemoFlags {
    /// What to log.
    #[must_use]
    pub fn log_settings(&self) -> LogSettings {
        LogSettings {
            level: self.log_level.to_string(),
            format: self.log_format,
            access: AccessSettings::default(),
        }
    }
}

impl From<DemoFlags> for DemoOptions {
    fn from(flags: DemoFlags) -> Self {
        Self {
            listen: flags.listen,
            admin: flags.admin,
        }
    }
}

fn path(text: &str) -> Result<String, &'static str> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_path
        .then(|| text.to_owned())
        .ok_or("must be a path like /api/v2/source?limit=1")
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be text or json"),
    }
}

#[cfg(test)]
mod tests;
