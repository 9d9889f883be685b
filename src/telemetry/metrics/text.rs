//! The text format that every scraper reads.

use std::collections::HashMap;

/// The format of `OpenMetrics`, which the library writes, as the older text format (0.0.4), which every scraper
/// reads: there a family is named like its samples, the type `info` is unknown and nothing follows
/// the last line.
pub(super) fn prometheus_text(open_metrics: &str) -> String {
    let lines = || open_metrics.lines().filter(|line| *line != "# EOF");
    let kinds: HashMap<&str, &str> = lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| {
            let (keyword, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((keyword, name, rest))
        });
        if let Some((keyword, name, rest)) = comment {
            let (suffix, kind) = match kinds.get(name).copied() {
                Some("counter") => ("_total", "counter"),
                Some("info") => ("_info", "gauge"),
                other => ("", other.unwrap_or("untyped")),
            };
            let rest = if keyword == "TYPE" { kind } else { rest };
            text.extend(["# ", keyword, " ", name, suffix, " ", rest, "\n"]);
        } else {
            text.extend([line, "\n"]);
        }
    }
    text
}
