//! `pg_stat_statements` as it is found: of any version, in any schema, in another database, not preloaded,
//! switched off. Pane 3 has rows, or says what to do.

use dbtriage_lab::terminal::{rows, until};
use dbtriage_lab::{Client, Lab, MAJORS, Options, Postgres};
use serde_json::Value;

use super::{PATIENCE, SMALL, dark, here, lab, missing, open, quit, snapshot, superuser};

const VERSIONS: [u32; 2] = [13, 18];

/// A database without the extension, which goes with the test.
struct Fresh<'a> {
    server: &'a Postgres,
    name: &'static str,
}

impl<'a> Fresh<'a> {
    fn create(server: &'a Postgres, name: &'static str) -> Self {
        superuser(server).execute(&format!("CREATE DATABASE {name}")).unwrap();
        Self { server, name }
    }

    fn client(&self) -> Client {
        self.server.client("postgres", self.name).unwrap()
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        let system = superuser(self.server);
        system.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).ok();
    }
}

/// Pane 3 shows a statement of the application with its text, and the snapshot has it.
fn statements_are_shown(server: &Postgres, database: &str, what: &str) {
    let application = server.client("shop_owner", "shop").unwrap();
    // Texts are read of the statements that weigh most.
    application.execute("SELECT pg_sleep(0.5) AS marker").unwrap();
    for user in ["postgres", "oncall"] {
        let target = snapshot(server, user, database);
        assert_eq!(missing(&target, "statements"), None, "{what} as {user}");
        let rows = target["statements"].as_array().unwrap();
        let marker =
            rows.iter().find(|row| row["query"].as_str().is_some_and(|it| it.ends_with("AS marker")));
        let marker = marker.unwrap_or_else(|| panic!("{what} as {user}: {rows:?}"));
        assert!(marker["calls_per_second"].is_number(), "{what}: {marker}");
        assert!(marker["mean_ms_since_reset"].as_f64() > Some(0.0), "{what}: {marker}");
    }
    let mut tty = open(server, "oncall", database, SMALL);
    tty.keys("3");
    tty.wait_for(&format!("statements of {what}"), PATIENCE, |screen| screen.contents().contains("time/s"));
    tty.keys("/marker\r");
    tty.wait_for(&format!("the statement of {what}"), PATIENCE, |screen| {
        rows(screen)[7..].iter().any(|row| row.starts_with('>') && row.contains("SELECT pg_sleep($1)"))
    });
    quit(tty);
}

#[test]
fn every_version_of_the_extension_has_rows() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let fresh = Fresh::create(lab.primary(), "versions");
        let client = fresh.client();
        let all = "SELECT version FROM pg_available_extension_versions WHERE name = 'pg_stat_statements' \
                   ORDER BY string_to_array(version, '.')::int[]";
        let versions: Vec<String> =
            client.rows(all).unwrap().into_iter().filter_map(|row| row[0].clone()).collect();
        let wanted = if major == 18 { "1.12" } else { "1.8" };
        assert!(versions.iter().any(|it| it == wanted) && versions[0] == "1.4", "{versions:?}");
        for version in versions {
            client.execute(&format!("CREATE EXTENSION pg_stat_statements VERSION '{version}'")).unwrap();
            statements_are_shown(lab.primary(), "versions", &format!("{version} on {major}"));
            client.execute("DROP EXTENSION pg_stat_statements").unwrap();
        }
    }
}

#[test]
fn the_extension_may_live_in_any_schema() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let fresh = Fresh::create(lab.primary(), "schemas");
        let client = fresh.client();
        for schema in ["monitoring", "\"O'Brien's \"\"stats\"\"\""] {
            client.execute(&format!("CREATE SCHEMA {schema}")).unwrap();
            client.execute(&format!("GRANT USAGE ON SCHEMA {schema} TO PUBLIC")).unwrap();
            client.execute(&format!("CREATE EXTENSION pg_stat_statements SCHEMA {schema}")).unwrap();
            statements_are_shown(lab.primary(), "schemas", &format!("schema {schema} on {major}"));
            client.execute("DROP EXTENSION pg_stat_statements").unwrap();
        }
    }
}

#[test]
fn a_schema_that_a_role_may_not_use_says_what_would_help() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let fresh = Fresh::create(lab.primary(), "closed");
        let client = fresh.client();
        client.execute("CREATE SCHEMA monitoring").unwrap();
        client.execute("CREATE EXTENSION pg_stat_statements SCHEMA monitoring").unwrap();
        let target = snapshot(lab.primary(), "oncall", "closed");
        assert_eq!(dark(&target), ["statements"], "on {major}");
        let (reason, hint) = missing(&target, "statements").unwrap();
        assert_eq!(reason, "permission denied for schema monitoring");
        // It has pg_monitor already: what it lacks is another right.
        assert!(hint.contains("GRANT USAGE ON SCHEMA monitoring TO oncall"), "on {major}: {hint}");
    }
}

