use std::{
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    sync::Barrier,
    thread::scope,
};

use super::*;

const ACCESS: UnixAccess = UnixAccess {
    mode: 0o600,
    owner: None,
    group: None,
};

#[test]
fn of_many_that_start_at_once_one_wins_and_can_be_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.sock");
    for _ in 0..20 {
        // A stale file, which every one of them would like to replace.
        drop(StdUnix::bind(&path).unwrap());
        let barrier = Barrier::new(8);
        let sockets: Vec<_> = scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        listen(&path, &ACCESS)
                    })
                })
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        let won = sockets.iter().filter(|socket| socket.is_ok()).count();
        assert_eq!(won, 1, "{sockets:?}");
        UnixStream::connect(&path).unwrap();
        drop(sockets);
        assert!(!path.exists());
    }
}

#[test]
fn a_file_that_cannot_be_given_away_is_not_listened_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.sock");
    let access = UnixAccess {
        owner: Some(u32::MAX - 1),
        ..ACCESS
    };
    if rustix::process::getuid().is_root() {
        let (_socket, _file) = listen(&path, &access).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), u32::MAX - 1);
    } else {
        let error = listen(&path, &access).unwrap_err();
        assert!(error.to_string().contains("owner and group"), "{error}");
        assert!(!path.exists());
    }
}
