//! Serves what the benchmark puts around a proxy: an instance with its token service, or a relay.
//!
//! ```text
//! bench-instance serve DIRECTORY     prints "http=PORT https=PORT"; writes DIRECTORY/ca.pem
//! bench-instance relay LISTEN TARGET a TCP relay between two ports of loopback that parses nothing
//! ```
//!
//! Both run on one thread, until they are killed.

mod connection;
mod tls;
mod tokens;

use std::{cell::RefCell, error::Error, net::Ipv4Addr, path::Path, rc::Rc};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};

use crate::tokens::Tokens;

/// Large enough that a relay of large bodies is bound by copying and not by system calls.
const RELAY_BUFFER: usize = 64 * 1024;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let local = LocalSet::new();
    match arguments[..] {
        ["serve", directory] => local.block_on(&runtime, serve(Path::new(directory))),
        ["relay", listen, target] => {
            local.block_on(&runtime, relay(listen.parse()?, target.parse()?))
        }
        _ => Err("bench-instance serve DIRECTORY | relay LISTEN TARGET".into()),
    }
}

async fn serve(directory: &Path) -> Result<()> {
    let acceptor = tls::acceptor(&directory.join("ca.pem"))?;
    let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let secure = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!(
        "http={} https={}",
        plain.local_addr()?.port(),
        secure.local_addr()?.port()
    );
    let tokens = Rc::new(RefCell::new(Tokens::default()));
    let secure_tokens = Rc::clone(&tokens);
    spawn_local(async move {
        while let Ok((stream, _)) = secure.accept().await {
            let (acceptor, tokens) = (acceptor.clone(), Rc::clone(&secure_tokens));
            spawn_local(async move {
                let _ = stream.set_nodelay(true);
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = connection::serve(stream, &tokens).await;
                }
            });
        }
    });
    loop {
        let (stream, _) = plain.accept().await?;
        let tokens = Rc::clone(&tokens);
        spawn_local(async move {
            let _ = stream.set_nodelay(true);
            let _ = connection::serve(stream, &tokens).await;
        });
    }
}

async fn relay(listen: u16, target: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, listen)).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        spawn_local(async move {
            let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let size = RELAY_BUFFER;
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, size, size).await
        });
    }
}
