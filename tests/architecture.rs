//! The house as its rules say: floors import downwards, every file says what it is for, nothing that the laws
//! forbid stands in the source, and the README shows what the program says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;

/// The floor of each module of the crate. `config` and `runtime` share a number but not a storey: `runtime` may
/// import `config`, never the other way round.
const FLOORS: &[(&str, u32)] = &[
    ("model", 10),
    ("recording", 10),
    ("format", 10),
    ("text", 10),
    ("cli", 10),
    ("terminal", 10),
    ("engine", 20),
    ("sources", 20),
    ("app", 30),
    ("ui", 40),
    ("report", 40),
    ("config", 50),
    ("runtime", 51),
    ("lib", 60),
    ("main", 70),
];

/// Arrows that run down and are forbidden all the same.
const FORBIDDEN: &[(&str, &str)] = &[
    ("engine", "sources"),
    ("engine", "terminal"),
    ("engine", "cli"),
    ("app", "sources"),
    ("app", "cli"),
    ("report", "terminal"),
    ("ui", "sources"),
    ("report", "sources"),
    ("sources", "terminal"),
    ("sources", "cli"),
];

/// Files of one floor import each other where one needs the other's vocabulary.
const NEIGHBOURS: &[(&str, &str)] =
    &[("terminal", "text"), ("model", "format"), ("recording", "model"), ("recording", "text")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            (path.strip_prefix(root()).unwrap().display().to_string(), fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The module on whose floor a file stands.
fn module(file: &str) -> &str {
    let inside = file.strip_prefix("src/").unwrap();
    inside.split(['/', '.']).next().unwrap()
}

/// The code of a file without its tests and its comments.
fn code(text: &str) -> String {
    let before_tests = text.split("#[cfg(test)]").next().unwrap();
    before_tests
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[test]
fn floors_import_downwards_only() {
    let floors: BTreeMap<&str, u32> = FLOORS.iter().copied().collect();
    let mut faults = Vec::new();
    for (file, text) in sources() {
        let own = module(&file);
        let own_floor = *floors.get(own).unwrap_or_else(|| panic!("{file} stands on no floor"));
        for (imported, floor) in FLOORS.iter().filter(|(imported, _)| *imported != own) {
            let arrows = code(&text).matches(&format!("crate::{imported}::")).count();
            let upwards = own_floor <= *floor && !NEIGHBOURS.contains(&(own, *imported));
            if arrows > 0 && (upwards || FORBIDDEN.contains(&(own, *imported))) {
                faults.push(format!("{file} imports {imported}"));
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn what_belongs_to_one_floor_is_used_on_no_other() {
    let only = [
        ("ratatui::", &["ui", "runtime"][..]),
        ("crossterm::", &["terminal", "runtime"]),
        ("tokio_postgres", &["sources"]),
        ("tokio::", &["sources", "runtime", "terminal"]),
        ("Timestamp::now(", &["sources", "runtime"]),
        ("Instant::now(", &["sources", "runtime"]),
        ("std::env::", &["lib"]),
    ];
    let mut faults = Vec::new();
    for (file, text) in sources() {
        for (word, allowed) in only {
            if code(&text).contains(word) && !allowed.contains(&module(&file)) && file != "src/main.rs" {
                faults.push(format!("{file} uses {word}"));
            }
        }
    }
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    for (file, text) in sources() {
        assert!(text.starts_with("//!"), "{file} has no module doc");
        assert!(text.lines().count() <= 500, "{file} has {} lines", text.lines().count());
        assert!(!file.ends_with("/mod.rs"), "{file}: write foo.rs beside foo/");
        let left_open = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
        for word in left_open {
            assert!(!text.contains(&word), "{file} holds {word}");
        }
    }
}

#[test]
fn no_view_that_joins_a_catalog_is_read() {
    let views = [
        "pg_stat_activity",
        "pg_locks",
        "pg_stat_replication",
        "pg_stat_database",
        "pg_prepared_xacts",
        "pg_replication_slots",
        "pg_stat_wal_receiver",
    ];
    for (file, text) in sources() {
        for view in views {
            let read = code(&text).to_lowercase().contains(&format!("from {view}"));
            assert!(
                !read,
                "{file} reads the view {view}; the functions behind it answer under locks on catalogs"
            );
        }
    }
}

#[test]
fn the_top_level_holds_what_the_layout_names() {
    let named = ["Cargo.toml", "Cargo.lock", "src", "themes", "tests", "README.md", "LICENSE", "target"];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || named.contains(&name.as_str()), "the top level holds {name}");
    }
}

#[test]
fn the_readme_lists_the_keys_that_are() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let table = dbtriage::keys(dbtriage::cli::KeysFormat::Markdown);
    assert!(
        readme.contains(table.trim()),
        "README.md: replace the key table by the output of `dbtriage keys --format markdown`"
    );
}

#[test]
fn the_readmes_configuration_is_the_programs() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(
        readme.contains(dbtriage::config::DEFAULT_FILE.trim()),
        "README.md: replace the configuration by the output of `dbtriage config --default`"
    );
}

#[test]
fn the_readme_lists_the_checks_that_are() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let rows = dbtriage::engine::findings::CHECKS.iter();
    let table: Vec<String> = rows.map(|check| format!("| `{}` | {} |", check.id, check.doc)).collect();
    let table = table.join("\n");
    assert!(readme.contains(&table), "README.md: the table of checks is to be\n{table}");
}

/// Each row of "What happens when..." is shown by tests: `target::module::name` in a file of that target.
#[test]
fn what_happens_when_is_shown_by_tests_that_are() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("## What happens when").expect("the section");
    let (section, _) = rest.split_once("\n## ").expect("the next section");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 25, "{} rows", rows.len());
    for row in rows {
        let tests: Vec<&str> =
            row.rsplit(" | ").next().unwrap().split('`').filter(|it| it.contains("::")).collect();
        assert!(!tests.is_empty(), "no test in {row}");
        for test in tests {
            let (place, name) = test.rsplit_once("::").unwrap();
            let mut parts = place.split("::");
            let target = parts.next().unwrap();
            let module = parts.next().unwrap_or("main");
            let files = [format!("tests/{target}/{module}.rs"), format!("tests/{target}.rs")];
            let text = files.iter().find_map(|file| fs::read_to_string(root().join(file)).ok());
            let found = text.is_some_and(|text| text.contains(&format!("fn {name}(")));
            assert!(found, "{test} is named in the README and is not in {files:?}");
        }
    }
}
