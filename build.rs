//! Finds out which commit is built, for `--version` and the log: that of the checkout, or where there
//! is none (a source archive, an image) what `AUTH_SIDECAR_COMMIT` says. No date and no path: the same
//! source gives the same program.

use std::{
    io::{self, Write},
    path::Path,
    process::Command,
};

fn main() -> io::Result<()> {
    let mut cargo = io::stdout();
    writeln!(cargo, "cargo:rerun-if-changed=build.rs")?;
    writeln!(cargo, "cargo:rerun-if-env-changed=AUTH_SIDECAR_COMMIT")?;
    let commit = of_checkout(&mut cargo)?.or_else(|| given("AUTH_SIDECAR_COMMIT"));
    for (name, value) in [
        ("AUTH_SIDECAR_COMMIT", commit),
        ("AUTH_SIDECAR_TARGET", given("TARGET")),
        ("AUTH_SIDECAR_PROFILE", given("PROFILE")),
    ] {
        let value = value.unwrap_or_else(|| "unknown".to_owned());
        writeln!(cargo, "cargo:rustc-env={name}={value}")?;
    }
    Ok(())
}

/// The commit of this checkout, if it is one, and not a directory within somebody else's.
fn of_checkout(cargo: &mut impl Write) -> io::Result<Option<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.join(".git").exists() {
        return Ok(None);
    }
    // Written by each commit and each checkout. What is missing would be looked for at every build.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| root.join(path).exists()) {
            writeln!(cargo, "cargo:rerun-if-changed={path}")?;
        }
    }
    Ok(git(&["rev-parse", "--short=12", "HEAD"]))
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let word = text.trim();
    (output.status.success() && !word.is_empty()).then(|| word.to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo talks to build scripts by the environment"
)]
fn given(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    // It becomes a line of what cargo reads.
    let is_word = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    is_word.then_some(value)
}
