//! The keys of the broker: where it listens, whom it serves, and the files that it writes.

use std::path::PathBuf;

use figment::value::{Dict, Value};
use toml::de::DeValue;

use super::{
    Broker, ConfigError, Problem, Sources,
    files::normal,
    layers::{DEFAULT, Layers, convert},
    listen, net,
    problem::Expected,
    reader::Reader,
    shape::{Parser, Shape},
    values,
};
use crate::{
    broker::{FileFormat, FileSettings},
    server::{Address, Peers},
};

const ADDRESS: &str = "broker.address";
const FILE: &str = "broker.file";

/// Reads the keys; `taken` are the addresses of the other listeners.
pub(super) fn read(reader: &mut Reader, taken: &[Address]) -> Broker {
    let addresses = reader.optional(ADDRESS, Shape::List.of(addresses));
    let addresses = addresses.unwrap_or_default();
    let is_taken = |address: &Address| taken.iter().any(|other| listen::is_same(address, other));
    if addresses.iter().any(is_taken) {
        reader.wrong(
            ADDRESS,
            "must not be one of listen.address, nor admin.address",
        );
    }
    if listen::has_twins(&addresses) {
        reader.wrong(ADDRESS, "must not hold the same address twice");
    }
    let client_tokens_file = reader.client_list("broker.client_tokens_file");
    let peers = listen::peers_of(reader, "broker.allow_users", "broker.allow_groups");
    check_guards(reader, &addresses, client_tokens_file.is_some(), &peers);
    Broker {
        addresses,
        // Nobody gets a token from a port without proving who it is, whatever the name.
        allow_hosts: reader.value("broker.allow_hosts", values::each(net::host)),
        client_tokens_file,
        peers,
        files: files(reader),
    }
}

/// Whoever gets a token can use it from anywhere, so reaching the address is never enough.
fn check_guards(reader: &mut Reader, addresses: &[Address], has_list: bool, peers: &Peers) {
    let has_peers = !peers.users.is_empty() || !peers.groups.is_empty();
    if has_list
        || [
            "broker.client_tokens_file",
            "broker.allow_users",
            "broker.allow_groups",
        ]
        .iter()
        .any(|key| reader.has_problem(key))
    {
        return;
    }
    let is_unix = |address: &Address| matches!(address, Address::Unix(_));
    if let Some(open) = addresses.iter().find(|one| !(has_peers && is_unix(one))) {
        let way = if is_unix(open) {
            "set broker.client_tokens_file, or name who may connect in broker.allow_users"
        } else {
            "set broker.client_tokens_file, or use a unix socket and broker.allow_users"
        };
        let text = format!("{open} would hand tokens to whoever reaches it: {way}");
        reader.wrong(ADDRESS, text);
    }
}

/// Unix sockets and loopback addresses; none for `off`.
fn addresses(value: &Value) -> Result<Vec<Address>, Expected> {
    if matches!(value.as_str().map(str::trim), Some("off" | "")) {
        return Ok(Vec::new());
    }
    let addresses = values::each(net::plain_address).parse(value)?;
    let is_local = |address: &Address| {
        let socket = address.socket();
        socket.is_none_or(|socket| net::is_loopback(socket.ip()))
    };
    if addresses.iter().all(is_local) {
        Ok(addresses)
    } else {
        Err(
            "must be loopback addresses like 127.0.0.1:9799, or unix:/path: tokens never travel \
             unencrypted from one machine to another"
                .to_owned(),
        )
    }
}

/// Where the broker of a configuration is to be asked: at its first unix socket, or its first
/// address. Nothing else of the configuration has to be right.
///
/// # Errors
/// When there is none.
pub fn broker_address(sources: &Sources) -> Result<Address, ConfigError> {
    let mut layers = Layers::collect(sources);
    let fail = |text: String| ConfigError::new(vec![Problem::missing(ADDRESS, text)]);
    let found = match layers.figment.find_value(ADDRESS) {
        Ok(value) => addresses(&value).map_err(fail)?,
        Err(_) if !layers.problems.is_empty() => {
            return Err(ConfigError::new(std::mem::take(&mut layers.problems)));
        }
        Err(_) => Vec::new(),
    };
    let unix = found.iter().find(|one| matches!(one, Address::Unix(_)));
    let first = unix.or(found.first()).cloned();
    first.ok_or_else(|| fail("missing; name the broker by --broker ADDRESS".to_owned()))
}

