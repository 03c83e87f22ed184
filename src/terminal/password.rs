//! Asking for a password on the terminal, not on standard input, and without showing it.

use std::fs::OpenOptions;
use std::io::{self, BufReader, Read as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const BACKSPACE: [u8; 2] = [8, 127];

/// Asks and reads one line. Errors when there is no terminal, when the answer is empty, and with
/// [`io::ErrorKind::Interrupted`] on Ctrl-C; the terminal is put back in every case.
pub fn ask(prompt: &str) -> io::Result<String> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let mut silent = tcgetattr(&terminal)?;
    *before() = Some(silent.clone());
    // Signals are read as bytes, so that an interrupt cannot leave the terminal silent.
    silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
    tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
    // Only now: a password that is pasted at once must be neither shown nor thrown away.
    write!(&terminal, "{prompt}")?;
    let answer = read_line(&mut BufReader::new(&terminal).bytes());
    restore();
    writeln!(&terminal)?;
    answer
}

/// How the terminal was before it was made silent; `None` while it is not.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal its echo back, if a question has taken it. A signal may end the program while it asks.
pub(super) fn restore() {
    if let (Some(before), Ok(terminal)) = (before().take(), OpenOptions::new().write(true).open("/dev/tty"))
        && let Err(error) = tcsetattr(&terminal, SetArg::TCSAFLUSH, &before)
    {
        tracing::warn!("the terminal's echo is not back: {error}");
    }
}

fn read_line(bytes: &mut impl Iterator<Item = io::Result<u8>>) -> io::Result<String> {
    let mut line = Vec::new();
    for byte in bytes {
        match byte? {
            b'\r' | b'\n' | CTRL_D => break,
            CTRL_C => return Err(io::ErrorKind::Interrupted.into()),
            CTRL_U => line.clear(),
            byte if BACKSPACE.contains(&byte) => drop(line.pop()),
            byte => line.push(byte),
        }
    }
    let answer = String::from_utf8(line).map_err(|_| io::Error::other("the password is not UTF-8"))?;
    if answer.is_empty() { Err(io::Error::other("no password was typed")) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> io::Result<String> {
        read_line(&mut keys.iter().map(|byte| Ok(*byte)))
    }

    #[test]
    fn editing_keys_work_and_an_interrupt_is_told() {
        assert_eq!(typed(b"se\x7fecret\r").unwrap(), "secret");
        assert_eq!(typed(b"wrong\x15right\n").unwrap(), "right");
        assert_eq!(typed(b"ab\x03").unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(typed(b"\r").is_err());
    }
}
