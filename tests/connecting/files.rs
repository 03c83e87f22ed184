//! The files that people have at home: the password file and the service file; and what else a connection string holds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dbtriage::sources::postgres::Cure;
use dbtriage::sources::postgres::settings::{self, Environment};
use dbtriage_lab::Lab;
use pretty_assertions::assert_eq;
use tempfile::TempDir;

use super::{Done, admit_first, assert_says, lab, open_in, refusal, reload, snapshot, write_private};

/// Roles that need a password, and what it is; both hold what the password file gives a meaning to.
const ROLES: [(&str, &str); 3] = [("locked", "sesame"), ("a:b", "se:sa\\me"), ("back\\slash", "*")];

/// The server of all tests that leave it as it is, without TLS.
pub(crate) static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let lab = lab(90);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    // Before 14 it is md5 unless one says so.
    admin.execute("SET password_encryption = 'scram-sha-256'").unwrap();
    for (role, password) in ROLES {
        admin
            .execute(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}' IN ROLE pg_monitor"))
            .unwrap();
    }
    let names: Vec<String> = ROLES.iter().map(|(role, _)| format!("\"{role}\"")).collect();
    let names = names.join(",");
    let rules = format!("local all {names} scram-sha-256\nhost all {names} 127.0.0.1/32 scram-sha-256\n");
    admit_first(lab.primary(), &rules);
    reload(lab.primary());
    lab
});

fn port() -> u16 {
    LAB.primary().port
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A home with a password file; `PORT` in it is the server's.
fn home_with(passwords: &str) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    write_private(&file, &passwords.replace("PORT", &port().to_string()));
    (home, file)
}

