//! Processes of the server that block somebody: an autovacuum worker at the root of a queue. What it is gets
//! told, and no key ends it by accident.

use dbtriage_lab::terminal::{find, rows};
use dbtriage_lab::{Client, Lab, Running};

use super::privileges::VERSIONS;
use super::{PATIENCE, WIDE, here, is_there, lab, open, quit, superuser, wait_until};

/// An autovacuum worker that works for long, and somebody who waits for it.
struct Vacuum {
    system: Client,
    pid: i32,
    waiter: Client,
    remover: Client,
    _waiting: Running,
}

impl Vacuum {
    fn start(lab: &Lab) -> Self {
        Self::with(lab, "autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0", |system| {
            system.execute("DELETE FROM litter").unwrap();
        })
    }

    /// One that must come to its end lest transaction ids run out.
    fn to_prevent_wraparound(lab: &Lab) -> Self {
        // Also where autovacuum is off, and there only then.
        Self::with(lab, "autovacuum_enabled = off, autovacuum_freeze_max_age = 100000", |system| {
            let many = "DO $$ BEGIN FOR i IN 1..100100 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$";
            system.execute(many).unwrap();
        })
    }

    /// A worker on a table with these parameters, to which something is done that calls it.
    fn with(lab: &Lab, parameters: &str, call: impl FnOnce(&Client)) -> Self {
        let system = superuser(lab.primary());
        // Nothing but what is done to it below calls a worker. Every page costs more than the limit, so that
        // it sleeps after each.
        let table = format!(
            "DROP TABLE IF EXISTS litter; CREATE TABLE litter (n int, filler text) WITH ({parameters}, \
             autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 1000000000, \
             autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)"
        );
        system.execute(&table).unwrap();
        let fill = "INSERT INTO litter SELECT n, repeat('x', 800) FROM generate_series(1, 20000) n";
        system.execute(fill).unwrap();
        call(&system);
        let at_work = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' \
                       AND query LIKE '%litter%'";
        wait_until(&system, "an autovacuum worker on the table", at_work);
        let pid = system.cell(at_work).unwrap().parse().unwrap();
        let waiter = lab.primary().client_as("postgres", "shop", "migration").unwrap();
        // Whoever finds a worker in the way when the deadlock check runs cancels it.
        waiter.execute("SET deadlock_timeout = '10min'").unwrap();
        let waiting = waiter.spawn("ALTER TABLE litter ADD COLUMN more int");
        let blocked = format!("SELECT FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))");
        wait_until(&system, "the migration to wait for the worker", &blocked);
        let remover = superuser(lab.primary());
        remover.execute("SET deadlock_timeout = '10min'").unwrap();
        Self { system, pid, waiter, remover, _waiting: waiting }
    }
}

impl Drop for Vacuum {
    /// Who is first in the queue gets the table when the worker is cancelled, before it comes again.
    fn drop(&mut self) {
        let waits = "SELECT FROM pg_locks WHERE NOT granted AND pid =";
        let removing = self.remover.spawn("DROP TABLE litter");
        self.system.execute(&format!("SELECT pg_terminate_backend({})", self.waiter.pid())).ok();
        wait_until(&self.system, "the table to be removed", &format!("{waits} {}", self.remover.pid()));
        self.system.execute(&format!("SELECT pg_cancel_backend({})", self.pid)).ok();
        removing.wait(PATIENCE).ok();
    }
}

#[test]
fn an_autovacuum_worker_in_the_way_is_named_and_not_ended_by_accident() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let vacuum = Vacuum::start(&lab);
        let pid = vacuum.pid;
        for (role, sees_it) in
            [("nobody_special", false), ("signaller", false), ("oncall", true), ("postgres", true)]
        {
            let mut tty = open(lab.primary(), role, "shop", WIDE);
            tty.keys("2");
            tty.keys("z");
            tty.wait_for_text("1 Activity  2 Locks 1  3 Statements");
            tty.wait_for(&format!("{pid} to be the root as {role}"), PATIENCE, |screen| {
                find(screen, &format!(">▼ {pid}")).is_some()
            });
            let root = tty.look(|screen| {
                rows(screen).into_iter().find(|row| row.contains(&format!("▼ {pid}"))).unwrap()
            });
            let named = root.contains("autovacuum: VACUUM");
            assert_eq!(named, sees_it, "as {role} on {major}: {root}");
            for (key, verb) in [("C", "cancel"), ("K", "terminate")] {
                tty.keys(key);
                let what = if sees_it { "autovacuum worker" } else { "process without a role" };
                let why =
                    format!("{verb}: {pid} is a process of the server ({what}), not a client's session");
                tty.wait_for_text(&why);
                assert!(!tty.contents().contains("[ No ]"), "as {role} on {major}:\n{}", tty.contents());
            }
            assert!(is_there(&vacuum.system, pid), "it works on");
            quit(tty);
        }
        drop(vacuum);
    }
}

/// What is the least that helps against the worker, as pane 2 says it.
fn helps(lab: &Lab, vacuum: &Vacuum) -> String {
    let mut tty = open(lab.primary(), "oncall", "shop", WIDE);
    tty.keys("2");
    tty.keys("z");
    tty.wait_for_text("1 Activity  2 Locks 1  3 Statements");
    tty.wait_for_text(&format!(">▼ {}", vacuum.pid));
    tty.wait_for_text(" helps: ");
    let shown = tty.contents();
    quit(tty);
    shown.lines().find_map(|row| row.split_once(" helps: ")).unwrap().1.trim().to_owned()
}

#[test]
fn what_helps_against_an_autovacuum_worker_is_said() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let vacuum = Vacuum::start(&lab);
        let helps = helps(&lab, &vacuum);
        drop(vacuum);
        let expected = "autovacuum yields to a waiting lock by itself within deadlock_timeout";
        assert_eq!(helps, expected, "on {major}");
    }
}

#[test]
fn an_autovacuum_worker_that_prevents_wraparound_is_not_said_to_yield() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let vacuum = Vacuum::to_prevent_wraparound(&lab);
        let helps = helps(&lab, &vacuum);
        drop(vacuum);
        assert!(helps.contains("to prevent wraparound does not yield"), "on {major}: {helps}");
    }
}

#[test]
fn a_walsender_is_not_offered_as_a_session() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let system = superuser(lab.primary());
        let sender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'standby'";
        wait_until(&system, "the standby to stream", sender);
        let pid: i32 = system.cell(sender).unwrap().parse().unwrap();
        for role in ["nobody_special", "oncall", "postgres"] {
            let mut tty = open(lab.primary(), role, "shop", WIDE);
            tty.wait_for_text(" physical ");
            tty.keys(&format!("/{pid}\r"));
            tty.wait_for_text("no session passes the filter");
            for key in ["C", "K"] {
                tty.keys(key);
                tty.wait_for_text("select a session in Activity (1) or Locks (2)");
                assert!(!tty.contents().contains("[ No ]"), "as {role} on {major}:\n{}", tty.contents());
            }
            quit(tty);
        }
        assert_eq!(system.cell(sender).unwrap(), pid.to_string(), "it streams on");
    }
}
