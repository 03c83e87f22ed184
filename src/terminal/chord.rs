//! A key with its modifiers, written as in the documentation: `K`, `Ctrl-L`, `Shift-Tab`, `PgUp`, `Space`.

use std::fmt;
use std::str::FromStr;

/// A key press. Shift is part of a character (`K` is Shift and k), and a modifier only of named keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chord {
    /// The key.
    pub key: Key,
    /// Whether Control was held.
    pub ctrl: bool,
    /// Whether Alt was held.
    pub alt: bool,
    /// Whether Shift was held, for keys that are no characters.
    pub shift: bool,
}

/// A key of the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the keys")]
pub enum Key {
    Char(char),
    Enter,
    Esc,
    Tab,
    Backspace,
    Delete,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    F(u8),
}

const NAMED: &[(&str, Key)] = &[
    ("Space", Key::Char(' ')),
    ("Enter", Key::Enter),
    ("Esc", Key::Esc),
    ("Tab", Key::Tab),
    ("Backspace", Key::Backspace),
    ("Delete", Key::Delete),
    ("Up", Key::Up),
    ("Down", Key::Down),
    ("Left", Key::Left),
    ("Right", Key::Right),
    ("Home", Key::Home),
    ("End", Key::End),
    ("PgUp", Key::PageUp),
    ("PgDn", Key::PageDown),
];

impl Chord {
    /// The key without modifiers.
    pub const fn plain(key: Key) -> Self {
        Self { key, ctrl: false, alt: false, shift: false }
    }

    /// The character typed, if it is one without Control or Alt.
    pub const fn character(self) -> Option<char> {
        if let (Key::Char(c), false, false) = (self.key, self.ctrl, self.alt) { Some(c) } else { None }
    }
}

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (held, name) in [(self.ctrl, "Ctrl-"), (self.alt, "Alt-"), (self.shift, "Shift-")] {
            if held {
                f.write_str(name)?;
            }
        }
        if let Some((name, _)) = NAMED.iter().find(|(_, key)| *key == self.key) {
            return f.write_str(name);
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the other keys have names and were written above"
        )]
        match self.key {
            // Control makes no difference between the cases of a letter; documentation writes the capital.
            Key::Char(c) if self.ctrl => write!(f, "{}", c.to_ascii_uppercase()),
            Key::Char(c) => write!(f, "{c}"),
            Key::F(n) => write!(f, "F{n}"),
            _ => Ok(()),
        }
    }
}

/// What is wrong with the text of a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a key: write K, Ctrl-L, Shift-Tab, F5, Space or PgUp")]
pub struct ParseChordError(String);

impl FromStr for Chord {
    type Err = ParseChordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut chord = Self::plain(Key::Esc);
        let mut rest = text;
        loop {
            let held = [("Ctrl-", 0), ("Alt-", 1), ("Shift-", 2)].into_iter().find_map(|(name, which)| {
                rest.strip_prefix(name).filter(|rest| !rest.is_empty()).map(|rest| (which, rest))
            });
            match held {
                Some((0, after)) => (chord.ctrl, rest) = (true, after),
                Some((1, after)) => (chord.alt, rest) = (true, after),
                Some((_, after)) => (chord.shift, rest) = (true, after),
                None => break,
            }
        }
        let wrong = || ParseChordError(text.to_owned());
        let mut chars = rest.chars();
        chord.key = match (NAMED.iter().find(|(name, _)| *name == rest), chars.next(), chars.as_str()) {
            (Some((_, key)), ..) => *key,
            (None, Some(c), "") if !c.is_control() && !c.is_whitespace() => {
                if chord.shift {
                    return Err(wrong());
                }
                Key::Char(if chord.ctrl { c.to_ascii_lowercase() } else { c })
            }
            (None, Some('F'), digits) => {
                digits.parse().ok().filter(|n| (1..=24).contains(n)).map(Key::F).ok_or_else(wrong)?
            }
            (None, ..) => return Err(wrong()),
        };
        Ok(chord)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_written_as_in_the_documentation() {
        for text in
            ["K", "k", "?", "-", "Ctrl-L", "Shift-Tab", "PgUp", "Space", "F5", "Alt-x", "Ctrl-Alt-Delete"]
        {
            assert_eq!(text.parse::<Chord>().map(|chord| chord.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "KK", "Ctrl-", "Hyper-x", "F0", "F99", " ", "Shift-k"] {
            assert!(text.parse::<Chord>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_prints_the_same(text in any::<String>()) {
            if let Ok(chord) = text.parse::<Chord>() {
                prop_assert_eq!(chord.to_string().parse::<Chord>(), Ok(chord));
            }
        }
    }
}
