//! The panes that are shown only while somebody looks at them: waits over time, and tables.

use std::sync::Arc;

use dbtriage::app::{App, Effect, Msg, Pane};
use dbtriage::engine::waits::{Class, Part, Path};
use dbtriage::engine::{Baseline, Observer, Thresholds};
use dbtriage::model::postgres::{
    Constraint, Counted, Index, Progress, Sample, SampledPart, Slowed, State, Table, Tables,
};
use dbtriage::model::redis::Cluster;
use dbtriage::model::{Body, Kind, Reading, Reason, Target, TargetId};
use dbtriage::terminal::Input;
use insta::assert_snapshot;
use pretty_assertions::assert_eq;

use super::frame;
use super::moment::{ago, app, at, empty_app, postgres, press, redis, sample, session};

/// Two minutes, one sample a second: a few sessions compute, then many wait for input, then more for locks.
fn two_minutes() -> App {
    let mut app = empty_app(false);
    app.options.cpus = Some(8);
    for second in 0..120 {
        let now = at(second);
        let mut read = postgres(second, false);
        let query = "SELECT total FROM orders WHERE id = 4711";
        let all = (0..4 + i32::try_from(second / 10).unwrap()).map(|n| {
            let mut it = session(now, 500 + n, "web", State::Active, 1, query);
            let wait = match n {
                0..4 => None,
                4..8 => Some(("IO", "DataFileRead")),
                _ => Some(("Lock", "transactionid")),
            };
            it.wait_event_type = wait.map(|(class, _)| class.into());
            it.wait_event = wait.map(|(_, event)| event.into());
            it
        });
        let idle = session(now, 900, "billing", State::IdleInTransaction, 60, "UPDATE orders SET total = 1");
        read.sessions = Reading::Fresh(all.chain([idle]).collect());
        app.update(now, sample(second, Body::Postgres(Arc::new(read))));
    }
    app
}

#[test]
fn waits_over_time_by_class() {
    let mut app = two_minutes();
    press(&mut app, 80, 24, &["6"]);
    assert_snapshot!(frame(&mut app, 80, 24));
    assert_snapshot!("waits_wide", frame(&mut app, 200, 50));
}

#[test]
fn a_wait_is_gone_into_down_to_the_session_that_waits() {
    let mut app = two_minutes();
    press(&mut app, 80, 24, &["6", "Home", "Enter", "Enter", "Enter"]);
    assert_snapshot!(frame(&mut app, 80, 24));
    assert!(frame(&mut app, 200, 50).contains("only the 7 of Waits"));
    press(&mut app, 80, 24, &["Enter"]);
    assert_eq!(app.focus, Pane::Activity);
    let selected = app.session_at_hand().map(|session| session.id.pid);
    assert!(selected.is_some_and(|pid| (500..520).contains(&pid)), "{selected:?}");
}

#[test]
fn an_earlier_moment_is_looked_at_and_left_again() {
    let mut app = two_minutes();
    press(&mut app, 80, 24, &["6", "Left", "Left", "Left", "Left", "Left", "Left"]);
    app.update(at(120), Msg::Timer);
    assert_snapshot!(frame(&mut app, 80, 24));
    // The sessions of then, in the other panes too.
    press(&mut app, 80, 24, &["1"]);
    assert!(frame(&mut app, 80, 24).contains("only the 12 of Waits"), "{}", frame(&mut app, 80, 24));
    press(&mut app, 80, 24, &["6", "0"]);
    assert!(frame(&mut app, 80, 24).contains("over the last minute"));
}

pub(crate) fn table(oid: u32, name: &str, seq_scans: i64, dead_rows: i64) -> Table {
    Table {
        oid,
        name: name.into(),
        is_materialized_view: name.ends_with("_daily"),
        size_bytes: i64::from(oid) * 81_920_000,
        seq_scans,
        seq_rows_read: seq_scans * 20_000,
        live_rows: 200_000,
        dead_rows,
        changed_since_analyze: dead_rows * 2,
        vacuumed_at: (oid != 102).then(|| ago(at(0), 7200).unwrap()),
        analyzed_at: ago(at(0), 3600),
        heap_blks_fetched: seq_scans * 1000,
        heap_blks_hit: seq_scans * 700,
        index_blks_fetched: 1000,
        index_blks_hit: 990,
        index_scans: 500,
    }
}

