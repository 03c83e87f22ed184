//! Copying over SSH: inside tmux into its buffer, which passes it on; else by OSC 52, which carries base64 only, so
//! that no text can act on the terminal.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crossterm::clipboard::CopyToClipboard;
use crossterm::queue;

/// The most that is copied: terminals drop longer sequences.
const BYTES_MAX: usize = 50_000;

/// Writes what makes the terminal copy, and says so.
pub fn copy(text: &str, out: &mut impl io::Write) -> io::Result<&'static str> {
    bounded(text)?;
    queue!(out, CopyToClipboard::to_clipboard_from(text))?;
    Ok("copied by the terminal (OSC 52)")
}

/// Copies to the buffer of the tmux around us, which passes it on, and says so. May take as long as tmux does.
pub fn copy_to_tmux(text: &str) -> io::Result<&'static str> {
    bounded(text)?;
    if to_tmux(text)? {
        Ok("copied to the tmux buffer")
    } else {
        Err(io::Error::other("tmux load-buffer failed"))
    }
}

fn bounded(text: &str) -> io::Result<()> {
    if text.len() > BYTES_MAX {
        return Err(io::Error::other(format!("{} bytes are more than a terminal takes", text.len())));
    }
    Ok(())
}

fn to_tmux(text: &str) -> io::Result<bool> {
    let mut tmux = Command::new("tmux")
        .args(["load-buffer", "-w", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut input) = tmux.stdin.take() {
        input.write_all(text.as_bytes())?;
    }
    Ok(tmux.wait()?.success())
}
