//! Unix sockets: named, percent-encoded, missing; and `sslmode`, which they ignore.

use dbtriage::sources::postgres::Cure;
use pretty_assertions::assert_eq;

use super::files::LAB;
use super::{assert_says, open_in, refusal, snapshot};

/// Arguments and environment.
type Login<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

fn folder() -> String {
    LAB.primary().socket_directory.display().to_string()
}

#[test]
fn a_socket_is_connected_to_however_it_is_named() {
    let (folder, port) = (folder(), LAB.primary().port);
    let encoded = folder.replace('/', "%2F");
    let keywords = format!("host={folder} port={port} user=oncall dbname=shop");
    let host = format!("postgres://oncall@{encoded}:{port}/shop");
    let parameter = format!("postgres:///shop?host={folder}&port={port}&user=oncall");
    let port = port.to_string();
    let flags = ["-h", &folder, "-p", &port, "-U", "oncall", "-d", "shop"];
    let environment =
        [("PGHOST", folder.as_str()), ("PGPORT", &port), ("PGUSER", "oncall"), ("PGDATABASE", "shop")];
    let cases: [Login<'_>; 5] =
        [(&[&keywords], &[]), (&[&host], &[]), (&[&parameter], &[]), (&flags, &[]), (&[], &environment)];
    let home = tempfile::tempdir().unwrap();
    for (arguments, environment) in cases {
        let done = snapshot(home.path(), arguments, environment);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        let name = format!("{folder}:{port}/shop  PostgreSQL ");
        assert!(done.stdout.contains(&name), "{arguments:?}: {}", done.stdout);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sslmode_says_nothing_about_a_socket() {
    let conninfo = LAB.primary().conninfo("oncall", "shop");
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
        let opened = open_in(&format!("{conninfo} sslmode={mode}"), &[]).await;
        assert!(opened.is_ok(), "{mode}: {}", opened.err().unwrap().reason);
        open_in(&conninfo, &[("PGSSLMODE", mode)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_not_there_is_told_by_its_path() {
    let missing = "/nonexistent/run/postgresql";
    let empty = tempfile::tempdir().unwrap();
    for folder in [missing, empty.path().to_str().unwrap()] {
        let error = refusal(&format!("host={folder} port=5999 user=oncall dbname=shop"), &[]).await;
        let said = error.reason.to_string();
        // The file is what one looks for with ls.
        let words = [&format!("{folder}/.s.PGSQL.5999"), "No such file or directory", "-h", "PGHOST"];
        assert_says(&said, &words.map(|it| it as &str), folder);
        assert_eq!(error.cure, Cure::None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_host_the_default_socket_is_what_is_told() {
    // A port that no server of this machine has.
    let error = refusal("port=1 user=oncall dbname=shop", &[]).await;
    let said = error.reason.to_string();
    let words = [".s.PGSQL.1", "No such file or directory", "is the server running there?", "-h", "PGHOST"];
    assert_says(&said, &words, "the default socket");
    assert_eq!(error.cure, Cure::None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_whose_server_has_died_is_told_as_that() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and left behind: the file is there, and nobody listens.
    drop(std::os::unix::net::UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap());
    let conninfo = format!("host={} user=oncall dbname=shop", folder.path().display());
    let error = refusal(&conninfo, &[]).await;
    assert_says(&error.reason.to_string(), &["Connection refused", "is the server running there?"], "dead");
    assert_eq!(error.cure, Cure::None);
}
