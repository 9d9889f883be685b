//! `auth-sidecar local-token NAME --file FILE`: the list has the line of a token that was shown, and is
//! never half written, whatever happens meanwhile.

use std::{
    fs::{self, File, Permissions},
    io::pipe,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use auth_sidecar::client_token::{ClientTokens, Hash};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use tempfile::TempDir;

use crate::support::ended;

const NOTHING: [PathBuf; 0] = [];

/// A list, in a directory of its own.
struct List {
    directory: TempDir,
    path: PathBuf,
}

impl List {
    fn of(text: &str) -> Self {
        let list = Self::missing();
        fs::write(&list.path, text).unwrap();
        list
    }

    fn missing() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clients");
        Self { directory, path }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    /// The names of everybody who is let in.
    fn names(&self) -> Vec<String> {
        let tokens = ClientTokens::read(&self.path).unwrap();
        tokens.iter().map(|(name, _)| name.to_string()).collect()
    }

    /// What else lies beside it.
    fn beside(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| *path != self.path).collect()
    }
}

fn command(name: &str, file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"));
    command
        .args(["local-token", name, "--file"])
        .arg(file)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn made(name: &str, file: &Path) -> Output {
    ended(command(name, file).spawn().unwrap())
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn line(name: &str) -> String {
    format!("{name}:{}\n", Hash::of(name.as_bytes()))
}

#[test]
fn a_token_that_cannot_be_shown_leaves_no_line() {
    let before = format!("# who may\n{}", line("first"));
    let nobody = || {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for output in [&nobody as &dyn Fn() -> Stdio, &full] {
        let list = List::of(&before);
        let child = command("second", &list.path).stdout(output()).spawn();
        let failed = ended(child.unwrap());
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        let said = stderr(&failed);
        assert!(said.contains("cannot be shown"), "{said}");
        assert_eq!(list.text(), before);
        assert_eq!(list.beside(), NOTHING);
        // Nor is a list made of nothing.
        let list = List::missing();
        let child = command("second", &list.path).stdout(output()).spawn();
        assert_eq!(ended(child.unwrap()).status.code(), Some(1));
        assert!(!list.path.exists());
        assert_eq!(list.beside(), NOTHING);
    }
}

/// What becomes of the command for each of these names, all of them at one moment.
fn at_once(names: &[String], list: &List) -> Vec<Output> {
    let (start, go) = pipe().unwrap();
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", "read go; exec \"$@\"", "sh"])
                .arg(env!("CARGO_BIN_EXE_auth-sidecar"))
                .args(["local-token", name, "--file"])
                .arg(&list.path)
                .env_clear()
                .stdin(start.try_clone().unwrap())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            shell.spawn().unwrap()
        })
        .collect();
    drop(go);
    children.into_iter().map(ended).collect()
}

/// Whether the list has the hash of the token that was shown.
fn is_in(list: &List, output: &Output) -> bool {
    let token = String::from_utf8(output.stdout.clone()).unwrap();
    let hash = Hash::of(token.trim_end().as_bytes()).to_string();
    list.text().contains(&hash)
}

#[test]
fn several_at_once_with_one_name_make_one_line() {
    const TIMES: usize = 6;
    // Long, so that reading it takes a while.
    let list = List::of(&format!("# who may{}\n", "\n#".repeat(100_000)));
    let outputs = at_once(&vec!["same".to_owned(); TIMES], &list);
    let (good, bad): (Vec<_>, Vec<_>) = outputs
        .into_iter()
        .partition(|output| output.status.success());
    assert_eq!(list.names(), ["same"]);
    assert_eq!((good.len(), bad.len()), (1, TIMES - 1));
    assert!(is_in(&list, &good[0]));
    for refused in bad {
        assert!(refused.stdout.is_empty(), "{refused:?}");
        let said = stderr(&refused);
        assert!(said.contains("a line for same already"), "{said}");
    }
}

