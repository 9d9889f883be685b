//! The signals that stop the program.

use std::{future::Future, io};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::telemetry::log;

/// Waits for SIGTERM or SIGINT. A second one ends the process at once, with exit code 1.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel();
    // A task of its own: the second signal must be heard also while nobody waits for the first.
    tokio::spawn(async move {
        let mut stop = Some(stop);
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!("{name}");
            // Refused when we are stopping already, for another reason.
            if stop.take().is_none_or(|stop| stop.send(()).is_err()) {
                tracing::warn!("stopping at once");
                exit_now();
            }
        }
    });
    Ok(async move { stopped.await.unwrap_or_default() })
}

#[expect(
    clippy::exit,
    clippy::disallowed_methods,
    reason = "somebody asked twice: nothing that is still open is worth waiting for"
)]
fn exit_now() {
    log::finish();
    std::process::exit(1);
}
