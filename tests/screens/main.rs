//! Whole frames: the program's own drawing of a written moment, as text, as a grid of roles, and as the picture of
//! the README; every size down to one cell; and what the checks find in such moments.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking; a written moment is long and matches the model's optional fields"
)]

mod acting;
mod incident;
mod moment;
mod panes;
mod past;
mod picture;

use dbtriage::app::{App, Msg, Role};
use dbtriage::engine::Severity;
use dbtriage::model::postgres::State;
use dbtriage::model::{Body, Outage, OutageKind, Reading, Reason};
use dbtriage::terminal::Input;
use dbtriage::ui::{self, Glyphs, Theme};
use jiff::SignedDuration;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use std::sync::Arc;
use strum::IntoEnumIterator as _;

use moment::{ago, app, at, empty_app, postgres, press, sample, session, shown};

fn drawn(app: &mut App, width: u16, height: u16, theme: &Theme, glyphs: Glyphs) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let layout = ui::layout(area, app);
    app.resized(layout.viewport());
    let mut buffer = Buffer::empty(area);
    ui::draw(&mut buffer, app, &layout, theme, glyphs);
    buffer
}

fn theme(name: &str) -> Theme {
    ui::themes::load(name, None).unwrap()
}

fn text(buffer: &Buffer) -> String {
    let rows = buffer.content().chunks(usize::from(buffer.area.width));
    rows.map(|row| {
        row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned() + "\n"
    })
    .collect()
}

fn frame(app: &mut App, width: u16, height: u16) -> String {
    text(&drawn(app, width, height, &theme("default"), Glyphs::BLOCK))
}

/// The same frame with one letter for each cell's role.
fn roles(app: &mut App, width: u16, height: u16) -> String {
    let number = |role: Role| u8::try_from(Role::iter().position(|it| it == role).unwrap()).unwrap();
    let by_role = Theme::of("roles", |role| Style::new().fg(Color::Indexed(number(role))));
    let buffer = drawn(app, width, height, &by_role, Glyphs::BLOCK);
    let letter = |color: Color| match color {
        Color::Indexed(0) => '.',
        Color::Indexed(n) => <&str>::from(Role::iter().nth(usize::from(n)).unwrap()).chars().next().unwrap(),
        _ => ' ',
    };
    let rows = buffer.content().chunks(usize::from(width));
    rows.map(|row| row.iter().map(|cell| letter(cell.fg)).collect::<String>().trim_end().to_owned() + "\n")
        .collect()
}

#[test]
fn a_pile_up_at_every_size() {
    for (width, height) in [(200, 50), (120, 40), (80, 24), (40, 10)] {
        insta::assert_snapshot!(format!("pile_up_{width}x{height}"), frame(&mut app(true), width, height));
    }
}

#[test]
fn roles_of_a_pile_up() {
    insta::assert_snapshot!(roles(&mut app(true), 80, 24));
}

#[test]
fn a_healthy_server() {
    insta::assert_snapshot!(frame(&mut app(false), 120, 40));
}

#[test]
fn the_lock_forest_on_a_small_screen() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["!", "Enter"]);
    insta::assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn a_folded_queue_opens() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["2", "Down", "Down", "Down", "Down", "Down", "Right"]);
    insta::assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn the_question_before_a_terminate() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["K"]);
    insta::assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn a_question_about_a_session_that_has_changed_is_disarmed() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["K"]);
    let mut sample_now = postgres(5, true);
    if let Reading::Fresh(sessions) = &mut sample_now.sessions {
        sessions[0].xact_start = ago(at(5), 1);
    }
    shown(&mut app, at(4));
    app.update(at(5), sample(5, Body::Postgres(Arc::new(sample_now))));
    insta::assert_snapshot!(frame(&mut app, 80, 24));
    let effects = app.update(at(6), Msg::Input(Input::Key("y".parse().unwrap())));
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn only_y_answers_yes_and_only_after_a_moment() {
    let ask = || {
        let mut app = app(true);
        press(&mut app, 80, 24, &["K"]);
        shown(&mut app, at(4));
        app
    };
    let answer = |app: &mut App, key: &str, ms: i64| {
        let when = at(4).checked_add(SignedDuration::from_millis(ms)).unwrap();
        app.update(when, Msg::Input(Input::Key(key.parse().unwrap())))
    };
    let mut early = ask();
    assert!(answer(&mut early, "y", 249).is_empty(), "type-ahead confirmed");
    assert_eq!(answer(&mut early, "y", 250).len(), 1, "y must act once the question listens");
    for key in ["Enter", "n", "Esc", "q", "K", "Space", "Y"] {
        assert!(answer(&mut ask(), key, 400).is_empty(), "{key} acted");
    }
    let mut unseen = app(true);
    press(&mut unseen, 80, 24, &["K"]);
    assert!(
        answer(&mut unseen, "y", 5000).is_empty(),
        "a question that was not on the screen yet was answered"
    );
    let mut late = ask();
    assert!(answer(&mut late, "x", 240).is_empty());
    assert!(answer(&mut late, "y", 260).is_empty(), "an answer that does not come alone confirmed");
    let mut pasted = ask();
    pasted.update(at(5), Msg::Input(Input::Paste("y".into())));
    assert!(answer(&mut pasted, "y", 1100).is_empty(), "a key right after a paste confirmed");
}

