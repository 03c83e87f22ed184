//! Acting, in written moments: the question about one and about many, the pace, the outcomes, the events; and what a
//! filter must not hide.

use dbtriage::app::{App, Effect, Msg, Order};
use dbtriage::model::action::{Action, ActionReply, Holdings, Outcome, Still};
use dbtriage::model::postgres::{Lock, State};
use dbtriage::model::{Body, Outage, OutageKind, Reading, Reason, TargetId};
use dbtriage::terminal::Input;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

use super::moment::{ago, app, at, lock, names, postgres, press, sample, session, shown, tag};
use super::{frame, roles};

const SERVER: TargetId = TargetId(0);

fn ms(second: i64, ms: i64) -> Timestamp {
    at(second).checked_add(SignedDuration::from_millis(ms)).unwrap()
}

fn key(app: &mut App, when: Timestamp, key: &str) -> Vec<Effect> {
    app.update(when, Msg::Input(Input::Key(key.parse().unwrap())))
}

/// The program with the sessions of `web` marked and the question about them on the screen, listening.
fn asked_about_web() -> App {
    let mut app = app(true);
    press(&mut app, 120, 40, &["/", "w", "e", "b", "Enter", "a", "K"]);
    shown(&mut app, at(4));
    app
}

fn ordered(effects: Vec<Effect>) -> Vec<Order> {
    let order = |effect| if let Effect::Act(order) = effect { Some(*order) } else { None };
    effects.into_iter().filter_map(order).collect()
}

fn outcome(order: &Order, reply: ActionReply) -> Msg {
    let seconds = (reply == ActionReply::Signalled).then_some(0.05);
    let outcome = Outcome {
        action: order.action.clone(),
        sql: "SELECT pg_terminate_backend(...)".into(),
        reply: Ok(reply),
        effect_after_seconds: seconds,
        seen: None,
    };
    Msg::Outcome(order.record.id, Box::new(outcome))
}

#[test]
fn the_question_about_many() {
    let mut app = asked_about_web();
    app.update(at(4), Msg::AdvisoryHolders(SERVER, Ok(vec![4400])));
    insta::assert_snapshot!(frame(&mut app, 120, 40));
    insta::assert_snapshot!("the_question_about_many_80x24", frame(&mut app, 80, 24));
    insta::assert_snapshot!("roles_of_the_question_about_many", roles(&mut app, 80, 24));
}

#[test]
fn nothing_is_sent_before_the_right_number_and_enter() {
    let mut app = asked_about_web();
    let typed = |app: &mut App, keys: &[&str]| {
        let effects: Vec<_> = keys.iter().flat_map(|it| key(app, ms(5, 0), it)).collect();
        ordered(effects)
    };
    assert!(typed(&mut app, &["1", "4", "Enter"]).is_empty(), "advisory locks are not known yet");
    app.update(ms(5, 0), Msg::AdvisoryHolders(SERVER, Ok(Vec::new())));
    for wrong in ["1 Enter", "1 4 0 Enter", "Enter", "y", "Enter y"] {
        let keys: Vec<&str> = wrong.split(' ').collect();
        assert!(typed(&mut app, &keys).is_empty(), "{wrong}");
    }
    assert_eq!(typed(&mut app, &["1", "5", "Backspace", "4", "Enter"]).len(), 1);
}

#[test]
fn what_is_typed_ahead_begins_nothing() {
    let mut app = asked_about_web();
    app.update(at(4), Msg::AdvisoryHolders(SERVER, Ok(Vec::new())));
    for typed in ["1", "4", "Enter"] {
        assert!(key(&mut app, ms(4, 249), typed).is_empty());
    }
    assert!(
        ordered(key(&mut app, ms(4, 250), "Enter")).is_empty(),
        "what was typed while deaf counts for nothing"
    );
}

#[test]
fn signals_go_out_twenty_a_second_and_stop_with_escape() {
    let mut app = asked_about_web();
    app.update(at(4), Msg::AdvisoryHolders(SERVER, Ok(Vec::new())));
    key(&mut app, ms(5, 0), "1");
    key(&mut app, ms(5, 0), "4");
    let mut sent = ordered(key(&mut app, ms(5, 0), "Enter"));
    assert_eq!(sent.len(), 1, "the first at once");
    for tick in 1..=20 {
        sent.extend(ordered(app.update(ms(5, tick * 10), Msg::Timer)));
    }
    assert_eq!(sent.len(), 5, "one every 50 ms");
    assert_eq!(app.next_change(), Some(ms(5, 250)));
    // The program was held up for a second: what it missed is not made up for in a burst.
    let late = ordered(app.update(ms(6, 200), Msg::Timer)).len();
    assert!(late <= 3, "{late} at once");
    sent.extend(ordered(app.update(ms(6, 200), Msg::Timer)));
    for order in &sent {
        app.update(ms(6, 210), outcome(order, ActionReply::Signalled));
    }
    insta::assert_snapshot!(frame(&mut app, 120, 40));
    key(&mut app, ms(6, 220), "Esc");
    assert!(ordered(app.update(ms(9, 0), Msg::Timer)).is_empty(), "Esc stops it");
    insta::assert_snapshot!("a_batch_that_was_stopped", frame(&mut app, 120, 40));
}

