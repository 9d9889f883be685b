//! `docs/broker.md`: its configuration. `tests/broker/run` drives the other blocks.

use std::fs;

use auth_sidecar::config::{Config, Loaded, Sources};

use super::list;
use crate::support::Settings;

const PAGE: &str = include_str!("../../../docs/broker.md");

#[test]
fn the_configuration_of_the_page_is_right_and_gives_no_warning() {
    let (_, block) = PAGE.split_once("run: sidecar.toml -->\n```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let files = tempfile::tempdir().unwrap();
    let clients = files.path().join("clients");
    fs::write(&clients, list()).unwrap();
    let block = block
        .replace(
            "/etc/auth-sidecar/broker-clients",
            clients.to_str().unwrap(),
        )
        .replace("/run/auth-sidecar", files.path().to_str().unwrap());
    let base = Settings::to("https://h.example")
        .set("auth.type", "static-token")
        .set("auth.token", "x");
    let config = base.write(files.path());
    let whole = format!("{}\n{block}", fs::read_to_string(&config).unwrap());
    fs::write(&config, whole).unwrap();
    let loaded = Config::load(&Sources::of_file(config)).unwrap_or_else(|error| panic!("{error}"));
    let Loaded { config, .. } = loaded;
    assert_eq!(config.broker.addresses.len(), 2);
    assert_eq!(config.broker.files.len(), 1);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}