#[test]
fn several_at_once_with_names_of_their_own_are_all_let_in() {
    let names: Vec<_> = (0..6).map(|number| format!("client-{number}")).collect();
    // One of them makes the list.
    let list = List::missing();
    for output in at_once(&names, &list) {
        assert!(output.status.success(), "{output:?}");
        assert!(is_in(&list, &output));
    }
    assert_eq!(list.names().len(), names.len());
    assert_eq!(list.beside(), NOTHING);
    let mode = fs::metadata(&list.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_disk_that_is_full_leaves_the_list_as_it_was() {
    // A bound of the file's size, which ends a write in its midst as a full disk does.
    const BLOCKS: usize = 8;
    let comment = "# ".to_owned() + &"x".repeat(BLOCKS * 512 - 2 - 1 - 40) + "\n";
    let list = List::of(&comment);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\""])
        .arg(BLOCKS.to_string())
        .arg(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(["local-token", "a", "--file"])
        .arg(&list.path)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let failed = ended(shell.spawn().unwrap());
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(failed.stdout.is_empty(), "{failed:?}");
    assert_eq!(list.text(), comment);
    assert_eq!(list.beside(), NOTHING);
}

#[test]
fn a_list_keeps_its_owner_and_mode_and_a_link_to_it_stays_one() {
    let list = List::of("# who may\n");
    fs::set_permissions(&list.path, Permissions::from_mode(0o640)).unwrap();
    if rustix::process::getuid().is_root() {
        chown(&list.path, Some(65_533), Some(65_534)).unwrap();
    }
    let look = |path: &Path| {
        let found = fs::metadata(path).unwrap();
        (found.mode(), found.uid(), found.gid(), found.ino())
    };
    let before = look(&list.path);
    let elsewhere = tempfile::tempdir().unwrap();
    let (link, second) = (
        elsewhere.path().join("link"),
        elsewhere.path().join("second"),
    );
    symlink(&list.path, &link).unwrap();
    symlink("link", &second).unwrap();
    assert!(made("by-path", &list.path).status.success());
    // Another file in its place: whoever reads meanwhile has the old one or the new one, whole. (The one
    // after that may have the number of the first again.)
    assert_ne!(look(&list.path).3, before.3);
    assert!(made("by-link", &second).status.success());
    assert_eq!(list.names(), ["by-path", "by-link"]);
    let after = look(&list.path);
    assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2));
    for link in [&link, &second] {
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    }
    // One that leads nowhere yet makes what it names.
    let (new, to_new) = (
        list.directory.path().join("new"),
        elsewhere.path().join("to"),
    );
    symlink(&new, &to_new).unwrap();
    assert!(made("a", &to_new).status.success());
    assert!(fs::symlink_metadata(&to_new).unwrap().is_symlink());
    assert_eq!(ClientTokens::read(&new).unwrap().len(), 1);
}

#[test]
fn a_list_that_another_program_holds_is_an_error_and_no_hang() {
    let list = List::of(&line("first"));
    let holder = File::open(&list.path).unwrap();
    flock(&holder, FlockOperation::LockExclusive).unwrap();
    let failed = made("second", &list.path);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = stderr(&failed);
    assert!(
        said.contains(list.path.to_str().unwrap()) && said.contains("another program"),
        "{said}"
    );
    drop(holder);
    assert!(made("second", &list.path).status.success());
}

#[test]
fn what_is_no_file_is_an_error_that_names_it() {
    let list = List::missing();
    mknodat(CWD, &list.path, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for path in [
        list.path.as_path(),
        directory.path(),
        Path::new("/dev/zero"),
        Path::new("/dev/null"),
    ] {
        let failed = made("a", path);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        let said = stderr(&failed);
        assert!(
            said.contains(path.to_str().unwrap()) && said.contains("regular file"),
            "{said}"
        );
        assert!(failed.stdout.is_empty(), "{failed:?}");
    }
    assert_eq!(list.beside(), NOTHING);
}
