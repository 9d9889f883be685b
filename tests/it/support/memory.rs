//! The memory of a process, as Linux tells it.

/// Anonymous memory now, in KiB; `None` where the system does not tell.
pub fn anonymous(pid: u32) -> Option<u64> {
    figure(pid, "RssAnon:")
}

/// The most memory of any kind that it ever had, in KiB.
pub fn peak(pid: u32) -> Option<u64> {
    figure(pid, "VmHWM:")
}

fn figure(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
