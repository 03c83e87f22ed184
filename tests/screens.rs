//! Whole frames: the program's own drawing of a written moment, as text, as a grid of roles, and as the picture of
//! the README; and every size down to one cell.
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

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dbtriage::app::{App, Columns, Keymap, Msg, Options, Role};
use dbtriage::engine::{Baseline, Observer, Severity, Thresholds};
use dbtriage::model::postgres::{
    DatabaseCounters, Lock, LockTag, Names, Rights, Sample as PgSample, Server, Session, SessionId, Slot,
    State, Statement, StatementKey, Statements, Wal, WalSender,
};
use dbtriage::model::redis::Sample as RedisSample;
use dbtriage::model::{Body, Kind, Outage, OutageKind, Reading, Reason, Sample, Target, TargetId};
use dbtriage::terminal::Input;
use dbtriage::ui::{self, Glyphs, Theme};
use jiff::{SignedDuration, Timestamp};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use strum::IntoEnumIterator as _;

const BACKEND_START: i64 = 1_793_600_000;

fn start() -> Timestamp {
    "2026-11-02T16:02:10Z".parse().unwrap()
}

fn ago(now: Timestamp, seconds: i64) -> Option<Timestamp> {
    Some(now.checked_sub(SignedDuration::from_secs(seconds)).unwrap())
}

fn session(now: Timestamp, pid: i32, application: &str, state: State, age: i64, query: &str) -> Session {
    Session {
        id: SessionId {
            pid,
            backend_start: Some(Timestamp::from_second(BACKEND_START + i64::from(pid)).unwrap()),
        },
        leader_pid: None,
        datid: Some(5),
        usesysid: Some(10),
        application_name: application.into(),
        client_addr: Some("10.0.3.17".parse().unwrap()),
        client_port: Some(40_000 + pid),
        backend_type: Some("client backend".into()),
        state: Some(state),
        wait_event_type: None,
        wait_event: None,
        xact_start: (state != State::Idle).then(|| ago(now, age).unwrap()),
        query_start: ago(now, age),
        state_change: ago(now, age),
        backend_xid: None,
        backend_xmin: None,
        query_id: None,
        query: query.into(),
    }
}

fn tag(locktype: &str, relation: Option<u32>, xid: Option<u32>) -> LockTag {
    LockTag {
        locktype: locktype.into(),
        database: relation.map(|_| 5),
        relation,
        page: (locktype == "tuple").then_some(1),
        tuple: (locktype == "tuple").then_some(9),
        virtualxid: None,
        transactionid: xid,
        classid: None,
        objid: None,
        objsubid: None,
    }
}

fn lock(pid: i32, tag: &LockTag, mode: &str, waits_since: Option<Timestamp>) -> Lock {
    Lock {
        tag: tag.clone(),
        virtualtransaction: format!("{pid}/1").into(),
        pid: Some(pid),
        mode: mode.into(),
        granted: waits_since.is_none(),
        waitstart: waits_since,
    }
}

/// A session idle in its transaction, ten updates of its row behind it, a schema change behind those, eight readers
/// behind the change.
fn pile_up(now: Timestamp) -> (Vec<Session>, Vec<Lock>) {
    let waits = |mut session: Session, event: &str| {
        (session.wait_event_type, session.wait_event) = (Some("Lock".into()), Some(event.into()));
        session
    };
    let root = Session {
        backend_xid: Some(7745),
        wait_event_type: Some("Client".into()),
        wait_event: Some("ClientRead".into()),
        ..session(
            now,
            4242,
            "reports-worker",
            State::IdleInTransaction,
            492,
            "UPDATE reports SET status = $1 WHERE id = $2",
        )
    };
    let (xid, row, table) = (
        tag("transactionid", None, Some(7745)),
        tag("tuple", Some(100), None),
        tag("relation", Some(100), None),
    );
    let mut sessions = vec![root];
    let mut locks =
        vec![lock(4242, &xid, "ExclusiveLock", None), lock(4242, &table, "RowExclusiveLock", None)];
    for n in 0..10 {
        let (pid, age) = (4311 + n, 482 - 10 * i64::from(n));
        let query = "UPDATE reports\n   SET status = 'queued'\n WHERE id = 42";
        sessions.push(waits(
            session(now, pid, "reports-worker", State::Active, age, query),
            if n == 0 { "transactionid" } else { "tuple" },
        ));
        locks.push(lock(pid, &table, "RowExclusiveLock", None));
        if n == 0 {
            locks.extend([
                lock(pid, &row, "ExclusiveLock", None),
                lock(pid, &xid, "ShareLock", ago(now, age)),
            ]);
        } else {
            locks.push(lock(pid, &row, "ExclusiveLock", ago(now, age)));
        }
    }
    sessions.push(waits(
        session(now, 4330, "migrate", State::Active, 300, "ALTER TABLE reports ADD COLUMN checksum text"),
        "relation",
    ));
    locks.push(lock(4330, &table, "AccessExclusiveLock", ago(now, 300)));
    for n in 0..8 {
        let (pid, age) = (4340 + n, 290 - i64::from(n));
        sessions.push(waits(
            session(now, pid, "web", State::Active, age, "SELECT id, status FROM reports WHERE owner = $1"),
            "relation",
        ));
        locks.push(lock(pid, &table, "AccessShareLock", ago(now, age)));
    }
    for n in 0..6 {
        sessions.push(session(
            now,
            4400 + n,
            "web",
            State::Idle,
            12 + i64::from(n),
            "SELECT * FROM sessions WHERE token = $1",
        ));
    }
    (sessions, locks)
}

