//! Every parser of anything from outside takes any input: it never panics, never loops, and tells no password.

use std::time::Duration;

use dbtriage_lab::terminal::now;
use proptest::prelude::*;

use crate::SLOWER;
use crate::bodies::{self, SECRET};

/// Pieces of which texts are made up that are nearly right.
fn pieces(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let word = prop::sample::select(words).prop_map(str::to_owned);
    let any = prop_oneof![8 => word, 1 => any::<String>(), 1 => "[ -~]{0,8}"];
    prop::collection::vec(any, 0..24).prop_map(|all| all.concat())
}

const CONNECTION: &[&str] = &[
    "postgres://",
    "postgresql://",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "sslmode",
    "connect_timeout",
    "=",
    "=",
    "=",
    " ",
    " ",
    "'",
    "\\",
    "/",
    "?",
    "&",
    "@",
    ":",
    ",",
    "[",
    "]",
    "::1",
    "%",
    "%41",
    "%00",
    "%2F",
    "localhost",
    "5432",
    "0",
    "99999",
    "127.0.0.1",
    "verify-full",
    "require",
    "\n",
    "\0",
];
const REDIS: &[&str] = &[
    "redis://",
    "rediss://",
    "unix://",
    "redis+unix://",
    "valkey://",
    "localhost",
    "[::1]",
    ":",
    "@",
    "/",
    "?",
    "#insecure",
    "protocol=resp3",
    "%",
    "%41",
    "6379",
    "99999",
    "0",
    "user",
    " ",
];
const SERVICE: &[&str] = &[
    "[", "]", "[shop]", "[other]", "\n", "\n", "\r\n", "=", "host", "port", "user", "#", " ", "5432",
    "sslmode", "service", "\0",
];
const PASSWORDS: &[&str] =
    &[":", ":", ":", "*", "\\", "\n", "\r", "#", "db.example", "5433", "shop", "oncall", " ", "\0"];
const CONFIG: &[&str] = &[
    "interval",
    "theme",
    "color",
    "ascii",
    "read_only",
    "protect",
    "signals_per_second",
    "profiles",
    "thresholds",
    "keys",
    "columns",
    "terminate",
    "activity",
    "pid",
    " = ",
    " = ",
    "\"",
    "\"",
    "1s",
    "true",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "\n",
    ".",
    ",",
    "-1",
    "1e400",
    "nan",
    "0.5",
    "postgres",
    "redis_password",
    "#",
    "'''",
    "\\u0000",
    "\u{feff}",
];
const THEME: &[&str] = &[
    "inherits",
    "palette",
    "roles",
    "critical",
    "header",
    "fg",
    "bg",
    "bold",
    "\"default\"",
    "\"own\"",
    "\"../own\"",
    "\"#aa0000\"",
    "\"red\"",
    " = ",
    "[",
    "]",
    "{ ",
    " }",
    "\n",
    ".",
    ",",
    "true",
    "\"",
];
const KEYS: &[&str] = &[
    "Ctrl-", "Alt-", "Shift-", "F", "1", "24", "K", "y", "Space", "PgUp", "-", "İ", "ß", "\u{301}", " ",
    "\0", "Enter",
];
const FILTER: &[&str] = &["!", "!", " ", "web", "Web", "İ", "ß", "\u{301}", "4242", "\t"];
const TEXT: &[&str] = &[
    "\x1b[2J",
    "\x1b]52;c;aGk=\x07",
    "\u{9b}",
    "\u{202e}",
    "\u{200b}",
    "e\u{301}",
    "日本",
    "\r\n",
    "\t",
    " ",
    "SELECT",
    "\u{feff}",
    "👩\u{200d}👩",
    "\0",
];

