//! What the process gives up at its start, so that it cannot leak what it knows, nor be turned
//! into anything but a proxy.
//!
//! Two steps. [`Sandbox::close`] shuts out those who look in from outside (debuggers, core dumps,
//! `/proc/PID/environ` and `mem`); it comes before any secret is read. [`Sandbox::restrict`] takes
//! from the process itself what it never needs: files to write (`files`) and system calls
//! (`calls`). Both are for good, and only the calling thread and those that it starts later are
//! restricted, so both belong before the first other thread.
//!
//! A kernel without one of them is no error: the log says what is in force and what is not.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;
mod files;

use std::{fmt, path::PathBuf};

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::set_no_new_privs,
};

/// What this process has given up, and what the kernel would not take.
#[derive(Debug)]
#[must_use = "it says what is in force, which an operator wants to read"]
pub struct Sandbox {
    in_force: Vec<String>,
    missing: Vec<String>,
    /// The limit of core dumps as it was.
    core: Rlimit,
}

/// Directories in which the process goes on making files. Elsewhere it makes none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writable {
    /// Directories of unix sockets, which a listener makes and removes at the start, at a reload and at the end.
    pub sockets: Vec<PathBuf>,
    /// The directory of the access log, which is made anew behind a rotation.
    pub log: Option<PathBuf>,
    /// Directories of files of tokens, which are replaced at each renewal and removed at the end.
    pub tokens: Vec<PathBuf>,
}

impl Sandbox {
    /// Shuts out who looks in from outside: no debugger attaches, no core is dumped, and what
    /// `/proc` shows of memory and environment belongs to root. Until this call, the start of the
    /// process is as open as that of any other.
    ///
    /// It has side effects on tools: `perf` and `gdb` of the same user can no longer attach.
    pub fn close() -> Self {
        let mut sandbox = Self {
            in_force: Vec::new(),
            missing: Vec::new(),
            core: getrlimit(Resource::Core),
        };
        let closed = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        sandbox.note("not dumpable", closed);
        let none = Rlimit {
            current: Some(0),
            ..sandbox.core
        };
        sandbox.note("no core dumps", setrlimit(Resource::Core, none));
        sandbox
    }

    /// Takes what a proxy never needs: privileges by way of other programs, files to write (but in
    /// the directories of `writable`), and dangerous system calls.
    pub fn restrict(mut self, writable: &Writable) -> Self {
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        // Who may lower a limit could otherwise raise it again.
        if let Err(error) = setrlimit(Resource::Core, none) {
            tracing::debug!(%error, "cannot lower the hard limit of core dumps");
        }
        self.note("no new privileges", set_no_new_privs(true));
        match files::restrict(writable) {
            Ok(abi) => self.in_force.push(abi),
            Err(why) => self.missing.push(why),
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        self.note("seccomp", calls::restrict());
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        self.missing
            .push("seccomp (not for this architecture)".to_owned());
        self
    }

    /// Undoes [`Sandbox::close`], for who wants to attach a debugger.
    pub fn open(self) {
        let opened = set_dumpable_behavior(DumpableBehavior::Dumpable)
            .and_then(|()| setrlimit(Resource::Core, self.core));
        if let Err(error) = opened {
            tracing::debug!(%error, "cannot open the process to debuggers");
        }
    }

    fn note<E: fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.in_force.push(what.to_owned()),
            Err(error) => self.missing.push(format!("{what} ({error})")),
        }
    }
}

impl fmt::Display for Sandbox {
    /// What is in force, and what the kernel does not have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.in_force.join(", "))?;
        if !self.missing.is_empty() {
            write!(f, "; not on this system: {}", self.missing.join(", "))?;
        }
        Ok(())
    }
}
