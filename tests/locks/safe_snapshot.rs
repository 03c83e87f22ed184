//! A serializable transaction that waits for a snapshot that nobody can spoil: it waits for sessions, and for no
//! lock, so that only a function of its own says for whom.

use std::collections::BTreeSet;

use dbtriage_lab::Client;
use pretty_assertions::assert_eq;

use crate::server::{PATIENCE, Watch, forest, on_every_major, until};

/// For whom a session waits until its snapshot is safe.
fn spoilers(client: &Client, pid: i32) -> BTreeSet<i32> {
    let sql = format!("SELECT unnest(pg_safe_snapshot_blocking_pids({pid}))");
    let rows = client.rows(&sql).unwrap();
    rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_deferrable_reader_waits_for_the_serializable_writers() {
    on_every_major(|stage| {
        let (client, reader) = (stage.client(), stage.session());
        let writers = [(); 2].map(|()| stage.session());
        for writer in &writers {
            writer.execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM reports").unwrap();
        }
        let reading = reader.spawn("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SELECT 1");
        until("the reader to wait", || !spoilers(&client, reader.pid()).is_empty());
        let expected: BTreeSet<i32> = writers.iter().map(Client::pid).collect();
        assert_eq!(spoilers(&client, reader.pid()), expected);
        let tick = Watch::start(stage.primary()).look(&client);
        let seen: BTreeSet<i32> = forest(&tick).blocked_by(reader.pid()).into_iter().collect();
        assert_eq!(seen, expected, "PostgreSQL {}", stage.major);

        for writer in &writers {
            writer.execute("COMMIT").unwrap();
        }
        reading.wait(PATIENCE).unwrap();
    });
}
