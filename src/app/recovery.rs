//! Pane 9: whether it got better since the last action, or since `b`: before, worst, now, and a verdict.
//!
//! It must not know how a verdict is found.

use jiff::Timestamp;
use strum::IntoEnumIterator as _;

use super::table::{Align, Cell, Column, Role, Sql, Value, Width};
use super::{App, Pane};
use crate::engine::changes::{Seen, SeenKind};
use crate::engine::recovery::{Figure, Mean, Now, Recovery, StatementLine, Watch};
use crate::engine::{Finding, Observer, PgTick, Series, Tick};
use crate::format::{age, age_at, bytes, count, duration_ms, share};
use crate::model::postgres::SessionId;
use crate::model::{Kind, Severity, TargetId};

/// Values in a trend.
const TREND_LENGTH: usize = 12;
/// A slower change is none.
const SLOPE_PER_MINUTE_MIN: f64 = 0.5;

/// One line of the recovery.
#[derive(Debug, Clone)]
pub struct RecoveryRow {
    /// What it is about.
    pub what: Value,
    /// Before the baseline.
    pub before: String,
    /// The worst since the minute before it.
    pub worst: String,
    /// Now, or at the moment that is looked at.
    pub now: String,
    /// Since the minute before.
    pub trend: Series,
    /// How it goes, in words.
    pub verdict: String,
    /// Whether it is outside its limits.
    pub is_outside: bool,
}

/// A column of the pane.
pub(super) type RecoveryColumn = Column<fn(&RecoveryRow) -> Cell>;

const fn column(
    name: &'static str,
    width: Width,
    align: Align,
    priority: u8,
    cell: fn(&RecoveryRow) -> Cell,
) -> RecoveryColumn {
    Column { name, title: name, width, align, priority, cell }
}

/// The columns of the pane.
pub const COLUMNS: &[RecoveryColumn] = &[
    column("figure", Width::Fixed(21), Align::Left, 0, |row| row.what.clone().into()),
    column("before", Width::Fixed(8), Align::Right, 0, |row| Value::Text(row.before.clone()).into()),
    column("worst", Width::Fixed(8), Align::Right, 1, |row| Value::Text(row.worst.clone()).into()),
    column("now", Width::Fixed(9), Align::Right, 0, |row| Cell {
        value: Value::Text(row.now.clone()),
        role: if row.is_outside { Role::Warning } else { Role::Text },
    }),
    column("trend", Width::Fixed(12), Align::Right, 2, |row| Value::Trend(row.trend.clone()).into()),
    column("verdict", Width::Rest, Align::Left, 0, |row| Value::Text(row.verdict.clone()).into()),
];

impl App {
    /// What followed on the last baseline of the shown server, if that was set by the moment that is looked at.
    pub fn recovery(&self) -> Option<&Recovery> {
        let watch = self.recoveries.get(&self.postgres?)?;
        watch.all().iter().rev().find(|recovery| recovery.at <= self.clock())
    }

    /// What is known of the recovery of each server.
    pub fn recovery_watch(&self, target: TargetId) -> Option<&Watch> {
        self.recoveries.get(&target)
    }

    /// Sets a baseline for a server, by a key or by an action.
    pub(super) fn set_baseline(
        &mut self,
        target: TargetId,
        at: Timestamp,
        cause: String,
        session: Option<SessionId>,
    ) {
        let mut recoveries = std::mem::take(&mut self.recoveries);
        let what = format!("baseline: {cause}");
        let is_set = self.with_now(target, at, |now| {
            recoveries.entry(target).or_default().set(now, cause, session);
        });
        self.recoveries = recoveries;
        // An action is an event of its own.
        if is_set.is_some() && session.is_none() {
            let seen = Seen { at, kind: SeenKind::Recovery, severity: Severity::Notice, what };
            self.note_seen(target, seen);
        }
    }

