//! The keys of every section but the credentials, with their bounds.

use std::{net::SocketAddr, time::Duration};

use super::{
    Config, Listen, Process, auth, broker, legs, listen, net, reader::Reader, sockets, telemetry,
    values,
};
use crate::{
    admission::{Allowed, Preset},
    proxy::{ProxySettings, upstream::UpstreamSettings},
    server::ServerSettings,
    telemetry::{AccessMode, AccessSettings, LogFormat, LogSettings},
};

/// A time that must pass; less than this is a mistake, or no time at all.
const LEAST: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// More connections than this need more than one process.
const MANY: usize = 1_000_000;

/// Reads every key. `None` only with a problem noted.
pub(super) fn read(reader: &mut Reader) -> Option<Config> {
    let listen = listeners(reader);
    let proxy = proxy(reader);
    listen::check_names(reader, &listen, &proxy);
    let upstream = upstream(reader, &listen::sockets(&listen.addresses));
    let auth = auth::read(reader);
    let admin = listen::admin(reader, &listen.addresses);
    let taken: Vec<_> = listen
        .addresses
        .iter()
        .chain(&admin.address)
        .cloned()
        .collect();
    let broker = broker::read(reader, &taken);
    let log = log(reader);
    let telemetry = telemetry::read(reader);
    let process = process(reader);
    if let Some(inherited) = &reader.inherited {
        let unused = sockets::unused(inherited, &listen.addresses, admin.address.as_ref());
        reader.warnings.extend(unused);
    }
    Some(Config {
        listen,
        upstream: upstream?,
        proxy,
        auth: auth?,
        admin,
        broker,
        log,
        telemetry,
        process,
        inherited: reader.inherited.clone(),
        warnings: Vec::new(),
    })
}

/// The sections in the order of the file.
const SECTIONS: [&str; 8] = [
    "listen",
    "upstream",
    "auth",
    "admin",
    "broker",
    "log",
    "telemetry",
    "process",
];

/// The place of a key's section in the file.
pub(super) fn rank(key: &str) -> usize {
    let section = key.split_once('.').map_or(key, |(section, _)| section);
    let mut sections = SECTIONS.iter();
    sections
        .position(|one| *one == section)
        .unwrap_or(usize::MAX)
}

fn listeners(reader: &mut Reader) -> Listen {
    let (addresses, tls) = listen::addresses(reader);
    let listen = Listen {
        addresses,
        tls,
        unix: listen::unix(reader),
        workers: reader.value("listen.workers", values::integer(0..=1024)),
        drain_delay: reader.value(
            "listen.drain_delay",
            values::duration(Duration::ZERO..=HOUR),
        ),
        server: ServerSettings {
            max_connections: reader.value("listen.max_connections", values::integer(1..=MANY)),
            header_read_timeout: reader
                .value("listen.header_read_timeout", values::duration(LEAST..=HOUR)),
            keep_alive_timeout: reader
                .value("listen.keep_alive_timeout", values::duration(LEAST..=DAY)),
            body_idle_timeout: reader
                .value("listen.body_idle_timeout", values::duration(LEAST..=DAY)),
            // The HTTP library takes no less than 8 KiB.
            max_header_size: reader
                .value("listen.max_header_size", values::size(8 << 10..=1 << 20)),
            max_concurrent_streams: reader
                .value("listen.max_concurrent_streams", values::integer(1..=1_000)),
            drain_timeout: reader.value(
                "listen.drain_timeout",
                values::duration(Duration::ZERO..=HOUR),
            ),
            peers: listen::peers(reader),
        },
        client_tokens_file: reader.client_list("listen.client_tokens_file"),
    };
    listen::check_remote(reader, &listen);
    listen
}