/// The files, as tables of an array.
fn files(reader: &mut Reader) -> Vec<FileSettings> {
    reader.note(FILE, Shape::Tables(shapes()));
    let Some(found) = reader.find(FILE) else {
        reader.resolved(FILE, "(not set)".to_owned(), DEFAULT);
        return Vec::new();
    };
    let files = match tables(&found.value) {
        Ok(files) => files,
        Err(text) => {
            reader.problems.push(Problem::new(FILE, found.source, text));
            return Vec::new();
        }
    };
    let paths: Vec<String> = files
        .iter()
        .map(|file| file.path.display().to_string())
        .collect();
    reader.resolved(FILE, format!("[{}]", paths.join(", ")), &found.source);
    files
}

/// A list of tables; as a variable, written as in the file.
fn tables(value: &Value) -> Result<Vec<FileSettings>, Expected> {
    let expected = r#"must be tables like [[broker.file]] path = "/run/auth-sidecar/token""#;
    let parsed;
    let items = match value {
        Value::Array(_, items) => items,
        Value::String(_, text) => {
            parsed = DeValue::parse(text.trim()).map(|value| convert(value.get_ref()));
            match &parsed {
                Ok(Value::Array(_, items)) => items,
                _ => return Err(expected.to_owned()),
            }
        }
        _ => return Err(expected.to_owned()),
    };
    let (mut files, mut mistakes) = (Vec::<FileSettings>::new(), Vec::new());
    for (number, item) in (1..).zip(items) {
        match item
            .as_dict()
            .ok_or_else(|| expected.to_owned())
            .and_then(file)
        {
            Ok(file)
                if files
                    .iter()
                    .any(|other| normal(&other.path) == normal(&file.path)) =>
            {
                mistakes.push(format!(
                    "file {number}: path must be another than those before"
                ));
            }
            Ok(file) => files.push(file),
            Err(text) => mistakes.push(format!("file {number}: {text}")),
        }
    }
    if mistakes.is_empty() {
        Ok(files)
    } else {
        Err(mistakes.join("; "))
    }
}

/// The keys of a table, and what they take.
fn shapes() -> Vec<(&'static str, Shape)> {
    vec![
        ("path", Shape::Text),
        ("mode", Shape::Text),
        ("owner", Shape::Text),
        ("group", Shape::Text),
        ("format", formats().shape()),
    ]
}

fn formats() -> impl Parser<FileFormat> {
    values::one_of(&[
        ("raw", FileFormat::Raw),
        ("header", FileFormat::Header),
        ("json", FileFormat::Json),
    ])
}

fn file(table: &Dict) -> Result<FileSettings, Expected> {
    let keys: Vec<&str> = shapes().into_iter().map(|(key, _)| key).collect();
    if table.keys().any(|key| !keys.contains(&key.as_str())) {
        // What is there may be a secret in the wrong place.
        return Err(format!("unknown key; there are {}", keys.join(", ")));
    }
    let named = |key: &str, text: Expected| format!("{key} {text}");
    let get = |key: &str| table.get(key);
    let path = get("path").ok_or("path is missing")?;
    let format = get("format").map(|value| formats().parse(value));
    let user = |value: &Value| listen::user(&values::text(value)?);
    let group = |value: &Value| listen::group(&values::text(value)?);
    Ok(FileSettings {
        path: file_path(path).map_err(|text| named("path", text))?,
        mode: get("mode")
            .map_or(Ok(0o600), mode)
            .map_err(|text| named("mode", text))?,
        owner: get("owner")
            .map(user)
            .transpose()
            .map_err(|text| named("owner", text))?,
        group: get("group")
            .map(group)
            .transpose()
            .map_err(|text| named("group", text))?,
        format: format
            .transpose()
            .map_err(|text| named("format", text))?
            .unwrap_or(FileFormat::Raw),
    })
}

fn file_path(value: &Value) -> Result<PathBuf, Expected> {
    let text = values::text(value)?;
    let path = PathBuf::from(&text);
    let is_file = path.is_absolute() && path.file_name().is_some() && !text.ends_with('/');
    is_file
        .then_some(path)
        .ok_or_else(|| "must be a path that begins with /, of a file".to_owned())
}

/// Permissions to read, and to write at most.
fn mode(value: &Value) -> Result<u32, Expected> {
    let text = value.as_str().map(str::trim).unwrap_or_default();
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| (3..=4).contains(&text.len()) && mode & !0o666 == 0 && mode & 0o444 != 0)
        .ok_or_else(|| {
            r#"must be permissions like "0600" or "0640", in quotes, without any to execute"#
                .to_owned()
        })
}
