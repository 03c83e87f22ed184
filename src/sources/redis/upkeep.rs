//! Reads what is read seldom: who runs MONITOR, the slow log, the state of the cluster.
//!
//! A command that the server refuses is one part that is not known, never a reason to stop. It must not know how seldom.

use std::sync::Arc;

use jiff::Timestamp;
use redis::{FromRedisValue, RedisError, Value};

use super::info;
use super::wire::Connection;
use crate::model::redis::{Cluster, Sample, SlowCommand, Upkeep};
use crate::model::{Reading, Reason};

/// CLIENT LIST takes time for every client: with more of them it is not asked for.
const CLIENTS_MAX: u64 = 1_000;
/// Entries of the slow log that are read.
const SLOW_ENTRIES: u8 = 32;
/// The most of a client's name that is kept, in characters.
const NAME_MAX: usize = 80;

/// Reads all of it; each part fails by itself.
pub(super) async fn read(connection: &mut Connection, sample: &Sample) -> Upkeep {
    let monitors = if sample.connected_clients.is_some_and(|clients| CLIENTS_MAX < clients) {
        Reading::Unavailable(Reason::new(format!(
            "more than {CLIENTS_MAX} clients: CLIENT LIST would take long"
        )))
    } else {
        let list: Result<Value, _> = ask(connection, redis::cmd("CLIENT").arg("LIST")).await;
        reading(list.map(|list| monitors(&text(&list))))
    };
    let slow: Result<Vec<Value>, _> =
        ask(connection, redis::cmd("SLOWLOG").arg("GET").arg(SLOW_ENTRIES)).await;
    let cluster = if sample.cluster_enabled == Some(1) {
        let info: Result<Value, _> = ask(connection, redis::cmd("CLUSTER").arg("INFO")).await;
        Some(cluster(info))
    } else {
        None
    };
    Upkeep { monitors, slow_log: reading(slow.map(|all| all.iter().filter_map(entry).collect())), cluster }
}

async fn ask<T: FromRedisValue>(connection: &mut Connection, command: &redis::Cmd) -> Result<T, RedisError> {
    command.query_async(&mut connection.client).await
}

fn reading<T>(result: Result<T, RedisError>) -> Reading<T> {
    result.map_or_else(|error| Reading::Unavailable(refused(&error)), Reading::Fresh)
}

/// Why a command was not answered, in the server's words.
fn refused(error: &RedisError) -> Reason {
    match (error.code(), error.detail()) {
        (Some("NOPERM"), _) => Reason::new("not permitted")
            .with_hint("ACL SETUSER the user +client|list +slowlog|get +cluster|info"),
        (Some(code), detail) => Reason::new(format!("{code} {}", detail.unwrap_or_default()).trim_end()),
        (None, _) => Reason::new("no answer"),
    }
}

fn text(value: &Value) -> String {
    if let Value::BulkString(bytes) = value {
        String::from_utf8_lossy(bytes).into_owned()
    } else {
        String::new()
    }
}

fn cluster(answer: Result<Value, RedisError>) -> Reading<Cluster> {
    match answer.map(|value| info::parse_cluster(&text(&value))) {
        Ok(Some(cluster)) => Reading::Fresh(cluster),
        Ok(None) => Reading::Unavailable(Reason::new("CLUSTER INFO names no cluster_state")),
        Err(error) => Reading::Unavailable(refused(&error)),
    }
}

/// The clients with the flag `O`, by name where they have one and by address.
fn monitors(list: &str) -> Vec<Arc<str>> {
    let field = |line: &str, wanted: &str| {
        let pair = line.split(' ').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == wanted));
        pair.map_or_else(String::new, |(_, value)| value.chars().take(NAME_MAX).collect())
    };
    let watching = list.lines().filter(|line| field(line, "flags").contains('O'));
    watching
        .map(|line| format!("{} {}", field(line, "name"), field(line, "addr")).trim_start().into())
        .collect()
}

/// An entry of the slow log: id, time, microseconds, arguments.
fn entry(value: &Value) -> Option<SlowCommand> {
    let Value::Array(fields) = value else { return None };
    let [Value::Int(id), Value::Int(seconds), Value::Int(micros), Value::Array(words), ..] =
        fields.as_slice()
    else {
        return None;
    };
    let name: String = text(words.first()?).chars().take(NAME_MAX).collect();
    let at = Timestamp::from_second(*seconds).ok()?;
    let took = std::time::Duration::from_micros(u64::try_from(*micros).ok()?);
    Some(SlowCommand { id: *id, at, seconds: took.as_secs_f64(), name: name.to_uppercase().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn who_runs_monitor_is_found_by_the_flag() {
        let list = "id=3 addr=10.0.0.9:51000 name=alice age=8 flags=O cmd=monitor\n\
                    id=4 addr=10.0.0.8:52000 name= age=8 flags=N cmd=get\n\
                    id=5 addr=10.0.0.7:53000 name= age=8 flags=O cmd=monitor\n";
        let found = monitors(list);
        assert_eq!(
            found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(),
            ["alice 10.0.0.9:51000", "10.0.0.7:53000"]
        );
    }

    #[test]
    fn an_entry_of_the_slow_log_keeps_the_command_and_nothing_of_its_arguments() {
        let word = |word: &str| Value::BulkString(word.as_bytes().to_vec());
        let value = Value::Array(vec![
            Value::Int(14),
            Value::Int(1_793_635_330),
            Value::Int(120_000),
            Value::Array(vec![word("keys"), word("secret:*")]),
            word("10.0.0.9:51000"),
        ]);
        let entry = entry(&value).unwrap();
        assert_eq!((entry.id, &*entry.name, entry.seconds), (14, "KEYS", 0.12));
        assert!(super::entry(&Value::Array(vec![Value::Int(1)])).is_none());
    }
}
