//! The command line: commands, flags, and help for someone who reads nothing else.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    broker::command::{HELP as TOKEN, TokenFlags},
    client_token::ClientName,
    config::{Flags, plain_address},
    demo::DemoOptions,
    local_ca::{self, HostName, Wish},
    server::Address,
    telemetry::{LogFormat, LogSettings},
};

const START: &str = "\
How to start:
  Four environment variables are enough. Clients then use http://127.0.0.1:9797 as their server,
  with any token or none.

    WAVEFRONT_URL=https://example.wavefront.com \\
    CSP_APP_ID=… CSP_APP_SECRET=… CSP_ORG_ID=… \\
    auth-sidecar

  CSP_ORG_ID is optional. Instead of the CSP_APP variables, CSP_API_TOKEN (an API token of a user)
  or WAVEFRONT_TOKEN (a subscription without cloud services) will do. CSP_API_URL names another
  token service. Each name exists with the suffix _FILE too, for the path of a file: secrets in
  files are read each time that they are used.

Everything else:
  is set in a TOML file (--config), or in variables like AUTH_SIDECAR_LISTEN__DRAIN_TIMEOUT for
  the key drain_timeout of the section [listen]. Flags win over the environment, the environment
  over the file. Secrets are never flags: process listings show them.
  `auth-sidecar check` shows every key, its value and where the value came from.
  `auth-sidecar doctor` tries it, and says in words what is wrong.
  `auth-sidecar demo` needs no configuration at all.
";

const EXIT_CODES: &str = "\
Exit codes:
  0  stopped as asked (SIGTERM, SIGINT), or the command succeeded
  1  failed at run time
  2  wrong command line or configuration; every problem is on standard error, one a line
";

const CHECK: &str = "\
Validates the configuration and connects nowhere. Prints every key with its value and the place
that the value came from; secrets are only said to be set. When something is wrong, prints every
problem instead, one a line: the key, the place, and what would be right.";

const DOCTOR: &str = "\
Tries with the configuration what the sidecar would do: gets a token with the credentials, reads its
claims, and calls the service with it. Looks around, too: warnings of the configuration, secret
files that everybody can read, addresses to listen on, names, certificates, clocks, the permission
to send data, the ends of credentials. Prints a line for each: ok, warning or failed, and what to do
about it. Never prints a secret or a token. It gets a token of its own, and does not disturb a
sidecar that is running.

Of a Wavefront instance it asks for one source (GET /api/v2/source?limit=1), of another service for
its root; --path names something else that is harmless to read.

Give it the flags, the environment and the user that the sidecar has:

  auth-sidecar doctor --config /etc/auth-sidecar.toml
  kubectl exec my-pod -c auth-sidecar -- auth-sidecar doctor";

const DOCTOR_EXIT_CODES: &str = "\
Exit codes:
  0  nothing failed; there may be warnings
  1  something failed
  2  wrong command line or configuration; every problem is on standard error, one a line
";

const DEMO: &str = "\
Runs an embedded token service, an embedded service instance and the sidecar between them, with no
configuration at all, and prints lines to try. Tokens live for seconds, so renewals can be watched.
Nothing leaves this machine. Ctrl-C stops it.";

const LOCAL_CA: &str = "\
Makes a certificate for localhost, 127.0.0.1 and ::1 (and further names, when given) and an authority
that vouches for it, for tools that insist on https://. Writes ca.pem, cert.pem and key.pem to a
directory, and prints how the sidecar uses them and how curl, Go programs and Terraform, Java, Python
and Node come to trust them. It needs no connection and no configuration.

The authority can vouch for these names only, and its own key is not kept: nobody can sign anything
more with it. When the certificate nears its end (825 days; metrics and `auth-sidecar doctor` tell) or
another name is needed, --replace makes everything anew, and clients are given the new ca.pem.

With --client NAME a client gets a certificate of its own, for listen.tls_client_ca_file: then nobody
is let in without one.

Example: auth-sidecar local-ca --dir /etc/auth-sidecar/tls --client grafana";

const LOCAL_TOKEN: &str = "\
Makes a local token: a random value that means something to this sidecar alone. The client sends it
where its tool wants an API token (\"Authorization: Bearer …\", \"X-AUTH-TOKEN: …\"); the sidecar
knows it by its hash, lets the request in and replaces it by the real token. It needs no connection
and no configuration.

With --file, it is let in at once: the line name:sha256 is added to that file, which
listen.client_tokens_file (AUTH_SIDECAR_LISTEN__CLIENT_TOKENS_FILE) names for the sidecar. From then
on requests without such a token are answered 403. The token is shown once and kept nowhere.

Example: TOKEN=$(auth-sidecar local-token grafana --file /etc/auth-sidecar/clients)";

const WAIT: &str = "\
Asks the admin listener of a running sidecar until it holds a usable token, then exits with 0; or
with 1 when that takes too long, saying what the last answer was. For start-up order, and for
probes in containers without a shell.

Example: auth-sidecar wait --timeout 30s && exec my-program";

/// A local reverse proxy that keeps a short-lived access token current and puts it on every request.
///
/// Clients that cannot renew tokens talk to the sidecar on this machine as if it were the service.
/// The sidecar gets a token from the token service, renews it in time, and sends every request on
/// with it. One process serves one identity and one upstream.
#[derive(Debug, Parser)]
#[command(
    name = "auth-sidecar",
    version,
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
    Check(Flags),
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
}

