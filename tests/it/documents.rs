//! Documents that name tests and files: the names exist.

use std::path::Path;

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
