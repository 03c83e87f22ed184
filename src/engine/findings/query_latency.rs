//! Executions of all statements together that take long.

use super::{
    Check, Evidence, Found, NO_SAMPLE, Situation, Subject, Told, Verdict, rows_of_statements, severity_told,
};
use crate::format;
use crate::model::Kind;

pub(super) const CHECK: Check =
    Check::of(Kind::Postgres, "query-latency", "all executions together take long on average", rule).twice();

/// Fewer executions say nothing of a server.
const CALLS_MIN_PER_SECOND: f64 = 1.0;

fn rule(situation: &Situation<'_>, told: &Told) -> Verdict {
    let Some(tick) = situation.postgres() else { return NO_SAMPLE };
    let rows = match rows_of_statements(tick, situation) {
        Ok(rows) => rows,
        Err(verdict) => return verdict,
    };
    let sum = |figure: fn(&crate::engine::statements::StatementRow) -> Option<f64>| {
        rows.iter().filter_map(figure).sum::<f64>()
    };
    let (calls, busy) = (sum(|row| row.calls_per_second), sum(|row| row.exec_ms_per_second));
    if calls < CALLS_MIN_PER_SECOND {
        return Verdict::Quiet;
    }
    let mean = busy / calls;
    let limits = &situation.thresholds.query_latency_ms;
    let Some((severity, threshold)) = limits.judge(mean, severity_told(told, Subject::Server)) else {
        return Verdict::Quiet;
    };
    Verdict::Found(vec![Found {
        severity,
        summary: format!(
            "executions take {} on average, {} calls/s",
            format::duration_ms(mean),
            format::count(calls)
        ),
        subject: Subject::Server,
        help: "pane 3 tells which statements take the time".into(),
        evidence: Evidence { value: mean, threshold, unit: "ms" },
    }])
}