#[test]
fn a_rule_is_looked_at_again_by_the_server() {
    let mut app = app(true);
    let now = postgres(4, true).server_time;
    let mut long_idle = postgres(4, true);
    if let Reading::Fresh(sessions) = &mut long_idle.sessions {
        for session in sessions.iter_mut().filter(|session| session.state == Some(State::Idle)) {
            session.state_change = now.checked_sub(SignedDuration::from_secs(600)).ok();
        }
    }
    app.update(at(4), sample(4, Body::Postgres(Arc::new(long_idle))));
    press(&mut app, 120, 40, &["M"]);
    insta::assert_snapshot!("the_ready_made_selections", frame(&mut app, 120, 40));
    press(&mut app, 120, 40, &["1", "K"]);
    shown(&mut app, at(4));
    app.update(at(4), Msg::AdvisoryHolders(SERVER, Err(Reason::new("the lock manager is busy"))));
    key(&mut app, ms(5, 0), "6");
    let sent = ordered(key(&mut app, ms(5, 0), "Enter"));
    let [order] = &sent[..] else { panic!("{sent:?}") };
    let Action::TerminateIf { still: Still::Idle { state_change }, .. } = &order.action else {
        panic!("{order:?}")
    };
    assert_eq!(*state_change, now.checked_sub(SignedDuration::from_secs(600)).ok());
    app.update(ms(5, 1), outcome(order, ActionReply::Gone));
    insta::assert_snapshot!("one_of_many_was_already_gone", frame(&mut app, 120, 40));
}

/// A question that opens while a frame is being written is on the next one, which a slow terminal may show much later.
#[test]
fn a_question_that_is_on_no_frame_yet_does_not_listen() {
    let mut app = app(true);
    app.framed();
    press(&mut app, 120, 40, &["K"]);
    // What arrives is the frame before it.
    app.drawn(at(4));
    assert!(ordered(key(&mut app, at(5), "y")).is_empty());
    shown(&mut app, at(6));
    assert!(ordered(key(&mut app, ms(6, 200), "y")).is_empty());
    assert_eq!(ordered(key(&mut app, ms(6, 260), "y")).len(), 1);
}

#[test]
fn what_was_done_stands_in_the_events() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["K"]);
    shown(&mut app, at(4));
    let order = ordered(key(&mut app, ms(4, 300), "y")).pop().unwrap();
    assert_eq!((order.record.before.blocked, order.record.before.behind), (Some(19), Some(19)));
    app.update(ms(4, 400), outcome(&order, ActionReply::Signalled));
    let later = app.update(at(6), sample(6, Body::Postgres(Arc::new(postgres(6, false)))));
    let [Effect::Keep(record, ..)] = &later[..] else { panic!("{later:?}") };
    assert_eq!(record.after.and_then(|after| after.blocked), Some(0));
    assert_eq!(record.sql, "SELECT pg_terminate_backend(...)");
    press(&mut app, 120, 40, &["8"]);
    insta::assert_snapshot!(frame(&mut app, 120, 40));
    press(&mut app, 80, 24, &["Down", "Right"]);
    insta::assert_snapshot!("one_event_in_full", frame(&mut app, 80, 24));
}

#[test]
fn the_server_is_asked_whether_the_first_waiter_waits_for_the_one_that_is_meant() {
    let ask = |blockers: Result<Vec<i32>, Reason>| {
        let mut app = app(true);
        press(&mut app, 80, 24, &["K"]);
        let holdings = blockers.map(|blockers| Holdings {
            pid: 4242,
            locks: Vec::new(),
            names: names().into(),
            waiter: Some((4311, blockers)),
        });
        app.update(at(4), Msg::Holdings(SERVER, 4242, holdings));
        frame(&mut app, 80, 24)
    };
    let mut app = app(true);
    press(&mut app, 80, 24, &[]);
    let effects = app.update(at(4), Msg::Input(Input::Key("K".parse().unwrap())));
    assert_eq!(effects, [Effect::ReadHoldings(SERVER, 4242, Some(4311))]);
    assert!(ask(Ok(vec![4242])).contains("the server confirms: 4311 waits for it"));
    assert!(ask(Ok(vec![99])).contains("the server says that 4311 waits for 99, not for it: look again"));
    assert!(ask(Ok(Vec::new())).contains("the server says that 4311 waits for nobody now: look again"));
    assert!(
        ask(Err(Reason::new("the lock manager is busy"))).contains("not confirmed that 4311 waits for it")
    );
}

