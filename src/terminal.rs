//! The terminal as a device: raw mode and its guard, input as our own types, the clipboard, asking for a password.
//!
//! It must not know what is drawn or what a key means.

mod chord;
mod clipboard;
mod guard;
mod input;
mod password;

pub use chord::{Chord, Key};
pub use clipboard::{copy, copy_to_tmux};
pub use guard::{Guard, WRITE_LIMIT, discard_output, restore};
pub use input::{Input, Inputs};
pub use password::ask as ask_password;
