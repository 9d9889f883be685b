//! What to do with the files of a local authority: the lines of the configuration, and how the
//! usual programs come to trust it.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::Path,
    time::SystemTime,
};

use super::{ClientName, OWN_NAMES, Wish, files};

/// Writes it for a person.
pub(super) fn write(
    directory: &Path,
    wish: &Wish<'_>,
    names: &[String],
    end: SystemTime,
    output: &mut impl Write,
) -> io::Result<()> {
    let end = humantime::format_rfc3339_seconds(end).to_string();
    let day = end.split('T').next().unwrap_or_default();
    writeln!(
        output,
        "Made in {}, good until {day}, for {}:\n\n\
         \x20 ca.pem      what clients trust; it can vouch for these names and for no others\n\
         \x20 cert.pem    the sidecar's certificate\n\
         \x20 key.pem     its key, readable by its owner alone: give it to the sidecar's user",
        directory.display(),
        names.join(", ")
    )?;
    for ClientName(name) in wish.clients {
        writeln!(
            output,
            "  {}, {}\n              the certificate of the client {name}, and its key",
            files::client_certificate(name),
            files::client_key(name)
        )?;
    }
    let is_own = |name: &&String| OWN_NAMES.contains(&name.as_str());
    let others: Vec<_> = names.iter().filter(|name| !is_own(name)).collect();
    // A name of that kind is served by TLS alone, or the clients of a plain port have to prove more.
    let address = if others.is_empty() {
        "[\"127.0.0.1:9797\", \"tls:127.0.0.1:9443\"]"
    } else {
        "\"tls:127.0.0.1:9443\""
    };
    writeln!(
        output,
        "\nThe authority's own key was not kept: nobody can sign anything more with it. For other names,\n\
         more clients, or a later end, run this again with --replace; all clients must be given the\n\
         new ca.pem then.\n\n\
         The sidecar's configuration:\n\n\
         \x20 [listen]\n\
         \x20 address = {address}\n\
         \x20 tls_cert_file = {}\n\
         \x20 tls_key_file = {}",
        in_toml(directory, files::CERTIFICATE),
        in_toml(directory, files::KEY)
    )?;
    if !wish.clients.is_empty() {
        let ca = in_toml(directory, files::CA);
        writeln!(output, "  tls_client_ca_file = {ca}")?;
    }
    if !others.is_empty() {
        let quoted: Vec<_> = others.iter().map(|name| host(name)).collect();
        writeln!(output, "  allow_hosts = [{}]", quoted.join(", "))?;
    }
    trust(directory, wish, output)
}

/// The path of a file as a value of TOML.
fn in_toml(directory: &Path, file: &str) -> toml::Value {
    directory.join(file).display().to_string().into()
}

/// The path of a file as a word of a shell.
fn in_shell(directory: &Path, file: &str) -> String {
    let path = directory.join(file).display().to_string();
    // Only a zero byte cannot be quoted, which no path has.
    shlex::try_quote(&path).map_or_else(|_| path.clone(), Into::into)
}

/// As `allow_hosts` has it.
fn host(name: &str) -> String {
    match name.parse() {
        Ok(IpAddr::V6(address)) => format!("\"[{address}]\""),
        _ => format!("\"{name}\""),
    }
}

fn trust(directory: &Path, wish: &Wish<'_>, output: &mut impl Write) -> io::Result<()> {
    let ca = in_shell(directory, files::CA);
    let client = wish
        .clients
        .first()
        .map_or_else(String::new, |ClientName(name)| {
            format!(
                " --cert {} --key {}",
                in_shell(directory, &files::client_certificate(name)),
                in_shell(directory, &files::client_key(name))
            )
        });
    writeln!(
        output,
        "\nHow clients trust it:\n\n\
         \x20 curl              curl --cacert {ca}{client} https://localhost:9443/\n\
         \x20 Go, Terraform     SSL_CERT_FILE={ca} terraform plan   (not on macOS: see below)\n\
         \x20 Python requests   REQUESTS_CA_BUNDLE={ca}\n\
         \x20 Python ssl        SSL_CERT_FILE={ca}\n\
         \x20 Node              NODE_EXTRA_CA_CERTS={ca}\n\
         \x20 Java              keytool -importcert -noprompt -alias auth-sidecar -file {ca} \\\n\
         \x20                     -keystore trust.p12 -storetype PKCS12 -storepass changeit\n\
         \x20                   java -Djavax.net.ssl.trustStore=trust.p12 \\\n\
         \x20                     -Djavax.net.ssl.trustStorePassword=changeit -jar …\n\n\
         Except for Node, these name what is trusted instead of the usual authorities. A program that\n\
         talks to others as well needs both:\n\n\
         \x20 cat /etc/ssl/certs/ca-certificates.crt {ca} > both.pem\n\n\
         or the whole machine can trust it. Debian: copy ca.pem to\n\
         /usr/local/share/ca-certificates/auth-sidecar.crt, run update-ca-certificates. Fedora: copy it\n\
         to /etc/pki/ca-trust/source/anchors, run update-ca-trust. macOS: security add-trusted-cert\n\
         -k ~/Library/Keychains/login.keychain-db {ca}"
    )
}