fn proxy(reader: &mut Reader) -> ProxySettings {
    let settings = ProxySettings {
        hold_timeout: reader.value(
            "auth.hold_timeout",
            values::duration(Duration::ZERO..=Duration::from_secs(10 * 60)),
        ),
        response_timeout: reader.value("upstream.response_timeout", values::duration(LEAST..=DAY)),
        body_idle_timeout: reader
            .optional("upstream.body_idle_timeout", values::duration(LEAST..=DAY)),
        tunnel_idle_timeout: reader.value(
            "upstream.tunnel_idle_timeout",
            values::duration(LEAST..=DAY),
        ),
        replay_body_limit: reader.value("upstream.replay_body_limit", values::size(0..=1 << 30)),
        replay_buffer_total: reader
            .value("upstream.replay_buffer_total", values::size(0..=1 << 30)),
        max_in_flight: reader.value("listen.max_in_flight", values::integer(1..=MANY)),
        via: reader.value("upstream.via", values::boolean),
        forwarded: reader.value("upstream.forwarded", values::boolean),
        allow_hosts: reader.value("listen.allow_hosts", values::each(net::host)),
        allow_origins: reader.value("listen.allow_origins", values::each(net::origin)),
        required_field: reader.optional("listen.require_field", values::required_field),
        allowed: allowed(reader),
    };
    if settings.replay_body_limit > settings.replay_buffer_total
        && !reader.has_problem("upstream.replay_buffer_total")
    {
        reader.wrong(
            "upstream.replay_body_limit",
            "must be at most upstream.replay_buffer_total, the limit of all bodies together",
        );
    }
    settings
}

/// What a preset and the rules of one's own allow together.
fn allowed(reader: &mut Reader) -> Option<Allowed> {
    let presets = [
        ("read-only", Preset::ReadOnly),
        ("ingest-only", Preset::IngestOnly),
    ];
    let preset = reader.optional("listen.preset", values::one_of(&presets));
    let own = reader.optional("listen.allow", values::rules);
    if preset.is_none() && own.is_none() {
        return None;
    }
    let of_preset = preset.map(Preset::rules).unwrap_or_default();
    Some(Allowed::new([of_preset, own.unwrap_or_default()].concat()))
}

fn upstream(reader: &mut Reader, listeners: &[SocketAddr]) -> Option<UpstreamSettings> {
    let insecure = reader.value("upstream.allow_insecure_http", values::boolean);
    let url = reader.required(
        "upstream.url",
        &["WAVEFRONT_URL", "--upstream"],
        net::upstream_url(insecure),
    );
    if let Some(url) = &url {
        if listeners
            .iter()
            .any(|listener| net::leads_to(url, *listener))
        {
            reader.wrong(
                "upstream.url",
                "must not be the sidecar's own listen.address",
            );
        }
        if url.scheme() == "http" && !net::is_local(url) {
            reader
                .warnings
                .push("upstream.url: the token travels unencrypted".to_owned());
        }
    }
    let tls = legs::tls(reader, "upstream");
    let proxy = legs::proxy(reader, "upstream");
    if let Some(url) = &url {
        legs::reject_plain_detour(reader, "upstream", url, proxy.as_ref());
    }
    let http_version = reader.value("upstream.http_version", values::http_version());
    let connect_timeout = reader.value("upstream.connect_timeout", values::duration(values::STEP));
    let idle_timeout = reader.value("upstream.idle_timeout", values::duration(LEAST..=HOUR));
    let max_idle_connections =
        reader.value("upstream.max_idle_connections", values::integer(0..=MANY));
    Some(UpstreamSettings {
        url: url?,
        tls,
        proxy,
        http_version,
        connect_timeout,
        idle_timeout,
        max_idle_connections,
    })
}

fn log(reader: &mut Reader) -> LogSettings {
    LogSettings {
        level: reader.value("log.level", values::log_level),
        format: reader
            .value("log.format", values::log_format())
            .unwrap_or(LogFormat::Text),
        access: AccessSettings {
            mode: reader.value(
                "log.access",
                values::one_of(&[
                    ("off", AccessMode::Off),
                    ("errors", AccessMode::Errors),
                    ("all", AccessMode::All),
                ]),
            ),
            file: reader.optional("log.access_file", values::new_path),
            has_query: reader.value("log.access_query", values::boolean),
        },
    }
}

fn process(reader: &mut Reader) -> Process {
    let sandbox = reader.value("process.sandbox", values::boolean);
    if !sandbox && !reader.has_problem("process.sandbox") {
        reader.warnings.push(
            "process.sandbox: debuggers and core dumps can read the secrets of this process"
                .to_owned(),
        );
    }
    Process { sandbox }
}
