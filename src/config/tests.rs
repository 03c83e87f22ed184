//! What the words of the command line and the file mean together.

use clap::Parser as _;
use pretty_assertions::assert_eq;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let home = [("HOME", "/nonexistent"), ("PGUSER", "oncall")];
    home.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn cli(words: &[&str]) -> Cli {
    Cli::try_parse_from(std::iter::once(&"dbtriage").chain(words)).unwrap()
}

fn names(words: &[&str], pairs: &[(&str, &str)]) -> Vec<String> {
    let config = screen(&cli(words), &environment(pairs)).unwrap();
    let postgres = config.targets.postgres.iter().map(|it| it.target.name.clone());
    postgres.chain(config.targets.redis.iter().map(|it| it.target.name.clone())).collect()
}

fn error(words: &[&str]) -> String {
    screen(&cli(words), &environment(&[])).unwrap_err().to_string()
}

#[test]
fn targets_are_what_was_typed() {
    assert_eq!(names(&["-h", "shop-db", "-d", "reports"], &[]), ["shop-db:5432/reports"]);
    assert_eq!(names(&["postgres://u@a:1/d", "host=b dbname=e"], &[]), ["a:1/d", "b:5432/e"]);
    assert_eq!(names(&["redis://cache"], &[]), ["cache:6379"]);
    assert_eq!(names(&["redis://cache"], &[("PGHOST", "db")]), ["db:5432/oncall", "cache:6379"]);
    assert_eq!(names(&["host=b", "--redis", "redis://cache:7000"], &[]), ["b:5432/oncall", "cache:7000"]);
}

#[test]
fn an_unknown_target_is_refused_with_the_next_step() {
    let message = error(&["reports"]);
    assert!(message.starts_with("unknown target \"reports\": give postgres://"), "{message}");
}

#[test]
fn a_password_on_the_command_line_is_warned_about_and_not_repeated() {
    for word in ["redis://:hunter2@cache", "postgres://u:hunter2@db/d", "host=db password=hunter2"] {
        let config = screen(&cli(&[word]), &environment(&[])).unwrap();
        assert_eq!(config.targets.warnings.len(), 1, "{word}");
        assert!(!format!("{:?}", config.targets.postgres).contains("hunter2"));
        assert!(!config.targets.warnings[0].contains("hunter2"));
    }
}

#[test]
fn intervals_have_bounds() {
    let interval =
        |text: &str| screen(&cli(&["--interval", text]), &environment(&[])).map(|config| config.interval);
    assert_eq!(interval("0.5s").unwrap(), Duration::from_millis(500));
    assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
    assert_eq!(interval("2").unwrap(), Duration::from_secs(2));
    assert_eq!(interval("1m").unwrap(), Duration::from_secs(60));
    for wrong in ["0.4s", "61s", "soon", ""] {
        assert!(interval(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let cases = [
        ("intervall = \"1s\"", "line 1: unknown key \"intervall\": did you mean \"interval\"?"),
        (
            "\n[thresholds]\nblocking_second = 3",
            "line 3: unknown key \"blocking_second\": did you mean \"blocking_seconds\"?",
        ),
        ("[keys]\n[keys]", "line 2: duplicate key"),
    ];
    for (content, message) in cases {
        assert_eq!(File::parse(content).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_told_by_its_key_and_not_repeated() {
    let cases = [
        (
            "[profiles.shop]\npostgres = \"postgres://u:hunter2@h/d\"",
            "line 2: postgres wants a list: [\"...\"]",
        ),
        (
            "[profiles.shop]\nredis_password = 987654321",
            "line 2: redis_password wants a text in quotes: \"...\"",
        ),
        (
            "[profiles]\nshop = \"postgres://u:hunter2@h/d\"",
            "line 2: shop wants a table: [profiles.NAME] with postgres = [\"...\"]",
        ),
        ("ascii = \"hunter2, expected nothing\"", "line 1: ascii wants true or false"),
        ("signals_per_second = \"hunter2\"", "line 1: signals_per_second wants a whole number, such as 20"),
    ];
    for (content, message) in cases {
        assert_eq!(File::parse(content).unwrap_err().to_string(), message);
    }
}

#[test]
fn the_default_file_says_what_the_defaults_are() {
    let uncommented: String = DEFAULT_FILE
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            line.starts_with('[')
                || line
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let file = File::parse(&uncommented).unwrap();
    assert_eq!(file.thresholds, Thresholds::default());
    assert_eq!(file.interval.as_deref(), Some("1s"));
    Keymap::with_changes(&file.keys).unwrap();
    Columns::with_changes(&file.columns).unwrap();
}

#[test]
fn no_color_means_the_mono_theme() {
    let theme =
        |words: &[&str], pairs: &[(&str, &str)]| screen(&cli(words), &environment(pairs)).unwrap().theme.name;
    assert_eq!(theme(&[], &[]), "default");
    assert_eq!(theme(&[], &[("NO_COLOR", "1")]), "mono");
    assert_eq!(theme(&["--color", "always", "--theme", "dark"], &[("NO_COLOR", "1")]), "dark");
    assert_eq!(theme(&["--color", "never", "--theme", "dark"], &[]), "mono");
}

#[test]
fn a_connection_string_in_place_of_the_database_is_one_as_in_psql() {
    assert_eq!(names(&["-h", "a", "-d", "postgres://u@b:1/d"], &[]), ["b:1/d"]);
    assert_eq!(names(&["-d", "host=b,c dbname=d"], &[]), ["b:5432,c:5432/d"]);
    let config = screen(&cli(&["-d", "postgres://u:hunter2@b/d"]), &environment(&[])).unwrap();
    assert_eq!(
        (config.targets.warnings.len(), config.targets.postgres[0].target.name.as_str()),
        (1, "b:5432/d")
    );
}

#[test]
fn a_mistyped_url_is_not_repeated() {
    let message = error(&["postgresql//u:hunter2@h/db"]);
    assert!(message.starts_with("unknown target \"...\"") && !message.contains("hunter2"), "{message}");
}

#[test]
fn passwords_are_not_shown_with_the_configuration() {
    let content = "[profiles.shop]\npostgres = [\"postgres://u:hunter2@h/d\", \"host=h password=hunter2\", \"host=plain\"]\n\
                   redis = [\"redis://:hunter2@cache\", \"unix:///run/r?user=u&pass=hunter2\"]\nredis_password = \"hunter2\"\n";
    let shown = toml::to_string_pretty(&File::parse(content).unwrap()).unwrap();
    assert!(!shown.contains("hunter2") && shown.contains("host=plain"), "{shown}");
}
