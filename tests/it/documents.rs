//! Documents that name tests, files, pages and versions: the names exist, the versions are right.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

const THREAT_MODEL: &str = include_str!("../../docs/threat-model.md");

#[test]
fn the_tests_that_the_threat_model_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = 0;
    // What is between two of them is at the odd places.
    for name in THREAT_MODEL.split('`').skip(1).step_by(2) {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        if !file.starts_with("tests/") {
            continue;
        }
        let content = std::fs::read_to_string(root.join(file));
        let content = content.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(
            test.is_empty() || content.contains(&format!("fn {test}(")),
            "{file} has no {test}"
        );
        tests += 1;
    }
    assert!(tests > 20, "{tests}");
}

/// Compares a file that is made of the program with what it has to be, or writes it where `WRITE_DOCS`
/// is set.
#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says so by a variable"
)]
pub fn compare(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is another: WRITE_DOCS=1 cargo test --test it"
    );
}

/// The pages that people read, and where they are.
pub fn pages() -> Vec<(PathBuf, String)> {
    let mut pages = Vec::new();
    let mut folders = vec![
        ("", false),
        ("docs", true),
        ("bench", false),
        ("tests/oauth", false),
        ("fuzz", false),
    ]
    .into_iter()
    .map(|(folder, is_deep)| (Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), is_deep))
    .collect::<Vec<_>>();
    while let Some((folder, is_deep)) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if is_deep && path.is_dir() {
                folders.push((path, is_deep));
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                pages.push((path, text));
            }
        }
    }
    pages
}

/// The targets of the links on a page, without its code.
fn links(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let prose = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    prose
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .collect()
}

/// What a heading is called in a link.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages = pages();
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let site = site.canonicalize().unwrap();
    let mut followed = 0;
    for (page, text) in &pages {
        for target in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = page.parent().unwrap().join(file);
            let path = if file.is_empty() { page } else { &path };
            assert!(path.exists(), "{}: {target}", page.display());
            if page.starts_with(&site) {
                // The pages as a site have nothing else.
                let inside = path.canonicalize().unwrap().starts_with(&site);
                assert!(inside, "{}: {target} is not on the site", page.display());
            }
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(path).unwrap();
                let anchors = anchors(&text);
                assert!(
                    anchors.contains(anchor),
                    "{}: {target} of {anchors:?}",
                    page.display()
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 10, "{followed}");
}

#[test]
fn every_page_of_the_site_is_in_its_summary() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = links(&summary).iter().map(|page| docs.join(page)).collect();
    let there: BTreeSet<PathBuf> = pages()
        .into_iter()
        .map(|(page, _)| page)
        .filter(|page| page.starts_with(&docs) && !page.ends_with("SUMMARY.md"))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn files_that_pages_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    // What lies below fuzz/ has folders of its own.
    for (page, text) in pages()
        .into_iter()
        .filter(|(page, _)| !page.ends_with("fuzz/README.md"))
    {
        // What is between two of them is at the odd places.
        for name in text.split('`').skip(1).step_by(2) {
            let first = name.split(' ').next().unwrap_or_default();
            let is_ours = [
                "src/", "tests/", "deploy/", "docs/", "bench/", "config/", ".ci/",
            ]
            .iter()
            .any(|folder| first.starts_with(folder));
            if !is_ours || first.contains(['*', '…', '<', '$']) || first.contains("NAME") {
                continue;
            }
            let (file, _) = first.split_once("::").unwrap_or((first, ""));
            assert!(root.join(file).exists(), "{} names {file}", page.display());
            named += 1;
        }
    }
    assert!(named > 60, "{named}");
}

#[test]
fn versions_that_are_written_down_elsewhere_are_the_programs() {
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, line) in [
        ("Dockerfile", format!("ARG VERSION={VERSION}")),
        (
            "deploy/helm/auth-sidecar/Chart.yaml",
            format!("appVersion: \"{VERSION}\""),
        ),
        (
            "deploy/kubernetes.yaml",
            format!("image: auth-sidecar:{VERSION}"),
        ),
        (
            "deploy/kubernetes-token-file.yaml",
            format!("image: auth-sidecar:{VERSION}"),
        ),
        (
            "deploy/kustomize/component/pod.yaml",
            format!("image: auth-sidecar:{VERSION}"),
        ),
        (
            "deploy/kustomize/component/template.yaml",
            format!("image: auth-sidecar:{VERSION}"),
        ),
        (
            "deploy/kustomize/component/cronjob.yaml",
            format!("image: auth-sidecar:{VERSION}"),
        ),
        (
            "deploy/injection/policy.yaml",
            format!("image: \"auth-sidecar:{VERSION}\""),
        ),
        (
            "deploy/compose.yaml",
            format!("image: ${{AUTH_SIDECAR_IMAGE:-auth-sidecar:{VERSION}}}"),
        ),
    ] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let is_there = text
            .lines()
            .any(|found| found.trim().trim_end_matches(',') == line);
        assert!(is_there, "{file} has no line {line}");
    }
}
