//! The command line as it is typed: order, slips, the version, and what is made of its definition.

use std::process::{Command, Output, Stdio};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_option_in_front_of_the_command_is_that_of_the_command() {
    for arguments in [
        ["--config", "nowhere.toml", "check"],
        ["check", "--config", "nowhere.toml"],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("cannot read the file nowhere.toml"), "{said}");
    }
    let output = run(&["--config", "nowhere.toml", "local-token", "a"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("'--config'"),
        "{said}"
    );
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    for (arguments, meant) in [
        (&["chekc"][..], "check"),
        (&["stauts"], "status"),
        (&["--confg", "x"], "--config"),
        (&["wait", "--timout", "1s"], "--timeout"),
    ] {
        let output = run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains("similar") && said.contains(meant), "{said}");
    }
}

#[test]
fn the_version_names_the_commit_and_what_is_in_the_program() {
    use auth_sidecar::version::{COMMIT, FEATURES, SHORT};

    assert_eq!(stdout(&["-V"]), format!("auth-sidecar {SHORT}\n"));
    let long = stdout(&["--version"]);
    assert!(
        long.starts_with(&format!("auth-sidecar {SHORT}\n")),
        "{long}"
    );
    for feature in FEATURES {
        assert!(long.contains(feature), "{long}");
    }
    let git = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    // A source archive has none.
    if let Some(git) = git.ok().filter(|git| git.status.success()) {
        assert!(String::from_utf8(git.stdout).unwrap().starts_with(COMMIT));
    }
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&["completions", shell]);
        for word in ["auth-sidecar", "local-ca", "client", "changed"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_are_written_where_they_are_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("man/man1");
    let names = stdout(&["man", place.to_str().unwrap()]);
    let page = place.join("auth-sidecar-doctor.1");
    assert!(
        names.lines().any(|name| name == page.to_str().unwrap()),
        "{names}"
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains(".TH") && page.contains("Exit codes"),
        "{page}"
    );
    assert!(stdout(&["man"]).contains(".TH"));

    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = run(&["man", file.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

#[test]
fn what_was_asked_for_and_cannot_be_printed_is_a_failure_of_every_command() {
    let printing: [&[&str]; 9] = [
        &["--help"],
        &["-h"],
        &["--version"],
        &["-V"],
        &["help", "check"],
        &["check", "--help"],
        &["schema"],
        &["completions", "bash"],
        &["man"],
    ];
    for arguments in printing {
        let to = |out: Stdio| {
            Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
                .args(arguments)
                .env_clear()
                .stdin(Stdio::null())
                .stdout(out)
                .output()
                .unwrap()
        };
        let full = std::fs::File::options().write(true).open("/dev/full");
        let failed = to(full.unwrap().into());
        assert_eq!(failed.status.code(), Some(1), "{arguments:?}: {failed:?}");
        let said = String::from_utf8(failed.stderr).unwrap();
        assert!(
            said.lines().count() == 1 && said.contains("cannot write to standard output"),
            "{arguments:?}: {said}"
        );
        // Who reads no further has what they wanted.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = to(writer.into());
        assert_eq!(unread.status.code(), Some(0), "{arguments:?}: {unread:?}");
        assert!(unread.stderr.is_empty(), "{arguments:?}: {unread:?}");
    }
}
