//! What the voices of one sidecar say of a fault.

use super::faults::Scene;
use crate::support::{Process, get};

pub struct Voices {
    log: String,
    status: String,
    page: String,
    doctor: String,
    /// `None` where Prometheus is not installed.
    pub alerts: Option<String>,
}

impl Voices {
    /// Asks every voice; of the log for those lines whose text has one of these.
    pub async fn of(scene: &Scene, log: &[&str]) -> Self {
        let sidecar = &scene.sidecar;
        let (listen, admin) = (
            sidecar.proxy_address().to_string(),
            sidecar.admin_url().replace("http://", ""),
        );
        let config = sidecar.config();
        let config = config.to_str().unwrap();
        let mut status = Process::spawn(&["status", "--admin", &admin], &[]);
        status.wait().await;
        let mut arguments = vec!["doctor", "--config", config];
        arguments.extend(["--listen", &listen, "--admin", &admin]);
        arguments.extend(["--path", "/api/v2/cloudintegration"]);
        let mut doctor = Process::spawn(&arguments, &[]);
        doctor.wait().await;
        let page = get(&format!("{}/", sidecar.admin_url())).await;
        Self {
            log: lines(&sidecar.stderr(), log),
            // Behind it come numbers that tell nothing of a fault.
            status: before(&status.output(), "token  ").to_owned(),
            page: words(page.text()),
            doctor: problems(&doctor.output()),
            alerts: None,
        }
    }

    /// Each that speaks, by the name of its block.
    pub fn all(self) -> Vec<(&'static str, String)> {
        let voices = [
            ("log", self.log),
            ("status", self.status),
            ("page", self.page),
            ("doctor", self.doctor),
        ];
        let alerts = self.alerts.map(|alerts| ("alerts", alerts));
        voices.into_iter().chain(alerts).collect()
    }
}

/// The first line for each of these texts.
fn lines(log: &str, texts: &[&str]) -> String {
    let first = |text: &&str| {
        let line = log.lines().find(|line| line.contains(*text));
        line.unwrap_or_else(|| panic!("no {text:?} in {log}"))
    };
    texts.iter().map(first).collect::<Vec<_>>().join("\n")
}

fn before<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or(text, |(before, _)| before)
}

/// What the doctor finds wrong.
fn problems(report: &str) -> String {
    let is_fine = |line: &&str| !line.starts_with("ok ") && !line.is_empty();
    report
        .lines()
        .filter(is_fine)
        .collect::<Vec<_>>()
        .join("\n")
}

/// What a reader sees of the part of the page that tells how it is.
fn words(page: &str) -> String {
    let (_, page) = page.split_once("<h1").unwrap();
    let (_, page) = page.split_once('>').unwrap();
    let (page, _) = page.rsplit_once("</section>").unwrap();
    let mut text = String::new();
    let mut parts = page.split('<');
    text.push_str(parts.next().unwrap());
    for part in parts {
        let (tag, words) = part.split_once('>').unwrap();
        match tag.split(' ').next().unwrap() {
            "p" | "dt" | "section" => text.push('\n'),
            "dd" => text.push_str(": "),
            _ => {}
        }
        text.push_str(words);
    }
    let text = text.replace("&lt;", "<").replace("&quot;", "\"");
    text.replace("&amp;", "&").replace("\n\n\n", "\n\n")
}
