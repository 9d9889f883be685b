//! From the command line to an exit code: 0 stopped as asked, 1 failed at run time, 2 wrong
//! command line or configuration.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use auth_sidecar::{
    app::{App, ServiceManager, shutdown_signal},
    cli::{self, CheckFlags, Command, DoctorFlags, Form, salvage},
    config::{
        Config, ConfigError, Gathered, Loaded, Sources, log_format, process_environment, schema,
    },
    demo, doctor,
    local_ca::{self, Collision},
    local_token,
    output::Output,
    sandbox::{Sandbox, Writable},
    server::{InheritError, Inherited},
    status,
    telemetry::{
        self, LogFormat,
        log::{self, LogWriter},
    },
    version, wait,
};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let code = match cli::parse(std::env::args_os()) {
        Ok(command) => run(command).unwrap_or_else(|error| failed(&error)),
        Err(error) => respond(&error),
    };
    log::finish();
    code
}

/// Help and the version, or a word on a command line that is wrong.
fn respond(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let text = error.render();
        return print(&text).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS);
    }
    let flags = salvage(std::env::args_os());
    let sources = flags.map(|flags| Sources::new(flags, process_environment()));
    match sources.as_ref().map(log_format) {
        Some(LogFormat::Json) => {
            log::open(LogFormat::Json);
            log::fail(&error.to_string());
        }
        // Whoever is away does not hear of it.
        _ => drop(error.print()),
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // The demo loads a configuration too.
    if let Some(wrong) = error.downcast_ref::<ConfigError>() {
        return misused(wrong);
    }
    log::fail(&format!("auth-sidecar: {error:#}"));
    if error.is::<InheritError>() || error.is::<Collision>() {
        ExitCode::from(MISUSED)
    } else {
        ExitCode::FAILURE
    }
}

