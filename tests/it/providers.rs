//! The pages of `docs/providers`: each configuration on them works as written, and makes the token request
//! that the provider documents, and what the doctor is said to say, it says. Nothing of a block is changed but where its files are; a proxy leads its
//! host names to a fake.

mod documented;
mod page;
mod provider;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    documents::compare,
    outbound::Proxy,
    support::{Process, eventually_async, pki::Authority},
};
use documented::{DOCUMENTED, Documented, REFUSED};
use page::{Files, pages};
use provider::FakeProvider;

const SOON: Duration = Duration::from_secs(15);

#[test]
fn each_page_has_blocks_and_each_block_a_documented_request() {
    let of_pages: Vec<_> = pages()
        .iter()
        .map(|page| (page.name.clone(), page.blocks.len()))
        .collect();
    let of_table: Vec<_> = of_pages
        .iter()
        .map(|(name, _)| {
            let requests = DOCUMENTED.iter().filter(|one| one.page == name);
            (name.clone(), requests.count())
        })
        .collect();
    assert_eq!(of_pages, of_table);
    assert_eq!(of_pages.len(), 15);
    assert!(of_pages.iter().all(|(_, blocks)| *blocks > 0));
}

#[test]
fn the_index_has_each_page_and_so_has_the_summary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let index = std::fs::read_to_string(root.join("providers/README.md")).unwrap();
    let summary = std::fs::read_to_string(root.join("SUMMARY.md")).unwrap();
    for page in pages() {
        let name = page.name;
        assert!(index.contains(&format!("]({name}.md) |")), "{name}");
        let link = format!("](providers/{name}.md)");
        assert!(summary.contains(&link), "{name}");
    }
}

#[test]
fn the_variables_of_each_page_mean_the_same_as_its_first_block() {
    for page in pages() {
        let files = Files::new(&page.name);
        let config = files.write(&page.blocks[0], "");
        let mut by_file = files.check(&["--config", config.to_str().unwrap()], &[]);
        let variables = files.localized_variables(&page);
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let mut by_variables = files.check(&[], &variables);
        // The vendor's own variables say without it whose they are.
        if page.name == "csp" {
            by_file.remove("auth.provider");
            by_variables.remove("auth.provider");
        }
        assert_eq!(by_variables, by_file, "{}", page.name);
    }
}

#[tokio::test]
async fn each_block_makes_the_token_request_that_its_provider_documents() {
    for page in pages() {
        let documented = DOCUMENTED.iter().filter(|one| one.page == page.name);
        for (block, documented) in page.blocks.iter().zip(documented) {
            play(&page.name, block, documented).await;
        }
    }
}

/// Where the tools of a block are led: a fake with the provider's name.
struct Stage {
    files: Files,
    provider: FakeProvider,
    proxy: Proxy,
    config: PathBuf,
}

impl Stage {
    fn set(page: &str, block: &str, documented: &Documented, answer: (u16, &'static str)) -> Self {
        let files = Files::new(page);
        let authority = Authority::new();
        let provider = FakeProvider::start(&authority, documented, &files, answer);
        let proxy = Proxy::to(provider.address());
        let ca_file = files.put("ca.pem", &authority.ca_pem);
        let proxy_url = proxy.url();
        let way = format!(
            "ca_file = '{}'\nproxy_url = {proxy_url:?}\n\n[listen]\naddress = \"127.0.0.1:0\"\n\n\
             [admin]\naddress = \"127.0.0.1:0\"\n",
            ca_file.display()
        );
        let config = files.write(block, &way);
        Self {
            files,
            provider,
            proxy,
            config,
        }
    }
}

/// Runs the program with the block, and compares its one token call.
async fn play(page: &str, block: &str, documented: &Documented) {
    let stage = Stage::set(page, block, documented, (200, documented.granted));
    let arguments = ["run", "--config", stage.config.to_str().unwrap()];
    let mut process = Process::spawn(&arguments, &[]);
    process.listening(true).await;
    let is_ready = async || process.admin_get("/readyz").await.0 == 200;
    eventually_async(is_ready, SOON).await;

    let tunnels: BTreeSet<_> = stage
        .proxy
        .heads()
        .iter()
        .map(|head| head.lines().next().unwrap_or_default().to_owned())
        .collect();
    let expected = format!("CONNECT {}:443 HTTP/1.1", documented.host);
    assert_eq!(tunnels, BTreeSet::from([expected]), "{page}");
    let calls = stage.provider.calls();
    assert_eq!(calls.len(), 1, "{page}");
    documented.compare(&calls[0], &stage.files);
}

#[test]
fn the_doctor_says_of_a_refusal_what_each_page_says_that_it_says() {
    for page in pages() {
        let (_, block, status, body) = REFUSED.iter().find(|one| one.0 == page.name).unwrap();
        let mut documented = DOCUMENTED.iter().filter(|one| one.page == page.name);
        let documented = documented.nth(*block).unwrap();
        let block = &page.blocks[*block];
        let stage = Stage::set(&page.name, block, documented, (*status, *body));
        let arguments = ["doctor", "--config", stage.config.to_str().unwrap()];
        let said = stage.files.run(&arguments, &[]).1;
        let mut lines = said
            .lines()
            .filter(|line| line.starts_with("failed   token "));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("{}: {said}", page.name));

        let file = format!("docs/providers/{}.md", page.name);
        let fence = "```text\n";
        let (before, rest) = page.text.split_once(fence).unwrap();
        let (_, after) = rest.split_once("```").unwrap();
        compare(
            &file,
            &format!("{before}{fence}{}\n```{after}", wrapped(line)),
        );
    }
}

/// A line as a page has it: no longer than a page is wide, and indented after the first.
fn wrapped(line: &str) -> String {
    let (verdict, words) = line.split_at("failed   token ".len());
    let mut lines = vec![verdict.split_whitespace().collect::<Vec<_>>().join("   ") + "  "];
    for word in words.split_whitespace() {
        let last = lines.last_mut().unwrap();
        if last.len() + word.len() >= 100 {
            lines.push(format!("    {word}"));
        } else {
            *last = format!("{last} {word}");
        }
    }
    lines.join("\n")
}
