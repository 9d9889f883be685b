//! What command lines come to.

use clap::error::ErrorKind;

use super::{parse as parse_line, *};

fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
    let arguments = ["auth-sidecar"].iter().chain(arguments);
    parse_line(arguments.map(OsString::from))
}

#[test]
fn the_definition_is_sound() {
    <Cli as CommandFactory>::command().debug_assert();
}

#[test]
fn no_command_is_run() {
    for arguments in [
        &["--listen", "l", "--log-level", "debug"][..],
        &["run", "--listen", "l", "--log-level", "debug"],
    ] {
        let Ok(Command::Run(flags)) = parse(arguments) else {
            panic!("{arguments:?}")
        };
        assert_eq!(flags.listen.as_deref(), Some("l"));
        assert_eq!(flags.log_level.as_deref(), Some("debug"));
    }
    assert!(matches!(
        parse(&["check", "--upstream", "u"]),
        Ok(Command::Check(_))
    ));
}

#[test]
fn waiting_has_defaults() {
    let Ok(Command::Wait(flags)) = parse(&["wait"]) else {
        panic!()
    };
    let address = flags.running.address(Vec::new()).unwrap();
    assert_eq!(address.to_string(), "127.0.0.1:9798");
    assert_eq!(flags.timeout, Duration::from_secs(60));
    assert!(parse(&["wait", "--timeout", "60"]).is_err());
}

#[test]
fn options_may_stand_before_the_command() {
    for arguments in [
        &["check", "--config", "x", "--changed"][..],
        &["--config", "x", "check", "--changed"],
        &["--changed", "--config=x", "check"],
    ] {
        let Ok(Command::Check(CheckFlags { flags, changed, .. })) = parse(arguments) else {
            panic!("{arguments:?}")
        };
        assert_eq!(flags.config, Some(PathBuf::from("x")));
        assert!(changed);
    }
    let Ok(Command::Wait(flags)) = parse(&["--timeout", "2s", "wait"]) else {
        panic!()
    };
    assert_eq!(flags.timeout, Duration::from_secs(2));
    // The value of an option is no command.
    assert!(matches!(parse(&["--config", "check"]), Ok(Command::Run(_))));
}

#[test]
fn a_slip_earns_a_suggestion() {
    for (arguments, meant) in [
        (&["chekc"][..], "'check'"),
        (&["--config", "x", "chekc"], "'check'"),
        (&["check", "--confg", "x"], "'--config'"),
        (&["--confg", "x", "check"], "'--config'"),
        (&["check", "--output", "jsno"], "'json'"),
        (&["completions", "bsh"], "'bash'"),
    ] {
        let error = parse(arguments).unwrap_err().to_string();
        assert!(
            error.contains("similar") && error.contains(meant),
            "{error}"
        );
    }
}

#[test]
fn every_command_and_option_has_a_help_text() {
    let program = Cli::command();
    for command in program.get_subcommands() {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name}");
        for option in command.get_arguments() {
            assert!(option.get_help().is_some(), "{name} {}", option.get_id());
        }
    }
}

#[test]
fn completions_and_manual_pages_name_every_command_and_option() {
    let mut bash = Vec::new();
    manual::completions(clap_complete::Shell::Bash, &mut bash).unwrap();
    let bash = String::from_utf8(bash).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    manual::pages(Some(directory.path()), &mut names).unwrap();
    let names = String::from_utf8(names).unwrap();
    let page = |name: &str| {
        let path = directory.path().join(format!("{name}.1"));
        assert!(names.contains(path.to_str().unwrap()), "{names}");
        std::fs::read_to_string(path).unwrap()
    };
    let program = Cli::command();
    let whole = page("auth-sidecar");
    for command in program.get_subcommands() {
        let name = command.get_name();
        assert!(bash.contains(name), "{name}");
        assert!(whole.contains(&name.replace('-', "\\-")), "{name}: {whole}");
        let page = page(&format!("auth-sidecar-{name}"));
        for option in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(bash.contains(&format!("--{option}")), "{name} {option}");
            let written = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(page.contains(&written), "{name} {option}: {page}");
        }
    }
    let mut shown = Vec::new();
    manual::pages(None, &mut shown).unwrap();
    assert_eq!(String::from_utf8(shown).unwrap(), whole);
}

#[test]
fn a_local_token_needs_a_name_that_is_one() {
    let Ok(Command::LocalToken(flags)) = parse(&["local-token", "grafana"]) else {
        panic!()
    };
    assert_eq!((flags.name.as_str(), flags.file), ("grafana", None));
    for wrong in [&["local-token"][..], &["local-token", "a b"]] {
        assert_eq!(parse(wrong).unwrap_err().exit_code(), 2);
    }
}

#[test]
fn a_local_authority_needs_a_directory_and_names_that_are_some() {
    let sound = [
        "local-ca",
        "--dir",
        "d",
        "proxy.example",
        "192.0.2.7",
        "--client",
        "a",
    ];
    assert!(matches!(parse(&sound), Ok(Command::LocalCa(_))));
    for wrong in [
        &["local-ca"][..],
        &["local-ca", "--dir", "d", "*.example"],
        &["local-ca", "--dir", "d", "https://h.example"],
        &["local-ca", "--dir", "d", "--client", "../a"],
    ] {
        assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
    }
}

#[test]
fn a_demo_is_quiet_unless_asked() {
    let Ok(Command::Demo(flags)) = parse(&["demo"]) else {
        panic!()
    };
    assert_eq!(flags.log_settings().level, "warn");
    assert!(parse(&["demo", "--log-level", "inof"]).is_err());
    assert!(parse(&["demo", "--log-format", "xml"]).is_err());
}

#[test]
fn misuse_exits_with_2_and_help_with_0() {
    for (arguments, code) in [
        (&["--nonsense"][..], 2),
        (&["nonsense"], 2),
        (&["--listen", "l", "local-ca", "--dir", "d"], 2),
        (&["--config", "x", "check", "--config", "y"], 2),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&["--version"], 0),
    ] {
        let error = parse(arguments).unwrap_err();
        assert_eq!(error.exit_code(), code, "{arguments:?}");
    }
}

#[test]
fn secrets_are_no_flags_and_do_not_show_when_tried() {
    for flag in ["--client-secret", "--api-token", "--token"] {
        let error = parse(&[&format!("{flag}=canary")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownArgument);
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn help_says_how_to_start() {
    let help = <Cli as CommandFactory>::command()
        .render_long_help()
        .to_string();
    for word in [
        "WAVEFRONT_URL",
        "CSP_APP_ID",
        "CSP_APP_SECRET",
        "CSP_ORG_ID",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word}");
    }
}
