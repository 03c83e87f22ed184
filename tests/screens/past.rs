//! Looking back: an earlier moment is shown as it was, whatever has come since.

use std::sync::Arc;

use dbtriage::app::{App, Effect, Msg, Paper, Recording, Replay, ReplayNews, ReplayOrder};
use dbtriage::engine::Observer;
use dbtriage::model::{Body, Outage, OutageKind, Reading, Reason};
use dbtriage::report;
use dbtriage::terminal::Input;
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

/// A pile-up for four seconds, a baseline, and a server that is well from then on.
fn recovered(seconds: i64) -> App {
    let mut app = app(true);
    press(&mut app, 120, 40, &["b"]);
    for second in 5..5 + seconds {
        app.update(at(second), sample(second, Body::Postgres(Arc::new(postgres(second, false)))));
    }
    app
}

#[test]
fn whether_it_got_better_is_told_figure_by_figure() {
    insta::assert_snapshot!("recovery_first_seconds", frame(&mut recovered(2), 80, 24));
    insta::assert_snapshot!("recovery_120x40", frame(&mut recovered(20), 120, 40));
    insta::assert_snapshot!("recovery_80x24", frame(&mut recovered(20), 80, 24));
    let mut app = app(true);
    press(&mut app, 80, 24, &["9"]);
    let why = app.toast.clone().unwrap().text;
    assert_eq!(why, "recovery: nothing to compare with yet: b sets a baseline");
}

#[test]
fn what_happened_stands_in_the_events_and_leads_to_its_moment() {
    let mut app = recovered(20);
    press(&mut app, 80, 24, &["8"]);
    insta::assert_snapshot!("events_80x24", frame(&mut app, 80, 24));
    press(&mut app, 80, 24, &["End", "Enter"]);
    assert_eq!(app.past.as_ref().unwrap().at, at(0));
    press(&mut app, 80, 24, &["n"]);
    assert!(app.past.as_ref().unwrap().at > at(0), "the next event");
}

#[test]
fn a_recording_says_what_it_is_and_that_nothing_can_be_done() {
    let mut app = app(true).replaying(Replay::new(at(0), at(60), 4));
    insta::assert_snapshot!("replay_120x40", frame(&mut app, 120, 40));
    assert_eq!(
        app.update(at(5), Msg::Input(Input::Key(">".parse().unwrap()))),
        vec![Effect::Replay(ReplayOrder::Play(8))]
    );
    press(&mut app, 80, 24, &["K"]);
    assert_eq!(app.toast.as_ref().unwrap().text, "terminate: this is a recording");
    assert_eq!(
        app.update(at(5), Msg::Input(Input::Key("p".parse().unwrap()))),
        vec![Effect::Replay(ReplayOrder::Stop)]
    );
    press(&mut app, 80, 24, &["T"]);
    insta::assert_snapshot!("a_time_is_typed", frame(&mut app, 80, 24).lines().last().unwrap());
}

#[test]
fn what_can_be_taken_out_is_a_menu() {
    let mut app = app(true);
    app.recording = Recording { is_rolling: true, file: None };
    press(&mut app, 80, 24, &["x", "Down"]);
    insta::assert_snapshot!("export_menu", frame(&mut app, 80, 24));
    let effects = app.update(at(5), Msg::Input(Input::Key("Enter".parse().unwrap())));
    let [Effect::Export(export)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((export.paper, export.is_copy), (Paper::Markdown, true));
    app.recording.file = Some("/tmp/night.dbtriage".into());
    insta::assert_snapshot!("recording", frame(&mut app, 80, 24).lines().next().unwrap());
}

/// What the events say, oldest first.
fn events(app: &App) -> Vec<String> {
    app.events.all().map(dbtriage::app::Event::sentence).collect()
}

fn take_postgres(app: &mut App, second: i64, read: dbtriage::model::postgres::Sample) {
    app.update(at(second), sample(second, Body::Postgres(Arc::new(read))));
}

#[test]
fn what_the_root_of_a_pile_up_is_told_for_is_not_over_meanwhile() {
    let mut app = empty_app(false);
    for second in 0..30 {
        let mut read = postgres(second, true);
        if !(10..20).contains(&second) {
            read.locks = Reading::Fresh(Arc::default());
            if let Reading::Fresh(sessions) = &mut read.sessions {
                sessions.retain(|session| [4242, 4900, 900].contains(&session.id.pid));
            }
        }
        take_postgres(&mut app, second, read);
    }
    let of_idle = "4242 reports-worker, idle in transaction 8m12s";
    let told: Vec<String> = events(&app).into_iter().filter(|event| event.ends_with(of_idle)).collect();
    assert_eq!(told, [of_idle], "{:#?}", events(&app));
}

#[test]
fn an_outage_is_one_event_and_nothing_begins_twice_because_of_it() {
    let mut app = empty_app(false);
    let outage = |second| {
        let reason = Reason::new("connection lost");
        Body::Outage(Outage { kind: OutageKind::Unreachable, reason, since: at(second), retry_at: None })
    };
    for second in 0..30 {
        match second {
            10..13 => drop(app.update(at(second), sample(second, outage(10)))),
            _ => take_postgres(&mut app, second, postgres(second, second < 20)),
        }
    }
    let all = events(&app);
    let mut distinct = all.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), all.len(), "{all:#?}");
    let of_outage: Vec<&String> = all.iter().filter(|event| event.contains("connection lost")).collect();
    assert_eq!(of_outage, ["no data: connection lost"], "{all:#?}");
    let over = all.iter().filter(|event| event.starts_with("over after")).count();
    let began = all.iter().filter(|event| event.contains("waits for") || event.contains("behind")).count();
    assert!(over > 0 && began > 0, "{all:#?}");
}

