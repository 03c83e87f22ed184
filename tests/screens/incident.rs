//! What the screen says while a server, its network or a right is not as it should be.

use std::sync::Arc;

use dbtriage::app::{App, Effect, Msg};
use dbtriage::model::postgres::{Rights, Sample, Server};
use dbtriage::model::{Body, Outage, OutageKind, Reading, Reason};
use dbtriage::terminal::Input;
use insta::assert_snapshot;

use super::frame;
use super::moment::{app, at, empty_app, postgres, press, sample};

/// A screen that has seen three samples, each changed in the same way.
fn after(change: impl Fn(&mut Sample)) -> App {
    let mut app = empty_app(false);
    for second in 0..3 {
        let mut read = postgres(second, true);
        change(&mut read);
        app.update(at(second), sample(second, Body::Postgres(Arc::new(read))));
    }
    app
}

fn outage(reason: Reason) -> Body {
    Body::Outage(Outage { kind: OutageKind::Error, reason, since: at(0), retry_at: None })
}

#[test]
fn what_the_role_sees_and_may_do_with_the_grant_that_would_help() {
    let mut app = after(|sample| {
        sample.server =
            Arc::new(Server { version_num: 180_004, version: "18.4".into(), ..(*sample.server).clone() });
        sample.rights = Arc::new(Rights {
            user: "On Call".into(),
            superuser: false,
            read_all_stats: false,
            signal_backend: false,
            reserved_connections: Some(false),
            signal_autovacuum_worker: Some(false),
        });
    });
    press(&mut app, 80, 24, &["I"]);
    assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn statements_are_shown_without_their_literals() {
    let mut app = app(true);
    press(&mut app, 120, 30, &["Ctrl-O"]);
    let masked = frame(&mut app, 120, 30);
    assert_snapshot!(masked);
    press(&mut app, 120, 30, &["Ctrl-O"]);
    assert_ne!(frame(&mut app, 120, 30), masked);
}

#[test]
fn a_pooler_is_told() {
    let mut app = after(|sample| {
        sample.server = Arc::new(Server { pooled: true, own_pids: Vec::new(), ..(*sample.server).clone() });
        sample.locks = Reading::Fresh(Arc::default());
        sample.sessions = Reading::Fresh(Vec::new());
    });
    assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn what_helps_against_an_outage_is_a_key_away() {
    let mut app = after(|_| {});
    let reason = Reason::new("shop-db:5432 answered: password authentication failed for user \"oncall\"")
        .with_hint("check the password of \"oncall\" (-W asks for it, PGPASSWORD, ~/.pgpass)");
    app.update(at(9), sample(9, outage(reason)));
    press(&mut app, 80, 24, &["!", "Enter"]);
    assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn a_slow_network_is_told_as_late() {
    let mut app = empty_app(false);
    for second in 0..3 {
        let mut late = sample(second, Body::Postgres(Arc::new(postgres(second, false))));
        if let Msg::Sample(sample) = &mut late {
            sample.asked_at = at(second - 2);
        }
        app.update(at(second), late);
    }
    let shown = frame(&mut app, 120, 30);
    assert_snapshot!(shown.lines().next().unwrap());
}

#[test]
fn positions_that_are_refused_are_told_where_they_are_missing() {
    let mut app = after(|sample| {
        if let Reading::Fresh(wal) = &mut sample.wal {
            let words = "Function pg_current_wal_lsn() is currently not supported for Aurora";
            wal.current_lsn = None;
            wal.refused = Some(Reason::new(words));
        }
    });
    press(&mut app, 80, 24, &["4"]);
    assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn a_plan_is_asked_for_and_shown_and_why_there_is_none() {
    let mut app = app(false);
    press(&mut app, 120, 40, &["3"]);
    let effects = app.update(at(4), Msg::Input(Input::Key("e".parse().unwrap())));
    let [Effect::Explain(target, database, sql)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((target.0, &**database), (0, "reports"));
    assert_snapshot!("a_plan_is_asked_for", frame(&mut app, 120, 40));
    let plan = [
        "Index Scan using reports_type_hash on reports  (cost=0.42..8.44 rows=1 width=91)",
        "  Index Cond: ((report_type = $1) AND (hash = 'abc'::text))",
    ];
    let answer = Ok(plan.map(str::to_owned).to_vec());
    app.update(at(5), Msg::Plan(*target, Arc::clone(sql), answer));
    assert_snapshot!("a_plan_is_shown", frame(&mut app, 80, 24));
    app.private = true;
    let masked = frame(&mut app, 80, 24);
    assert!(masked.contains("hash = ?") && masked.contains("cost=0.42..8.44"), "{masked}");
    app.private = false;
    let why =
        Reason::new("permission denied for table reports").with_hint("GRANT pg_read_all_data TO oncall;");
    app.update(at(5), Msg::Plan(*target, Arc::clone(sql), Err(why)));
    assert_snapshot!("why_there_is_no_plan", frame(&mut app, 80, 24));
}
