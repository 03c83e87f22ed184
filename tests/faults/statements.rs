//! The extension `pg_stat_statements` is reset, full, dropped, moved or of an older version while the program runs:
//! pane 3 goes dark with its reason at most, and comes back by itself.

use std::time::Duration;

use dbtriage_lab::terminal::{PATIENCE, Tty, now, rows};
use dbtriage_lab::{Client, Network, Proxy};
use vt100::Screen;

use super::{Watched, admin, is_live, lab};

/// How soon pane 3 must know of what has changed: its counters are read every other second.
const PANE_LIMIT: Duration = Duration::from_secs(6);

/// The rows of pane 3, below its title; other panes stand beside them.
fn pane(screen: &Screen) -> Vec<String> {
    let all = rows(screen);
    let title = all.iter().position(|row| row.contains("3 Statements")).expect("pane 3");
    all[title..].to_vec()
}

fn says(screen: &Screen, text: &str) -> bool {
    pane(screen).iter().any(|row| row.contains(text))
}

/// No figure of the pane is below zero.
fn assert_nothing_negative(tty: &Tty) {
    let shown = tty.look(pane);
    let negative = |row: &&String| {
        let row = row.replace("query id -", "query id ");
        let bytes = row.as_bytes();
        bytes.windows(3).any(|it| it[0] == b' ' && it[1] == b'-' && it[2].is_ascii_digit())
    };
    assert_eq!(shown.iter().find(negative), None, "{shown:#?}");
}

/// Work that goes on: one statement that pane 3 must show.
fn work(client: &Client) {
    for _ in 0..20 {
        client.execute("SELECT count(*) FROM customers").unwrap();
    }
}

#[test]
fn a_reset_of_the_counters_makes_no_figure_negative() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let busy = lab.primary().client_as("shop_owner", "shop", "busy").unwrap();
    work(&busy);
    watched.tty.wait_for("the statement", PATIENCE, |screen| says(screen, "SELECT count(*) FROM customers"));
    for _ in 0..3 {
        second.execute("SELECT pg_stat_statements_reset()").unwrap();
        let until = now() + Duration::from_millis(2500);
        while now() < until {
            work(&busy);
            assert_nothing_negative(&watched.tty);
            assert!(watched.tty.look(is_live));
        }
    }
    watched
        .tty
        .wait_for("the statement again", PATIENCE, |screen| says(screen, "SELECT count(*) FROM customers"));
    watched.quit();
}

#[test]
fn evictions_are_told_with_what_helps() {
    let lab = lab(&[("pg_stat_statements.max", "100")]);
    let watched = Watched::open(lab.primary(), lab.primary().port);
    let busy = lab.primary().client_as("shop_owner", "shop", "busy").unwrap();
    let has_evictions = busy.cell("SHOW server_version_num").unwrap().parse::<u32>().unwrap() >= 140_000;
    let mut round = 0;
    let deadline = now() + PATIENCE;
    let told = |screen: &Screen| says(screen, "evictions, raise pg_stat_statements.max");
    // Before 14 the server does not count what it evicts.
    while if has_evictions { !watched.tty.look(told) } else { round < 4 } {
        for width in 1..=300 {
            busy.execute(&format!("SELECT {}", vec!["1"; width].join(", "))).unwrap();
        }
        round += 1;
        assert_nothing_negative(&watched.tty);
        assert!(watched.tty.look(is_live));
        assert!(now() < deadline, "no eviction is told:\n{}", watched.tty.contents());
    }
    watched.quit();
}

#[test]
fn an_extension_that_is_dropped_moved_or_old_darkens_pane_3_only_and_comes_back() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let busy = lab.primary().client_as("shop_owner", "shop", "busy").unwrap();
    second.execute("CREATE SCHEMA monitoring; GRANT USAGE ON SCHEMA monitoring TO oncall").unwrap();
    work(&busy);
    watched.tty.wait_for("the statement", PATIENCE, |screen| says(screen, "SELECT count(*) FROM customers"));
    let again = ["SCHEMA monitoring", "SCHEMA public VERSION '1.7'", "SCHEMA public"];
    for how in again {
        second.execute("DROP EXTENSION pg_stat_statements").unwrap();
        let dropped = now();
        let dark = watched.tty.wait_for("the reason in pane 3", PATIENCE * 2, |screen| {
            is_live(screen)
                && says(screen, "pg_stat_statements is not installed in \"shop\"")
                && says(screen, "CREATE EXTENSION pg_stat_statements;")
        });
        let told = dark.saturating_duration_since(dropped);
        assert!(told <= PANE_LIMIT, "{how}: told only after {told:?}");
        second.execute(&format!("CREATE EXTENSION pg_stat_statements WITH {how}")).unwrap();
        let created = now();
        work(&busy);
        let shown = watched.tty.wait_for(&format!("pane 3 after {how}"), PATIENCE * 2, |screen| {
            is_live(screen) && says(screen, "SELECT count(*) FROM customers")
        });
        let time = shown.saturating_duration_since(created);
        println!("{how}: told after {told:?}, back after {time:?}");
        assert!(time <= PANE_LIMIT, "{how}: back only after {time:?}");
    }
    watched.quit();
}

/// A network that was slow for a moment makes a reading look dear, and what is dear is read seldom.
#[test]
fn an_extension_that_comes_back_is_read_at_once_whatever_the_last_reading_had_cost() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let proxy = Proxy::start(lab.primary().port).unwrap();
    let mut watched = Watched::open(lab.primary(), proxy.port);
    let busy = lab.primary().client_as("shop_owner", "shop", "busy").unwrap();
    work(&busy);
    watched.tty.wait_for("the statement", PATIENCE, |screen| says(screen, "SELECT count(*) FROM customers"));
    proxy.set(Network::Slow(Duration::from_millis(150)));
    watched.tty.wait_for_text("statements every ");
    second.execute("DROP EXTENSION pg_stat_statements").unwrap();
    watched.tty.wait_for("the reason in pane 3", PATIENCE * 2, |screen| {
        says(screen, "pg_stat_statements is not installed in \"shop\"")
    });
    proxy.set(Network::Open);
    second.execute("CREATE EXTENSION pg_stat_statements").unwrap();
    let created = now();
    work(&busy);
    let shown = watched.tty.wait_for("pane 3", PATIENCE * 2, |screen| {
        is_live(screen) && says(screen, "SELECT count(*) FROM customers")
    });
    let time = shown.saturating_duration_since(created);
    println!("back after {time:?}");
    assert!(time <= PANE_LIMIT, "back only after {time:?}");
    watched.quit();
}

#[test]
fn a_schema_without_the_right_to_use_it_names_the_grant_that_helps() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    second
        .execute("CREATE SCHEMA monitoring; ALTER EXTENSION pg_stat_statements SET SCHEMA monitoring")
        .unwrap();
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    watched.tty.wait_for("the reason in pane 3", PATIENCE, |screen| {
        is_live(screen) && says(screen, "permission denied for schema monitoring")
    });
    assert!(
        watched.tty.look(|screen| says(screen, "GRANT USAGE ON SCHEMA monitoring TO")),
        "{}",
        watched.tty.contents()
    );
    watched.quit();
}