/// Each problem is a line of its own.
fn misused(wrong: &ConfigError) -> ExitCode {
    for problem in wrong.problems() {
        log::fail(&problem.to_string());
    }
    ExitCode::from(MISUSED)
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    // Before anything is read that somebody could want to see.
    let sandbox = Sandbox::close();
    match command {
        Command::Run(flags) => {
            let sources = Sources::new(flags, process_environment());
            let gathered = Gathered::of(&sources);
            log::open(gathered.log_format());
            // Before anything else is opened, and before the first other thread.
            let names = sources.variable("LISTEN_FDNAMES");
            let for_process = sources.variable("LISTEN_PID");
            let inherited = Inherited::take(names, for_process)?;
            let manager = ServiceManager::at(sources.variable("NOTIFY_SOCKET"));
            let Loaded { config, file, .. } = gathered.load(Some(inherited.clone()))?;
            let sources = sources.with_sockets(inherited);
            telemetry::log_to(&config.log, || LogWriter)?;
            announce(&config, file.as_deref());
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            // Before the first other thread: they get it from this one.
            if config.process.sandbox {
                let restricted = sandbox.restrict(&config.writable());
                tracing::info!("sandbox: {restricted}");
            } else {
                sandbox.open();
            }
            log::start();
            block_on(async {
                let app = App::bind(config)?.reloading(sources, file);
                app.managed_by(manager).run(shutdown_signal()?).await
            })?;
        }
        Command::Check(flags) => return check(flags),
        Command::Doctor(flags) => return examine(flags, sandbox),
        Command::Demo(flags) => {
            let settings = flags.log_settings();
            log::open(settings.format);
            telemetry::log_to(&settings, || LogWriter)?;
            tracing::info!("sandbox: {}", sandbox.restrict(&Writable::default()));
            log::start();
            block_on(async {
                // The whole program is in it: too large for the stack of whoever polls it.
                let mut output = Output::extra();
                Box::pin(demo::run(flags.into(), &mut output, shutdown_signal()?)).await
            })?;
        }
        Command::LocalCa(flags) => local_ca::make(&flags.wish(), &mut Output::asked_for())?,
        Command::LocalToken(flags) => local_token::make(
            &flags.name,
            flags.file.as_deref(),
            &mut io::stdout(),
            &mut LogWriter,
        )?,
        Command::Token(flags) => {
            let environment = process_environment();
            block_on(async { flags.run(environment, &mut io::stdout()).await })?;
        }
        Command::Wait(flags) => {
            let address = flags.running.address(process_environment())?;
            log::start();
            block_on(wait::until_ready(&address, flags.timeout, &mut LogWriter))?;
        }
        Command::Status(flags) => {
            let address = flags.running.address(process_environment())?;
            let asked = block_on(status::ask(&address))?;
            match flags.output {
                Form::Text => print(&asked)?,
                Form::Json => print(&asked.json())?,
            }
            return Ok(ExitCode::from(asked.exit_code()));
        }
        Command::Schema => print_json(&schema())?,
        Command::Completions(flags) => {
            cli::manual::completions(flags.shell, &mut Output::asked_for())?;
        }
        Command::Man(flags) => {
            cli::manual::pages(flags.directory.as_deref(), &mut Output::asked_for())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(flags: CheckFlags) -> anyhow::Result<ExitCode> {
    let CheckFlags {
        flags,
        changed,
        output: form,
    } = flags;
    let loaded = Config::load(&Sources::new(flags, process_environment()));
    match (form, loaded) {
        (Form::Text, loaded) => {
            print(&loaded?.table(changed))?;
        }
        (Form::Json, Ok(loaded)) => print_json(&loaded.json(changed))?,
        (Form::Json, Err(wrong)) => {
            print_json(&wrong.json())?;
            return Ok(ExitCode::from(MISUSED));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn examine(flags: DoctorFlags, sandbox: Sandbox) -> anyhow::Result<ExitCode> {
    let DoctorFlags {
        flags,
        path,
        output: form,
    } = flags;
    let sources = Sources::new(flags, process_environment());
    let loaded = match Config::load(&sources) {
        Ok(loaded) => loaded,
        Err(wrong) => {
            if form == Form::Text {
                block_on(async {
                    let mut output = Output::asked_for();
                    let report = doctor::Lines::new(&mut output);
                    Ok(doctor::ask_running(&sources, report).await?)
                })?;
            }
            return Err(wrong.into());
        }
    };
    if loaded.config.process.sandbox {
        // The token call that it makes may rotate the refresh token.
        let tokens = loaded.config.refresh_token_directory();
        drop(sandbox.restrict(&Writable {
            tokens: tokens.into_iter().collect(),
            ..Writable::default()
        }));
    }
    let healthy = block_on(async {
        let mut output = Output::asked_for();
        match form {
            Form::Text => {
                let report = doctor::Lines::new(&mut output);
                Ok(doctor::examine(&loaded, path.as_deref(), report).await?)
            }
            Form::Json => {
                let report = doctor::Document::new(&mut output);
                Ok(doctor::examine(&loaded, path.as_deref(), report).await?)
            }
        }
    })?;
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&format_args!("{value:#}\n"))
}

/// Prints what somebody has asked for.
fn print(text: &impl Display) -> anyhow::Result<()> {
    let mut output = Output::asked_for();
    write!(output, "{text}")?;
    Ok(output.flush()?)
}

/// The first line of the log: what runs, with what, between whom.
fn announce(config: &Config, file: Option<&Path>) {
    let listeners: Vec<String> = config
        .listen
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    tracing::info!(
        version = version::VERSION,
        commit = version::COMMIT,
        // Left out where there is none.
        config_file = file.map(|file| file.display().to_string()),
        credential = config.auth.kind,
        token_service = config.auth.token_service(),
        upstream = %config.upstream.url,
        listeners = listeners.join(", "),
        "auth-sidecar starts"
    );
}

const MISUSED: u8 = 2;

/// Runs the control plane: signals, the refresher, the admin listener. The data plane has its own
/// threads.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A name lookup that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}
