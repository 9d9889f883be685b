//! What a page has to copy, and the files that it names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::support::{
    csp::ClientKey,
    pki::{Authority, Leaf},
};

/// What every file with a secret holds.
pub const SECRET: &str = "the+secret/of:the=page";
/// What a file with an API token holds.
pub const API_TOKEN: &str = "the-api-token-of-the-page";
/// What a file with a projected token holds.
pub const PROJECTED: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl";
/// Who a service account is, at Google and at Zitadel.
pub const ACCOUNTS: [&str; 2] = [
    "metrics@example.iam.gserviceaccount.com",
    "100507859606888466",
];

/// A page of `docs/providers`.
pub struct Page {
    /// The name of its file, without `.md`.
    pub name: String,
    pub text: String,
    /// The configurations of the page.
    pub blocks: Vec<String>,
    /// The variables that mean the first of them.
    pub variables: Vec<(String, String)>,
}

/// All of them, in the order of their names.
pub fn pages() -> Vec<Page> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers");
    let mut pages: Vec<Page> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("README.md"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let variables = fenced(&text, "sh");
            let variables = variables
                .iter()
                .flat_map(|block| block.lines())
                .filter_map(|line| line.split_once('='))
                .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
                .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()));
            Page {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                blocks: fenced(&text, "toml"),
                variables: variables.collect(),
                text,
            }
        })
        .collect();
    pages.sort_by(|one, other| one.name.cmp(&other.name));
    pages
}

/// The code blocks of a language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0.to_owned())
        .collect()
}

/// A folder in the place of `/run/secrets`.
pub struct Files {
    folder: tempfile::TempDir,
    page: String,
    /// The client's certificate, of this authority.
    pub clients: Authority,
    leaf: Leaf,
}

impl Files {
    pub fn new(page: &str) -> Self {
        let clients = Authority::new();
        let leaf = clients.leaf();
        Self {
            folder: tempfile::tempdir().unwrap(),
            page: page.to_owned(),
            clients,
            leaf,
        }
    }

    /// Writes a file, and says where it is.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes a configuration: the block with its files, and what is appended to its last section.
    pub fn write(&self, block: &str, appended: &str) -> PathBuf {
        let last = block.lines().rfind(|line| line.starts_with('['));
        assert_eq!(last, Some("[auth]"), "{}", self.page);
        let lines: Vec<String> = block.lines().map(|line| self.localized(line)).collect();
        self.put("config.toml", &format!("{}\n{appended}", lines.join("\n")))
    }

    /// The variables of a page with their files.
    pub fn localized_variables(&self, page: &Page) -> Vec<(String, String)> {
        let localize = |(name, value): &(String, String)| {
            let key = name.rsplit("__").next().unwrap().to_ascii_lowercase();
            let is_path = name.ends_with("_FILE");
            let value = if is_path {
                self.content_of(&key).display().to_string()
            } else {
                value.clone()
            };
            (name.clone(), value)
        };
        page.variables.iter().map(localize).collect()
    }

    /// A line of a block, whose file is here instead.
    fn localized(&self, line: &str) -> String {
        match line.split_once(" = ") {
            Some((key, _)) if key.ends_with("_file") => {
                format!("{key} = '{}'", self.content_of(key).display())
            }
            _ => line.to_owned(),
        }
    }

    /// The file of a key.
    fn content_of(&self, key: &str) -> PathBuf {
        let rsa = ClientKey::rsa().pem;
        let text = match key {
            "client_secret_file" | "csp_app_secret_file" => SECRET.to_owned(),
            "api_token_file" | "csp_api_token_file" => API_TOKEN.to_owned(),
            "private_key_file" => rsa,
            "assertion_cert_file" => self.certificate(),
            "client_cert_file" => self.leaf.cert_pem.clone(),
            "client_key_file" => self.leaf.key_pem.clone(),
            "client_assertion_file" => PROJECTED.to_owned(),
            "service_account_file" => self.service_account(&rsa).to_string(),
            other => panic!("{}: what is in {other}?", self.page),
        };
        // Both forms of a key name the same file.
        let name = key
            .trim_start_matches("csp_")
            .replace("app_secret", "client_secret");
        self.put(&name, &text)
    }

    /// A certificate of the key that signs; the same each time.
    pub fn certificate(&self) -> String {
        let path = self.folder.path().join("assertion.pem");
        std::fs::read_to_string(&path).unwrap_or_else(|_| {
            let key = KeyPair::from_pem(&ClientKey::rsa().pem).unwrap();
            let parameters = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
            let pem = parameters.self_signed(&key).unwrap().pem();
            std::fs::write(&path, &pem).unwrap();
            pem
        })
    }

    fn service_account(&self, key: &str) -> Value {
        if self.page == "google" {
            json!({
                "type": "service_account", "project_id": "example", "private_key_id": "key-1", "private_key": key,
                "client_email": ACCOUNTS[0], "token_uri": "https://oauth2.googleapis.com/token",
            })
        } else {
            json!({"type": "serviceaccount", "keyId": "key-1", "key": key, "userId": ACCOUNTS[1]})
        }
    }

    /// What `check` makes of it: values by key. Lists are written differently in files and variables.
    pub fn check(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let check = ["check", "--output", "json"];
        let arguments: Vec<&str> = check.iter().chain(arguments).copied().collect();
        let (is_right, said) = self.run(&arguments, environment);
        assert!(is_right, "{}: {said}", self.page);
        let resolved: Value = serde_json::from_str(&said).unwrap();
        let keys = resolved["keys"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let plain = |value: String| value.trim_matches(['[', ']']).replace(", ", ",");
        keys.map(|one| (text(&one["key"]), plain(text(&one["value"]))))
            .collect()
    }

    /// Runs the program with this environment and nothing else: whether it succeeds, and what it says
    /// (on standard error, where it fails without a word).
    pub fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = if output.stdout.is_empty() {
            output.stderr
        } else {
            output.stdout
        };
        (output.status.success(), String::from_utf8(said).unwrap())
    }
}
