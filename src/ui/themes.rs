//! Themes as files: a style for each role, with a parent for what is not said.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr as _;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;
use strum::IntoEnumIterator as _;

use crate::app::Role;
use crate::text;

/// The themes that come with the program.
const SHIPPED: [(&str, &str); 3] = [
    ("default", include_str!("../../themes/default.toml")),
    ("dark", include_str!("../../themes/dark.toml")),
    ("mono", include_str!("../../themes/mono.toml")),
];

/// A theme that inherits through more files than this goes in a circle.
const PARENTS_MAX: usize = 8;

/// A style for every role.
#[derive(Debug, Clone)]
pub struct Theme {
    /// Its name.
    pub name: String,
    styles: BTreeMap<Role, Style>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ThemeFile {
    inherits: Option<String>,
    #[serde(default)]
    palette: BTreeMap<String, String>,
    #[serde(default)]
    roles: BTreeMap<String, StyleEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of a theme file")]
struct StyleEntry {
    fg: Option<String>,
    bg: Option<String>,
    bold: bool,
    dim: bool,
    italic: bool,
    underlined: bool,
    reversed: bool,
    crossed_out: bool,
}

impl Theme {
    /// The style of a role; plain where the theme says nothing.
    pub fn style(&self, role: Role) -> Style {
        self.styles.get(&role).copied().unwrap_or_default()
    }

    /// A theme with a style for each role: for tests that must tell roles apart.
    pub fn of(name: &str, style: impl Fn(Role) -> Style) -> Self {
        Self { name: name.into(), styles: Role::iter().map(|role| (role, style(role))).collect() }
    }
}

/// Loads a theme: the user's own file first, then those that come with the program. The error names the file, the
/// fault and, for an unknown name, the nearest one.
pub fn load(name: &str, folder: Option<&Path>) -> Result<Theme, String> {
    let mut theme = Theme { name: name.into(), styles: BTreeMap::new() };
    let mut wanted = Some(name.to_owned());
    for _ in 0..PARENTS_MAX {
        let Some(current) = wanted else { return Ok(theme) };
        let file = parse(&current, &content(&current, folder)?)?;
        for (role, entry) in &file.roles {
            let role = Role::from_str(role).map_err(|_| unknown_role(&current, role))?;
            let style =
                style(entry, &file.palette).map_err(|error| format!("theme \"{current}\": {error}"))?;
            // The child has spoken already.
            theme.styles.entry(role).or_insert(style);
        }
        wanted = file.inherits;
    }
    Err(format!("theme \"{name}\" inherits in a circle"))
}

/// Every theme that can be loaded.
pub fn names(folder: Option<&Path>) -> Vec<String> {
    let own = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut names: Vec<String> = own
        .filter_map(|entry| Some(Path::new(&entry.file_name()).file_stem()?.to_str()?.to_owned()))
        .chain(SHIPPED.iter().map(|(name, _)| (*name).to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn content(name: &str, folder: Option<&Path>) -> Result<String, String> {
    // A name is a name: it must not reach out of the folder.
    let is_name = name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    let own =
        folder.map(|folder| folder.join(format!("{name}.toml"))).filter(|file| is_name && file.exists());
    if let Some(file) = own {
        return std::fs::read_to_string(&file)
            .map_err(|error| format!("cannot read the theme {}: {error}", file.display()));
    }
    let shipped = SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, content)| (*content).to_owned());
    shipped.ok_or_else(|| {
        let known = names(folder);
        let nearest = text::nearest(name, known.iter().map(String::as_str));
        format!("unknown theme \"{name}\"{} (dbtriage themes lists them)", text::did_you_mean(nearest))
    })
}

fn parse(name: &str, content: &str) -> Result<ThemeFile, String> {
    toml::from_str(content)
        .map_err(|error| format!("theme \"{name}\": {}", error.message().lines().next().unwrap_or_default()))
}

fn unknown_role(theme: &str, role: &str) -> String {
    let known: Vec<&str> = Role::iter().map(Into::into).collect();
    format!(
        "theme \"{theme}\" has no role \"{role}\"{}",
        text::did_you_mean(text::nearest(role, known.into_iter()))
    )
}

fn style(entry: &StyleEntry, palette: &BTreeMap<String, String>) -> Result<Style, String> {
    let color = |name: &Option<String>| match name {
        None => Ok(None),
        Some(name) => {
            let value = palette.get(name).unwrap_or(name);
            Color::from_str(value).map(Some).map_err(|_| format!("\"{value}\" is not a colour"))
        }
    };
    let flags = [
        (entry.bold, Modifier::BOLD),
        (entry.dim, Modifier::DIM),
        (entry.italic, Modifier::ITALIC),
        (entry.underlined, Modifier::UNDERLINED),
        (entry.reversed, Modifier::REVERSED),
        (entry.crossed_out, Modifier::CROSSED_OUT),
    ];
    let modifiers =
        flags.into_iter().filter(|(set, _)| *set).fold(Modifier::empty(), |all, (_, one)| all | one);
    Ok(Style { fg: color(&entry.fg)?, bg: color(&entry.bg)?, ..Style::new().add_modifier(modifiers) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn every_shipped_theme_loads_and_speaks_of_every_role() {
        for (name, _) in SHIPPED {
            let theme = load(name, None).unwrap();
            for role in Role::iter() {
                assert!(theme.styles.contains_key(&role), "{name} has no {role:?}");
            }
        }
    }

    #[test]
    fn mono_has_no_colour() {
        let theme = load("mono", None).unwrap();
        assert!(theme.styles.values().all(|style| style.fg.is_none() && style.bg.is_none()));
    }

    #[test]
    fn the_default_uses_the_terminals_own_sixteen() {
        let theme = load("default", None).unwrap();
        let is_rgb = |color: Option<Color>| matches!(color, Some(Color::Rgb(..) | Color::Indexed(_)));
        assert!(theme.styles.values().all(|style| !is_rgb(style.fg) && !is_rgb(style.bg)));
    }

    #[test]
    fn a_file_of_the_user_builds_on_a_shipped_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| std::fs::write(folder.path().join(name), content).unwrap();
        write(
            "mine.toml",
            "inherits = \"default\"\n[palette]\nblood = \"#aa0000\"\n[roles]\ncritical = { fg = \"blood\" }\n",
        );
        write("loop.toml", "inherits = \"loop\"\n");
        write("typo.toml", "[roles]\ncritcal = { bold = true }\n");
        let theme = load("mine", Some(folder.path())).unwrap();
        assert_eq!(theme.style(Role::Critical).fg, Some(Color::Rgb(0xaa, 0, 0)));
        assert_eq!(theme.style(Role::Good), load("default", None).unwrap().style(Role::Good));
        assert_eq!(load("loop", Some(folder.path())).unwrap_err(), "theme \"loop\" inherits in a circle");
        assert_eq!(
            load("typo", Some(folder.path())).unwrap_err(),
            "theme \"typo\" has no role \"critcal\": did you mean \"critical\"?"
        );
        assert!(
            load("drak", None).unwrap_err().starts_with("unknown theme \"drak\": did you mean \"dark\"?")
        );
    }
}