fn login(user: &str) -> String {
    let user = user.replace('\\', r"\\");
    format!("host=127.0.0.1 port={} user='{user}' dbname=shop", port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_file_lets_one_in() {
    let cases = [
        ("locked", "127.0.0.1:PORT:shop:locked:sesame\n"),
        ("locked", "*:*:*:*:sesame\n"),
        ("locked", "*:PORT:*:locked:sesame"),
        (
            "locked",
            "# locked\n\nnonsense\nother:*:*:*:wrong\n*:1:*:*:wrong\n*:*:other:*:wrong\n*:*:*:other:wrong\n*:*:*:*:sesame\n",
        ),
        ("locked", "*:*:*:locked:sesame\r\n"),
        ("a:b", "*:*:*:a\\:b:se\\:sa\\\\me\n"),
        // The last field ends at the end of the line: a colon in it needs no backslash.
        ("a:b", "*:*:*:a\\:b:se:sa\\\\me\n"),
        ("back\\slash", "*:*:*:back\\\\slash:*\n"),
    ];
    for (user, passwords) in cases {
        let (home, file) = home_with(passwords);
        let opened = open_in(&login(user), &[("HOME", text(home.path()))]).await;
        assert!(opened.is_ok(), "{passwords:?}: {}", opened.err().unwrap().reason);
        // The same file elsewhere, by the environment and by the connection string.
        let elsewhere = home.path().join("passwords");
        fs::rename(file, &elsewhere).unwrap();
        open_in(&login(user), &[("PGPASSFILE", text(&elsewhere))]).await.unwrap();
        open_in(&format!("{} passfile={}", login(user), text(&elsewhere)), &[]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_line_of_the_password_file_that_matches_counts() {
    let (home, _) = home_with("*:*:*:*:wrong\n127.0.0.1:PORT:shop:locked:sesame\n");
    let error = refusal(&login("locked"), &[("HOME", text(home.path()))]).await;
    assert_says(&error.reason.to_string(), &["password authentication failed", "locked", ".pgpass"], "wrong");
    assert_eq!(error.cure, Cure::None);
    let environment = [("HOME", text(home.path())), ("PGPASSWORD", "sesame")];
    open_in(&login("locked"), &environment).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_is_told_with_the_file_it_came_from() {
    let (home, file) = home_with("*:*:*:*:wrong\n");
    let elsewhere = home.path().join("team-passwords");
    fs::rename(file, &elsewhere).unwrap();
    let error = refusal(&login("locked"), &[("PGPASSFILE", text(&elsewhere))]).await;
    assert_says(
        &error.reason.to_string(),
        &["password authentication failed", text(&elsewhere)],
        "PGPASSFILE",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_of_the_password_file_matches_and_a_password_is_wanted() {
    let (home, _) = home_with("*:*:*:other:sesame\n");
    for environment in [&[("HOME", text(home.path()))][..], &[("PGPASSFILE", "/nonexistent/pgpass")]] {
        let error = refusal(&login("locked"), environment).await;
        assert_eq!(error.cure, Cure::Password);
        let words = ["asks for the password of \"locked\"", "PGPASSWORD", "~/.pgpass"];
        assert_says(&error.reason.to_string(), &words, "no line");
    }
}

#[test]
fn a_password_file_that_others_may_read_is_ignored_and_that_is_told() {
    let (home, file) = home_with("*:*:*:*:sesame\n");
    let report = |environment: &[(&str, &str)]| snapshot(home.path(), &["-w", &login("locked")], environment);
    let told = report(&[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let told = report(&[]);
        assert_eq!(told.code, Some(3), "{}", told.stderr);
        // As libpq says it, on standard error: else one looks for the mistake in the file's lines.
        assert_says(&told.stderr, &[text(&file), "ignored", "0600"], "the mode");
        assert_says(&told.stderr, &["asks for the password of \"locked\""], "what comes of it");
        // Whoever needs no password file is not bothered.
        let told = report(&[("PGPASSWORD", "sesame")]);
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_called_localhost_or_by_its_folder_in_the_password_file() {
    let folder = text(&LAB.primary().socket_directory).to_owned();
    let conninfo = format!("host={folder} port={} user=locked dbname=shop", port());
    let (home, _) = home_with(&format!("{folder}:*:*:locked:sesame\n"));
    open_in(&conninfo, &[("HOME", text(home.path()))]).await.unwrap();
}

/// Arguments, environment, and what the refusal says.
type Mistake<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

/// A home with a service file.
fn home_with_services() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let services = format!(
        "# the team's\n[other]\nhost=nowhere.invalid\n\n[shop]\nhost=127.0.0.1\nport={}\nuser=oncall\ndbname=shop\n\
         [reports]\nhost=127.0.0.1\nport={}\nuser=watcher\ndbname=postgres\n[broken]\nhots=a\n",
        port(),
        port()
    );
    write_private(&home.path().join(".pg_service.conf"), &services);
    home
}

/// The database of the report; the server is this one.
fn database(done: &Done) -> String {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let name = format!("127.0.0.1:{}/", port());
    let line = done.stdout.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.unwrap_or_else(|| panic!("{:?} names {name}", done.stdout));
    line.split_whitespace().next().unwrap().to_owned()
}

/// Where one is at home, what is typed, what the environment holds.
type Named<'a> = (&'a Path, Vec<&'a str>, Vec<(&'a str, &'a str)>);

#[test]
fn a_service_is_found_wherever_it_is_named() {
    let home = home_with_services();
    let file = home.path().join(".pg_service.conf");
    let moved = tempfile::tempdir().unwrap();
    let folder = moved.path().join("etc");
    write_private(&folder.join("pg_service.conf"), &fs::read_to_string(&file).unwrap());
    let elsewhere = folder.join("pg_service.conf");
    let bare = tempfile::tempdir().unwrap();
    let (at_home, nowhere) = (home.path(), bare.path());
    let cases: Vec<Named<'_>> = vec![
        (at_home, vec!["service=shop"], vec![]),
        (at_home, vec!["postgres://?service=shop"], vec![]),
        (at_home, vec![], vec![("PGSERVICE", "shop")]),
        (nowhere, vec!["service=shop"], vec![("PGSERVICEFILE", text(&elsewhere))]),
        (nowhere, vec![], vec![("PGSERVICE", "shop"), ("PGSERVICEFILE", text(&elsewhere))]),
        (nowhere, vec!["service=shop"], vec![("PGSYSCONFDIR", text(&folder))]),
    ];
    for (home, arguments, environment) in cases {
        let done = snapshot(home, &arguments, &environment);
        assert_eq!(database(&done), "shop", "{arguments:?} {environment:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_string_beats_the_service_which_beats_the_environment() {
    let home = home_with_services();
    let port = port().to_string();
    let environment = [
        ("HOME", text(home.path())),
        ("PGHOST", "nowhere.invalid"),
        ("PGUSER", "nobody"),
        ("PGSERVICE", "reports"),
        ("PGPORT", "1"),
    ];
    let environment: Environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let resolve = |conninfo: &str| {
        let settings = settings::resolve(&settings::parse(conninfo).unwrap(), &environment).unwrap();
        (settings.endpoints[0].to_string(), settings.user, settings.database)
    };
    let expect = |host: &str, user: &str, database: &str| {
        (format!("{host}:{port}"), user.to_owned(), database.to_owned())
    };
    assert_eq!(resolve(""), expect("127.0.0.1", "watcher", "postgres"));
    assert_eq!(resolve("service=shop"), expect("127.0.0.1", "oncall", "shop"));
    assert_eq!(resolve("service=shop user=watcher host=::1"), {
        (format!("[::1]:{port}"), "watcher".to_owned(), "shop".to_owned())
    });
}

#[test]
fn a_service_that_cannot_be_used_is_told_with_the_file() {
    let home = home_with_services();
    let file = home.path().join(".pg_service.conf");
    let cases: [Mistake<'_>; 4] = [
        (&["service=shpo"], &[], &["service \"shpo\" is not defined", text(&file), "add a section [shpo]"]),
        (&[], &[("PGSERVICE", "shpo")], &["service \"shpo\" is not defined", text(&file)]),
        (&["service=broken"], &[], &["service \"broken\"", "\"hots\"", "did you mean \"host\"?"]),
        (
            &["service=shop"],
            &[("PGSERVICEFILE", "/nonexistent/services")],
            &["cannot read the service file /nonexistent/services", "No such file"],
        ),
    ];
    for (arguments, environment, words) in cases {
        let done = snapshot(home.path(), arguments, environment);
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert_says(&done.stderr, words, &format!("{arguments:?}"));
    }
}

#[test]
fn the_service_with_the_nearest_name_is_told() {
    let home = home_with_services();
    let done = snapshot(home.path(), &["service=shpo"], &[]);
    assert_says(&done.stderr, &["did you mean \"shop\"?"], "the nearest service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_libpq_knows_is_accepted() {
    let parameters = [
        "sslnegotiation=postgres",
        "gssencmode=disable",
        "gssencmode=prefer",
        "client_encoding=UTF8",
        "client_encoding=auto",
        "fallback_application_name=runbook",
        "application_name=runbook",
        "keepalives_idle=30",
        "sslcompression=0",
        "sslsni=0",
        "krbsrvname=postgres",
        "load_balance_hosts=disable",
        "requirepeer=",
        "options='-c work_mem=8MB'",
        "options='-c geqo=off -c statement_timeout=5min'",
        "connect_timeout=10",
        "hostaddr=127.0.0.1",
    ];
    for more in parameters {
        let opened = open_in(&format!("{} {more}", login("oncall")), &[]).await;
        assert!(opened.is_ok(), "{more}: {}", opened.err().unwrap().reason);
    }
    let uri = format!(
        "postgresql://oncall@127.0.0.1:{}/shop?options=-c%20geqo%3Doff&gssencmode=disable&client_encoding=UTF8",
        port()
    );
    open_in(&uri, &[("PGOPTIONS", "-c nonsense=1"), ("PGAPPNAME", "x"), ("PGCLIENTENCODING", "LATIN1")])
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_tls_with_a_server_that_has_none_is_told_as_that() {
    let error = refusal(&format!("{} sslnegotiation=direct sslmode=require", login("oncall")), &[]).await;
    assert_says(&error.reason.to_string(), &["TLS", "sslnegotiation"], "direct TLS");
    assert_eq!(error.cure, Cure::None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_that_the_server_does_not_know_is_told_as_that() {
    let error = refusal(&format!("{} options='-c nonsense=1'", login("oncall")), &[]).await;
    assert_says(&error.reason.to_string(), &["nonsense", "options"], "options");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_for_more_than_there_is_is_refused() {
    // Who asks for one of these wants no connection without it.
    let socket = format!("{} requirepeer=nobody", LAB.primary().conninfo("oncall", "shop"));
    let cases = [
        (format!("{} gssencmode=require", login("oncall")), "gssencmode"),
        (format!("{} require_auth=scram-sha-256", login("oncall")), "require_auth"),
        (socket, "requirepeer"),
    ];
    let mut let_in = Vec::new();
    for (conninfo, keyword) in cases {
        let parsed =
            settings::parse(&conninfo).and_then(|given| settings::resolve(&given, &Environment::new()));
        match parsed {
            Err(error) => assert_says(&error.to_string(), &[keyword], keyword),
            Ok(settings) => match dbtriage::sources::postgres::open(settings).await {
                Err(error) => assert_says(&error.reason.to_string(), &[keyword], keyword),
                Ok(_) => let_in.push(keyword),
            },
        }
    }
    assert!(let_in.is_empty(), "let in without {let_in:?}");
}