    /// Follows the recovery of a server with its newest sample.
    pub(super) fn follow_recovery(&mut self, target: TargetId, at: Timestamp) {
        let mut recoveries = std::mem::take(&mut self.recoveries);
        let changed = self
            .with_now(target, at, |now| {
                let watch = recoveries.entry(target).or_default();
                let verdict = watch.observe(now)?;
                let recovery = watch.last()?;
                let after = age_at(recovery.at, at);
                Some((verdict, format!("{} {after} after: {}", verdict.word(), recovery.cause)))
            })
            .flatten();
        self.recoveries = recoveries;
        if let Some((verdict, what)) = changed {
            self.note_seen(target, Seen { at, kind: SeenKind::Recovery, severity: verdict.severity(), what });
        }
    }

    /// A server gives no data.
    pub(super) fn interrupt_recovery(&mut self, target: TargetId) {
        if let Some(watch) = self.recoveries.get_mut(&target) {
            watch.interrupt();
        }
    }

    fn note_seen(&mut self, target: TargetId, seen: Seen) {
        let name = self.observers.get(target.0).map(|observer| observer.target.name.clone());
        self.events.note_seen(&name.unwrap_or_default(), seen);
    }

    /// What is known now of a server, and of the first Redis beside it; nothing while it gives no data.
    fn with_now<T>(&self, target: TargetId, at: Timestamp, look: impl FnOnce(&Now<'_>) -> T) -> Option<T> {
        let observer = self.observers.get(target.0).filter(|observer| observer.outage().is_none())?;
        let tick = observer.tick().and_then(Tick::postgres)?;
        let redis = self.observers.iter().find(|it| it.target.kind == Kind::Redis && it.outage().is_none());
        let findings: Vec<&Finding> =
            observer.findings().iter().chain(redis.into_iter().flat_map(Observer::findings)).collect();
        let redis = redis.and_then(Observer::tick).and_then(Tick::redis);
        Some(look(&Now { tick, redis, findings: &findings, at }))
    }

    /// Sets a baseline by hand and shows what follows.
    pub(super) fn baseline(&mut self) -> Option<Timestamp> {
        let target = self.postgres?;
        self.set_baseline(target, self.now, super::acting::BY_HAND.to_owned(), None);
        self.focus = Pane::Recovery;
        self.refresh();
        Some(self.now)
    }

    /// The lines of the pane.
    pub fn recovery_rows(&self) -> Vec<RecoveryRow> {
        let (Some(recovery), Some(tick)) = (self.recovery(), self.pg()) else { return Vec::new() };
        let at = self.clock();
        let is_shown =
            |figure: &Figure| figure.of(&recovery.before).is_some() || figure.of(&recovery.worst).is_some();
        let figures = Figure::iter().filter(is_shown).map(|figure| figure_row(figure, recovery, tick, at));
        let statement = |line| if self.past.is_some() { statement_then(line) } else { statement_row(line) };
        figures.chain(recovery.statements.iter().map(statement)).collect()
    }
}

fn figure_row(figure: Figure, recovery: &Recovery, tick: &PgTick, at: Timestamp) -> RecoveryRow {
    let now = recovery.figures_at(at).and_then(|figures| figure.of(figures));
    let is_outside = recovery.is_outside(figure, at);
    RecoveryRow {
        what: Value::Text(figure.name().to_owned()),
        before: shown(figure, figure.of(&recovery.before)),
        worst: shown(figure, recovery.worst_at(figure, at)),
        now: shown(figure, now),
        trend: recovery.trend(figure, at, TREND_LENGTH),
        verdict: verdict(figure, recovery, tick, at, is_outside),
        is_outside,
    }
}

/// A value of a figure with its unit.
pub fn shown(figure: Figure, value: Option<f64>) -> String {
    let Some(value) = value else {
        let may_be_none = matches!(figure, Figure::LockShare | Figure::OldestTransaction | Figure::XminAge);
        return if may_be_none { "-" } else { "?" }.into();
    };
    match figure {
        Figure::Roots | Figure::Blocked | Figure::Connections | Figure::Active => format!("{value:.0}"),
        Figure::LongestWait | Figure::OldestTransaction if value <= 0.0 => "-".into(),
        Figure::LongestWait | Figure::OldestTransaction => age(value),
        Figure::LockShare | Figure::Rollbacks | Figure::BufferHit | Figure::RedisHit => share(value),
        Figure::Transactions | Figure::XminAge => count(value),
        Figure::ReplicationLag | Figure::TempBytes => bytes(value),
    }
}

fn verdict(figure: Figure, recovery: &Recovery, tick: &PgTick, at: Timestamp, is_outside: bool) -> String {
    let mut parts = Vec::new();
    parts.push(if is_outside { "outside its limits".to_owned() } else { "ok".to_owned() });
    match figure {
        Figure::Connections => parts.extend(slope(recovery, at)),
        Figure::Transactions => {
            parts.clear();
            let usual = recovery.usual_transactions_per_second.map(|usual| format!("usual {}", count(usual)));
            parts.push(usual.unwrap_or_else(|| "usual not seen".into()));
        }
        Figure::ReplicationLag => parts.extend(catch_up(tick)),
        Figure::OldestTransaction => parts.extend(oldest_transaction(tick)),
        Figure::XminAge => {
            let upkeep = tick.sample.upkeep.as_ref();
            let holder = upkeep.and_then(|upkeep| upkeep.xmin_holder.value()?.as_ref());
            parts.extend(holder.map(|holder| format!("held by {}", holder.name)));
        }
        Figure::Roots
        | Figure::Blocked
        | Figure::LongestWait
        | Figure::Active
        | Figure::LockShare
        | Figure::Rollbacks
        | Figure::BufferHit
        | Figure::RedisHit
        | Figure::TempBytes => {}
    }
    parts.join(", ")
}

fn slope(recovery: &Recovery, at: Timestamp) -> Option<String> {
    let per_minute = recovery.slope(Figure::Connections, at)? * 60.0;
    let word = if per_minute < 0.0 { "falling" } else { "rising" };
    (SLOPE_PER_MINUTE_MIN <= per_minute.abs()).then(|| format!("{word} {:.0}/min", per_minute.abs()))
}

fn catch_up(tick: &PgTick) -> Option<String> {
    let standbys = tick.replication.standbys.value()?;
    let worst = standbys.iter().max_by_key(|standby| standby.replay_lag_bytes)?;
    let behind = worst.replay_lag_bytes.filter(|behind| *behind > 0)?;
    let name = &worst.application;
    Some(match worst.catch_up_seconds {
        Some(seconds) => {
            let rate = bytes(crate::engine::rates::float(behind) / seconds.max(f64::MIN_POSITIVE));
            format!("{name} clear in {} at {rate}/s", age(seconds))
        }
        None => format!("{name} gets no nearer"),
    })
}

fn oldest_transaction(tick: &PgTick) -> Option<String> {
    let sessions = tick.sample.sessions.value()?;
    let own = &tick.sample.server.own_pids;
    let others = sessions.iter().filter(|it| it.is_client() && !own.contains(&it.id.pid));
    let oldest = others.filter(|it| it.xact_start.is_some()).min_by_key(|it| it.xact_start)?;
    Some(format!("{} {}", oldest.id.pid, oldest.application_name))
}

/// At an earlier moment: means are kept as they are now only.
fn statement_then(line: &StatementLine) -> RecoveryRow {
    RecoveryRow {
        worst: "?".into(),
        now: "?".into(),
        verdict: "not kept for earlier moments".into(),
        ..statement_row(line)
    }
}

fn statement_row(line: &StatementLine) -> RecoveryRow {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".into(), duration_ms);
    let text = line.query.clone().unwrap_or_else(|| format!("query id {}", line.key.queryid).into());
    let usual = line.usual_ms.map(|usual| format!("usual {}", duration_ms(usual)));
    RecoveryRow {
        what: Value::Sql(Sql { before: "mean ".into(), text }),
        before: ms(line.before_ms),
        worst: ms(line.worst_ms),
        now: match line.now {
            Mean::Draining => "draining".into(),
            Mean::Of(mean) => ms(mean),
        },
        trend: Series::new(),
        verdict: match line.now {
            Mean::Draining => "executions from before have not all ended".into(),
            Mean::Of(None) => "not called".into(),
            Mean::Of(Some(_)) => usual.unwrap_or_default(),
        },
        is_outside: false,
    }
}
