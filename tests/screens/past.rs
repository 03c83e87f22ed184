//! Looking back: an earlier moment is shown as it was, whatever has come since.

use std::sync::Arc;

use dbtriage::app::App;
use dbtriage::engine::Observer;
use dbtriage::model::{Body, Outage, OutageKind, Reading, Reason};
use dbtriage::report;
use pretty_assertions::assert_eq;

use crate::moment::{app, at, empty_app, postgres, press, redis, sample};
use crate::{frame, roles};

/// A second of a server that is well, then piled up, then gone for a while, then well again; its counters move.
fn body(second: i64) -> Body {
    if (20..23).contains(&second) {
        let reason = Reason::new("connection lost: server closed the connection");
        let outage = Outage { kind: OutageKind::Unreachable, reason, since: at(20), retry_at: None };
        return Body::Outage(outage);
    }
    let mut read = postgres(second, (8..35).contains(&second));
    if let Reading::Fresh(sessions) = &mut read.sessions {
        sessions.truncate(sessions.len().saturating_sub(usize::try_from(second % 5).unwrap()));
    }
    Body::Postgres(Arc::new(read))
}

fn take(app: &mut App, second: i64) {
    app.update(at(second), sample(second, body(second)));
    app.update(at(second), sample(second, Body::Redis(Arc::new(redis(u64::try_from(second).unwrap())))));
}

/// Everything that is known of the targets: the report, and what it leaves out.
fn known(observers: &[Observer]) -> String {
    let of = |observer: &Observer| {
        let tick = observer.tick().unwrap();
        let rest = tick.postgres().map(|it| {
            format!("{:#?} {:#?} {:#?} {:#?}", it.statements, it.replication, it.vitals, it.sample.upkeep)
        });
        let (outage, not_yet) = (observer.outage(), observer.not_yet());
        format!("{} {} {outage:?} {not_yet:?} {rest:?}", tick.asked_at, tick.taken_at)
    };
    let report = report::json(observers, at(0), None).unwrap();
    report + &observers.iter().map(of).collect::<String>()
}

#[test]
fn every_moment_is_known_again_as_it_was() {
    let mut app = empty_app(false);
    let mut seen = Vec::new();
    for second in 0..90 {
        take(&mut app, second);
        seen.push(known(&app.observers));
    }
    press(&mut app, 200, 50, &["p"]);
    for second in (0..90).rev() {
        assert_eq!(app.past.as_ref().unwrap().at, at(second));
        assert_eq!(known(app.shown()), seen[usize::try_from(second).unwrap()], "second {second}");
        press(&mut app, 200, 50, &["["]);
    }
    assert!(app.toast.as_ref().unwrap().text.contains("nothing is kept from before 16:02:10"));
    press(&mut app, 200, 50, &["}", "]"]);
    assert_eq!(app.past.as_ref().unwrap().at, at(11));
    press(&mut app, 200, 50, &["0"]);
    assert!(app.past.is_none());
}

#[test]
fn a_paused_view_stays_while_samples_come() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["p"]);
    let paused = frame(&mut app, 120, 40);
    for second in 4..10 {
        app.update(at(second), sample(second, Body::Postgres(Arc::new(postgres(second, false)))));
    }
    insta::assert_snapshot!("paused_120x40", frame(&mut app, 120, 40));
    insta::assert_snapshot!("paused_80x24", frame(&mut app, 80, 24));
    assert_eq!(
        paused.lines().skip(2).collect::<Vec<_>>(),
        frame(&mut app, 120, 40).lines().skip(2).collect::<Vec<_>>()
    );
    press(&mut app, 120, 40, &["K"]);
    assert!(app.overlay.is_none(), "a session of the past was offered");
    insta::assert_snapshot!("paused_says_why", frame(&mut app, 80, 24).lines().last().unwrap());
    insta::assert_snapshot!(
        "paused_roles",
        roles(&mut app, 80, 24).lines().take(2).collect::<Vec<_>>().join("\n")
    );
}
