//! Landlock: no file is written, made, removed or executed, but that of the access log and that of a
//! refresh token.
//!
//! Reading stays as the permissions of the files have it. A new configuration may name other
//! secrets, certificates and trust stores at any time, and the resolver reads whatever the system's
//! own configuration names; what is read can leave only towards the configured upstream.
//!
//! Connections are not restricted either: the next configuration may name another port. Files
//! that are open already, as standard error, stay usable.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The newest interface that was tried. Newer kernels are asked for no more than this has, so an
/// update of the library restricts nothing that nobody has seen working.
const TRIED: ABI = ABI::V6;

/// Restricts this thread and those that it will start. Says what is in force, or why nothing is.
pub(super) fn restrict(
    socket_directories: &[PathBuf],
    log_directory: Option<&Path>,
    token_directories: &[PathBuf],
) -> Result<String, String> {
    let status = rules(socket_directories, log_directory, token_directories)
        .map_err(|error| format!("Landlock ({error})"))?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(format!("Landlock (version {effective_abi})"))
        }
        (RulesetStatus::PartiallyEnforced, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(format!("Landlock (version {effective_abi}, in part)"))
        }
        (_, LandlockStatus::NotEnabled) => Err("Landlock (not enabled)".to_owned()),
        _ => Err("Landlock".to_owned()),
    }
}

fn rules(
    socket_directories: &[PathBuf],
    log_directory: Option<&Path>,
    token_directories: &[PathBuf],
) -> Result<landlock::RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_write(TRIED) | AccessFs::Execute)?
        // Neither a signal nor a connection to the abstract socket of another process.
        .scope(Scope::from_all(TRIED))?
        .create()?;
    let sockets = AccessFs::MakeSock | AccessFs::RemoveFile;
    let log = AccessFs::MakeReg | AccessFs::WriteFile;
    // A file that is made beside another and then takes its place.
    let token = log | AccessFs::RemoveFile;
    let directories = socket_directories
        .iter()
        .map(|path| (path.as_path(), sockets));
    let tokens = token_directories.iter().map(|path| (path.as_path(), token));
    let directories = directories.chain(log_directory.map(|path| (path, log)));
    for (directory, rights) in directories.chain(tokens) {
        match PathFd::new(directory) {
            Ok(opened) => {
                rules = rules.add_rule(PathBeneath::new(opened, rights))?;
            }
            // Then the listener or the log cannot be made there either, and says so better.
            Err(error) => {
                tracing::debug!(%error, "a directory of sockets, of the access log or of a refresh token cannot be opened");
            }
        }
    }
    rules.restrict_self()
}