#[test]
fn an_extension_of_another_database_only_says_what_to_do() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let target = snapshot(lab.primary(), "oncall", "empty");
        assert_eq!(dark(&target), ["statements"], "on {major}");
        let (reason, hint) = missing(&target, "statements").unwrap();
        assert_eq!(reason, "pg_stat_statements is not installed in \"empty\"");
        assert!(hint.starts_with("CREATE EXTENSION pg_stat_statements;"), "{hint}");
        let mut tty = open(lab.primary(), "oncall", "empty", SMALL);
        tty.keys("3");
        tty.wait_for_text("pg_stat_statements is not installed in \"empty\"");
        tty.wait_for_text("CREATE EXTENSION pg_stat_statements;");
        quit(tty);
    }
}

#[test]
fn an_extension_that_is_not_preloaded_says_so() {
    for major in here(&VERSIONS) {
        let lab =
            Lab::start(Options { standby: false, redis: false, major: Some(major), ..Options::default() })
                .unwrap();
        let server = lab.primary();
        superuser(server).execute("ALTER SYSTEM SET shared_preload_libraries = 'auto_explain'").unwrap();
        server.restart().unwrap();
        let target = snapshot(server, "oncall", "shop");
        assert_eq!(dark(&target), ["statements"], "on {major}");
        let (reason, hint) = missing(&target, "statements").unwrap();
        assert!(reason.contains("must be loaded via"), "on {major}: {reason}");
        assert!(reason.contains("shared_preload_libraries"), "on {major}: {reason}");
        let mut tty = open(server, "oncall", "shop", SMALL);
        tty.keys("3");
        tty.wait_for_text("shared_preload_libraries");
        quit(tty);
        assert!(hint.contains("restart"), "what to do is said, on {major}: {hint:?}");
    }
}

/// A server that counts no statement, until this is dropped.
struct Untracked(Client);

impl Untracked {
    fn start(server: &Postgres) -> Self {
        let untracked = Self(superuser(server));
        untracked.set("SET pg_stat_statements.track = 'none'", "none");
        untracked.0.execute("SELECT pg_stat_statements_reset()").unwrap();
        untracked
    }

    fn set(&self, change: &str, value: &str) {
        self.0.execute(&format!("ALTER SYSTEM {change}")).unwrap();
        self.0.execute("SELECT pg_reload_conf()").unwrap();
        until("the setting", PATIENCE, || self.0.cell("SHOW pg_stat_statements.track").unwrap() == value);
    }
}

impl Drop for Untracked {
    fn drop(&mut self) {
        self.set("RESET pg_stat_statements.track", "top");
    }
}

#[test]
fn an_extension_that_tracks_nothing_says_so() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let untracked = Untracked::start(lab.primary());
        let mut tty = open(lab.primary(), "oncall", "shop", SMALL);
        tty.keys("3");
        tty.wait_for("statements, or a sentence", PATIENCE, |screen| {
            ["time/s", "no statement", "pg_stat_statements"].iter().any(|it| screen.contents().contains(it))
        });
        let shown = tty.contents();
        quit(tty);
        drop(untracked);
        assert!(shown.contains("pg_stat_statements.track"), "why there is none, on {major}:\n{shown}");
    }
}

#[test]
fn an_extension_created_while_we_look_is_found() {
    let lab = lab(here(&[18, 15])[0]);
    let fresh = Fresh::create(lab.primary(), "late");
    let mut tty = open(lab.primary(), "oncall", "late", SMALL);
    tty.keys("3");
    tty.wait_for_text("pg_stat_statements is not installed in \"late\"");
    fresh.client().execute("CREATE EXTENSION pg_stat_statements").unwrap();
    // What is installed is looked for every half minute.
    tty.wait_for("statements", 2 * PATIENCE, |screen| screen.contents().contains("time/s"));
    tty.wait_for_text("CREATE EXTENSION");
    quit(tty);
}

/// Our own readings would only distract, and on a server at rest they would be all there is to see.
#[test]
fn our_own_readings_are_no_statements_of_the_application() {
    for major in here(&MAJORS) {
        let lab = lab(major);
        let target = snapshot(lab.primary(), "oncall", "shop");
        let rows = target["statements"].as_array().unwrap();
        let query = |row: &Value| row["query"].as_str().unwrap_or_default().to_owned();
        let own: Vec<String> = rows.iter().map(query).filter(|it| it.contains("pg_stat_get_")).collect();
        assert!(own.is_empty(), "on {major}: {own:#?}");
    }
}