/// What a password may be followed and preceded by when nobody has quoted it.
fn password() -> impl Strategy<Value = String> {
    let around = || "[ -~]{0,3}";
    (around(), around()).prop_map(|(before, after)| format!("{before}{SECRET}{after}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_connection_string_is_read_or_refused(input in pieces(CONNECTION)) {
        bodies::connection_string(&input);
    }

    #[test]
    fn any_url_of_redis_is_read_or_refused(input in pieces(REDIS)) {
        bodies::redis_url(&input);
    }

    #[test]
    fn any_service_file_is_read_or_refused(input in pieces(SERVICE)) {
        bodies::service_file(&input);
    }

    #[test]
    fn any_password_file_is_read_line_by_line(input in pieces(PASSWORDS)) {
        bodies::password_file(&input);
    }

    #[test]
    fn any_configuration_is_read_or_refused(input in pieces(CONFIG)) {
        bodies::configuration(&input);
    }

    #[test]
    fn any_theme_is_read_or_refused(input in pieces(THEME)) {
        bodies::theme(&input);
    }

    #[test]
    fn any_key_is_read_or_refused(input in pieces(KEYS)) {
        bodies::key(&input);
    }

    #[test]
    fn any_filter_is_read(input in pieces(FILTER)) {
        bodies::filter(&input);
    }

    #[test]
    fn any_text_is_shown_safely(input in pieces(TEXT)) {
        bodies::shown_text(&input);
    }

    // The errors of people: a password that should have been quoted or percent-encoded.

    #[test]
    fn a_password_of_a_uri_is_never_told(password in password()) {
        bodies::connection_string(&format!("postgres://oncall:{password}@db.example:5432/shop?sslmode=require"));
    }

    #[test]
    fn a_password_of_a_connection_string_is_never_told(password in password()) {
        bodies::connection_string(&format!("host=db.example password={password} dbname=shop"));
        bodies::connection_string(&format!("host=db.example password='{password}' dbname=shop"));
    }

    #[test]
    fn a_password_of_a_url_of_redis_is_never_told(password in password()) {
        bodies::redis_url(&format!("redis://oncall:{password}@cache:6379/0"));
    }

    #[test]
    fn a_password_of_a_service_file_is_never_told(password in password()) {
        bodies::service_file(&format!("[shop]\nhost=db.example\npassword={password}\nport=5432\n"));
        bodies::service_file(&format!("[shop]\nhost=db.example\npassword {password}\n"));
    }

    #[test]
    fn a_password_of_the_configuration_is_never_told(password in password()) {
        for line in [
            format!("[profiles.shop]\nredis_password = \"{password}\"\n"),
            format!("[profiles.shop]\nredis_password = {password}\n"),
            format!("[profiles.shop]\nredis_passwort = \"{password}\"\n"),
            format!("[profiles.shop]\npostgres = \"postgres://oncall:{password}@db.example/shop\"\n"),
            format!("[profiles.shop]\nredis_password = [\"{password}\"]\n"),
        ] {
            bodies::configuration(&line);
        }
    }
}

/// A parser as it is asked.
type Body = fn(&str);

/// Nobody notices a tenth of a second at the start.
const LIMIT: Duration = Duration::from_millis(100).saturating_mul(SLOWER);

/// Longer than anybody types: what is alike is not looked for at any price.
#[test]
fn a_word_of_a_hundred_kilobytes_is_refused_at_once() {
    let word = "x".repeat(100_000);
    let inputs: [(&str, Body, String); 6] = [
        ("connection string", bodies::connection_string, format!("{word}=1")),
        ("connection string", bodies::connection_string, format!("host={}", "a,".repeat(50_000))),
        ("configuration", bodies::configuration, format!("{word} = 1")),
        ("theme", bodies::theme, format!("[roles]\n{word} = {{ bold = true }}")),
        ("key", bodies::key, word.clone()),
        ("filter", bodies::filter, "a ".repeat(50_000)),
    ];
    for (what, body, input) in inputs {
        let started = now();
        body(&input);
        let time = now() - started;
        println!("{what}: {time:?}");
        assert!(time < LIMIT, "{what}: {time:?} against {LIMIT:?}");
    }
}