fn statement(queryid: i64, calls: i64, total_exec_ms: f64) -> Statement {
    Statement {
        key: StatementKey { userid: 10, dbid: 5, toplevel: true, queryid },
        calls,
        total_exec_ms,
        rows: calls * 2,
        shared_blks_hit: calls * 90,
        shared_blks_read: calls * 10,
        temp_blks: 0,
        stats_since: None,
    }
}

fn names() -> Names {
    let named = |list: &[(u32, &str)]| list.iter().map(|(oid, name)| (*oid, Arc::from(*name))).collect();
    Names {
        roles: named(&[(10, "reports"), (11, "oncall")]),
        databases: named(&[(5, "reports"), (6, "shop")]),
        relations: named(&[(100, "reports")]),
        connected_database: 5,
    }
}

/// The moment, `second` seconds after it was first seen.
fn postgres(second: i64, incident: bool) -> PgSample {
    let now = start().checked_add(SignedDuration::from_secs(second)).unwrap();
    let (mut sessions, locks) = if incident { pile_up(now) } else { (Vec::new(), Vec::new()) };
    let mut own = session(now, 4900, "dbtriage", State::Active, 0, "/* dbtriage:activity */ SELECT pid");
    own.usesysid = Some(11);
    sessions.push(own);
    sessions.push(Session {
        backend_type: Some("walsender".into()),
        application_name: "shop-db-2".into(),
        ..session(now, 900, "shop-db-2", State::Active, 86_400, "START_REPLICATION")
    });
    let grown = second * 1200;
    let database = DatabaseCounters {
        datid: 5,
        numbackends: 28,
        xact_commit: 1_000_000 + grown,
        xact_rollback: 500 + second,
        blks_read: 50_000 + second * 81,
        blks_hit: 9_000_000 + second * 9000,
        temp_bytes: 0,
        temp_files: 0,
        deadlocks: 0,
        stats_reset: None,
    };
    let texts = [
        (1, "SELECT … FROM reports.reports WHERE report_type = $1 AND hash = $2"),
        (2, "SELECT * FROM sessions WHERE token = $1"),
    ];
    let key = |queryid| StatementKey { userid: 10, dbid: 5, toplevel: true, queryid };
    let statements = Statements {
        read_at: now,
        extension_version: "1.10".into(),
        rows: vec![
            statement(1, 1000 + second * 4, 41_000.0 + 32_000.0 * f64::from(i32::try_from(second).unwrap())),
            statement(
                2,
                90_000 + second * 412,
                171_000.0 + 780.0 * f64::from(i32::try_from(second).unwrap()),
            ),
        ],
        hidden_rows: 0,
        dealloc: Some(0),
        stats_reset: Some("2026-11-01T00:00:00Z".parse().unwrap()),
    };
    let end = 100_000_000_000 + u64::try_from(second).unwrap() * 4_200_000;
    PgSample {
        server_time: now,
        server: Arc::new(Server {
            version: "15.18".into(),
            version_num: 150_018,
            started_at: ago(start(), 41 * 86_400).unwrap(),
            in_recovery: false,
            max_connections: 100,
            usable_connections: 97,
            own_pids: vec![4900, 4901, 4902],
        }),
        rights: Arc::new(Rights {
            user: "oncall".into(),
            superuser: false,
            read_all_stats: true,
            signal_backend: true,
        }),
        names: Arc::new(names()),
        sessions: Reading::Fresh(sessions),
        locks: Reading::Fresh(locks),
        prepared: Reading::Fresh(Vec::new()),
        databases: Reading::Fresh(vec![database]),
        statements: Reading::Fresh(Arc::new(statements)),
        statement_texts: Arc::new(
            texts.iter().map(|(id, text)| (key(*id), Arc::from(*text))).collect::<BTreeMap<_, _>>(),
        ),
        wal: Reading::Fresh(Wal { current_lsn: Some(end), ..Wal::default() }),
        senders: Reading::Fresh(vec![WalSender {
            pid: 900,
            state: Some("streaming".into()),
            sent_lsn: Some(end),
            write_lsn: Some(end),
            flush_lsn: Some(end),
            replay_lsn: Some(end - 412_000_000 + u64::try_from(second).unwrap() * 3_000_000),
            write_lag_seconds: None,
            flush_lag_seconds: None,
            replay_lag_seconds: Some(31.0),
            sync_state: Some("async".into()),
        }]),
        slots: Reading::Fresh(vec![Slot {
            name: "debezium".into(),
            kind: "logical".into(),
            datoid: Some(5),
            active: false,
            active_pid: None,
            restart_lsn: Some(end - 18_200_000_000),
            wal_status: Some("extended".into()),
            safe_wal_bytes: None,
        }]),
        receiver: Reading::Fresh(None),
    }
}

