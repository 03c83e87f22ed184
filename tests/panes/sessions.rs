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
    let mut clients: Vec<Client> = (0..45).map(|n| client(format!("web {n}"))).collect();
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
        let truth = by_a_second_client(&admin);
        assert_eq!(truth.len(), clients.len());
        let what = format!("what a second client sees in round {round}");
        watching.wait_for(&what, |sample| (in_a_sample(sample, &admin) == truth).then_some(())).await;
        // Some leave, one beside the other or here and there; others come, to the slots of those or to new ones.
        let mut place = 0;
        clients.retain(|_| {
            place += 1;
            if round % 2 == 0 { !(5..25).contains(&place) } else { place % 4 != 0 }
        });
        let missing = 45 - clients.len() + round;
        clients.extend((0..missing).map(|n| client(format!("web {round} {n}"))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_changes_in_the_middle_of_a_statement_is_seen() {
    let lab = lab(&[]);
    let server = lab.primary();
    let client = server.client_as("shop_owner", "shop", "batch").unwrap();
    let mut watching = Watching::start(server, "oncall").await;
    let pid = client.pid();
    let running = client.spawn(
        "DO $$ BEGIN PERFORM pg_sleep(2); PERFORM set_config('application_name', 'step 2', false); \
         PERFORM pg_sleep(60); END $$",
    );
    let named = |name: &'static str| {
        move |sample: &Sample| {
            let session = sample.sessions.value()?.iter().find(|it| it.id.pid == pid)?;
            let is_meant = session.query.starts_with("DO ") && &*session.application_name == name;
            is_meant.then_some(session.state_change)
        }
    };
    let began = watching.wait_for("the first name", named("batch")).await;
    let then = watching.wait_for("the second name", named("step 2")).await;
    assert_eq!(began, then, "its state has not changed");
    server
        .client("postgres", "shop")
        .unwrap()
        .execute(&format!("SELECT pg_terminate_backend({pid})"))
        .unwrap();
    running.wait(super::PATIENCE).unwrap_err();
}
