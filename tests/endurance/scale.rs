//! How much of a check is run, and from which seed.

use std::fmt;

/// One run of a check.
#[derive(Debug)]
pub struct Scale {
    check: &'static str,
    is_full: bool,
    pub seed: u64,
}

impl Scale {
    /// As the environment says.
    pub fn of(check: &'static str) -> Self {
        let seed = variable("ENDURANCE_SEED")
            .map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
        let scale = Self {
            check,
            is_full: variable("ENDURANCE").is_some_and(|scale| scale == "full"),
            seed,
        };
        scale.row("seed", &seed);
        scale
    }

    /// The first among the other tests, the second by itself.
    pub fn pick<T>(&self, short: T, full: T) -> T {
        if self.is_full { full } else { short }
    }

    /// A line of the account.
    #[expect(
        clippy::print_stdout,
        reason = "the account is what these checks are for"
    )]
    pub fn row(&self, name: &str, value: &dyn fmt::Display) {
        println!("{}: {name:<28} {value}", self.check);
    }

    /// Fails with what went wrong, and how to see it again.
    pub fn conclude(&self, problems: &[String]) {
        let shown: Vec<_> = problems.iter().take(10).map(String::as_str).collect();
        assert!(
            problems.is_empty(),
            "{} problems; ENDURANCE_SEED={}:\n{}",
            problems.len(),
            self.seed,
            shown.join("\n")
        );
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the parameters of a command that is a test; the sidecar never sees them"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