/// The flags of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorFlags {
    /// Those of the configuration.
    #[command(flatten)]
    pub flags: Flags,
    /// What to ask of the service, with GET [default: one source of Wavefront, or /]
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub path: Option<String>,
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

/// The flags of `wait`.
#[derive(Clone, Debug, Args)]
pub struct WaitFlags {
    /// The admin listener.
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "The admin listener to ask: IP:port, or unix: and a path",
        default_value = "127.0.0.1:9798",
        value_parser = plain_address
    )]
    pub admin: Address,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

impl Cli {
    /// The command that was given, or `run`.
    #[must_use]
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.flags))
    }
}

/// What a command line that is wrong says about the log of `run`, if that was meant.
#[must_use]
pub fn salvage(arguments: impl IntoIterator<Item = OsString>) -> Option<Flags> {
    let arguments = arguments.into_iter().skip(1);
    let arguments: Vec<String> = arguments
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
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
        let arguments = ["auth-sidecar"].iter().chain(arguments);
        Cli::try_parse_from(arguments).map(Cli::command)
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_command_is_run() {
        for arguments in [
            &["--listen", "l", "--log-level", "debug"][..],
            &["run", "--listen", "l", "--log-level", "debug"],
        ] {
            let Ok(Command::Run(flags)) = parse(arguments) else {
                panic!("{arguments:?}")
            };
            assert_eq!(flags.listen.as_deref(), Some("l"));
            assert_eq!(flags.log_level.as_deref(), Some("debug"));
        }
        assert!(matches!(
            parse(&["check", "--upstream", "u"]),
            Ok(Command::Check(_))
        ));
    }

    #[test]
    fn waiting_has_defaults() {
        let Ok(Command::Wait(flags)) = parse(&["wait"]) else {
            panic!()
        };
        assert_eq!(flags.admin.to_string(), "127.0.0.1:9798");
        assert_eq!(flags.timeout, Duration::from_secs(60));
        assert!(parse(&["wait", "--timeout", "60"]).is_err());
    }

    #[test]
    fn a_local_token_needs_a_name_that_is_one() {
        let Ok(Command::LocalToken(flags)) = parse(&["local-token", "grafana"]) else {
            panic!()
        };
        assert_eq!((flags.name.as_str(), flags.file), ("grafana", None));
        for wrong in [&["local-token"][..], &["local-token", "a b"]] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn a_local_authority_needs_a_directory_and_names_that_are_some() {
        let sound = [
            "local-ca",
            "--dir",
            "d",
            "proxy.example",
            "192.0.2.7",
            "--client",
            "a",
        ];
        assert!(matches!(parse(&sound), Ok(Command::LocalCa(_))));
        for wrong in [
            &["local-ca"][..],
            &["local-ca", "--dir", "d", "*.example"],
            &["local-ca", "--dir", "d", "https://h.example"],
            &["local-ca", "--dir", "d", "--client", "../a"],
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_demo_is_quiet_unless_asked() {
        let Ok(Command::Demo(flags)) = parse(&["demo"]) else {
            panic!()
        };
        assert_eq!(flags.log_settings().level, "warn");
        assert!(parse(&["demo", "--log-level", "inof"]).is_err());
        assert!(parse(&["demo", "--log-format", "xml"]).is_err());
    }

    #[test]
    fn misuse_exits_with_2_and_help_with_0() {
        for (arguments, code) in [
            (&["--nonsense"][..], 2),
            (&["nonsense"], 2),
            (&["--listen", "l", "check"], 2),
            (&["--help"], 0),
            (&["check", "--help"], 0),
            (&["--version"], 0),
        ] {
            let error = parse(arguments).unwrap_err();
            assert_eq!(error.exit_code(), code, "{arguments:?}");
        }
    }

    #[test]
    fn secrets_are_no_flags_and_do_not_show_when_tried() {
        for flag in ["--client-secret", "--api-token", "--token"] {
            let error = parse(&[&format!("{flag}=canary")]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnknownArgument);
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn help_says_how_to_start() {
        let help = <Cli as CommandFactory>::command()
            .render_long_help()
            .to_string();
        for word in [
            "WAVEFRONT_URL",
            "CSP_APP_ID",
            "CSP_APP_SECRET",
            "CSP_ORG_ID",
            "Exit codes",
        ] {
            assert!(help.contains(word), "{word}");
        }
    }
}
