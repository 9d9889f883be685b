//! `auth-sidecar local-ca`, with the clients that it is for.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::support::{DEADLINE, FakeCsp, FakeService, Settings, Sidecar, eventually};

/// What it made and said.
struct Made {
    directory: TempDir,
    said: String,
}

impl Made {
    fn with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = local_ca(directory.path(), arguments);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        Self { directory, said }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A sidecar that listens with it.
    fn settings(&self, csp: &FakeCsp, service: &FakeService) -> Settings {
        Settings::new(csp, service)
            .set("listen.address", "tls:127.0.0.1:0")
            .set(
                "listen.tls_cert_file",
                self.path("cert.pem").to_str().unwrap(),
            )
            .set(
                "listen.tls_key_file",
                self.path("key.pem").to_str().unwrap(),
            )
    }

    /// What curl says that trusts `ca.pem` alone.
    fn curl(&self, url: &str, flags: &[&str]) -> Output {
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "10"])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
            .arg("--cacert")
            .arg(self.path("ca.pem"))
            .args(flags)
            .arg(url)
            .output()
            .unwrap()
    }
}

fn local_ca(directory: &Path, arguments: &[&str]) -> Output {
    local_ca_under("022", directory, arguments)
}

/// The same with a mask for the modes of new files.
fn local_ca_under(mask: &str, directory: &Path, arguments: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "umask $0 && exec \"$@\"", mask])
        .arg(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(["local-ca", "--dir"])
        .arg(directory)
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test]
async fn programs_that_insist_on_https_are_served_with_it() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let made = Made::with(&[]);
    let sidecar = Sidecar::start(&made.settings(&csp, &service));
    sidecar.ready().await;
    let port = sidecar.proxy_address().port();
    for host in ["localhost", "127.0.0.1"] {
        let answer = made.curl(&format!("https://{host}:{port}/echo"), &[]);
        assert_eq!(said(&answer), "200");
    }
    // As strictly as Python can.
    let script = "\
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
answer = urllib.request.urlopen(sys.argv[2], context=context, timeout=10)
print(answer.status, end='')
";
    let answer = Command::new("python3")
        .args(["-c", script])
        .arg(made.path("ca.pem"))
        .arg(format!("https://localhost:{port}/echo"))
        .output()
        .unwrap();
    assert_eq!(said(&answer), "200");
    assert_eq!(service.requests().len(), 3);
}

const IN_NODE: &str = "\
fetch(process.argv[2]).then(
    (answer) => process.stdout.write(String(answer.status)),
    (error) => process.stdout.write(error.cause.code),
);
";

const IN_GO: &str = r#"
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Print(err)
		return
	}
	fmt.Print(answer.StatusCode, " ", answer.Proto)
}
"#;

/// The hard-coded `https://` of languages that bring a TLS of their own, with the variable that
/// `local-ca` names for them; of those that are installed.
#[tokio::test]
async fn programs_in_node_and_go_trust_it_by_the_variable_that_it_names() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (made, other) = (Made::with(&[]), Made::with(&[]));
    let sidecar = Sidecar::start(&made.settings(&csp, &service));
    sidecar.ready().await;
    let url = format!("https://localhost:{}/echo", sidecar.proxy_address().port());
    let scratch = tempfile::tempdir().unwrap();
    let mut answered = 0;
    for (program, arguments, file, script, variable, good, bad) in [
        (
            "node",
            &[][..],
            "ask.mjs",
            IN_NODE,
            "NODE_EXTRA_CA_CERTS",
            "200",
            "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
        ),
        (
            "go",
            &["run"],
            "ask.go",
            IN_GO,
            "SSL_CERT_FILE",
            "200 HTTP/2.0",
            "certificate signed by unknown authority",
        ),
    ] {
        if Command::new(program).arg("version").output().is_err() {
            skip(&format!("{program} is not installed"));
            continue;
        }
        let path = scratch.path().join(file);
        fs::write(&path, script).unwrap();
        let ask = |authority: &Made| {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .arg(&path)
                .arg(&url)
                // Where Go keeps what it has compiled.
                .env("GOCACHE", scratch.path().join("go"))
                .env(variable, authority.path("ca.pem"));
            said(&command.output().unwrap())
        };
        assert!(made.said.contains(variable), "{}", made.said);
        let answer = ask(&made);
        assert_eq!(answer, good, "{program}");
        let answer = ask(&other);
        assert!(answer.contains(bad), "{program}: {answer}");
        answered += 1;
    }
    assert_eq!(service.requests().len(), answered);
}

