//! Sessions are read anew only where they have changed: what is shown of them is what a second client sees.

use std::collections::BTreeMap;

use dbtriage::model::postgres::{Sample, Session};
use dbtriage_lab::{Client, Postgres};
use pretty_assertions::assert_eq;

use super::{Watching, lab};

/// What is compared of each session: name, state, wait, query, when its transaction and its state began.
type Seen = BTreeMap<i32, Vec<Option<String>>>;

const MICROSECONDS: &str = "round(extract(epoch FROM {}) * 1000000)::bigint";

fn by_a_second_client(admin: &Client) -> Seen {
    let micros = |column: &str| MICROSECONDS.replace("{}", column);
    let sql = format!(
        "SELECT pid, application_name, state, wait_event, query, backend_xmin, {}, {} FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND application_name <> 'dbtriage' AND pid <> pg_backend_pid()",
        micros("xact_start"),
        micros("state_change")
    );
    let rows = admin.rows(&sql).unwrap().into_iter();
    rows.map(|row| (row[0].as_ref().unwrap().parse().unwrap(), row[1..].to_vec())).collect()
}

fn in_a_sample(sample: &Sample, admin: &Client) -> Seen {
    let micros = |at: Option<jiff::Timestamp>| at.map(|at| at.as_microsecond().to_string());
    let seen = |session: &Session| {
        let columns = vec![
            Some(session.application_name.to_string()),
            session.state.map(|state| state.as_str().to_owned()),
            session.wait_event.as_deref().map(str::to_owned),
            Some(session.query.to_string()),
            session.backend_xmin.map(|xmin| xmin.to_string()),
            micros(session.xact_start),
            micros(session.state_change),
        ];
        (session.id.pid, columns)
    };
    let is_meant =
        |it: &&Session| it.is_client() && &*it.application_name != "dbtriage" && it.id.pid != admin.pid();
    sample.sessions.value().into_iter().flatten().filter(is_meant).map(seen).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_come_go_and_change_are_what_a_second_client_sees() {
    let lab = lab(&[]);
    let server: &Postgres = lab.primary();
    let admin = server.client("postgres", "shop").unwrap();
    let mut watching = Watching::start(server, "oncall").await;
    let client = |name: String| server.client_as("shop_owner", "shop", &name).unwrap();
    let mut clients: Vec<Client> = (0..60).map(|n| client(format!("web {n}"))).collect();
    for round in 0..6 {
        for (n, client) in clients.iter().enumerate() {
            match (n + round) % 9 {
                0 => client.execute(&format!("SELECT {n}")).unwrap(),
                1 => client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap(),
                2 => client.execute("ROLLBACK").unwrap(),
                3 => client.execute(&format!("SET application_name = 'round {round}'")).unwrap(),
                _ => {}
            }
        }
        // Who has left may be seen for a moment yet, and who has answered may not wait for the next statement yet.
        let what = format!("what a second client sees in round {round}");
        let is_same = |sample: &Sample| {
            let truth = by_a_second_client(&admin);
            (truth.len() == clients.len() && in_a_sample(sample, &admin) == truth).then_some(())
        };
        watching.wait_for(&what, is_same).await;
        // Some leave, one beside the other or here and there; others come, to the slots of those or to new ones.
        let mut place = 0;
        clients.retain(|_| {
            place += 1;
            if round % 2 == 0 { !(5..45).contains(&place) } else { place % 4 != 0 }
        });
        let missing = 60 - clients.len() + round;
        clients.extend((0..missing).map(|n| client(format!("web {round} {n}"))));
    }
}

/// One session that goes on from step to step while its state does not change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_in_the_middle_of_a_statement_is_seen() {
    let lab = lab(&[]);
    let server = lab.primary();
    let [gate, admin] = [(); 2].map(|()| server.client("postgres", "shop").unwrap());
    gate.execute("SELECT pg_advisory_lock(1), pg_advisory_lock(2), pg_advisory_lock(3)").unwrap();
    admin
        .execute(
            "CREATE PROCEDURE step_by_step() LANGUAGE plpgsql AS $$ BEGIN
               PERFORM pg_advisory_lock(1);
               PERFORM set_config('application_name', 'step 2', false);
               PERFORM txid_current();
               PERFORM pg_advisory_lock(2);
               COMMIT;
               PERFORM pg_advisory_lock(3);
               PERFORM pg_sleep(600);
             END $$",
        )
        .unwrap();
    let client = server.client_as("postgres", "shop", "batch").unwrap();
    let mut watching = Watching::start(server, "oncall").await;
    let pid = client.pid();
    let running = client.spawn("CALL step_by_step()");
    let found = |sample: &Sample| {
        let session = sample.sessions.value()?.iter().find(|it| it.id.pid == pid)?;
        session.query.starts_with("CALL ").then(|| session.clone())
    };
    let at = |wait: &'static str, name: &'static str, has_xid: bool| {
        move |sample: &Sample| {
            found(sample).filter(|it| {
                let waits = it.wait_event.as_deref() == Some(wait);
                waits && &*it.application_name == name && it.backend_xid.is_some() == has_xid
            })
        }
    };
    let first = watching.wait_for("the first step", at("advisory", "batch", false)).await;
    gate.execute("SELECT pg_advisory_unlock(1)").unwrap();
    let second = watching.wait_for("the second step", at("advisory", "step 2", true)).await;
    gate.execute("SELECT pg_advisory_unlock(2)").unwrap();
    let third = watching.wait_for("the third step", at("advisory", "step 2", false)).await;
    gate.execute("SELECT pg_advisory_unlock(3)").unwrap();
    let fourth = watching.wait_for("the sleep", at("PgSleep", "step 2", false)).await;
    assert_eq!([&second, &third, &fourth].map(|it| it.state_change), [first.state_change; 3]);
    assert_eq!(first.xact_start, second.xact_start);
    assert!(second.xact_start < third.xact_start, "it has committed");
    admin.execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    running.wait(super::PATIENCE).unwrap_err();
}
