//! Landlock: no file is written, made, removed or executed, but where a configuration names files of
//! tokens.
//!
//! Reading stays as the permissions of the files have it. A new configuration may name other
//! secrets, certificates and trust stores at any time, and the resolver reads whatever the system's
//! own configuration names; what is read can leave only towards the configured upstream.
//!
//! Connections are not restricted either: the next configuration may name another port. Files
//! that are open already, as standard error, stay usable.

use std::path::PathBuf;

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
    token_directories: &[PathBuf],
) -> Result<String, String> {
    let status = rules(socket_directories, token_directories)
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
    token_directories: &[PathBuf],
) -> Result<landlock::RestrictionStatus, RulesetError> {
    let sockets = AccessFs::MakeSock | AccessFs::RemoveFile;
    let tokens = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::RemoveFile;
    let sockets = socket_directories.iter().map(|place| (place, sockets));
    let tokens = token_directories.iter().map(|place| (place, tokens));
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_write(TRIED) | AccessFs::Execute)?
        // Neither a signal nor a connection to the abstract socket of another process.
        .scope(Scope::from_all(TRIED))?
        .create()?;
    for (directory, rights) in sockets.chain(tokens) {
        match PathFd::new(directory) {
            Ok(opened) => {
                rules = rules.add_rule(PathBeneath::new(opened, rights))?;
            }
            // Then the socket or the file cannot be made there either, and says so better.
            Err(error) => tracing::debug!(%error, "a directory cannot be opened"),
        }
    }
    rules.restrict_self()
}
