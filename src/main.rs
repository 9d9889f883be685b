//! From the command line to an exit code: 0 stopped as asked, 1 failed at run time, 2 wrong
//! command line or configuration.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use auth_sidecar::{
    app::{App, ServiceManager, shutdown_signal},
    cli::{Cli, Command, DoctorFlags},
    config::{Config, ConfigError, Loaded, Sources, process_environment},
    demo, doctor, local_ca, local_token,
    sandbox::Sandbox,
    server::{InheritError, Inherited},
    telemetry, wait,
};
use clap::Parser;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let command = Cli::parse().command();
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("auth-sidecar: {error:#}"));
            // The demo loads a configuration too.
            if error.is::<ConfigError>() || error.is::<InheritError>() {
                ExitCode::from(MISUSED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    // Before anything is read that somebody could want to see.
    let sandbox = Sandbox::close();
    match command {
        Command::Run(flags) => {
            let sources = Sources::new(flags, process_environment());
            // Before anything else is opened, and before the first other thread.
            let names = sources.variable("LISTEN_FDNAMES");
            let for_process = sources.variable("LISTEN_PID");
            let inherited = Inherited::take(names, for_process)?;
            let manager = ServiceManager::at(sources.variable("NOTIFY_SOCKET"));
            let sources = sources.with_sockets(inherited);
            let Some(Loaded { config, file, .. }) = load(&sources) else {
                return Ok(ExitCode::from(MISUSED));
            };
            telemetry::log_to(&config.log, io::stderr)?;
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            // Before the first other thread: they get it from this one.
            if config.process.sandbox {
                let restricted = sandbox.restrict(&config.socket_directories());
                tracing::info!("sandbox: {restricted}");
            } else {
                sandbox.open();
            }
            block_on(async {
                let app = App::bind(config)?.reloading(sources, file);
                app.managed_by(manager).run(shutdown_signal()?).await
            })?;
        }
        Command::Check(flags) => match load(&Sources::new(flags, process_environment())) {
            Some(loaded) => write!(io::stdout(), "{loaded}")?,
            None => return Ok(ExitCode::from(MISUSED)),
        },
        Command::Doctor(DoctorFlags { flags, path }) => {
            let Some(loaded) = load(&Sources::new(flags, process_environment())) else {
                return Ok(ExitCode::from(MISUSED));
            };
            if loaded.config.process.sandbox {
                drop(sandbox.restrict(&[]));
            }
            let mut healthy = false;
            block_on(async {
                healthy = doctor::examine(&loaded, path.as_deref(), &mut io::stdout()).await?;
                Ok(())
            })?;
            if !healthy {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Demo(flags) => {
            telemetry::log_to(&flags.log_settings(), io::stderr)?;
            tracing::info!("sandbox: {}", sandbox.restrict(&[]));
            block_on(async {
                // The whole program is in it: too large for the stack of whoever polls it.
                let mut stdout = io::stdout();
                Box::pin(demo::run(flags.into(), &mut stdout, shutdown_signal()?)).await
            })?;
        }
        Command::LocalCa(flags) => local_ca::make(&flags.wish(), &mut io::stdout())?,
        Command::LocalToken(flags) => local_token::make(
            &flags.name,
            flags.file.as_deref(),
            &mut io::stdout(),
            &mut io::stderr(),
        )?,
        Command::Wait(flags) => {
            block_on(wait::until_ready(&flags.admin, flags.timeout))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const MISUSED: u8 = 2;

/// The configuration, or a word on everything that is wrong with it.
fn load(sources: &Sources) -> Option<Loaded> {
    Config::load(sources)
        .inspect_err(|error| say(&error.to_string()))
        .ok()
}

/// Runs the control plane: signals, the refresher, the admin listener. The data plane has its own
/// threads.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A name lookup that hangs must not hold up the end.
    runtime.shutdown_background();
    result
}

fn say(text: &str) {
    // Nobody is left to tell when standard error is gone.
    drop(writeln!(io::stderr(), "{text}"));
}
