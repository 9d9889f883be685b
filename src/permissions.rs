//! Who else may write to a file, or read it: the owners and modes of the file and of every directory
//! on the way to it.
//!
//! Nobody else: neither root nor the user of this process. A group whose only member is the owner
//! of the file is nobody else either: where each user has a group of their own, new files are
//! writable by it. (Not that of root: containers put users of any number into it.) Nor does anybody
//! write to what is mounted to be read alone.

mod guarded;

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{StatVfs, StatVfsMountFlags, statvfs};

pub use self::guarded::GuardedFiles;

/// A place that others may write to, and what takes that away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writable {
    /// By the mode of a file or directory.
    ByMode(PathBuf),
    /// By its owner, the user of this number.
    ByOwner(PathBuf, u32),
}

impl fmt::Display for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByMode(path) => {
                let path = path.display();
                write!(
                    f,
                    "others than its owner can write to {path}; chmod go-w {path} takes that away"
                )
            }
            Self::ByOwner(path, owner) => {
                let path = path.display();
                write!(
                    f,
                    "user {owner} owns {path} and so can write to it; chown it to root or to the \
                     user of the sidecar"
                )
            }
        }
    }
}

/// What others could do in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Put a file of theirs in the place of ours: not where the sticky bit is set.
    Replace,
    /// Take a name that is free.
    Take,
}

/// The first place on the way to a file, or the file itself, by which others can change what is
/// found under its path. One that does not exist is nobody's.
#[must_use]
pub fn writable_by_others(path: &Path) -> Option<Writable> {
    ways(path).iter().find_map(|path| {
        let reached = walk(path.parent()?, Harm::Replace)?;
        let found = fs::metadata(path).ok()?;
        match reached {
            Reached::Writable(writable) => Some(writable),
            Reached::Open { .. } => written(path, &found, false),
            Reached::Closed => None,
        }
    })
}

/// The first place by which others can put a file of theirs in the place of one that is made anew at
/// each start, as a socket is.
#[must_use]
pub fn takeable_by_others(path: &Path) -> Option<Writable> {
    ways(path.parent()?).iter().find_map(|directory| {
        let reached = walk(directory, Harm::Take)?;
        match reached {
            Reached::Writable(writable) => Some(writable),
            Reached::Open { .. } | Reached::Closed => None,
        }
    })
}

/// What takes it away that every user of this machine can read a file.
pub const KEEP_FROM_OTHERS: &str =
    "chmod o-r takes that away, in a pod defaultMode 0440 with fsGroup";

/// Whether every user of this machine can read a file.
#[must_use]
pub fn readable_by_all(path: &Path) -> bool {
    let is_open = |path: &PathBuf| {
        let reached = path.parent().and_then(|parent| walk(parent, Harm::Replace));
        match reached {
            Some(Reached::Open { to_all }) => to_all,
            Some(Reached::Writable(_)) => true,
            Some(Reached::Closed) | None => false,
        }
    };
    let is_readable = fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0);
    is_readable && ways(path).iter().all(is_open)
}

/// How far others get on the way to a directory.
enum Reached {
    /// Others can change what is found there.
    Writable(Writable),
    /// Others can look into it; all of them, or a group.
    Open { to_all: bool },
    /// Others cannot even look into it.
    Closed,
}

/// The path as it is written, and as it is behind its links.
fn ways(path: &Path) -> Vec<PathBuf> {
    let mut ways: Vec<_> = std::path::absolute(path).into_iter().collect();
    ways.extend(fs::canonicalize(path));
    ways.dedup();
    ways
}

/// Goes from the root to a directory. `None` where there is none.
fn walk(directory: &Path, harm: Harm) -> Option<Reached> {
    let mut to_all = true;
    let ancestors: Vec<&Path> = directory.ancestors().collect();
    for path in ancestors.into_iter().rev() {
        let found = fs::metadata(path).ok()?;
        let takes = harm == Harm::Take && path == directory;
        if let Some(writable) = written(path, &found, !takes) {
            return Some(Reached::Writable(writable));
        }
        if found.mode() & 0o011 == 0 {
            return Some(Reached::Closed);
        }
        to_all &= found.mode() & 0o001 != 0;
    }
    Some(Reached::Open { to_all })
}

/// Whether others can write to one file or directory that they can reach.
fn written(path: &Path, found: &fs::Metadata, spares_sticky: bool) -> Option<Writable> {
    // As the volumes of Kubernetes are, whatever their mode.
    let is_read_only = |found: StatVfs| found.f_flag.contains(StatVfsMountFlags::RDONLY);
    if statvfs(path).is_ok_and(is_read_only) {
        return None;
    }
    let owner = found.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Some(Writable::ByOwner(path.to_owned(), owner));
    }
    let mode = found.mode();
    if found.is_dir() && spares_sticky && mode & 0o1000 != 0 {
        return None;
    }
    let by_group = mode & 0o020 != 0 && !is_alone(found.gid(), owner);
    (by_group || mode & 0o002 != 0).then(|| Writable::ByMode(path.to_owned()))
}

/// Whether a group is the owner's own, with no other member.
fn is_alone(group: u32, owner: u32) -> bool {
    if group == 0 {
        return false;
    }
    let user = User::from_uid(Uid::from_raw(owner)).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(group)).ok().flatten();
    user.zip(group).is_some_and(|(user, group)| {
        user.gid == group.gid && group.mem.iter().all(|member| *member == user.name)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_behind_a_link_and_what_holds_the_link_count_both() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        chmod(directory.path(), 0o755);
        for name in ["real", "links"] {
            fs::create_dir(at(name)).unwrap();
            chmod(&at(name), 0o755);
        }
        fs::write(at("real/file"), "x").unwrap();
        chmod(&at("real/file"), 0o644);
        std::os::unix::fs::symlink(at("real/file"), at("links/file")).unwrap();
        let link = at("links/file");
        assert_eq!(writable_by_others(&link), None);
        for place in ["real/file", "real", "links"] {
            let before = fs::metadata(at(place)).unwrap().mode();
            chmod(&at(place), before | 0o002);
            let found = writable_by_others(&link);
            assert!(matches!(found, Some(Writable::ByMode(_))), "{place}");
            chmod(&at(place), before);
        }
        assert!(readable_by_all(&link));
        chmod(&at("links"), 0o750);
        assert!(!readable_by_all(&link));
    }

    #[test]
    fn what_is_not_there_is_nobodys() {
        let missing = Path::new("/nonexistent/directory/file");
        assert_eq!(writable_by_others(missing), None);
        assert_eq!(takeable_by_others(missing), None);
        assert!(!readable_by_all(missing));
    }
}
