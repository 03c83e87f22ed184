//! Through PgBouncer: it works, it is said, and nobody behind the same pooler notices.

use std::collections::BTreeSet;

use dbtriage_lab::terminal::{PATIENCE, Tty, rows, until};
use dbtriage_lab::{PoolMode, Pooler, Proxy};
use pretty_assertions::assert_eq;

use super::files::LAB;
use super::{Done, PROGRAM, assert_says, lab, snapshot};

/// What the report and the screen say.
const SAID: &str = "through a pooler";

const MODES: [PoolMode; 2] = [PoolMode::Transaction, PoolMode::Session];

/// A pooler of one's own before the server of all tests that leave it as it is.
fn pooler(mode: PoolMode, pool_size: u32) -> Pooler {
    Pooler::start(LAB.primary(), mode, pool_size).unwrap()
}

fn report(arguments: &[&str]) -> Done {
    let home = tempfile::tempdir().unwrap();
    snapshot(home.path(), arguments, &[])
}

fn json(uri: &str) -> String {
    let done = report(&["--format", "json", uri]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    done.stdout
}

fn open(uri: &str) -> Tty {
    let mut tty = Tty::start(PROGRAM, (160, 45), &[uri]);
    tty.wait_for_text("● live");
    tty
}

fn quit(tty: Tty) {
    tty.keys("q");
    assert_eq!(tty.end().code, Some(0));
}

#[test]
fn a_report_through_a_pooler_works_and_says_so() {
    for mode in MODES {
        let pooler = pooler(mode, 5);
        let uri = pooler.uri("oncall", "shop");
        // First through sessions that the pooler opens for us, then through those that it has kept.
        let told = json(&uri);
        assert_says(&told, &["\"status\": \"ok\"", SAID], "JSON");
        let done = report(&[&uri]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert_says(&done.stdout, &["through a pooler: sessions are the pooler's"], "text");
        for part in ["sessions", "locks", "statements"] {
            assert!(!done.stdout.contains(&format!("not available: {part}")), "{}", done.stdout);
        }
    }
}

#[test]
fn a_report_without_a_pooler_says_nothing_of_one() {
    // A proxy passes bytes on: the session behind it is ours alone.
    let proxy = Proxy::start(LAB.primary().port).unwrap();
    let direct = [
        LAB.primary().uri("oncall", "shop"),
        LAB.primary().conninfo("oncall", "shop"),
        format!("postgres://oncall@127.0.0.1:{}/shop", proxy.port),
    ];
    for target in direct {
        assert!(!json(&target).contains("pooler"), "{target}");
        assert!(!report(&[&target]).stdout.contains("pooler"), "{target}");
    }
}

#[test]
fn the_screen_through_a_pooler_works_and_says_so() {
    for mode in MODES {
        let pooler = pooler(mode, 5);
        let mut tty = open(&pooler.uri("oncall", "shop"));
        tty.wait_for("the pooler to be told in the first lines", PATIENCE, |screen| {
            rows(screen).iter().take(4).any(|row| row.contains(SAID))
        });
        quit(tty);
    }
}

#[test]
fn a_screen_without_a_pooler_says_nothing_of_one() {
    let mut tty = open(&LAB.primary().uri("oncall", "shop"));
    tty.wait_for_text("(ours)");
    assert!(!tty.contents().contains("pooler"), "{}", tty.contents());
    quit(tty);
}

#[test]
fn the_screen_stays_live_through_a_pooler_that_has_one_session_only() {
    let pooler = pooler(PoolMode::Transaction, 1);
    let mut tty = open(&pooler.uri("oncall", "shop"));
    let clock = |screen: &vt100::Screen| rows(screen)[0].trim_end().rsplit(' ').next().map(str::to_owned);
    for _ in 0..3 {
        let before = tty.look(clock);
        tty.wait_for("the next sample", PATIENCE, |screen| {
            clock(screen) != before && rows(screen)[0].contains("● live")
        });
    }
    quit(tty);
}

/// The settings of a session of the pool that an application may notice.
const NOTICED: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', \
    'search_path', 'jit', 'max_parallel_workers_per_gather', 'default_transaction_read_only', \
    'idle_in_transaction_session_timeout', 'idle_session_timeout') ORDER BY name";

#[test]
fn the_sessions_of_the_pool_keep_their_settings() {
    // One session: the application gets the one that serves us.
    let pooler = pooler(PoolMode::Transaction, 1);
    let web = pooler.client_as("shop_owner", "shop", "web").unwrap();
    let before = web.rows(NOTICED).unwrap();
    let tty = open(&pooler.uri("shop_owner", "shop"));
    let meanwhile = web.rows(NOTICED).unwrap();
    quit(tty);
    assert_eq!(meanwhile, before);
    assert_eq!(web.rows(NOTICED).unwrap(), before);
}

#[test]
fn a_session_given_back_to_the_pool_is_as_it_was() {
    // Three for us, and the application has to wait until one is given back.
    let pooler = pooler(PoolMode::Session, 3);
    let settings = || pooler.client_as("shop_owner", "shop", "web").unwrap().rows(NOTICED).unwrap();
    let before = settings();
    quit(open(&pooler.uri("shop_owner", "shop")));
    assert_eq!(settings(), before);
}

#[test]
fn an_application_of_the_same_pool_writes_while_we_look() {
    let pooler = pooler(PoolMode::Transaction, 1);
    let web = pooler.client_as("shop_owner", "shop", "web").unwrap();
    web.execute("CREATE TABLE visits (n int)").unwrap();
    let tty = open(&pooler.uri("shop_owner", "shop"));
    let mut failures = BTreeSet::new();
    for _ in 0..20 {
        failures.extend(web.execute("INSERT INTO visits VALUES (1)").err().map(|it| format!("{it:#}")));
    }
    quit(tty);
    assert_eq!(failures, BTreeSet::new());
}

#[test]
fn our_own_sessions_are_told_from_others_through_a_pooler() {
    let pooler = pooler(PoolMode::Transaction, 2);
    let holder = |application: &str| {
        let client = pooler.client_as("watcher", "shop", application).unwrap();
        client.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0").unwrap();
        let pid = client.cell("SELECT pg_backend_pid()").unwrap();
        (client, pid)
    };
    // Of two sessions the first is taken, so the second serves us; then they are exchanged.
    let (first, ours) = holder("first holder");
    let mut tty = open(&pooler.uri("watcher", "shop"));
    let (_second, taken) = holder("second holder");
    assert_ne!(ours, taken);
    first.execute("COMMIT").unwrap();
    tty.wait_for("the session that serves us now", PATIENCE, |screen| {
        rows(screen).iter().any(|row| row.contains(&format!("{ours} (ours)")))
    });
    tty.wait_for("the session that served us to be another's", PATIENCE, |screen| {
        rows(screen).iter().any(|row| row.contains(&format!("{taken} second holder")))
    });
    quit(tty);
}

#[test]
fn a_session_is_terminated_through_a_pooler_and_no_other() {
    let pooler = pooler(PoolMode::Transaction, 5);
    let second = LAB.primary().client("postgres", "shop").unwrap();
    let [stuck, other] = ["stuck", "other"].map(|name| pooler.client_as("shop_owner", "shop", name).unwrap());
    other.execute("BEGIN").unwrap();
    let pid_of_other = other.cell("SELECT pg_backend_pid()").unwrap();
    stuck.execute("BEGIN; LOCK TABLE public.reports IN ACCESS EXCLUSIVE MODE").unwrap();
    let pid = stuck.cell("SELECT pg_backend_pid()").unwrap();
    let waiter = LAB.primary().client_as("shop_owner", "shop", "waiter").unwrap();
    let blocked = waiter.spawn("SELECT count(*) FROM public.reports");
    let mut tty = open(&pooler.uri("oncall", "shop"));
    tty.keys("/");
    tty.keys("stuck\r");
    tty.wait_for("the stuck session to be selected", PATIENCE, |screen| {
        rows(screen).iter().any(|row| row.contains('>') && row.contains(&format!("{pid} stuck")))
    });
    tty.keys("K");
    tty.wait_for_text(&format!("Terminate {pid} ?"));
    let asked = dbtriage_lab::terminal::now();
    // A question is deaf at first.
    until("the question to hear", PATIENCE, || asked.elapsed() > std::time::Duration::from_millis(300));
    tty.keys("y");
    tty.wait_for_text(&format!("terminated {pid} stuck: gone after"));
    blocked.wait(PATIENCE).unwrap();
    assert_eq!(other.cell("SELECT pg_backend_pid()").unwrap(), pid_of_other);
    assert_eq!(second.rows(&format!("SELECT FROM pg_stat_activity WHERE pid = {pid}")).unwrap().len(), 0);
    quit(tty);
}

#[test]
fn the_console_of_the_pooler_is_told_as_that() {
    let pooler = pooler(PoolMode::Transaction, 5);
    let rows = pooler.console("SHOW VERSION").unwrap();
    assert!(format!("{rows:?}").contains("PgBouncer"), "{rows:?}");
    for user in ["postgres", "oncall"] {
        let done = report(&[&pooler.uri(user, "pgbouncer")]);
        assert_eq!(done.code, Some(3), "{}", done.stdout);
        assert_says(&done.stderr, &["PgBouncer", "console", "-d"], user);
    }
}

#[test]
fn options_that_the_pooler_refuses_are_told_as_that() {
    let pooler = pooler(PoolMode::Transaction, 5);
    let uri = format!("{}?options=-c%20geqo%3Doff", pooler.uri("oncall", "shop"));
    let done = report(&[&uri]);
    assert_eq!(done.code, Some(3));
    let words = ["unsupported startup parameter", "options", "pooler", "leave out options"];
    assert_says(&done.stderr, &words, "options through a pooler");
}

#[test]
fn a_role_or_database_that_the_pooler_does_not_know_is_told_as_that() {
    let pooler = pooler(PoolMode::Transaction, 5);
    let done = report(&[&pooler.uri("stranger", "shop")]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert_says(&done.stderr, &["stranger", "-U"], "a role");
    let done = report(&[&pooler.uri("oncall", "nowhere")]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert_says(&done.stderr, &["\"nowhere\" does not exist", "-d"], "a database");
}

#[test]
fn a_pooler_that_is_down_is_told_and_one_that_is_back_is_live_by_itself() {
    let pooler = pooler(PoolMode::Transaction, 5);
    let uri = pooler.uri("oncall", "shop");
    let mut tty = open(&uri);
    pooler.stop();
    tty.wait_for("the loss to be told", PATIENCE, |screen| rows(screen)[0].contains("○ unreachable"));
    tty.wait_for_text("Connection refused");
    let done = report(&[&uri]);
    assert_eq!(done.code, Some(3));
    assert_says(&done.stderr, &["Connection refused", "is the server running there?"], "the pooler is down");
    pooler.restart().unwrap();
    tty.wait_for_text("● live");
    quit(tty);
}

#[test]
fn a_server_that_is_down_behind_its_pooler_is_told_and_is_live_again_by_itself() {
    let lab = lab(50);
    let pooler = Pooler::start(lab.primary(), PoolMode::Transaction, 5).unwrap();
    let mut tty = open(&pooler.uri("oncall", "shop"));
    lab.primary().stop("fast").unwrap();
    tty.wait_for("the loss to be told", PATIENCE, |screen| rows(screen)[0].contains('○'));
    // The pooler answers, and the server behind it does not: two different things to do.
    tty.wait_for("the pooler to be told from the server", PATIENCE, |screen| {
        screen.contents().contains("the pooler") && screen.contents().contains("server")
    });
    let done = report(&[&pooler.uri("oncall", "shop")]);
    assert_eq!(done.code, Some(3));
    assert_says(&done.stderr, &["the pooler", "the server behind it"], "the server is down");
    lab.primary().start().unwrap();
    tty.wait_for_text("● live");
    quit(tty);
}

#[test]
fn a_pool_that_is_used_up_is_told_and_is_live_again_by_itself() {
    let pooler = pooler(PoolMode::Transaction, 1);
    let mut tty = open(&pooler.uri("shop_owner", "shop"));
    let web = pooler.client_as("shop_owner", "shop", "web").unwrap();
    // The only session of the pool is taken: nothing of ours gets through, and the server itself is well.
    web.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0").unwrap();
    tty.wait_for("the state", PATIENCE, |screen| rows(screen)[0].contains("○ blocked"));
    tty.wait_for("the pool to be told as the cause", PATIENCE, |screen| {
        rows(screen).iter().take(4).any(|row| row.contains("the pooler"))
    });
    web.execute("COMMIT").unwrap();
    tty.wait_for_text("● live");
    quit(tty);
}
