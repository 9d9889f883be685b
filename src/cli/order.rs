//! The order of a command line: options may stand before the command, where many programs take them.

use std::ffi::OsString;

/// The same command line with the command first: `--config x check` is `check --config x`. Whether
/// the command takes the option is then its own affair. An option that no command has stays where it
/// is, so that the complaint names it.
pub(super) fn command_first(
    mut arguments: Vec<OsString>,
    program: &clap::Command,
) -> Vec<OsString> {
    if let Some(place) = command_at(&arguments, program)
        && let Some(up_to_command) = arguments.get_mut(1..=place)
    {
        up_to_command.rotate_right(1);
    }
    arguments
}

/// Where the command stands, if nothing in front of it is unknown.
fn command_at(arguments: &[OsString], program: &clap::Command) -> Option<usize> {
    let mut place = 1;
    loop {
        let text = arguments.get(place)?.to_str()?;
        let Some(option) = text.strip_prefix("--").filter(|name| !name.is_empty()) else {
            return (!text.starts_with('-')).then_some(place);
        };
        let (name, has_value) = match option.split_once('=') {
            Some((name, _)) => (name, true),
            None => (option, false),
        };
        place += if takes_value(program, name)? && !has_value {
            2
        } else {
            1
        };
    }
}

/// Whether an option of any command is followed by a value; `None` for one that nobody has.
fn takes_value(program: &clap::Command, name: &str) -> Option<bool> {
    let commands = std::iter::once(program).chain(program.get_subcommands());
    let mut options = commands.flat_map(clap::Command::get_arguments);
    let found = options.find(|option| option.get_long() == Some(name))?;
    Some(found.get_action().takes_values())
}
