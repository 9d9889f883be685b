//! A socket that clients connect to, and what a client goes through before its first request.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_cert::{Certificate, der::Decode};

use super::{Peer, Peers, Refusal, Stream, TlsInUse, pace::Pace, peers::User};
use crate::descriptors;

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// Plain TCP.
    Tcp(TcpListener),
    /// TLS over TCP.
    Tls(TcpListener, TlsInUse),
    /// A unix socket.
    Unix(UnixListener),
}

/// A client that has connected, and no more.
#[derive(Debug)]
pub(super) enum Arrival {
    Tcp(TcpStream, IpAddr),
    Tls(TcpStream, IpAddr, TlsInUse),
    Unix(UnixStream),
}

/// What became of an arrival.
#[derive(Debug)]
pub(super) enum Welcome {
    /// Its requests can be read.
    In(Stream, Peer),
    /// The client is to get this refusal, and nothing else.
    Refused(Stream, Peer, Refusal),
    /// The client has left.
    Gone,
}

impl Listener {
    /// What handshakes go by, where there are such.
    pub(super) fn tls(&self) -> Option<TlsInUse> {
        match self {
            Self::Tls(_, tls) => Some(tls.clone()),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<Arrival> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = accept(listener).await?;
                Ok(Arrival::Tcp(stream, from))
            }
            Self::Tls(listener, tls) => {
                let (stream, from) = accept(listener).await?;
                Ok(Arrival::Tls(stream, from, tls.clone()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Arrival::Unix(stream))
            }
        }
    }
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, IpAddr)> {
    let (stream, from) = listener.accept().await?;
    // Small responses must not wait for the client's acknowledgement of the last one.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    // An IPv4 client of an IPv6 socket is no other client.
    Ok((stream, from.ip().to_canonical()))
}

impl Arrival {
    /// Where it comes from, before anything was said.
    pub(super) fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, from) => Peer::at(*from, false),
            Self::Tls(_, from, _) => Peer::at(*from, true),
            Self::Unix(stream) => Peer::unix(stream),
        }
    }

    /// Whether it may be served at all; warns at this pace when not.
    pub(super) fn is_admitted(&self, peers: &Peers, warnings: &Pace) -> bool {
        match self {
            Self::Unix(stream) => peers.admit_stream(stream, warnings),
            Self::Tcp(..) | Self::Tls(..) => true,
        }
    }

    /// Whether there are file descriptors left for whoever needs them more.
    pub(super) fn leaves_descriptors(&self) -> bool {
        match self {
            Self::Tcp(stream, _) | Self::Tls(stream, ..) => descriptors::are_left_behind(stream),
            Self::Unix(stream) => descriptors::are_left_behind(stream),
        }
    }

    /// Who is at the other end, where that is known.
    pub(super) fn user(&self) -> Option<User> {
        match self {
            Self::Unix(stream) => Some(User::of(stream)),
            Self::Tcp(..) | Self::Tls(..) => None,
        }
    }

    /// Does what comes before the first request, within `time_limit`; warns of refused certificates at
    /// this pace.
    pub(super) async fn welcome(self, time_limit: Duration, certificates: &Pace) -> Welcome {
        match self {
            Self::Tcp(stream, from) => Welcome::In(Stream::Tcp(stream), Peer::at(from, false)),
            Self::Unix(stream) => {
                let peer = Peer::unix(&stream);
                Welcome::In(Stream::Unix(stream), peer)
            }
            Self::Tls(stream, from, tls) => {
                // On the heap, so that the other kinds do not carry the room for it along.
                let shaken = timeout(
                    time_limit,
                    Box::pin(shake_hands(stream, from, tls, certificates)),
                )
                .await;
                shaken.unwrap_or_else(|_| {
                    tracing::debug!("a client's TLS handshake took too long");
                    Welcome::Gone
                })
            }
        }
    }
}

/// A TLS connection begins with 0x16 (RFC 8446 §5.1), a request with a letter.
async fn shake_hands(
    stream: TcpStream,
    from: IpAddr,
    tls: TlsInUse,
    certificates: &Pace,
) -> Welcome {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1..) if first.iter().all(u8::is_ascii_uppercase) => {
            return Welcome::Refused(Stream::Tcp(stream), Peer::at(from, false), Refusal::NotTls);
        }
        Ok(1..) => {}
        Ok(0) | Err(_) => return Welcome::Gone,
    }
    let Some(terms) = tls.get() else {
        return Welcome::Gone;
    };
    match TlsAcceptor::from(Arc::clone(&terms.config))
        .accept(stream)
        .await
    {
        // A handshake takes its time, and the authorities may be others by now.
        Ok(stream) if !tls.still_admits(&terms, stream.get_ref().1.peer_certificates()) => {
            tracing::debug!("the authorities changed during a client's handshake");
            Welcome::Gone
        }
        Ok(stream) => {
            let peer = Peer {
                certificate: subject(&stream),
                ..Peer::at(from, true)
            };
            Welcome::In(Stream::Tls(Box::new(stream)), peer)
        }
        Err(error) => {
            if !is_about_certificate(&error) {
                tracing::debug!(%error, "a client's TLS handshake failed");
            } else if let Some(unsaid) = certificates.due() {
                // Somebody wants in and has something for it: whoever runs this wants to know.
                tracing::warn!(%error, unsaid, "refused a client's certificate");
            } else {
                tracing::debug!(%error, "refused a client's certificate");
            }
            Welcome::Gone
        }
    }
}

/// Whose the client's certificate is, where one was asked for: it was verified by now.
fn subject(stream: &TlsStream<TcpStream>) -> Option<Arc<str>> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate.subject.to_string().into())
}

fn is_about_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(
        error,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}