#[test]
fn a_filter_never_hides_who_blocks_one_that_is_shown() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["/", "w", "e", "b", "Enter", "z"]);
    let shown = frame(&mut app, 120, 40);
    for pid in ["4242", "4330"] {
        let is_line = |line: &str| line.contains(&format!(" {pid} ")) && line.contains("outside the filter");
        assert!(shown.lines().any(is_line), "{pid}");
    }
    insta::assert_snapshot!(shown);
    press(&mut app, 120, 40, &["Esc", "Esc", "Esc", "2", "/", "w", "e", "b", "Enter"]);
    insta::assert_snapshot!("a_filter_in_the_forest", frame(&mut app, 120, 40));
}

#[test]
fn what_has_left_the_forest_stays_struck_for_three_ticks() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["2", "Down"]);
    // The first waiter of the row, 4311, has been granted its lock and is done.
    let without = |second: i64| {
        let mut moment = postgres(second, true);
        if let Reading::Fresh(table) = &mut moment.locks {
            let table = Arc::make_mut(table);
            table.rows.retain(|row| row.pid != Some(4340));
        }
        moment
    };
    let mut seen = Vec::new();
    for second in 4..9 {
        app.update(at(second), sample(second, Body::Postgres(Arc::new(without(second)))));
        let shown = frame(&mut app, 80, 24);
        if second == 4 {
            insta::assert_snapshot!(shown.clone());
        }
        seen.push(shown.contains("4340 web neither waits nor blocks now"));
    }
    assert_eq!(seen, [true, true, true, false, false]);
}

#[test]
fn a_batch_stops_when_the_server_is_lost() {
    let mut app = asked_about_web();
    app.update(at(4), Msg::AdvisoryHolders(SERVER, Ok(Vec::new())));
    key(&mut app, ms(5, 0), "1");
    key(&mut app, ms(5, 0), "4");
    assert_eq!(ordered(key(&mut app, ms(5, 0), "Enter")).len(), 1);
    let outage = Outage {
        kind: OutageKind::Unreachable,
        reason: Reason::new("connection lost"),
        since: at(5),
        retry_at: None,
    };
    app.update(ms(5, 10), sample(5, Body::Outage(outage)));
    assert!(ordered(app.update(at(9), Msg::Timer)).is_empty(), "nothing is sent blindly");
    assert!(frame(&mut app, 120, 40).contains("stopped: 1 of 14 sessions ordered"));
}

#[test]
fn what_has_left_together_stays_in_its_order() {
    let mut app = app(true);
    app.update(at(4), sample(4, Body::Postgres(Arc::new(postgres(4, false)))));
    press(&mut app, 80, 24, &["2"]);
    let shown = frame(&mut app, 80, 24);
    let places: Vec<usize> =
        ["4242 reports-worker has gone", "4311 reports", "4312 reports", "4330 migrate", "4340 web"]
            .iter()
            .map(|who| shown.find(who).unwrap_or_else(|| panic!("{who} in\n{shown}")))
            .collect();
    assert!(places.is_sorted(), "{shown}");
}

#[test]
fn the_selected_waiter_is_never_folded_away() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["2", "Down", "Down", "Down", "Down", "Down", "Right", "Left"]);
    let shown = frame(&mut app, 80, 24);
    assert!(shown.contains(">│ ├ 4315") || shown.contains(">│ └ 4315"), "{shown}");
    assert!(shown.contains("… 5 more want ExclusiveLock"), "{shown}");
}

#[test]
fn a_session_out_of_sight_is_not_asked_about() {
    let mut app = app(true);
    // Everybody else has been at it for longer: the row that was first on opening sinks out of the window.
    let mut later = postgres(5, true);
    if let Reading::Fresh(sessions) = &mut later.sessions {
        sessions[0].xact_start = Some(at(4));
    }
    press(&mut app, 80, 24, &[]);
    app.update(at(5), sample(5, Body::Postgres(Arc::new(later))));
    assert!(!frame(&mut app, 80, 24).contains(">   4242"));
    press(&mut app, 80, 24, &["K"]);
    let shown = frame(&mut app, 80, 24);
    assert!(!shown.contains("Terminate 4242"), "{shown}");
    assert!(shown.contains(">   4242") && shown.contains("4242 is selected and was out of sight"), "{shown}");
    press(&mut app, 80, 24, &["K"]);
    assert!(frame(&mut app, 80, 24).contains("Terminate 4242 ?"));
}

