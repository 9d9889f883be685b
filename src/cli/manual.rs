//! What is made of the definition of the command line: completions for shells, and manual pages.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use crate::version;

/// Prints the completions for a shell.
///
/// # Errors
/// When `out` cannot be written.
pub fn completions(shell: Shell, out: &mut impl Write) -> anyhow::Result<()> {
    // The library panics where it cannot write, which to memory it can.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "auth-sidecar", &mut script);
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Prints the page of the program, or writes those of all commands to a directory and prints their
/// names.
///
/// # Errors
/// When they cannot be written.
pub fn pages(directory: Option<&Path>, out: &mut impl Write) -> anyhow::Result<()> {
    let mut program = Cli::command().disable_help_subcommand(true);
    // Names each command in full, "auth-sidecar-check".
    program.build();
    match directory {
        None => page(program).render(out)?,
        Some(directory) => {
            fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            let commands: Vec<_> = program.get_subcommands().cloned().collect();
            for command in std::iter::once(program).chain(commands) {
                let path = write(&page(command), directory)?;
                writeln!(out, "{}", path.display())?;
            }
        }
    }
    Ok(out.flush()?)
}

fn page(command: clap::Command) -> Man {
    // The source of a page goes into its footer; a date there would make each build another.
    Man::new(command).source(format!("auth-sidecar {}", version::SHORT))
}

fn write(page: &Man, directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
