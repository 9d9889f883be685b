//! One line of the report.

use std::fmt;

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but look at it.
    Warning,
    /// The sidecar cannot do its work.
    Failed,
}

/// What was found out about one subject, with advice where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What it is about.
    pub subject: &'static str,
    /// What was found, in words.
    pub text: String,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, subject, text)
    }

    pub(super) fn warning(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, subject, text)
    }

    pub(super) fn failed(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, subject, text)
    }

    fn new(verdict: Verdict, subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            verdict,
            subject,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        };
        write!(f, "{verdict:<8} {:<14} {}", self.subject, self.text)
    }
}

/// What is wrong with a certificate, from the words of the TLS library; `ca_file` is the key that
/// names other authorities to trust.
pub(super) fn certificate_advice(why: &str, ca_file: &str) -> Option<String> {
    if why.contains("UnknownIssuer") || why.contains("BadSignature") {
        Some(format!(
            "nobody whom this machine trusts has signed its certificate. If it is your own \
             authority, or a proxy that opens TLS, set {ca_file} to its certificate"
        ))
    } else if why.contains("NotValidForName") || why.contains("not valid for name") {
        Some(
            "its certificate is for another name: check the host in the URL, and that nobody \
             answers in its place"
                .to_owned(),
        )
    } else if why.contains("NotValidYet") || why.contains("not valid yet") {
        Some("its certificate is not valid yet: check the clock of this machine".to_owned())
    } else if why.to_lowercase().contains("expired") {
        Some(
            "its certificate has expired: its owner has to renew it, or the clock of this machine \
             is wrong"
                .to_owned(),
        )
    } else if why.contains("certificate") {
        Some(format!("its certificate is not trusted; see {ca_file}"))
    } else {
        None
    }
}
