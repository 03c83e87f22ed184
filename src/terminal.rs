//! The terminal as a device: raw mode and its guard, input as our own types, the clipboard, asking for a password.
//!
//! It must not know what is drawn or what a key means.

mod chord;
mod clipboard;
mod guard;
mod input;
mod job;
mod password;

pub use chord::{Chord, Key};
pub use clipboard::{copy, copy_to_tmux};
pub use guard::{Guard, WRITE_LIMIT, discard_output, note_cut, restore, write_within_limit};
pub use input::{Input, Inputs};
pub use job::{has_shell, stop};
pub use password::ask as ask_password;

/// Columns and rows of the terminal; 80x24 where it does not know, as on a serial line. Errors when it is gone.
pub fn size() -> std::io::Result<(u16, u16)> {
    let (columns, rows) = crossterm::terminal::size()?;
    Ok(if columns == 0 || rows == 0 { (80, 24) } else { (columns, rows) })
}
