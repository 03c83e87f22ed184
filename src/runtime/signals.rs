//! Signals, as what they ask for.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging;
use crate::terminal;

/// Signals that end the program.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    window_change: Signal,
    stop: Signal,
    go_on: Signal,
}

/// What a signal asks for.
pub(super) enum Asked {
    /// To end, with this exit code: 128 and the signal's number.
    End(u8),
    /// To look at the terminal's size.
    Resize,
    /// To give the terminal back to the shell.
    Stop,
    /// To take the terminal again, which somebody else may have used.
    GoOn,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            window_change: signal(SignalKind::window_change())?,
            stop: signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGTSTP as i32))?,
            go_on: signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGCONT as i32))?,
        })
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End(130),
            _ = self.terminate.recv() => Asked::End(143),
            _ = self.hangup.recv() => Asked::End(129),
            _ = self.window_change.recv() => Asked::Resize,
            _ = self.stop.recv() => Asked::Stop,
            _ = self.go_on.recv() => Asked::GoOn,
        }
    }

    /// Waits for a signal that ends the program, before there is a screen.
    pub(super) async fn end(&mut self) -> u8 {
        loop {
            match self.next().await {
                Asked::End(code) => return code,
                Asked::Stop if terminal::has_shell() => {
                    if let Err(error) = terminal::stop() {
                        logging::say(&format!("cannot stop: {error}"));
                    }
                }
                Asked::Stop | Asked::Resize | Asked::GoOn => {}
            }
        }
    }
}