#[test]
fn sessions_grouped_by_application() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["g", "z"]);
    insta::assert_snapshot!(frame(&mut app, 120, 40));
}

#[test]
fn the_filter_being_typed() {
    let mut app = app(true);
    press(&mut app, 80, 24, &["/", "w", "e", "b"]);
    insta::assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn one_session_in_full() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["Down", "Enter"]);
    insta::assert_snapshot!(frame(&mut app, 120, 40));
}

#[test]
fn help_lists_every_command() {
    let mut app = app(true);
    press(&mut app, 120, 50, &["?"]);
    insta::assert_snapshot!(frame(&mut app, 120, 50));
}

#[test]
fn statements_replication_and_cache_alone() {
    for key in ["3", "4", "5"] {
        let mut app = app(true);
        press(&mut app, 80, 24, &[key]);
        insta::assert_snapshot!(format!("pane_{key}"), frame(&mut app, 80, 24));
    }
}

#[test]
fn old_data_carry_their_age() {
    let mut app = app(true);
    let outage =
        |kind, text: &str| Outage { kind, reason: Reason::new(text), since: at(4), retry_at: Some(at(14)) };
    app.update(
        at(9),
        sample(
            9,
            Body::Outage(outage(OutageKind::Unreachable, "connection lost: server closed the connection")),
        ),
    );
    insta::assert_snapshot!(frame(&mut app, 120, 40));
}

#[test]
fn a_server_without_the_extension_says_how_to_get_it() {
    let mut app = empty_app(true);
    let mut sample_now = postgres(0, false);
    let reason = Reason::new("pg_stat_statements is not installed in \"reports\"").with_hint(
        "CREATE EXTENSION pg_stat_statements;  (needs shared_preload_libraries = 'pg_stat_statements')",
    );
    sample_now.statements = Reading::Unavailable(reason);
    app.update(at(0), sample(0, Body::Postgres(Arc::new(sample_now))));
    press(&mut app, 80, 24, &["3"]);
    insta::assert_snapshot!(frame(&mut app, 80, 24));
}

#[test]
fn in_ascii_nothing_else_is_drawn() {
    let mut app = app(true);
    let drawn = text(&drawn(&mut app, 120, 40, &theme("mono"), Glyphs::ASCII));
    assert!(drawn.is_ascii(), "{drawn}");
    insta::assert_snapshot!(drawn);
}

fn sweep(keys: &[&str], widths: std::ops::RangeInclusive<u16>, heights: std::ops::RangeInclusive<u16>) {
    let mut app = app(true);
    press(&mut app, 200, 50, keys);
    let theme = theme("default");
    for width in widths {
        for height in heights.clone() {
            let buffer = drawn(&mut app, width, height, &theme, Glyphs::BLOCK);
            assert_eq!(buffer.area, Rect::new(0, 0, width, height));
        }
    }
}

#[test]
fn every_size_down_to_one_cell_is_drawn() {
    sweep(&[], 1..=200, 1..=50);
}

#[test]
fn what_stands_above_the_panes_is_drawn_at_every_small_size() {
    let overlays: [&[&str]; 4] = [&["?"], &["Enter"], &["K"], &["/", "x"]];
    for keys in overlays {
        sweep(keys, 1..=82, 1..=26);
    }
}

#[test]
fn the_selection_follows_its_session() {
    let mut app = app(true);
    press(&mut app, 120, 40, &["Down", "Down"]);
    let before = app.activity.list.selected.clone();
    let mut next = postgres(5, true);
    if let Reading::Fresh(sessions) = &mut next.sessions {
        sessions.remove(0);
        sessions.insert(0, session(at(5), 3000, "billing", State::Active, 9000, "VACUUM"));
    }
    app.update(at(5), sample(5, Body::Postgres(Arc::new(next))));
    assert_eq!(app.activity.list.selected, before);
    // And when the session itself has gone, its row stays, struck through.
    let mut gone = postgres(6, true);
    if let Reading::Fresh(sessions) = &mut gone.sessions {
        sessions.retain(|session| session.id.pid != 4312);
    }
    app.update(at(6), sample(6, Body::Postgres(Arc::new(gone))));
    assert_eq!(app.activity.list.selected, before);
    let buffer = drawn(&mut app, 120, 40, &theme("default"), Glyphs::BLOCK);
    let struck = buffer.content().iter().filter(|cell| cell.modifier.contains(Modifier::CROSSED_OUT)).count();
    assert!(struck > 0, "{}", text(&buffer));
    assert!(
        app.update(at(6), Msg::Input(Input::Key("K".parse().unwrap()))).is_empty(),
        "a departed session was offered"
    );
}

#[test]
fn a_message_says_why_a_command_does_not_work() {
    let mut app = empty_app(true);
    app.update(at(0), sample(0, Body::Postgres(Arc::new(postgres(0, true)))));
    press(&mut app, 80, 24, &["K"]);
    let toast = app.toast.clone().unwrap();
    assert_eq!(
        (toast.severity, toast.text.as_str()),
        (Severity::Notice, "terminate: started with --read-only")
    );
    assert!(app.overlay.is_none());
}

#[test]
fn the_picture_of_the_readme_is_the_programs_own_frame() {
    let mut app = app(true);
    let buffer = drawn(&mut app, 160, 45, &theme("default"), Glyphs::BLOCK);
    insta::assert_binary_snapshot!("picture.svg", picture::svg(&buffer).into_bytes());
}
