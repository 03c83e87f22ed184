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
    _waiting: Running,
}

impl Vacuum {
    fn start(lab: &Lab) -> Self {
        let system = superuser(lab.primary());
        // Every page costs more than the limit, so that the worker sleeps after each.
        system
            .execute(
                "DROP TABLE IF EXISTS litter; \
                 CREATE TABLE litter (n int, filler text) WITH (autovacuum_vacuum_threshold = 1, \
                 autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 100, \
                 autovacuum_vacuum_cost_limit = 1)",
            )
            .unwrap();
        system
            .execute("INSERT INTO litter SELECT n, repeat('x', 800) FROM generate_series(1, 20000) n")
            .unwrap();
        system.execute("DELETE FROM litter").unwrap();
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
        Self { system, pid, waiter, _waiting: waiting }
    }

    fn end(self) {
        self.system.execute(&format!("SELECT pg_terminate_backend({})", self.waiter.pid())).unwrap();
        self.system.execute("ALTER TABLE litter SET (autovacuum_enabled = off)").unwrap();
        self.system.execute(&format!("SELECT pg_cancel_backend({})", self.pid)).unwrap();
        self.system.execute("DROP TABLE litter").unwrap();
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
        vacuum.end();
    }
}

/// What the person on call asks at 3 a.m.: it is in the way, how does one get rid of it.
#[test]
fn what_helps_against_an_autovacuum_worker_is_said() {
    for major in here(&VERSIONS) {
        let lab = lab(major);
        let vacuum = Vacuum::start(&lab);
        let mut tty = open(lab.primary(), "oncall", "shop", WIDE);
        tty.keys("2");
        tty.wait_for_text(&format!(">▼ {}", vacuum.pid));
        tty.wait_for_text(" helps: ");
        let shown = tty.contents();
        quit(tty);
        vacuum.end();
        // The schema change itself can be cancelled, which frees whoever queues behind it.
        let helps = shown.lines().find_map(|row| row.split_once(" helps: ")).unwrap().1;
        assert!(helps.contains("autovacuum") || helps.contains("cancel"), "on {major}: {helps}");
    }
}
