//! What changes from run to run, in a form that does not.

use regex::Regex;

use super::faults::Scene;

/// The addresses and paths of one scene, and what the page calls them.
pub struct Names(Vec<(String, &'static str)>);

impl Names {
    pub fn of(scene: &Scene) -> Self {
        let sidecar = &scene.sidecar;
        let config = sidecar.config();
        let directory = config.parent().unwrap().display().to_string();
        let admin = sidecar.admin_url().replace("http://", "");
        let mut names = vec![
            (sidecar.proxy_address().to_string(), "127.0.0.1:9797"),
            (admin, "127.0.0.1:9798"),
            (directory, "/etc/auth-sidecar"),
        ];
        names.extend(scene.names.iter().cloned());
        Self(names)
    }

    pub fn stabilise(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (found, name) in &self.0 {
            text = text.replace(found, name);
        }
        for (changing, stable) in [
            // Dates, of the program and of Prometheus.
            (
                r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| \+0000 UTC)",
                "<time>",
            ),
            (r"_seconds=[0-9.]+", "_seconds=…"),
            (
                r"\b(failures|refusals|lost|generation|days_since)=\d+",
                "$1=…",
            ),
            (r"request_id=[0-9a-f]{32}", "request_id=…"),
            (r"body\.size=\d+", "body.size=…"),
            // Times in words.
            (r"\b\d+(ms|s|m|h|days?)( \d+(ms|s|m|h|days?))*\b", "…"),
            (r"\b\d+ days\b", "… days"),
            (r"ago; (\d+ times|once)", "ago; … times"),
            (r"\b(requestId|traceId) \w+", "$1 …"),
            (r"verification time \d+", "verification time …"),
            (r"\(\d+ seconds ago\)", "(… seconds ago)"),
            (r"token \d+\b", "token …"),
            (r"has lost [0-9.]+[a-z]? lines", "has lost … lines"),
            // Where there is no small disk to fill, a bound of files stands in for it.
            (
                r"File too large \(os error 27\)",
                "No space left on device (os error 28)",
            ),
        ] {
            text = Regex::new(changing)
                .unwrap()
                .replace_all(&text, stable)
                .into_owned();
        }
        text
    }
}
