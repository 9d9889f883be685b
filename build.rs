//! Tells the program which commit it is built from.
//!
//! `AUTH_SIDECAR_COMMIT` says so where there is no repository, as in an image that copies the sources.
//! Nothing else of the surroundings gets into the program, so that two builds of a commit are the
//! same. Builds for development do not ask: each commit would have everything built anew.

use std::{env, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=AUTH_SIDECAR_COMMIT");
    let given = variable("AUTH_SIDECAR_COMMIT").filter(|commit| is_commit(commit));
    let is_release = variable("PROFILE").is_some_and(|profile| profile == "release");
    let commit = given.or_else(|| is_release.then(of_repository).flatten());
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=AUTH_SIDECAR_COMMIT={commit}");
}

fn variable(name: &str) -> Option<String> {
    // Cargo tells a build script everything by its environment.
    #[expect(clippy::disallowed_methods, reason = "this is no part of the program")]
    env::var(name).ok()
}

/// The commit that is checked out, where the sources are a repository of their own and not a part of
/// another.
fn of_repository() -> Option<String> {
    let root = variable("CARGO_MANIFEST_DIR")?;
    if !Path::new(&root).join(".git").exists() {
        return None;
    }
    let head = git(&root, &["rev-parse", "--git-path", "logs/HEAD"])?;
    println!(
        "cargo::rerun-if-changed={}",
        Path::new(&root).join(head).display()
    );
    git(&root, &["rev-parse", "--short=12", "HEAD"]).filter(|commit| is_commit(commit))
}

fn git(root: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .current_dir(root)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn is_commit(text: &str) -> bool {
    (7..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
