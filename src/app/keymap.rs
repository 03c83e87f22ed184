//! Which key runs which command.

use std::collections::BTreeMap;

use super::commands::{COMMANDS, Command};
use crate::terminal::Chord;
use crate::text;

/// The bindings in force.
#[derive(Debug, Clone)]
pub struct Keymap {
    commands: BTreeMap<Chord, &'static Command>,
    /// The same the other way round: the keys of each command, in the order in which they are named.
    keys: BTreeMap<&'static str, Vec<Chord>>,
}

/// Keys with a fixed meaning in a question; nothing else may be bound to `y`, so that no key confirms by accident.
const RESERVED: &str = "y";

impl Keymap {
    /// The defaults with the keys that the config names replaced. Refuses an unknown command, a text that is no
    /// key, a key for two commands, and `y`.
    pub fn with_changes(changes: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        if let Some(unknown) =
            changes.keys().find(|name| !COMMANDS.iter().any(|command| command.name == **name))
        {
            let nearest = text::nearest(unknown, COMMANDS.iter().map(|command| command.name));
            return Err(format!("[keys] has no command \"{unknown}\"{}", text::did_you_mean(nearest)));
        }
        let mut keymap = Self { commands: BTreeMap::new(), keys: BTreeMap::new() };
        // What the config names comes first, so that a clash is told against the default it takes away.
        let (renamed, kept): (Vec<_>, Vec<_>) =
            COMMANDS.iter().partition(|command| changes.contains_key(command.name));
        for command in renamed.into_iter().chain(kept) {
            let own: Vec<&str> = changes
                .get(command.name)
                .map_or_else(|| command.keys.to_vec(), |keys| keys.iter().map(String::as_str).collect());
            for key in own {
                keymap.bind(key, command)?;
            }
        }
        Ok(keymap)
    }

    fn bind(&mut self, key: &str, command: &'static Command) -> Result<(), String> {
        let chord: Chord = key.parse().map_err(|error| format!("[keys] {}: {error}", command.name))?;
        if key == RESERVED {
            return Err(format!("[keys] {}: y only ever answers a question", command.name));
        }
        if let Some(other) = self.commands.insert(chord, command) {
            return Err(format!("[keys] {key} is bound to both {} and {}", other.name, command.name));
        }
        self.keys.entry(command.name).or_default().push(chord);
        Ok(())
    }

    /// The command of a key.
    pub fn command(&self, chord: Chord) -> Option<&'static Command> {
        self.commands.get(&chord).copied()
    }

    /// The keys of a command, as its defaults or the config name them.
    pub fn keys(&self, name: &str) -> &[Chord] {
        self.keys.get(name).map_or(&[], Vec::as_slice)
    }

    /// The first key of a command, for hints; empty when it has none.
    pub fn hint(&self, name: &str) -> String {
        self.keys(name).first().map(|chord| super::commands::symbol(*chord)).unwrap_or_default()
    }
}

impl Default for Keymap {
    fn default() -> Self {
        // The defaults do not clash, which a test says; were they to, an empty map still lets Ctrl-C quit.
        Self::with_changes(&BTreeMap::new())
            .unwrap_or(Self { commands: BTreeMap::new(), keys: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn changed(command: &str, keys: &[&str]) -> Result<Keymap, String> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Keymap::with_changes(&BTreeMap::from([(command.to_owned(), keys)]))
    }

    #[test]
    fn the_defaults_do_not_clash() {
        Keymap::with_changes(&BTreeMap::new()).unwrap();
    }

    #[test]
    fn a_command_takes_the_keys_of_the_config() {
        let keymap = changed("terminate", &["U", "F9"]).unwrap();
        assert_eq!(keymap.command("U".parse().unwrap()).map(|command| command.name), Some("terminate"));
        assert_eq!(keymap.command("K".parse().unwrap()).map(|command| command.name), None);
        assert_eq!(keymap.keys("terminate").len(), 2);
    }

    #[test]
    fn what_cannot_be_bound_is_refused_with_the_reason() {
        let cases = [
            (changed("termnate", &["U"]), "[keys] has no command \"termnate\": did you mean \"terminate\"?"),
            (
                changed("terminate", &["UU"]),
                "[keys] terminate: \"UU\" is not a key: write K, Ctrl-L, Shift-Tab, F5, Space or PgUp",
            ),
            (changed("terminate", &["C"]), "[keys] C is bound to both terminate and cancel"),
            (changed("terminate", &["y"]), "[keys] terminate: y only ever answers a question"),
        ];
        for (result, message) in cases {
            assert_eq!(result.unwrap_err(), message);
        }
    }
}