/// Says why a test shows nothing here.
#[expect(clippy::print_stdout, reason = "who runs the tests should see it")]
fn skip(why: &str) {
    println!("skipped: {why}");
}

#[tokio::test]
async fn a_client_that_wants_another_name_or_trusts_another_authority_sends_nothing() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (made, other) = (Made::with(&[]), Made::with(&[]));
    let sidecar = Sidecar::start(&made.settings(&csp, &service));
    sidecar.ready().await;
    let port = sidecar.proxy_address().port();
    let elsewhere = format!("h.example:{port}:127.0.0.1");
    let answer = made.curl(
        &format!("https://h.example:{port}/"),
        &["--resolve", &elsewhere],
    );
    assert!(said(&answer).contains("subject name"), "{answer:?}");
    let answer = other.curl(&format!("https://localhost:{port}/"), &[]);
    assert_eq!(answer.status.code(), Some(60), "{answer:?}");
    assert_eq!(service.requests().len(), 0);
}

#[tokio::test]
async fn a_client_certificate_made_with_it_lets_in_and_none_does_not() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (made, other) = (
        Made::with(&["--client", "a"]),
        Made::with(&["--client", "a"]),
    );
    let ca = made.path("ca.pem");
    let settings = made
        .settings(&csp, &service)
        .set("listen.tls_client_ca_file", ca.to_str().unwrap());
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let url = format!("https://localhost:{}/echo", sidecar.proxy_address().port());
    let ask = |own: Option<(PathBuf, PathBuf)>| {
        let own = own.map(|(certificate, key)| {
            ["--cert".into(), certificate, "--key".into(), key]
                .map(|path| path.display().to_string())
        });
        let flags: Vec<_> = own.iter().flatten().map(String::as_str).collect();
        said(&made.curl(&url, &flags))
    };
    let pair = |made: &Made| (made.path("client-a.pem"), made.path("client-a-key.pem"));
    assert_eq!(ask(Some(pair(&made))), "200");
    // The sidecar's own is for servers only.
    let own = (made.path("cert.pem"), made.path("key.pem"));
    for refused in [None, Some(pair(&other)), Some(own)] {
        // No answer came. What curl says of that depends on how far it was by then.
        let said = ask(refused);
        assert!(said.starts_with("000curl: ("), "{said}");
    }
    assert_eq!(service.requests().len(), 1);
}