fn redis(second: u64) -> RedisSample {
    RedisSample {
        version: Some("7.0.15".into()),
        role: Some("master".into()),
        mode: Some("standalone".into()),
        run_id: Some("a".into()),
        started_at: None,
        keyspace_hits: Some(10_000 + second * 71),
        keyspace_misses: Some(400 + second * 29),
        evicted_keys: Some(second * 512),
        expired_keys: Some(0),
        used_memory_bytes: Some(4_273_000_000),
        maxmemory_bytes: Some(4_294_967_296),
        maxmemory_policy: Some("allkeys-lru".into()),
        mem_fragmentation_ratio: Some(1.1),
        connected_clients: Some(212),
        blocked_clients: Some(0),
        maxclients: Some(10_000),
        rejected_connections: Some(0),
        total_commands_processed: Some(1_000_000 + second * 18_000),
        main_thread_cpu_seconds: Some(100.0 + 0.4 * f64::from(u32::try_from(second).unwrap())),
        master_link_status: None,
        master_repl_offset: Some(0),
        slave_repl_offset: None,
        replicas: Vec::new(),
        ping_seconds: 0.0003,
    }
}

fn empty_app(read_only: bool) -> App {
    let target = |id, name: &str, kind| Target { id: TargetId(id), name: name.into(), kind };
    let observers = [target(0, "shop-db:5432/reports", Kind::Postgres), target(1, "cache:6379", Kind::Redis)]
        .map(|target| Observer::new(target, Baseline::Previous, Thresholds::default()));
    let options = Options {
        keymap: Keymap::default(),
        columns: Columns::default(),
        read_only,
        interval: Duration::from_secs(1),
    };
    App::new(observers.into(), options, start())
}

fn sample(second: i64, body: Body) -> Msg {
    let taken_at = start().checked_add(SignedDuration::from_secs(second)).unwrap();
    let target = if matches!(body, Body::Redis(_)) { TargetId(1) } else { TargetId(0) };
    Msg::Sample(Box::new(Sample { target, taken_at, body }))
}

fn at(second: i64) -> Timestamp {
    start().checked_add(SignedDuration::from_secs(second)).unwrap()
}

/// The program after four seconds of the moment.
fn app(incident: bool) -> App {
    let mut app = empty_app(false);
    for second in 0..4 {
        app.update(at(second), sample(second, Body::Postgres(Box::new(postgres(second, incident)))));
        app.update(at(second), sample(second, Body::Redis(Box::new(redis(u64::try_from(second).unwrap())))));
    }
    app
}

