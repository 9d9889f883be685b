//! The page: sections with words of people, and blocks of what the program says.

use std::path::{Path, PathBuf};

/// `docs/runbook.md`.
pub struct Book {
    path: PathBuf,
    found: String,
    lines: Vec<String>,
}

impl Book {
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
        let found = std::fs::read_to_string(&path).unwrap();
        let lines = found.lines().map(str::to_owned).collect();
        Self { path, found, lines }
    }

    pub fn headings(&self) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .filter_map(|line| line.strip_prefix("## "))
    }

    /// Puts what a voice says in place of what its block in that section holds.
    pub fn put(&mut self, heading: &str, voice: &str, said: &str) {
        let place = |from: usize, line: &str| {
            let found = self.lines[from..].iter().position(|found| found == line);
            from + found.unwrap_or_else(|| panic!("no {line} in {heading}"))
        };
        let section = place(0, &format!("## {heading}"));
        let begin = place(section, &format!("```text {voice}")) + 1;
        let end = place(begin, "```");
        let said = said.trim_end().lines().map(str::to_owned);
        self.lines.splice(begin..end, said);
    }

    /// Compares it with the file, or writes that.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever changes what the program says has the page written anew"
    )]
    pub fn compare(self) {
        let fresh = self.lines.join("\n") + "\n";
        if std::env::var_os("WRITE_RUNBOOK").is_some() {
            std::fs::write(&self.path, fresh).unwrap();
            return;
        }
        let mut lines = self.found.lines().zip(fresh.lines());
        let difference = lines.find(|(found, fresh)| found != fresh);
        assert!(
            self.found == fresh,
            "docs/runbook.md is not what the program says (WRITE_RUNBOOK=1 writes it): {difference:#?}"
        );
    }
}

/// A heading as the end of an address.
pub fn slug(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || *c == ' ');
    kept.collect::<String>().replace(' ', "-")
}
