//! `localhost` as an address to listen on: both loopback addresses, or none.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process::Command,
};

use crate::support::{FakeService, Process, Settings, Sidecar, get, request};

const TOKEN: &str = "a-token";

fn settings() -> (FakeService, Settings) {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service);
    (service, settings)
}

#[expect(clippy::print_stdout, reason = "who runs the tests should see it")]
fn has_ipv6() -> bool {
    let found = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !found {
        println!("skipped: this machine has no IPv6");
    }
    found
}

#[tokio::test]
async fn both_loopback_addresses_are_served() {
    if !has_ipv6() {
        return;
    }
    let (_service, settings) = settings();
    let settings = settings
        .set("listen.address", "localhost:0")
        .set("admin.address", "localhost:0");
    let sidecar = Sidecar::start(&settings);
    let admin = sidecar.admin_url();
    let admin = admin.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "[::1]"] {
        let port = sidecar.proxy_address().port();
        let reply = get(&format!("http://{host}:{port}/x")).await;
        assert_eq!(reply.status, 200, "{host}");
        let reply = get(&format!("http://{host}:{admin}/livez")).await;
        assert_eq!(reply.status, 200, "{host}");
    }
}

#[tokio::test]
async fn with_one_of_the_two_taken_it_does_not_start() {
    if !has_ipv6() {
        return;
    }
    let (_service, settings) = settings();
    for taken in [
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    ] {
        let other = TcpListener::bind(taken).unwrap();
        let taken = other.local_addr().unwrap();
        let address = format!("localhost:{}", taken.port());
        for key in ["listen.address", "admin.address"] {
            let error = Sidecar::try_start(&settings.clone().set(key, address.as_str()));
            let said = format!("{:#}", error.unwrap_err());
            for part in [key, &address, &taken.to_string()] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn a_reload_to_a_port_of_which_one_is_taken_is_rejected_whole() {
    if !has_ipv6() {
        return;
    }
    let (_service, settings) = settings();
    let process = Process::start(&settings).await;
    let other = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    process.reconfigure(&settings.set("listen.address", format!("localhost:{port}")));
    let is_rejected = || process.output().contains("cannot be used");
    crate::support::eventually(is_rejected, crate::support::DEADLINE).await;
    // Nothing of it is left behind.
    drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
    assert_eq!(get(&format!("{}/x", process.url())).await.status, 200);
}

/// A namespace of its own takes root, as in a container that builds.
#[tokio::test]
async fn a_machine_without_ipv6_has_one_loopback_address() {
    let prepare = "ip link set lo up && echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c"]);
    let can = command.arg(prepare).status();
    if !can.is_ok_and(|status| status.success()) {
        println!("skipped: no network namespace of our own");
        return;
    }
    let (_service, settings) = settings();
    let settings = settings
        .set("listen.address", "localhost:9797")
        .set("admin.address", "localhost:9798");
    let files = tempfile::tempdir().unwrap();
    let config = settings.write(files.path());
    let mut command = Command::new("unshare");
    let program = env!("CARGO_BIN_EXE_auth-sidecar");
    let run = format!(
        "{prepare} && exec {program} run --config {}",
        config.display()
    );
    command.args(["--net", "sh", "-c", &run]);
    let process = Process::spawn_command(
        tempfile::tempdir().unwrap(),
        command,
        &[("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")],
    );
    let listens = || process.output().matches("listening").count() >= 2;
    crate::support::eventually(listens, crate::support::DEADLINE).await;
    assert!(process.output().contains("no IPv6"), "{}", process.output());
}

#[test]
fn one_address_cannot_be_both_or_twice() {
    let (_service, settings) = settings();
    let files = tempfile::tempdir().unwrap();
    for twins in [
        ["localhost:9797", "127.0.0.1:9797"],
        ["[::1]:9797", "localhost:9797"],
        ["localhost:9797", "localhost:9797"],
    ] {
        let settings = settings.clone().set("listen.address", twins.as_slice());
        let said = format!("{:#}", settings.load(files.path()).unwrap_err());
        assert!(said.contains("twice"), "{twins:?}: {said}");
    }
    for upstream in [
        "http://127.0.0.1:9797",
        "http://[::1]:9797",
        "http://localhost:9797",
    ] {
        let settings = settings
            .clone()
            .set("listen.address", "localhost:9797")
            .set("upstream.url", upstream);
        let said = format!("{:#}", settings.load(files.path()).unwrap_err());
        assert!(said.contains("own listen.address"), "{upstream}: {said}");
    }
}

#[tokio::test]
async fn its_addresses_are_names_of_the_sidecar() {
    if !has_ipv6() {
        return;
    }
    let (_service, settings) = settings();
    let sidecar = Sidecar::start(&settings.set("listen.address", "localhost:0"));
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let reply = request("GET", &sidecar.url(), &[("host", host)], "").await;
        assert_eq!(reply.status, 200, "{host}");
    }
}