/// Types keys into the program; each frame between them is laid out, as in the real loop.
fn press(app: &mut App, width: u16, height: u16, keys: &[&str]) {
    for key in keys {
        let layout = ui::layout(Rect::new(0, 0, width, height), app);
        app.resized(layout.viewport());
        app.update(at(4), Msg::Input(Input::Key(key.parse().unwrap())));
    }
}

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
    app.update(at(5), sample(5, Body::Postgres(Box::new(sample_now))));
    insta::assert_snapshot!(frame(&mut app, 80, 24));
    let effects = app.update(at(6), Msg::Input(Input::Key("y".parse().unwrap())));
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn only_y_answers_yes_and_only_after_a_moment() {
    let ask = || {
        let mut app = app(true);
        press(&mut app, 80, 24, &["K"]);
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
    app.update(at(0), sample(0, Body::Postgres(Box::new(sample_now))));
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

#[test]
fn every_size_down_to_one_cell_is_drawn() {
    let overlays: [&[&str]; 5] = [&[], &["?"], &["Enter"], &["K"], &["/", "x"]];
    for keys in overlays {
        let mut app = app(true);
        press(&mut app, 200, 50, keys);
        for width in (1..=210).step_by(3).chain([39, 40, 76, 80, 100, 160]) {
            for height in (1..=60).step_by(3).chain([9, 10, 18, 24, 30, 45]) {
                let buffer = drawn(&mut app, width, height, &theme("default"), Glyphs::BLOCK);
                assert_eq!(buffer.area, Rect::new(0, 0, width, height));
            }
        }
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
    app.update(at(5), sample(5, Body::Postgres(Box::new(next))));
    assert_eq!(app.activity.list.selected, before);
    // And when the session itself has gone, its row stays, struck through.
    let mut gone = postgres(6, true);
    if let Reading::Fresh(sessions) = &mut gone.sessions {
        sessions.retain(|session| session.id.pid != 4312);
    }
    app.update(at(6), sample(6, Body::Postgres(Box::new(gone))));
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
    app.update(at(0), sample(0, Body::Postgres(Box::new(postgres(0, true)))));
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
    insta::assert_binary_snapshot!("picture.svg", svg(&buffer).into_bytes());
}

const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 18.0;

/// A frame as a picture: runs of cells of one style, each a text at its place, on a dark ground.
fn svg(buffer: &Buffer) -> String {
    let (width, height) =
        (f64::from(buffer.area.width) * CELL_WIDTH, f64::from(buffer.area.height) * CELL_HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#16191d\"/>\n"
    );
    for (y, row) in buffer.content().chunks(usize::from(buffer.area.width)).enumerate() {
        let mut x = 0;
        while x < row.len() {
            let style = (row[x].fg, row[x].modifier);
            let run = row[x..].iter().take_while(|cell| (cell.fg, cell.modifier) == style).count();
            let content: String = row[x..x + run].iter().map(ratatui::buffer::Cell::symbol).collect();
            run_of_cells(&mut out, x, y, run, &content, style);
            x += run;
        }
    }
    out + "</svg>\n"
}

fn run_of_cells(
    out: &mut String,
    x: usize,
    y: usize,
    run: usize,
    content: &str,
    (fg, modifier): (Color, Modifier),
) {
    let place = |n: usize| f64::from(u32::try_from(n).unwrap());
    let (left, top, width) = (place(x) * CELL_WIDTH, place(y) * CELL_HEIGHT, place(run) * CELL_WIDTH);
    let reversed = modifier.contains(Modifier::REVERSED);
    let color = match fg {
        Color::Red => "#ff6b68",
        Color::Yellow => "#e5b567",
        Color::Green => "#98bb6c",
        Color::Cyan => "#7fb4ca",
        Color::DarkGray => "#7a7f87",
        _ => "#d6d8da",
    };
    if reversed {
        writeln!(out, "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{CELL_HEIGHT}\" fill=\"{color}\"/>").unwrap();
    }
    if content.trim().is_empty() {
        return;
    }
    let escaped = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let weight = if modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let line = if modifier.contains(Modifier::UNDERLINED) { " text-decoration=\"underline\"" } else { "" };
    let fill = if reversed { "#16191d" } else { color };
    writeln!(
        out,
        "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" fill=\"{fill}\" xml:space=\"preserve\"{weight}{line}>{escaped}</text>",
        top + 13.5
    )
    .unwrap();
}
