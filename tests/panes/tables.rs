//! Tables, indexes, constraints and progress, against what a second client knows.

use std::sync::Arc;

use dbtriage::model::Reading;
use dbtriage::model::postgres::{Sample, SampledPart, Tables};
use pretty_assertions::assert_eq;

use crate::{Watching, lab};

fn tables(sample: &Sample) -> Option<Arc<Tables>> {
    sample.tables.clone()
}

/// A table with an index that is not used, one that is invalid, a constraint that is not validated, a view.
const OBJECTS: &str = r#"
    CREATE SCHEMA stock;
    CREATE TABLE stock."Odd ""Name" (id int, twice int, other int);
    INSERT INTO stock."Odd ""Name" SELECT n, 1, n FROM generate_series(1, 5000) n;
    CREATE INDEX odd_other ON stock."Odd ""Name" (other);
    ALTER TABLE stock."Odd ""Name" ADD CONSTRAINT "positive!" CHECK (id > 0) NOT VALID;
    CREATE MATERIALIZED VIEW daily AS SELECT count(*) FROM stock."Odd ""Name";
    VACUUM ANALYZE stock."Odd ""Name";
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_indexes_and_constraints_are_what_they_are() {
    let lab = lab(&[]);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    for statement in OBJECTS.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        admin.execute(statement).unwrap();
    }
    let failed = admin.execute(r#"CREATE UNIQUE INDEX CONCURRENTLY odd_twice ON stock."Odd ""Name" (twice)"#);
    assert!(failed.is_err(), "there are duplicates");
    let mut watching = Watching::start(lab.primary(), "oncall").await;
    watching.wait_for("samples without tables", |sample| sample.tables.is_none().then_some(())).await;
    watching.look_at_tables(true);
    let read = watching.wait_for("tables", tables).await;

    let counted = read.counted.value().unwrap();
    let all = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'm') AND nspname IN ('public', 'stock')";
    assert_eq!(counted.tables.to_string(), admin.cell(all).unwrap());
    let rows = read.tables.value().unwrap();
    assert_eq!(rows.len(), usize::try_from(counted.tables).unwrap(), "few enough to be read all");
    let odd = rows.iter().find(|table| &*table.name == r#"stock."Odd ""Name""#).unwrap();
    let size = "SELECT relpages * 8192 FROM pg_class WHERE relname = 'Odd \"Name'";
    assert_eq!(odd.size_bytes.to_string(), admin.cell(size).unwrap());
    assert_eq!((odd.live_rows, odd.dead_rows, odd.is_materialized_view), (5000, 0, false));
    assert!(odd.vacuumed_at.is_some() && odd.analyzed_at.is_some());
    assert!(rows.iter().any(|table| &*table.name == "daily" && table.is_materialized_view));
    assert!(!rows.iter().any(|table| table.name.starts_with("pg_")), "no table of the system");

    let indexes = read.indexes.value().unwrap();
    let index = |name: &str| indexes.iter().find(|index| &*index.name == name);
    let (invalid, unused) = (index("stock.odd_twice").unwrap(), index("stock.odd_other").unwrap());
    assert!(!invalid.is_valid && unused.is_valid);
    assert_eq!((&*unused.table, unused.scans), (r#"stock."Odd ""Name""#, 0));
    assert!(unused.definition.starts_with("CREATE INDEX odd_other ON stock."), "{}", unused.definition);
    assert!(index("reports_pkey").is_none(), "what is unique is used by every write");
    let constraints = read.constraints.value().unwrap();
    assert_eq!(constraints.len(), 1);
    assert_eq!((&*constraints[0].name, &*constraints[0].table), ("\"positive!\"", r#"stock."Odd ""Name""#));

    // Scans are counted on.
    admin.execute(r#"SELECT sum(other) FROM stock."Odd ""Name""#).unwrap();
    let before = odd.seq_scans;
    watching
        .wait_for("the scan to be counted", |sample| {
            let tables = tables(sample)?;
            let odd = tables.tables.value()?.iter().find(|table| table.oid == odd.oid)?.clone();
            (before < odd.seq_scans).then_some(())
        })
        .await;
    watching.look_at_tables(false);
    watching.wait_for("tables to be read no more", |sample| sample.tables.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_works_on_a_table_is_told_with_whom_it_waits_for() {
    let lab = lab(&[]);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    let (holder, builder, cleaner) = (
        lab.primary().client("postgres", "shop").unwrap(),
        lab.primary().client("postgres", "shop").unwrap(),
        lab.primary().client("postgres", "shop").unwrap(),
    );
    holder.execute("BEGIN; UPDATE reports SET status = status WHERE id = 1").unwrap();
    let building = builder.spawn("CREATE INDEX CONCURRENTLY reports_status ON reports (status)");
    admin.execute("UPDATE orders SET status = status").unwrap();
    cleaner.execute("SET vacuum_cost_delay = '50ms'; SET vacuum_cost_limit = 1").unwrap();
    let cleaning = cleaner.spawn("VACUUM orders");
    let mut watching = Watching::start(lab.primary(), "oncall").await;
    watching.look_at_tables(true);
    let (build, vacuum) = watching
        .wait_for("both commands", |sample| {
            let tables = tables(sample)?;
            let all = tables.progress.value()?;
            let of = |pid| all.iter().find(|step| step.pid == pid).cloned();
            let build = of(builder.pid()).filter(|build| build.waits_for_pid.is_some())?;
            Some((build, of(cleaner.pid()).filter(|vacuum| vacuum.done.is_some())?))
        })
        .await;
    assert_eq!(&*build.command, "CREATE INDEX CONCURRENTLY");
    assert_eq!((build.relation.as_deref(), build.waits_for_pid), (Some("reports"), Some(holder.pid())));
    assert!(build.phase.starts_with("waiting for"), "{}", build.phase);
    assert_eq!((&*vacuum.command, vacuum.relation.as_deref()), ("VACUUM", Some("orders")));
    assert!(vacuum.total.is_some_and(|total| total > 0) && vacuum.done <= vacuum.total, "{vacuum:?}");
    admin.execute(&format!("SELECT pg_cancel_backend({})", cleaner.pid())).unwrap();
    assert!(cleaning.wait(crate::PATIENCE).is_err());
    holder.execute("ROLLBACK").unwrap();
    building.wait(crate::PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_catalog_darkens_what_needs_it_and_samples_go_on() {
    let lab = lab(&[]);
    let admin = lab.primary().client("postgres", "shop").unwrap();
    let mut watching = Watching::start(lab.primary(), "oncall").await;
    watching.look_at_tables(true);
    watching.wait_for("tables", tables).await;
    admin.execute("BEGIN; LOCK TABLE pg_constraint IN ACCESS EXCLUSIVE MODE").unwrap();
    let read = watching
        .wait_for("the lock to be told", |sample| {
            tables(sample).filter(|tables| matches!(tables.constraints, Reading::Unavailable(_)))
        })
        .await;
    let why = read.constraints.reason().unwrap();
    assert_eq!(&*why.text, "a system catalog is locked");
    assert!(read.tables.value().is_some_and(|rows| !rows.is_empty()), "the rest is read");
    admin.execute("ROLLBACK").unwrap();
    let back = |sample: &Sample| {
        // Waiting has cost the server nothing, so that nothing is spared.
        assert!(sample.slowed.iter().all(|it| it.part != SampledPart::Tables), "{:?}", sample.slowed);
        tables(sample)?.constraints.value().map(drop)
    };
    watching.wait_for("the constraints", back).await;
}
