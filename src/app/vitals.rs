//! The vitals line: the same figures in the same place, each with its trend and its severity.

use super::App;
use crate::engine::{Finding, Metric, PgTick, Severity, history};
use crate::format::{age, bytes, count, share};

/// How a trend is scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// From zero to the largest value shown, at least to this.
    ZeroToMax(f64),
    /// From zero to one.
    Percent,
}

/// One figure.
#[derive(Debug, Clone)]
pub struct Vital {
    /// Its name.
    pub label: &'static str,
    /// Its name where there is little room.
    pub short: &'static str,
    /// The figure with its unit; `?` when not known, `–` when not available.
    pub value: String,
    /// The figure where there is little room.
    pub short_value: String,
    /// What its trend is drawn from; `None`: no trend.
    pub trend: Option<(Metric, Scale)>,
    /// How bad it is; `None` when all is well.
    pub severity: Option<Severity>,
}

/// The figures of the shown PostgreSQL server.
pub fn vitals(app: &App) -> Vec<Vital> {
    let Some(tick) = app.pg() else { return Vec::new() };
    let findings = app.pg_observer().map(crate::engine::Observer::findings).unwrap_or_default();
    let severity =
        |check: &str| findings.iter().filter(|it| it.check == check).map(|it: &Finding| it.severity).max();
    let vitals = &tick.vitals;
    let number = |value: Option<usize>| value.map_or_else(|| "?".into(), |n| n.to_string());
    let plain = |label, short, value: String, trend: Option<(Metric, Scale)>| Vital {
        label,
        short,
        short_value: value.split(' ').next().unwrap_or_default().to_owned(),
        value,
        trend,
        severity: None,
    };
    let idle = match (vitals.idle_in_transaction, vitals.longest_idle_in_transaction_seconds) {
        (Some(n), Some(seconds)) if n > 0 => format!("{n}·{}", age(seconds)),
        (n, _) => number(n),
    };
    let connections = format!("{}/{}", number(vitals.connections), tick.sample.server.usable_connections);
    let up_to = |metric| Some((metric, Scale::ZeroToMax(1.0)));
    let all = vec![
        Vital {
            severity: severity("connections"),
            ..plain("conns", "conn", connections, Some((Metric::Connections, slots(tick))))
        },
        plain("active", "act", number(vitals.active), up_to(Metric::Active)),
        Vital {
            severity: severity("blocking"),
            ..plain("blocked", "blk", number(vitals.blocked), up_to(Metric::Blocked))
        },
        Vital { severity: severity("idle-in-transaction"), ..plain("idle-tx", "idle-tx", idle, None) },
        plain(
            "tps",
            "tps",
            vitals.transactions_per_second.map_or_else(|| "?".into(), count),
            up_to(Metric::Transactions),
        ),
        plain("hit", "hit", hit(tick), Some((Metric::BufferHitRatio, Scale::Percent))),
        plain("lag", "lag", lag(tick), up_to(Metric::ReplayLagBytes)),
    ];
    all
}

/// The figure of the shown Redis server.
pub fn redis(app: &App) -> Option<Vital> {
    let observer = app.redis_observer()?;
    let (value, severity) = match (observer.outage(), app.redis_tick()) {
        (Some(outage), _) => (outage.kind.to_string(), Some(Severity::Critical)),
        (None, Some(tick)) => (tick.rates.hit_ratio.map_or_else(|| "?".into(), share), None),
        (None, None) => ("?".into(), None),
    };
    Some(Vital {
        label: "redis",
        short: "rd",
        short_value: value.clone(),
        value,
        trend: Some((Metric::RedisHitRatio, Scale::Percent)),
        severity,
    })
}

fn slots(tick: &PgTick) -> Scale {
    Scale::ZeroToMax(f64::from(tick.sample.server.usable_connections))
}

fn hit(tick: &PgTick) -> String {
    match (tick.vitals.buffer_hit_ratio, tick.vitals.transactions_per_second) {
        (Some(ratio), _) => share(ratio),
        // Known, but nothing was asked for.
        (None, Some(_)) => "–".into(),
        (None, None) => "?".into(),
    }
}

fn lag(tick: &PgTick) -> String {
    match (history::worst_lag_seconds(tick), history::worst_lag_bytes(tick)) {
        (Some(seconds), Some(lag)) if lag > 0.0 => format!("{} {}", age(seconds), bytes(lag)),
        (Some(seconds), _) => age(seconds),
        (None, Some(lag)) => bytes(lag),
        (None, None)
            if tick.replication.recovery.is_none()
                && tick.replication.standbys.value().is_some_and(Vec::is_empty) =>
        {
            "–".into()
        }
        (None, None) => "?".into(),
    }
}