#[test]
fn a_stop_calls_back_what_is_on_its_way() {
    let mut app = asked_about_web();
    app.update(at(4), Msg::AdvisoryHolders(SERVER, Ok(Vec::new())));
    key(&mut app, ms(5, 0), "1");
    key(&mut app, ms(5, 0), "4");
    let mut sent = ordered(key(&mut app, ms(5, 0), "Enter"));
    for tick in 1..=3 {
        sent.extend(ordered(app.update(ms(5, tick * 50), Msg::Timer)));
    }
    app.update(ms(5, 160), outcome(&sent[0], ActionReply::Signalled));
    let effects = key(&mut app, ms(5, 170), "Ctrl-C");
    let open: Vec<u64> = sent[1..].iter().map(|order| order.record.id).collect();
    assert_eq!(effects, [Effect::Withdraw(open)]);
    for order in &sent[1..] {
        app.update(ms(5, 180), outcome(order, ActionReply::Withdrawn));
    }
    let shown = frame(&mut app, 120, 40);
    assert!(shown.contains("stopped: 4 of 14 sessions ordered, 4 outcomes"), "{shown}");
    assert!(shown.contains("3 withdrawn before it was sent") && shown.contains("not signalled"), "{shown}");
}

#[test]
fn an_opened_queue_stays_open_when_its_head_has_changed() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["2", "Down", "Down", "Down", "Down", "Down", "Right"]);
    assert!(frame(&mut app, 80, 24).contains("4320"));
    // The first is done: the second holds the tuple now and waits for the transaction.
    let mut handed_on = postgres(5, true);
    if let Reading::Fresh(table) = &mut handed_on.locks {
        let table = Arc::make_mut(table);
        table.rows.retain(|row| row.pid != Some(4311));
        let tuple = |row: &&mut Lock| row.pid == Some(4312) && &*row.tag.locktype == "tuple";
        let row = table.rows.iter_mut().find(tuple).unwrap();
        row.granted = true;
        let waits = Lock {
            waitstart: row.waitstart,
            ..lock(4312, &tag("transactionid", None, Some(7745)), "ShareLock", ago(at(5), 1))
        };
        row.waitstart = None;
        table.rows.push(waits);
    }
    app.update(at(5), sample(5, Body::Postgres(Arc::new(handed_on))));
    let shown = frame(&mut app, 80, 24);
    assert!(shown.contains("4320") && !shown.contains("more want ExclusiveLock"), "{shown}");
}

#[test]
fn a_server_that_does_not_answer_slows_the_pace() {
    let mut app = asked_about_web();
    app.options.limits.signals_per_second = 1000;
    let mut moment = postgres(4, true);
    if let Reading::Fresh(sessions) = &mut moment.sessions {
        let more = (0..100).map(|n| session(at(4), 6000 + n, "web", State::Idle, 60, "SELECT 1"));
        sessions.extend(more);
    }
    app.update(at(4), sample(4, Body::Postgres(Arc::new(moment))));
    press(&mut app, 120, 40, &["Esc"]);
    app.update(ms(4, 300), Msg::Input(Input::Key("Esc".parse().unwrap())));
    press(&mut app, 120, 40, &["u", "a", "K"]);
    shown(&mut app, at(5));
    app.update(at(5), Msg::AdvisoryHolders(SERVER, Ok(Vec::new())));
    for typed in ["1", "1", "4"] {
        key(&mut app, at(6), typed);
    }
    let mut sent = ordered(key(&mut app, at(6), "Enter"));
    for tick in 1..=500 {
        sent.extend(ordered(app.update(ms(6, tick * 2), Msg::Timer)));
    }
    assert_eq!(sent.len(), 40, "no more than can be answered");
    assert_eq!(app.next_change().filter(|at| *at < ms(9, 0)), None, "nothing is due");
    sent.extend(ordered(app.update(ms(7, 10), outcome(&sent[0], ActionReply::Signalled))));
    assert_eq!(sent.len(), 41, "an answer makes room for one");
}

#[test]
fn a_selected_row_that_has_left_is_told_by_who_it_was() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["2", "Down"]);
    for second in 4..12 {
        app.update(at(second), sample(second, Body::Postgres(Arc::new(postgres(second, false)))));
        let shown = frame(&mut app, 80, 24);
        assert!(shown.contains("4311 reports-worker has gone"), "after {second}s\n{shown}");
    }
}
