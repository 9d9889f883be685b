//! Where findings go: lines for people, one document for programs.

use std::io::{self, Write};

use serde_json::json;

use super::finding::Finding;

/// Takes findings as they come.
pub trait Report {
    /// Some were found.
    ///
    /// # Errors
    /// When they cannot be written.
    fn found(&mut self, findings: Vec<Finding>) -> io::Result<()>;

    /// That was all; so many of them are failures.
    ///
    /// # Errors
    /// When it cannot be written.
    fn end(self, failed: usize) -> io::Result<()>;
}

/// A line for each finding, as soon as it is known.
#[derive(Debug)]
pub struct Lines<W>(W);

impl<W: Write> Lines<W> {
    /// Writes them there.
    pub fn new(out: W) -> Self {
        Self(out)
    }
}

impl<W: Write> Report for Lines<W> {
    fn found(&mut self, findings: Vec<Finding>) -> io::Result<()> {
        for finding in findings {
            writeln!(self.0, "{finding}")?;
        }
        // Some steps take seconds: what is known is shown meanwhile.
        self.0.flush()
    }

    fn end(mut self, failed: usize) -> io::Result<()> {
        match failed {
            0 => writeln!(self.0, "\nThe sidecar can do its work.")?,
            1 => writeln!(self.0, "\nOne thing has failed; see above.")?,
            many => writeln!(self.0, "\n{many} things have failed; begin with the first.")?,
        }
        self.0.flush()
    }
}

/// One JSON object with all findings, at the end.
#[derive(Debug)]
pub struct Document<W> {
    out: W,
    findings: Vec<Finding>,
}

impl<W: Write> Document<W> {
    /// Writes it there.
    pub fn new(out: W) -> Self {
        Self {
            out,
            findings: Vec::new(),
        }
    }
}

impl<W: Write> Report for Document<W> {
    fn found(&mut self, mut findings: Vec<Finding>) -> io::Result<()> {
        self.findings.append(&mut findings);
        Ok(())
    }

    fn end(mut self, failed: usize) -> io::Result<()> {
        let document = json!({"healthy": failed == 0, "findings": self.findings});
        writeln!(self.out, "{document:#}")?;
        self.out.flush()
    }
}
