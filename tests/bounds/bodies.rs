//! What is asked of every parser of anything from outside, as one function each: the property tests and the fuzz targets
//! call the same. A body fails by panicking.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dbtriage::app::{Columns, Keymap};
use dbtriage::config::{self, File};
use dbtriage::engine::filter::Filter;
use dbtriage::sources::postgres::settings::{self, Environment, Parameters};
use dbtriage::sources::redis;
use dbtriage::terminal::Chord;
use dbtriage::{text, ui};
use tempfile::TempDir;

/// Stands for a password in what is made up; it occurs nowhere else.
pub(crate) const SECRET: &str = "hunter2zq";

/// What is told to a person: something, no secret, and after the sanitiser one line.
fn assert_told(message: &str) {
    assert!(!message.trim().is_empty(), "an error says something");
    assert!(!message.contains(SECRET), "an error tells a password: {message}");
    let line = text::line(message);
    assert!(!line.contains(char::is_control), "{line:?}");
}

/// A connection string or a URI: read, resolved, and never told with its password.
pub(crate) fn connection_string(input: &str) {
    let told = settings::looks_like_uri(input) || settings::looks_like_conninfo(input);
    match settings::parse(input) {
        // A value may lead to files of this machine, which are not what is tested.
        Ok(given) if given.contains_key("service") || given.contains_key("passfile") => {}
        Ok(given) => resolved(&given, &Environment::new()),
        Err(error) => assert_told(&error.to_string()),
    }
    // Whether it looks like one is asked first, of any word.
    assert!(told || !input.starts_with("postgres://"));
}

fn resolved(given: &Parameters, environment: &Environment) {
    match settings::resolve(given, environment) {
        Ok(settings) => {
            assert!(!settings.endpoints.is_empty(), "there is a server to try");
            assert!(settings.endpoints.iter().all(|endpoint| endpoint.port > 0));
            if given.get("password").is_some_and(|password| password.contains(SECRET)) {
                assert!(!format!("{settings:?}").contains(SECRET), "a password is printed");
            }
        }
        Err(error) => assert_told(&error.to_string()),
    }
}

/// A URL of Redis, never told with its password.
pub(crate) fn redis_url(input: &str) {
    // One that is refused for an @ in its password may well be said to hold one.
    let _: bool = redis::url_has_password(input);
    match redis::settings(input, None) {
        Ok(settings) => assert!(!settings.name.contains(SECRET), "{}", settings.name),
        Err(reason) => assert_told(&reason.to_string()),
    }
}

/// A file with this content, private to its owner.
fn with_file(name: &str, content: &str, look: impl FnOnce(&Path, &Path)) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join(name);
    let mut file = fs::File::create(&path).expect("a file");
    file.write_all(content.as_bytes()).expect("its content");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    look(folder.path(), &path);
}

/// A service file.
pub(crate) fn service_file(input: &str) {
    with_file("service.conf", input, |folder, path| {
        let environment = [
            ("PGSERVICEFILE", path.display().to_string()),
            ("PGSERVICE", "shop".to_owned()),
            ("PGSYSCONFDIR", folder.join("none").display().to_string()),
        ];
        resolved(&Parameters::new(), &environment.map(|(name, value)| (name.to_owned(), value)).into());
    });
}

/// A password file: it has a password or not, and a broken line hides no other.
pub(crate) fn password_file(input: &str) {
    let own = "db.example:5432:shop:oncall:right";
    with_file("passfile", &format!("{input}\n{own}\n"), |_, path| {
        let given = [("host", "db.example"), ("port", "5432"), ("dbname", "shop"), ("user", "oncall")];
        let given: Parameters = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let environment = [("PGPASSFILE".to_owned(), path.display().to_string())].into();
        let settings = settings::resolve(&given, &environment).expect("the file decides nothing else");
        assert!(settings.endpoints[0].password.is_some(), "the last line has the password");
    });
}

/// A configuration file, with everything that is checked of it.
pub(crate) fn configuration(input: &str) {
    match File::parse(input) {
        Ok(file) => {
            if let Err(error) = config::check(&file, &Environment::new()) {
                assert_told(&error.to_string());
            }
            drop(file.color());
        }
        Err(error) => {
            assert_told(&error.to_string());
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}

/// A theme of the user.
pub(crate) fn theme(input: &str) {
    with_file("own.toml", input, |folder, _| match ui::themes::load("own", Some(folder)) {
        Ok(theme) => assert_eq!(theme.name, "own"),
        Err(error) => assert_told(&error),
    });
}

/// A key as it is written, alone and as a binding: what is read prints the same.
pub(crate) fn key(input: &str) {
    match input.parse::<Chord>() {
        Ok(chord) => assert_eq!(chord.to_string().parse(), Ok(chord)),
        Err(error) => assert_told(&error.to_string()),
    }
    let changes =
        [("terminate".to_owned(), vec![input.to_owned()]), ("cancel".to_owned(), Vec::new())].into();
    match Keymap::with_changes(&changes) {
        // Nothing but the question is answered by y.
        Ok(keymap) => assert!(keymap.command("y".parse().expect("a key")).is_none()),
        Err(error) => assert_told(&error),
    }
    let columns = [("activity".to_owned(), vec![input.to_owned()])].into();
    if let Err(error) = Columns::with_changes(&columns) {
        assert_told(&error);
    }
}

/// The text of a filter, on a row of the same kind of text: what is wanted is found in itself.
pub(crate) fn filter(input: &str) {
    let filter = Filter::parse(input);
    assert!(filter.passes(input) || input.contains('!') || !input.is_ascii());
    assert_eq!(filter.is_empty(), input.split_whitespace().all(|word| word == "!"));
}

/// Text of a server on its way to the terminal: no escape, no control, no more columns than there are.
pub(crate) fn shown_text(input: &str) {
    let line = text::line(input);
    assert!(!line.contains(char::is_control));
    for columns in [0, 1, 2, 20] {
        assert!(text::width(&text::fit(&line, columns, false)) <= columns);
    }
    assert!(text::lines(input).all(|line| !line.contains(char::is_control)));
    assert!(!text::folded(input).contains(['\n', '\r', '\t']));
    for line in text::wrapped(&line, 20) {
        assert!(text::width(&line) <= 20 || !line.contains(' '));
    }
}