#[test]
fn a_queue_that_is_opened_in_the_past_is_that_of_then() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["2", "z", "p"]);
    let folded = frame(&mut app, 120, 40);
    assert!(folded.contains("more"), "{folded}");
    for second in 4..10 {
        take_postgres(&mut app, second, postgres(second, false));
    }
    for _ in 0..20 {
        press(&mut app, 120, 40, &["Down", "l"]);
    }
    let opened = frame(&mut app, 120, 40);
    for pid in 4311..4321 {
        assert!(opened.contains(&pid.to_string()), "{pid} is not shown:\n{opened}");
    }
}

#[test]
fn the_plan_of_an_earlier_moment_or_of_a_recording_is_not_asked_for() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["3", "p", "e"]);
    assert_eq!(
        app.toast.as_ref().unwrap().text,
        "explain: the plan would be that of now: 0 goes back to the present"
    );
    let mut app = crate::moment::app(true).replaying(Replay::new(at(0), at(60), 4));
    press(&mut app, 120, 40, &["3", "e"]);
    assert_eq!(app.toast.as_ref().unwrap().text, "explain: this is a recording");
    press(&mut app, 120, 40, &["+"]);
    assert_eq!(app.toast.as_ref().unwrap().text, "slower: this is a recording");
    assert!(app.overlay.is_none());
}

#[test]
fn whether_it_got_better_is_told_as_it_was_at_an_earlier_moment() {
    let mut app = recovered(20);
    press(&mut app, 120, 40, &["9", "p", "{", "["]);
    insta::assert_snapshot!("recovery_at_an_earlier_moment", frame(&mut app, 120, 40));
}

#[test]
fn a_time_that_is_still_to_come_is_told_and_one_of_yesterday_is_meant() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["T", "2", "3", ":", "5", "8", "Enter"]);
    assert_eq!(app.toast.as_ref().unwrap().text, "23:58:00Z is still to come");
    // A recording whose frames are damaged, or whose clock was set back, may end before it begins.
    let mut app = crate::moment::app(true).replaying(Replay::new(at(60), at(0), 4));
    press(&mut app, 120, 40, &["T", "2", "3", ":", "5", "8"]);
    let effects = app.update(at(5), Msg::Input(Input::Key("Enter".parse().unwrap())));
    assert!(matches!(effects[..], [Effect::Replay(ReplayOrder::Seek(_))]), "{effects:?}");
}

#[test]
fn what_was_passed_over_in_a_recording_is_not_told_as_quiet() {
    let mut app = recovered(20).replaying(Replay::new(at(0), at(6000), 4));
    assert!(!app.events.is_empty());
    app.update(at(25), Msg::Replay(ReplayNews::Rewound(at(3000))));
    assert_eq!((app.began, app.events.len()), (at(3000), 0));
    // Back over what was played nothing is missing.
    take_postgres(&mut app, 3001, postgres(3001, true));
    app.update(at(25), Msg::Replay(ReplayNews::Rewound(at(3000))));
    assert_eq!(app.began, at(3000));
}

#[test]
fn a_timeline_has_no_literals() {
    let mut app = empty_app(false);
    for second in 0..6 {
        let mut read = postgres(second, true);
        let texts = read.statement_texts.keys().map(|key| (*key, Arc::from("CALL pay('hunter2')")));
        read.statement_texts = Arc::new(texts.collect());
        if let Reading::Fresh(sessions) = &mut read.sessions {
            for session in sessions {
                session.query_id = Some(1);
            }
        }
        take_postgres(&mut app, second, read);
        if second == 3 {
            press(&mut app, 120, 40, &["b"]);
        }
    }
    let span =
        report::Span { begins: at(0), ends: at(5), cuts: Vec::new(), files: Vec::new(), redacted: true };
    let timeline = report::timeline(&app, &span);
    assert!(timeline.contains("CALL pay("), "{timeline}");
    assert!(!timeline.contains("hunter2"), "{timeline}");
}
