//! Some minutes of two PostgreSQL servers and a cache in which everything changes that can be written.

use std::fmt::Write as _;
use std::sync::Arc;

use dbtriage::model::action::{Counts, Operator, Record, Verb, Whom};
use dbtriage::model::postgres::{
    Constraint, Counted, Index, Prepared, Progress, Sample as PgSample, StatementKey, Statements, Table,
    Tables, Upkeep,
};
use dbtriage::model::{Body, Kind, Outage, OutageKind, Reading, Reason, Sample, Severity, Target, TargetId};
use dbtriage::recording::{Encoder, Entry, Note, Opening, VERSION};

use crate::moment::{self, at};

/// A literal, which nobody but its author may see.
pub(crate) const SECRET: &str = "hunter2";

/// Everything begins anew so often.
const OPENING_EVERY: i64 = 30;

pub(crate) fn targets() -> Vec<Target> {
    let target = |id, name: &str, kind| Target { id: TargetId(id), name: name.into(), kind };
    vec![
        target(0, "shop-db:5432/reports", Kind::Postgres),
        target(1, "cache:6379", Kind::Redis),
        target(2, "shop-db-2:5432/reports", Kind::Postgres),
    ]
}

pub(crate) fn opening(second: i64, redacted: bool) -> Opening {
    Opening { version: VERSION, program: "0.1.0".into(), at: at(second), redacted, targets: targets() }
}

pub(crate) fn sample(target: usize, second: i64, body: Body) -> Entry {
    Entry::Sample(Sample { target: TargetId(target), asked_at: at(second), taken_at: at(second), body })
}

fn key(queryid: i64) -> StatementKey {
    StatementKey { userid: 10, dbid: 5, toplevel: true, queryid }
}

/// Forty statements, a few of which move; now and then nearly all do, one appears, one is evicted.
fn statements(read: i64) -> Statements {
    let rows = (0..40 + read % 7).filter(|n| *n != read % 11 + 20).map(|n| {
        let moves = n % 8 == read % 8 || read % 10 == 9;
        let grown = if moves { read } else { read / 10 };
        let ms = f64::from(i32::try_from(grown).unwrap()) * 0.1 + 1.0 / 3.0;
        moment::statement(n, 1000 + grown, ms)
    });
    Statements {
        read_at: at(read * 2),
        extension_version: "1.10".into(),
        rows: rows.collect(),
        hidden_rows: 2,
        dealloc: Some(read),
        stats_reset: None,
    }
}

fn tables(second: i64) -> Tables {
    let table = Table {
        oid: 100,
        name: "reports".into(),
        is_materialized_view: false,
        size_bytes: 1 << 33,
        seq_scans: second,
        seq_rows_read: 10 * second,
        live_rows: 5,
        dead_rows: second,
        changed_since_analyze: 3,
        vacuumed_at: None,
        analyzed_at: Some(at(second)),
        heap_blks_fetched: 9,
        heap_blks_hit: 8,
        index_blks_fetched: 7,
        index_blks_hit: 6,
        index_scans: 5,
    };
    let index = Index {
        oid: 101,
        name: "reports_of_one".into(),
        table: "reports".into(),
        is_valid: true,
        is_unique: false,
        scans: second,
        size_bytes: 8192,
        definition: format!("CREATE INDEX reports_of_one ON reports (id) WHERE owner = '{SECRET}'").into(),
    };
    let constraint = Constraint {
        oid: 102,
        name: "owner_is_known".into(),
        table: "reports".into(),
        definition: format!("CHECK (owner <> '{SECRET}')").into(),
    };
    let progress = Progress {
        pid: 4330,
        command: "VACUUM".into(),
        datid: Some(5),
        relation: Some("reports".into()),
        phase: "scanning heap".into(),
        done: Some(second),
        total: None,
        waits_for_pid: None,
    };
    Tables {
        counted: Reading::Fresh(Counted { read_at: at(second), tables: 1, stats_reset: None }),
        tables: Reading::Stale(vec![table], at(second)),
        indexes: Reading::Fresh(vec![index.clone()]),
        constraints: if second % 2 == 0 {
            Reading::Fresh(vec![constraint])
        } else {
            Reading::Stale(vec![constraint], at(second))
        },
        progress: Reading::Fresh(vec![progress]),
    }
}

