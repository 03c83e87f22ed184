//! Events of the terminal as our own types. What is not a key, a paste or a new size is dropped here.

use std::io;
use std::os::fd::AsFd as _;
use std::panic::catch_unwind;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::{mpsc, watch};

use super::{Chord, Key};

/// What the terminal reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A key was pressed.
    Key(Chord),
    /// Text was pasted.
    Paste(String),
    /// The terminal has a new size: columns, rows.
    Resize(u16, u16),
}

/// The stream of inputs, read by a thread of its own: a terminal can only be waited for by blocking.
#[derive(Debug)]
pub struct Inputs {
    receiver: mpsc::Receiver<Input>,
    gone: watch::Receiver<bool>,
}

/// Faults of the reading, one after the other, before it is given up: one comes of every chunk that confuses the parser.
const FAULTS_MAX: u32 = 100;
/// Inputs that may wait; a paste is one of them.
const WAITING_MAX: usize = 1024;

impl Inputs {
    /// Starts reading.
    #[expect(clippy::new_without_default, reason = "it takes hold of the terminal, which is no default")]
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let (end, gone) = watch::channel(false);
        std::thread::spawn(move || {
            let mut faults = 0;
            while faults < FAULTS_MAX {
                match read() {
                    Err(_) => faults += 1,
                    Ok(event) => {
                        faults = 0;
                        if translate(event).is_some_and(|input| sender.blocking_send(input).is_err()) {
                            return;
                        }
                    }
                }
            }
        });
        // A terminal that is gone reads as ready for ever and never gives an event: the thread above spins then, and
        // somebody else must see it.
        std::thread::spawn(move || {
            wait_until_gone();
            end.send_replace(true);
        });
        Self { receiver, gone }
    }

    /// The next input; `None` when the terminal is gone.
    pub async fn next(&mut self) -> Option<Input> {
        tokio::select! {
            biased;
            _ = self.gone.wait_for(|gone| *gone) => None,
            input = self.receiver.recv() => input,
        }
    }

    /// An input that is there already.
    pub fn waiting(&mut self) -> Option<Input> {
        self.receiver.try_recv().ok()
    }
}

/// The next event. What a terminal reports can make the parser panic, which is no reason to be deaf from then on.
fn read() -> io::Result<Event> {
    catch_unwind(crossterm::event::read).unwrap_or_else(|_| Err(io::Error::other("the parser has panicked")))
}

fn wait_until_gone() {
    let input = io::stdin();
    let mut state = [PollFd::new(input.as_fd(), PollFlags::empty())];
    loop {
        match poll(&mut state, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            // Nothing is asked for, so that only an end is answered.
            Ok(_) | Err(_) => return,
        }
    }
}

fn translate(event: Event) -> Option<Input> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => chord(key).map(Input::Key),
        Event::Paste(text) => Some(Input::Paste(text)),
        // A size that comes together with a key is lost there (crossterm 0.29); the signal is listened to instead.
        Event::Resize(..) | Event::Key(_) | Event::Mouse(_) | Event::FocusGained | Event::FocusLost => None,
    }
}

fn chord(event: KeyEvent) -> Option<Chord> {
    let held = |modifier| event.modifiers.contains(modifier);
    #[expect(clippy::wildcard_enum_match_arm, reason = "media and lock keys mean nothing here")]
    let (key, shift) = match event.code {
        KeyCode::Char(c) if held(KeyModifiers::CONTROL) => (Key::Char(c.to_ascii_lowercase()), false),
        KeyCode::Char(c) => (Key::Char(c), false),
        KeyCode::BackTab => (Key::Tab, true),
        KeyCode::F(n) => (Key::F(n), held(KeyModifiers::SHIFT)),
        code => {
            let key = match code {
                KeyCode::Enter => Key::Enter,
                KeyCode::Esc => Key::Esc,
                KeyCode::Tab => Key::Tab,
                KeyCode::Backspace => Key::Backspace,
                KeyCode::Delete => Key::Delete,
                KeyCode::Up => Key::Up,
                KeyCode::Down => Key::Down,
                KeyCode::Left => Key::Left,
                KeyCode::Right => Key::Right,
                KeyCode::Home => Key::Home,
                KeyCode::End => Key::End,
                KeyCode::PageUp => Key::PageUp,
                KeyCode::PageDown => Key::PageDown,
                _ => return None,
            };
            (key, held(KeyModifiers::SHIFT))
        }
    };
    Some(Chord { key, ctrl: held(KeyModifiers::CONTROL), alt: held(KeyModifiers::ALT), shift })
}
