//! Events of the terminal as our own types. What is not a key, a paste or a new size is dropped here.

use std::io;
use std::os::fd::AsFd as _;
use std::panic::catch_unwind;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

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
}

/// How often a silent terminal is asked whether it is still there.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Faults of the reading, one after the other, before it is given up: one comes of every chunk that confuses the parser.
const FAULTS_MAX: u32 = 100;
/// Inputs that may wait; a paste is one of them.
const WAITING_MAX: usize = 1024;

impl Inputs {
    /// Starts reading.
    #[expect(clippy::new_without_default, reason = "it takes hold of the terminal, which is no default")]
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        std::thread::spawn(move || {
            let mut faults = 0;
            while faults < FAULTS_MAX {
                let Ok(event) = read() else {
                    faults += 1;
                    continue;
                };
                faults = 0;
                let goes_on = match event {
                    None => !is_gone(),
                    Some(event) => translate(event).is_none_or(|input| sender.blocking_send(input).is_ok()),
                };
                if !goes_on {
                    return;
                }
            }
        });
        Self { receiver }
    }

    /// The next input; `None` when the terminal is gone.
    pub async fn next(&mut self) -> Option<Input> {
        self.receiver.recv().await
    }

    /// An input that is there already.
    pub fn waiting(&mut self) -> Option<Input> {
        self.receiver.try_recv().ok()
    }
}

/// The next event, if one comes soon. The waiting is left to crossterm, which would lose a key that came together with a
/// signal. What a terminal reports can make its parser panic, which is no reason to be deaf from then on.
fn read() -> io::Result<Option<Event>> {
    let event =
        || if crossterm::event::poll(LOOK_EVERY)? { crossterm::event::read().map(Some) } else { Ok(None) };
    catch_unwind(event).unwrap_or_else(|_| Err(io::Error::other("the parser has panicked")))
}

/// Whether the terminal is gone: it then reads as ready for ever and never gives an event.
fn is_gone() -> bool {
    let input = io::stdin();
    let mut state = [PollFd::new(input.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    poll(&mut state, PollTimeout::ZERO).is_err()
        || state.iter().filter_map(PollFd::revents).any(|events| events.intersects(gone))
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