/// What stays the same is shared from one sample to the next, as a source does.
#[derive(Default)]
pub(crate) struct Server {
    last: Option<PgSample>,
}

impl Server {
    pub(crate) fn sample(&mut self, second: i64) -> PgSample {
        let mut now = moment::postgres(second, (8..35).contains(&second));
        if let Reading::Fresh(sessions) = &mut now.sessions {
            let kept = 6 + usize::try_from(second % 5).unwrap();
            sessions.truncate(kept);
            for (n, session) in sessions.iter_mut().enumerate() {
                session.query = format!(
                    "SELECT \"id\", 'ü\u{1f4a3}\\n' FROM reports -- {SECRET:?}\n WHERE owner = '{SECRET}' AND n = {}",
                    usize::try_from(second).unwrap() * n
                )
                .into();
            }
        }
        match second {
            3 => now.sessions = Reading::Unavailable(Reason::new("refused").with_hint("GRANT")),
            4 => now.locks = Reading::Unavailable(Reason::new("canceled by statement_timeout")),
            5 => now.locks = Reading::Stale(now.locks.value().unwrap().clone(), at(2)),
            _ => {}
        }
        now.prepared = Reading::Fresh(vec![Prepared {
            transaction: 7,
            gid: format!("order {second}").into(),
            prepared: at(second),
            owner: 10,
            database: 5,
        }]);
        let mut texts = std::collections::BTreeMap::new();
        for n in 0..second / 3 {
            texts.insert(key(n), format!("SELECT {n} FROM reports WHERE owner = '{SECRET}'").into());
        }
        now.statement_texts = Arc::new(texts);
        now.statements = Reading::Fresh(Arc::new(statements(second / 2)));
        now.upkeep = (second > 1)
            .then(|| Arc::new(Upkeep { neglected: Reading::Fresh(Vec::new()), ..moment::upkeep() }));
        if second >= 12 {
            let mut server = (*now.server).clone();
            server.in_recovery = second % 12 < 6;
            now.server = Arc::new(server);
            let mut names = (*now.names).clone();
            names.relations.extend((0..u32::try_from(second / 4).unwrap()).map(|n| (200 + n, "part".into())));
            now.names = Arc::new(names);
        }
        now.tables = (10..40).contains(&second).then(|| Arc::new(tables(second / 5)));
        if let Some(last) = &self.last {
            if second % 2 == 1 {
                let read_at = last.statements.value().map_or_else(|| at(second), |it| it.read_at);
                now.statements = match &last.statements {
                    Reading::Fresh(last) => Reading::Stale(Arc::clone(last), read_at),
                    other @ (Reading::Stale(..) | Reading::Unavailable(_)) => other.clone(),
                };
            }
            if second / 3 == (second - 1) / 3 {
                now.statement_texts = Arc::clone(&last.statement_texts);
            }
            if second / 5 == (second - 1) / 5 && last.tables.is_some() && now.tables.is_some() {
                now.tables.clone_from(&last.tables);
            }
        }
        if (14..16).contains(&second) {
            now.statements = Reading::Unavailable(Reason::new("pg_stat_statements is not installed"));
        }
        self.last = Some(now.clone());
        now
    }
}