#[test]
fn the_authority_is_held_to_its_names_and_its_key_is_nowhere() {
    let made = Made::with(&["Proxy.Example", "192.0.2.7", "--client", "a"]);
    let mut names: Vec<_> = fs::read_dir(made.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let all = [
        "ca.pem",
        "cert.pem",
        "client-a-key.pem",
        "client-a.pem",
        "key.pem",
    ];
    assert_eq!(names, all);
    for name in all {
        let permissions = fs::metadata(made.path(name)).unwrap().mode() & 0o777;
        let expected = if name.ends_with("key.pem") {
            0o600
        } else {
            0o644
        };
        assert_eq!(permissions, expected, "{name}");
        assert_eq!(
            made.text(name).contains("PRIVATE KEY"),
            name.ends_with("key.pem"),
            "{name}"
        );
    }
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(made.path("ca.pem"))
        .output()
        .unwrap();
    let shown = said(&shown);
    for word in [
        "Name Constraints: critical",
        "DNS:localhost",
        "DNS:proxy.example",
        "IP:127.0.0.1/255.255.255.255",
        "IP:192.0.2.7/255.255.255.255",
        "CA:TRUE, pathlen:0",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let verified = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-verify_hostname",
            "proxy.example",
            "-CAfile",
        ])
        .args([made.path("ca.pem"), made.path("cert.pem")])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn it_says_how_to_use_and_to_trust_it_and_never_the_key() {
    let made = Made::with(&["proxy.example", "--client", "a"]);
    for word in [
        "tls_cert_file",
        "tls_client_ca_file",
        "address = \"tls:127.0.0.1:9443\"",
        "allow_hosts = [\"proxy.example\"]",
        "curl --cacert",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "keytool",
        "not kept",
    ] {
        assert!(made.said.contains(word), "{word}: {}", made.said);
    }
    assert!(made.said.contains(made.directory.path().to_str().unwrap()));
    assert!(!made.said.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn what_is_there_is_replaced_only_when_asked_and_then_a_running_sidecar_takes_it_up() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let made = Made::with(&[]);
    let before = made.text("ca.pem");
    let again = local_ca(made.directory.path(), &[]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(said(&again).contains("--replace"), "{again:?}");
    assert_eq!(made.text("ca.pem"), before);
    let sidecar = Sidecar::start(&made.settings(&csp, &service));
    sidecar.ready().await;
    let again = local_ca(made.directory.path(), &["--replace"]);
    assert!(again.status.success(), "{again:?}");
    assert_ne!(made.text("ca.pem"), before);
    let url = format!("https://localhost:{}/echo", sidecar.proxy_address().port());
    eventually(|| said(&made.curl(&url, &[])) == "200", DEADLINE).await;
}

#[test]
fn clients_whose_files_would_replace_one_another_are_refused_before_anything_is_made() {
    let scratch = tempfile::tempdir().unwrap();
    for (number, (clients, shared)) in [
        (["a", "a-key"], "client-a-key.pem"),
        (["a-key", "a"], "client-a-key.pem"),
        (["b-key-key", "b-key"], "client-b-key-key.pem"),
    ]
    .iter()
    .enumerate()
    {
        let directory = scratch.path().join(number.to_string());
        for replace in [&[][..], &["--replace"]] {
            let [first, second] = clients;
            let arguments = [&["--client", first, "--client", second], replace].concat();
            let refused = local_ca(&directory, &arguments);
            assert_eq!(refused.status.code(), Some(2), "{refused:?}");
            let said = said(&refused);
            for part in [*shared, *first, *second] {
                assert!(said.contains(part), "{said}");
            }
            assert!(!directory.exists());
        }
    }
    // Who is named twice is meant once, as names of hosts are.
    let made = Made::with(&["--client", "a", "--client", "a"]);
    assert_eq!(
        made.said.matches("client-a.pem, client-a-key.pem").count(),
        1
    );
}

#[test]
fn what_others_are_to_read_is_readable_whatever_the_mask() {
    let scratch = tempfile::tempdir().unwrap();
    let private = scratch.path().join("private");
    fs::create_dir(&private).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let before = mode(&private);
    for mask in ["077", "0", "027"] {
        let parent = private.join(format!("masked-{mask}"));
        let directory = parent.join("tls");
        let output = local_ca_under(mask, &directory, &["--client", "a"]);
        assert!(output.status.success(), "{output:?}");
        for (name, expected) in [
            ("", 0o755),
            ("..", 0o755),
            ("ca.pem", 0o644),
            ("cert.pem", 0o644),
            ("key.pem", 0o600),
            ("client-a.pem", 0o644),
            ("client-a-key.pem", 0o600),
        ] {
            assert_eq!(mode(&directory.join(name)), expected, "{mask} {name}");
        }
    }
    assert_eq!(mode(&private), before);
    // A directory that is there keeps what its owner gave it.
    let own = private.join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    assert!(local_ca_under("077", &own, &[]).status.success());
    assert_eq!((mode(&own), mode(&own.join("ca.pem"))), (0o750, 0o644));
}

#[test]
fn what_it_says_can_be_copied_whatever_the_directory_is_called() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["plain", "q\"x", "b\\s", "it's", "a b", "$HOME", "é\t\u{7f}"] {
        let directory = scratch.path().join(name);
        let output = local_ca(&directory, &["--client", "a"]);
        assert!(output.status.success(), "{output:?}");
        let said = said(&output);
        let toml: Vec<_> = said
            .lines()
            .skip_while(|line| *line != "  [listen]")
            .take_while(|line| !line.is_empty())
            .collect();
        let toml = toml.join("\n");
        let table: toml::Table = toml
            .parse()
            .unwrap_or_else(|error| panic!("{error}: {toml}"));
        for (key, file) in [
            ("tls_cert_file", "cert.pem"),
            ("tls_key_file", "key.pem"),
            ("tls_client_ca_file", "ca.pem"),
        ] {
            let path = Path::new(table["listen"][key].as_str().unwrap());
            assert_eq!(path, directory.join(file));
        }
        let curl = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("curl  "));
        let script = format!(
            "curl() {{ printf '%s\\n' \"$2\" \"$4\" \"$6\"; }}; {}",
            curl.unwrap()
        );
        let words = Command::new("sh").args(["-c", &script]).output().unwrap();
        let expected: String = ["ca.pem", "client-a.pem", "client-a-key.pem"]
            .map(|file| format!("{}\n", directory.join(file).display()))
            .concat();
        assert_eq!(
            String::from_utf8(words.stdout).unwrap(),
            expected,
            "{script}"
        );
    }
    // The configuration could not name it.
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"odd\xff");
    let directory = scratch.path().join::<&std::ffi::OsStr>(odd);
    let refused = local_ca(&directory, &[]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("UTF-8"), "{refused:?}");
    assert!(!directory.exists());
}