/// What is read of the tables at a second.
fn tables(second: i64) -> Tables {
    let index = |oid, name: &str, is_valid, scans| Index {
        oid,
        name: name.into(),
        table: "reports".into(),
        is_valid,
        is_unique: false,
        scans,
        size_bytes: 220_000_000,
        definition: format!("CREATE INDEX {name} ON public.reports USING btree (created_at)").into(),
    };
    let progress = |pid, command: &str, phase: &str, done, waits_for_pid| Progress {
        pid,
        command: command.into(),
        datid: Some(5),
        relation: Some("reports".into()),
        phase: phase.into(),
        done: Some(done),
        total: Some(100),
        waits_for_pid,
    };
    Tables {
        counted: Reading::Fresh(Counted {
            read_at: at(second),
            tables: 812,
            stats_reset: ago(at(0), 900_000),
        }),
        tables: Reading::Fresh(vec![
            table(103, "orders", 100, 20),
            table(102, "reports", 4_000 + second * 25, 61_000),
            table(101, "sales_daily", 7, 0),
        ]),
        indexes: Reading::Fresh(vec![
            index(201, "reports_created_at_idx", false, 0),
            index(202, "reports_old_idx", true, 3),
        ]),
        constraints: Reading::Fresh(vec![Constraint {
            oid: 301,
            name: "orders_customer_fk".into(),
            table: "orders".into(),
            definition: "FOREIGN KEY (customer_id) REFERENCES customers(id) NOT VALID".into(),
        }]),
        progress: Reading::Fresh(vec![
            progress(4242, "CREATE INDEX CONCURRENTLY", "waiting for writers before build", 0, Some(4311)),
            progress(812, "VACUUM", "scanning heap", 37, None),
        ]),
    }
}

fn with_tables(change: impl Fn(&mut Sample)) -> App {
    let mut app = empty_app(false);
    for second in [0, 5] {
        let mut read = postgres(second, false);
        read.tables = Some(Arc::new(tables(second)));
        change(&mut read);
        app.update(at(second), sample(second, Body::Postgres(Arc::new(read))));
    }
    app
}

#[test]
fn tables_and_what_works_on_them() {
    let mut app = with_tables(|_| {});
    press(&mut app, 80, 24, &["7"]);
    assert_snapshot!(frame(&mut app, 80, 24));
    assert_snapshot!("tables_wide", frame(&mut app, 200, 50));
}

#[test]
fn indexes_and_constraints_that_need_somebody() {
    let mut app = with_tables(|_| {});
    press(&mut app, 120, 30, &["7", "z", "g"]);
    assert_snapshot!(frame(&mut app, 120, 30));
    press(&mut app, 120, 30, &["Enter"]);
    assert_snapshot!("an_invalid_index_in_full", frame(&mut app, 120, 30));
    press(&mut app, 120, 30, &["Esc", "g"]);
    assert_snapshot!("constraints_not_validated", frame(&mut app, 120, 30));
}