fn notes(second: i64) -> Vec<Entry> {
    let record = Record {
        id: 7,
        at: at(second),
        by: Operator { os_user: "alice".into(), from: Some("10.0.3.4".into()), host: "bastion".into() },
        target: "shop-db:5432/reports".into(),
        action: if second % 2 == 0 { Verb::Cancel } else { Verb::Terminate },
        session: Whom { pid: 4242, backend_start: Some(at(-9)), ..Whom::default() },
        sql: "SELECT pg_cancel_backend(4242)".into(),
        before: Counts { connections: Some(28), ..Counts::default() },
        outcome: (second % 3 == 0).then(|| "cancelled after 0.2 s".into()),
        after: None,
    };
    let severity = [None, Some(Severity::Notice), Some(Severity::Warning), Some(Severity::Critical)]
        [usize::try_from(second % 4).unwrap()];
    vec![
        Entry::Note(Note::Action(Box::new(record), TargetId(0), severity, second % 2 == 1)),
        Entry::Note(Note::Baseline(at(second), TargetId(2))),
    ]
}

/// Everything that happens in so many seconds, in order.
pub(crate) fn entries(seconds: i64, redacted: bool) -> Vec<Entry> {
    let mut all = Vec::new();
    let (mut first, mut second_server) = (Server::default(), Server::default());
    for second in 0..seconds {
        if second % OPENING_EVERY == 0 {
            all.push(Entry::Opening(opening(second, redacted)));
        }
        let kinds = [OutageKind::Blocked, OutageKind::Unreachable, OutageKind::Error];
        let body = if (20..23).contains(&second) {
            Body::Outage(Outage {
                kind: kinds[usize::try_from(second - 20).unwrap()],
                reason: Reason::new("connection lost").with_hint("wait"),
                since: at(20),
                retry_at: (second == 22).then(|| at(30)),
            })
        } else {
            Body::Postgres(Arc::new(first.sample(second)))
        };
        all.push(sample(0, second, body));
        let redis = moment::redis(u64::try_from(second).unwrap());
        all.push(sample(1, second, Body::Redis(Arc::new(redis))));
        if second % 3 == 0 {
            all.push(sample(2, second, Body::Postgres(Arc::new(second_server.sample(second)))));
        }
        if second % 6 == 4 {
            all.extend(notes(second));
        }
    }
    all
}

/// The same in frames of so many entries. An opening begins a frame of its own, as it does when it is written.
pub(crate) fn frames(entries: &[Entry], of: usize, redact: bool) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(redact);
    let (mut frames, mut held) = (Vec::new(), 0);
    for entry in entries {
        if held == of || matches!(entry, Entry::Opening(_)) {
            frames.extend(encoder.frame().unwrap());
            held = 0;
        }
        encoder.write(entry).unwrap();
        held += 1;
    }
    frames.extend(encoder.frame().unwrap());
    frames
}

/// An entry in words that two equal ones have in common. Rows of counters have no order of their own.
pub(crate) fn told(entry: &Entry, texts: bool) -> String {
    let sample = match entry {
        Entry::Opening(opening) => return format!("{opening:?}"),
        Entry::Note(note) => return format!("{note:?}"),
        Entry::Sample(sample) => sample,
    };
    let mut sample = sample.clone();
    let mut told = String::new();
    if let Body::Postgres(body) = &mut sample.body {
        let body = Arc::make_mut(body);
        let sorted = |read: &Arc<Statements>| {
            let mut read = (**read).clone();
            read.rows.sort_by_key(|row| row.key);
            Arc::new(read)
        };
        body.statements = body.statements.map(sorted);
        // Without counters nobody asks for their texts.
        if texts && body.statements.value().is_some() {
            write!(told, "{:?}", body.statement_texts).unwrap();
        }
    }
    serde_json::to_string(&sample).unwrap() + &told
}

/// What tells two entries apart.
pub(crate) fn place(entry: &Entry) -> Option<(TargetId, jiff::Timestamp)> {
    match entry {
        Entry::Sample(sample) => Some((sample.target, sample.taken_at)),
        Entry::Opening(_) | Entry::Note(_) => None,
    }
}
