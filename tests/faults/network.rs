//! The network between the program and the server swallows everything, is slow, or breaks off.

use std::time::Duration;

use dbtriage_lab::terminal::{PATIENCE, Tty, now, rows, until};
use dbtriage_lab::{Network, Proxy};

use super::{SOON, Watched, admin, is_live, lab, own_pids};

/// How long a key may take to show, on a debug build beside other tests: far less than any wait for the network.
const KEY_LIMIT: Duration = Duration::from_millis(250);

/// Keys that change the screen answer at once.
fn assert_keys_are_quick(tty: &mut Tty) {
    for (key, appears, goes) in [
        ("?", "Esc closes", ""),
        ("?", "", "Esc closes"),
        ("g", "by application", ""),
        ("g", "by client", ""),
    ] {
        let pressed = tty.keys(key);
        let shown = tty.wait_for(&format!("what {key} shows"), PATIENCE, |screen| {
            let text = screen.contents();
            text.contains(appears) && (goes.is_empty() || !text.contains(goes))
        });
        let time = shown.saturating_duration_since(pressed);
        assert!(time <= KEY_LIMIT, "{key:?} shown after {time:?}");
    }
}

#[test]
fn a_network_that_swallows_everything_is_told_with_its_age() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let proxy = Proxy::start(lab.primary().port).unwrap();
    let mut watched = Watched::open(lab.primary(), proxy.port);
    let before = own_pids(&second);
    proxy.set(Network::BlackHole);
    watched.wait_for_outage("blocked", "the server accepts the connection and does not answer");
    watched.assert_ages_grow("blocked");
    assert_keys_are_quick(&mut watched.tty);
    watched.tty.keys("K");
    watched.tty.wait_for_text("the server gives no data now");
    proxy.set(Network::Open);
    watched.assert_live_soon_after("a black hole", now());
    assert_eq!(own_pids(&second), before, "the same connections");
    watched.quit();
}

#[test]
fn a_network_that_swallows_only_the_samples_is_told_with_its_age() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let proxy = Proxy::start(lab.primary().port).unwrap();
    let mut watched = Watched::open(lab.primary(), proxy.port);
    let before = own_pids(&second);
    // The first connection is the one that reads.
    proxy.set_for(0, Network::BlackHole).unwrap();
    watched.wait_for_outage("blocked", "the server accepts the connection and does not answer");
    watched.assert_ages_grow("blocked");
    proxy.set_for(0, Network::Open).unwrap();
    watched.assert_live_soon_after("a black hole for the samples", now());
    assert_eq!(own_pids(&second), before, "the same connections");
    watched.quit();
}

#[test]
fn a_slow_network_is_not_called_a_blocked_server() {
    let lab = lab(&[]);
    let proxy = Proxy::start(lab.primary().port).unwrap();
    let mut watched = Watched::open(lab.primary(), proxy.port);
    proxy.set(Network::Slow(Duration::from_secs(1)));
    // Samples go on coming, each two seconds late: that is how slow it is, and no outage.
    let calm = now() + Duration::from_secs(8);
    while now() < calm {
        let first = watched.tty.rows()[0].clone();
        assert!(!first.contains('○'), "samples come, so it is no outage: {first}");
        watched.tty.wait_for("another sample", PATIENCE, |screen| rows(screen)[0] != first);
    }
    watched.tty.wait_for("the screen to say how slow it is", PATIENCE, |screen| {
        let first = &rows(screen)[0];
        ["2s late", "2.0s late", "2s round trip", "answers in 2"].iter().any(|words| first.contains(words))
    });
    assert_keys_are_quick(&mut watched.tty);
    proxy.set(Network::Open);
    watched.assert_live_soon_after("a slow network", now());
    watched.quit();
}

#[test]
fn keys_stay_quick_and_samples_come_over_a_slow_network() {
    let lab = lab(&[]);
    let proxy = Proxy::start(lab.primary().port).unwrap();
    let mut watched = Watched::open(lab.primary(), proxy.port);
    proxy.set(Network::Slow(Duration::from_secs(1)));
    let newcomer = lab.primary().client_as("shop_owner", "shop", "newcomer").unwrap();
    newcomer.execute("BEGIN").unwrap();
    let arrived = now();
    let shown = watched.tty.wait_for_text(&format!("{} newcomer", newcomer.pid()));
    let time = shown - arrived;
    assert!(time <= Duration::from_secs(6), "a session shows after {time:?}");
    assert_keys_are_quick(&mut watched.tty);
    proxy.set(Network::Open);
    watched.assert_live_soon_after("a slow network", now());
    watched.quit();
}

#[test]
fn connections_that_are_all_cut_are_opened_again_at_once() {
    let lab = lab(&[]);
    let second = admin(lab.primary());
    let proxy = Proxy::start(lab.primary().port).unwrap();
    let mut watched = Watched::open(lab.primary(), proxy.port);
    for _ in 0..3 {
        let before = own_pids(&second);
        proxy.cut();
        let cut = now();
        until("three new sessions", PATIENCE, || {
            let own = own_pids(&second);
            own.len() == 3 && own.is_disjoint(&before)
        });
        let time = now() - cut;
        assert!(time <= SOON, "three new connections after {time:?}");
        watched.assert_live_soon_after("a cut", cut);
        assert!(watched.tty.look(is_live));
    }
    assert_eq!(proxy.accepted(), 12, "three connections at the beginning, and three after each cut");
    watched.quit();
}
