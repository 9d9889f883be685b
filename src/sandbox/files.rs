//! Landlock: no file is written, made, removed or executed, but in the directories of [`Writable`].
//!
//! Reading stays as the permissions of the files have it. A new configuration may name other
//! secrets, certificates and trust stores at any time, and the resolver reads whatever the system's
//! own configuration names; what is read can leave only towards the configured upstream.
//!
//! Connections are not restricted either: the next configuration may name another port. Files
//! that are open already, as standard error, stay usable.

use landlock::{
    ABI, Access, AccessFs, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Writable;

/// The newest interface that was tried. Newer kernels are asked for no more than this has, so an
/// update of the library restricts nothing that nobody has seen working.
const TRIED: ABI = ABI::V6;

/// Restricts this thread and those that it will start. Says what is in force, or why nothing is.
pub(super) fn restrict(writable: &Writable) -> Result<String, String> {
    let status = rules(writable).map_err(|error| format!("Landlock ({error})"))?;
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

fn rules(writable: &Writable) -> Result<landlock::RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_write(TRIED) | AccessFs::Execute)?
        // Neither a signal nor a connection to the abstract socket of another process.
        .scope(Scope::from_all(TRIED))?
        .create()?;
    let log = AccessFs::MakeReg | AccessFs::WriteFile;
    let sockets = AccessFs::MakeSock | AccessFs::RemoveFile;
    let tokens = log | AccessFs::RemoveFile;
    let each = |directories, rights| Iterator::zip(directories, std::iter::repeat(rights));
    let directories = each(writable.sockets.iter(), sockets)
        .chain(each(writable.tokens.iter(), tokens))
        .chain(writable.log.iter().map(|directory| (directory, log)));
    for (directory, rights) in directories {
        match PathFd::new(directory) {
            Ok(opened) => {
                rules = rules.add_rule(PathBeneath::new(opened, rights))?;
            }
            // Then the socket or the file cannot be made there either, and that says so better.
            Err(error) => {
                let directory = directory.display();
                tracing::debug!(%directory, %error, "a writable directory cannot be opened");
            }
        }
    }
    rules.restrict_self()
}