#[test]
fn a_table_in_full_with_the_statement_that_helps() {
    let mut app = with_tables(|_| {});
    press(&mut app, 80, 24, &["7", "Enter"]);
    assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn catalogs_that_cannot_be_read_say_why() {
    let mut app = with_tables(|read| {
        let why = || Reason::new("canceling statement due to lock timeout");
        let old = read.tables.as_deref().cloned().unwrap();
        read.tables = Some(Arc::new(Tables {
            counted: Reading::Unavailable(why()),
            tables: Reading::Unavailable(why()),
            indexes: Reading::Unavailable(why()),
            constraints: Reading::Unavailable(why()),
            progress: old.progress,
        }));
    });
    press(&mut app, 80, 24, &["7"]);
    assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn before_the_catalogs_are_read_the_pane_says_so() {
    let mut app = app(false);
    press(&mut app, 80, 24, &["7"]);
    assert!(frame(&mut app, 80, 24).contains("reading the catalogs"));
}

#[test]
fn a_node_of_a_redis_cluster_tells_the_state_of_the_cluster() {
    let mut app = empty_app(false);
    for second in 0..3 {
        let mut read = redis(u64::try_from(second).unwrap());
        let mut upkeep = read.upkeep.as_deref().cloned().unwrap();
        upkeep.cluster = Some(Reading::Fresh(Cluster {
            state: "fail".into(),
            slots_assigned: 10_923,
            slots_pfail: 0,
            slots_fail: 5_461,
            known_nodes: 6,
        }));
        upkeep.monitors = Reading::Fresh(vec!["alice 10.0.0.9:51000".into()]);
        read.upkeep = Some(Arc::new(upkeep));
        read.master_link_status = Some("up".into());
        app.update(at(second), sample(second, Body::Redis(Arc::new(read))));
    }
    press(&mut app, 120, 30, &["5", "z"]);
    assert_snapshot!(frame(&mut app, 120, 30));
}

#[test]
fn the_parts_of_a_wait_add_up_to_the_chart() {
    let app = two_minutes();
    let waits = app.pg_observer().unwrap().waits();
    let bins = waits.bins(24);
    assert!(bins.iter().filter(|bin| bin.averages.is_some()).count() > 20);
    for bin in bins.iter().filter(|bin| bin.averages.is_some()) {
        let charted: f64 = bin.averages.iter().flatten().sum();
        let classes = waits.breakdown(&Path::default(), Some(bin.number)).unwrap();
        let sum: f64 = classes.iter().map(|row| row.average).sum();
        assert!((charted - sum).abs() < 1e-9, "{charted} {sum}");
        assert!((classes.iter().map(|row| row.share).sum::<f64>() - 1.0).abs() < 1e-9);
        for row in &classes {
            let Part::Class(class) = row.part else { panic!("{row:?}") };
            let path = Path { class: Some(class), ..Path::default() };
            let events: f64 =
                waits.breakdown(&path, Some(bin.number)).unwrap().iter().map(|it| it.average).sum();
            assert!((row.average - events).abs() < 1e-9, "{class:?}: {} {events}", row.average);
        }
    }
}

#[test]
fn who_was_active_long_ago_is_forgotten_before_how_many_were() {
    let mut app = empty_app(false);
    for second in 0..60 {
        let now = at(second);
        let mut read = postgres(second, false);
        let many = (0..2_000).map(|n| session(now, 10_000 + n, "web", State::Active, 1, "SELECT 1"));
        read.sessions = Reading::Fresh(many.collect());
        app.update(now, sample(second, Body::Postgres(Arc::new(read))));
    }
    press(
        &mut app,
        80,
        24,
        &["6", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left", "Left"],
    );
    let shown = frame(&mut app, 80, 24);
    assert!(shown.contains("who was active then is not kept any more"), "{shown}");
    let waits = app.live_pg().unwrap().waits();
    let oldest = waits.bins(12).into_iter().find_map(|bin| bin.averages).unwrap();
    assert_eq!(oldest[Class::Cpu as usize].to_bits(), 2_000.0_f64.to_bits());
}

#[test]
fn a_name_that_would_act_on_a_terminal_is_copied_and_shown_disarmed_and_a_literal_only_when_it_may() {
    let mut app = with_tables(|read| {
        let mut all = read.tables.as_deref().cloned().unwrap();
        let mut index = all.indexes.value().unwrap()[0].clone();
        index.name = "\"evil\u{1b}]0;owned\u{7}\"".into();
        index.definition = "CREATE INDEX evil ON reports (id) WHERE (token = 'hunter2'::text)".into();
        all.indexes = Reading::Fresh(vec![index]);
        read.tables = Some(Arc::new(all));
    });
    press(&mut app, 120, 30, &["7", "g", "Enter"]);
    assert!(frame(&mut app, 120, 30).contains("hunter2"));
    press(&mut app, 120, 30, &["Ctrl-O"]);
    let shown = frame(&mut app, 120, 30);
    assert!(!shown.contains("hunter2") && !shown.contains('\u{1b}'), "{shown}");
    press(&mut app, 120, 30, &["Esc"]);
    assert!(!frame(&mut app, 120, 30).contains("hunter2"));
    let copied = app.update(at(9), Msg::Input(Input::Key("c".parse().unwrap())));
    let [Effect::Copy(sql)] = &copied[..] else { panic!("{copied:?}") };
    assert!(sql.starts_with("REINDEX INDEX CONCURRENTLY") && !sql.contains('\u{1b}'), "{sql:?}");
}

#[test]
fn what_was_gone_into_on_one_server_is_left_with_it() {
    let mut app = two_minutes();
    let other = Target { id: TargetId(2), name: "other-db:5432/shop".into(), kind: Kind::Postgres };
    app.observers.push(Observer::new(other, Baseline::Previous, Thresholds::default()));
    press(&mut app, 80, 24, &["6", "Enter"]);
    assert!(app.activity.only.is_some() && app.statements.only.is_some());
    press(&mut app, 80, 24, &["t"]);
    assert_eq!(app.postgres, Some(TargetId(2)));
    assert!(app.activity.only.is_none() && app.statements.only.is_none());
    assert_eq!(app.waits.path, Path::default());
}

#[test]
fn what_is_read_more_seldom_to_spare_the_server_is_told_at_the_bottom() {
    let mut app = app(false);
    let mut sample_now = postgres(4, false);
    sample_now.slowed = vec![Slowed { part: SampledPart::Statements, every_seconds: 42.0 }];
    app.update(at(4), sample(4, Body::Postgres(Arc::new(sample_now))));
    for (width, height) in [(200, 50), (80, 24)] {
        let frame = frame(&mut app, width, height);
        insta::assert_snapshot!(format!("slowed_{width}x{height}"), frame.lines().last().unwrap());
    }
}
