//! What a running sidecar says is wrong with it: it has seen for longer what the doctor tries once, and
//! knows since when.

use super::finding::Finding;
use crate::{
    admin::{Trouble, words},
    server::Address,
    status,
    text::{for_terminal, sentence},
};

const SUBJECT: &str = "running";

/// The most of what another process says of itself.
const LONGEST: usize = 1_000;

/// Reads the troubles of the sidecar at that address, if there is one that shows them.
pub(super) async fn troubles(admin: Option<&Address>) -> Vec<Finding> {
    let is_known = |at: &&Address| at.socket().is_none_or(|socket| socket.port() != 0);
    let Some(admin) = admin.filter(is_known) else {
        return Vec::new();
    };
    // None may run there; and where other machines reach it, it shows none.
    let Ok(asked) = status::ask(admin).await else {
        return Vec::new();
    };
    let findings = asked.troubles().iter().map(finding);
    findings.collect()
}

fn finding(trouble: &Trouble) -> Finding {
    let Trouble { text, culprit, .. } = trouble;
    let (since, remedy) = (words::since(trouble), words::full_stop(&trouble.remedy));
    let text = format!(
        "{}. To blame: {culprit}. Since {since}. {remedy}",
        sentence(text)
    );
    Finding::warning(SUBJECT, for_terminal(&text, LONGEST))
}
