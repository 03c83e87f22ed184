//! The server takes our connections away, or has none left.

use std::time::Duration;

use dbtriage_lab::Client;
use dbtriage_lab::terminal::{PATIENCE, now, rows, until};
use vt100::Screen;

use super::{
    Census, Pair, SOON, Watched, admin, end_holder, is_live, is_there, lab, lab_of, own_pids, select_root,
    uri,
};

#[test]
fn connections_that_an_administrator_terminates_are_opened_again_at_once() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    for _ in 0..3 {
        let before = own_pids(&second);
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity(NULL) \
                   WHERE application_name = 'dbtriage'";
        second.execute(all).unwrap();
        let terminated = now();
        until("three new sessions", PATIENCE, || {
            let own = own_pids(&second);
            own.len() == 3 && own.is_disjoint(&before)
        });
        let time = now() - terminated;
        assert!(time <= SOON, "three new connections after {time:?}");
        watched.assert_live_soon_after("a terminate of all three", terminated);
    }
    watched.quit();
}

/// Takes every slot that an ordinary role can have.
fn take_all_slots(lab: &dbtriage_lab::Lab) -> Vec<Client> {
    let mut clients = Vec::new();
    while let Ok(client) = lab.primary().client_as("shop_owner", "shop", "crowd") {
        clients.push(client);
        assert!(clients.len() < 100, "there is no limit");
    }
    clients
}

#[test]
fn a_screen_without_a_slot_opens_and_gets_in_when_one_is_free() {
    let lab = lab_of(12, &[]);
    let server = lab.primary();
    // Superusers who come later would take the slots that become free.
    let second = admin(server);
    let census = Census::start(server);
    let mut crowd = take_all_slots(&lab);
    let mut watched = Watched::start_counted(server, census, &[&uri("oncall", server.port)], &[]);
    watched.tty.wait_for("the screen, with the reason", PATIENCE, |screen| {
        rows(screen)[0].contains("○ error for ")
            && rows(screen)[2].contains("answered: ")
            && ["remaining connection slots are reserved", "sorry, too many clients already"]
                .iter()
                .any(|text| rows(screen)[2].contains(text))
    });
    watched.tty.wait_for_text("every slot is taken; a superuser, or from 16 on a role with");
    let offered = watched.tty.contents();
    watched.tty.wait_for("a pause of some seconds", PATIENCE, |screen| 3 <= pause_seconds(screen));
    let promised = now() + Duration::from_secs(watched.tty.look(pause_seconds) + 1);
    free(&mut crowd, 1, &second);
    watched.assert_live_soon_after("a slot became free and the pause was over", promised.max(now()));
    watched.tty.wait_for("one connection of three", PATIENCE, |screen| {
        rows(screen)[0].contains("1 of 3 connections")
    });
    free(&mut crowd, 3, &second);
    watched.tty.wait_for("all three connections", PATIENCE, |screen| {
        is_live(screen) && !rows(screen)[0].contains(" of 3 connections")
    });
    watched.quit();
    assert!(!offered.contains("copies the statement"), "the cure is no statement:\n{offered}");
}

/// For how many seconds the first line says that nothing is tried, rounded down; 0 when it says nothing of it.
fn pause_seconds(screen: &Screen) -> u64 {
    let first = &rows(screen)[0];
    let pause = first.split("trying again in ").nth(1).and_then(|it| it.split('s').next());
    pause.and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

/// Gives some slots back and waits until the server has them.
fn free(crowd: &mut Vec<Client>, slots: usize, second: &Client) {
    drop(crowd.split_off(crowd.len() - slots));
    let count = "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE application_name = 'crowd'";
    until("free slots", PATIENCE, || second.cell(count).unwrap() == crowd.len().to_string());
}

#[test]
fn over_the_kept_connections_everything_works_when_no_slot_is_left() {
    let lab = lab_of(14, &[]);
    let second = admin(lab.primary());
    let mut watched = Watched::open(lab.primary(), lab.primary().port);
    let before = own_pids(&second);
    let pair = Pair::start(lab.primary(), "reports");
    let crowd = take_all_slots(&lab);
    assert!(lab.primary().client("oncall", "shop").is_err(), "no slot is left");
    watched.tty.wait_for("the full house to be told", PATIENCE, |screen| {
        is_live(screen)
            && (2..5)
                .any(|row| rows(screen)[row].contains("connections ") && rows(screen)[row].contains("CRIT"))
    });
    let holder = pair.holder.pid();
    select_root(&mut watched.tty, holder);
    end_holder(&mut watched.tty, holder);
    assert!(!is_there(&second, holder));
    assert_eq!(own_pids(&second), before, "the same connections");
    drop(crowd);
    watched.quit();
}
