//! Pane 4: standbys, slots, and the server's own recovery.

use ratatui::layout::Rect;

use super::{paragraph, unavailable, wrapped};
use crate::app::{Align, App, Cell, Column, Role, Span, Value, Width};
use crate::engine::PgTick;
use crate::engine::missing::grant;
use crate::engine::rates::float;
use crate::engine::replication::{Recovery, SlotLag, Standby};
use crate::format;
use crate::model::Reading;
use crate::ui::canvas::{Canvas, below, row};
use crate::ui::widgets::table::{self, Row};

/// Lag from which a standby is marked, seconds; critical from six times that (the runbook's limits).
const LAG_WARNING_SECONDS: f64 = 5.0;
const LAG_CRITICAL_SECONDS: f64 = 30.0;

pub(super) fn title(app: &App) -> String {
    let Some(tick) = app.pg() else { return String::new() };
    let wal = tick.replication.wal_bytes_per_second.map(|rate| format!("WAL {}/s", format::bytes(rate)));
    let standbys = tick.replication.standbys.value().map(|list| format::counted(list.len(), "standby"));
    [wal, standbys].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn bytes(value: Option<i64>) -> Value {
    Value::known(value, |bytes| Value::Text(format::bytes(float(bytes))))
}

fn seconds(value: Option<f64>) -> Cell {
    let role = match value {
        Some(lag) if LAG_CRITICAL_SECONDS <= lag => Role::Critical,
        Some(lag) if LAG_WARNING_SECONDS <= lag => Role::Warning,
        Some(_) | None => Role::Text,
    };
    Cell { value: Value::known(value, Value::Age), role }
}

fn words(text: Option<&str>) -> Value {
    Value::known(text, |text| Value::Text(text.to_owned()))
}

type Field<R> = (&'static str, u16, Align, u8, fn(&R) -> Cell);

/// Columns of rows of a kind.
type Columns<R> = Vec<Column<fn(&R) -> Cell>>;

fn columns<R>(fields: &[Field<R>]) -> Columns<R> {
    fields
        .iter()
        .map(|(title, width, align, priority, cell)| Column {
            name: title,
            title,
            width: Width::Fixed(*width),
            align: *align,
            priority: *priority,
            cell: *cell,
        })
        .collect()
}

const STANDBYS: &[Field<Standby>] = &[
    ("standby", 14, Align::Left, 0, |it| Value::Text(it.application.to_string()).into()),
    ("state", 9, Align::Left, 3, |it| words(it.state.as_deref()).into()),
    ("sync", 6, Align::Left, 4, |it| words(it.sync_state.as_deref()).into()),
    ("unsent", 8, Align::Right, 2, |it| bytes(it.sent_lag_bytes).into()),
    ("unflushed", 9, Align::Right, 5, |it| bytes(it.flush_lag_bytes).into()),
    ("unreplayed", 10, Align::Right, 1, |it| bytes(it.replay_lag_bytes).into()),
    ("lag", 7, Align::Right, 0, |it| seconds(it.replay_lag_seconds)),
    ("catches up", 10, Align::Right, 2, |it| {
        Value::some(it.catch_up_seconds, |seconds| Value::Text(format!("in {}", format::age(seconds)))).into()
    }),
];

const SLOTS: &[Field<SlotLag>] = &[
    ("slot", 14, Align::Left, 0, |it| Value::Text(it.slot.name.to_string()).into()),
    ("kind", 9, Align::Left, 3, |it| Value::Text(it.slot.kind.to_string()).into()),
    ("active", 6, Align::Left, 1, |it| {
        if it.slot.active {
            Value::Text("yes".into()).into()
        } else {
            Cell { value: Value::Text("no".into()), role: Role::Warning }
        }
    }),
    ("keeps", 8, Align::Right, 0, |it| bytes(it.retained_bytes).into()),
    ("wal_status", 10, Align::Left, 2, |it| {
        let bad = it.slot.wal_status.as_deref().is_some_and(|status| matches!(status, "unreserved" | "lost"));
        Cell {
            value: words(it.slot.wal_status.as_deref()),
            role: if bad { Role::Critical } else { Role::Text },
        }
    }),
    ("invalid in", 10, Align::Right, 4, |it| {
        Value::some(it.slot.safe_wal_bytes, |left| Value::Text(format::bytes(float(left)))).into()
    }),
];

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, tick: &PgTick) {
    let mut area = area;
    let refused = tick.sample.wal.value().and_then(|wal| wal.refused.as_ref());
    for why in [tick.sample.wal.reason(), refused].into_iter().flatten() {
        area = below(area, wrapped(canvas, area, 2, Role::Warning, &why.to_string()));
    }
    let rights = &tick.sample.rights;
    let has_standbys = tick.replication.standbys.value().is_some_and(|standbys| !standbys.is_empty());
    let has_figures = has_standbys || tick.replication.recovery.is_some();
    if has_figures && !rights.superuser && !rights.read_all_stats {
        let why = format!("the figures are hidden from this role: {}", grant("pg_monitor", &rights.user));
        area = below(area, wrapped(canvas, area, 2, Role::Warning, &why));
    }
    if let Some(own) = &tick.replication.recovery {
        area = below(area, recovery(canvas, area, own, tick));
    }
    area = below(area, list(canvas, area, &tick.replication.standbys, STANDBYS, "no standby is connected"));
    list(canvas, area, &tick.replication.slots, SLOTS, "no replication slot");
}

fn list<R>(
    canvas: &mut Canvas<'_>,
    area: Rect,
    reading: &Reading<Vec<R>>,
    fields: &[Field<R>],
    none: &str,
) -> u16 {
    if let Some(why) = unavailable(reading) {
        return wrapped(canvas, area, 2, Role::Warning, &why.to_string());
    }
    let entries = reading.value().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        paragraph(canvas, area, &[Span::new(Role::Dim, none.to_owned())]);
        return 1;
    }
    let columns = columns(fields);
    let columns = table::fitting(&columns, area.width.saturating_sub(1));
    let rows = entries.iter().map(|entry| Row {
        cells: columns.iter().map(|(column, _)| (column.cell)(entry)).collect(),
        selected: false,
        gone: false,
        marked: false,
    });
    table::draw(canvas, area, &columns, None, rows);
    u16::try_from(entries.len() + 1).unwrap_or(u16::MAX)
}

fn recovery(canvas: &mut Canvas<'_>, area: Rect, own: &Recovery, tick: &PgTick) -> u16 {
    let mut used = 0;
    let upstream = match &own.receiver {
        Reading::Unavailable(why) => {
            used = wrapped(canvas, area, 2, Role::Warning, &why.to_string());
            "its walreceiver cannot be read".into()
        }
        Reading::Fresh(None) | Reading::Stale(None, _) => "not connected to any server".into(),
        Reading::Fresh(Some(receiver)) | Reading::Stale(Some(receiver), _) => {
            let heard = receiver
                .last_msg_receipt_time
                .map(|at| format!(", heard {} ago", format::age_at(at, tick.sample.server_time)));
            let status = receiver.status.as_deref().unwrap_or("state hidden");
            format!(
                "{status} from {}{}",
                receiver.upstream.as_deref().unwrap_or("?"),
                heard.unwrap_or_default()
            )
        }
    };
    used += wrapped(canvas, below(area, used), 2, Role::Text, &format!("this standby: {upstream}"));
    let lag = own
        .replay_lag_seconds
        .map(format::age)
        .or_else(|| own.replay_lag_seconds_at_most.map(|most| format!("at most {}", format::age(most))));
    let behind = own.replay_lag_bytes.map_or_else(|| "?".into(), |bytes| format::bytes(float(bytes)));
    let mut spans = vec![
        Span::text("  received, not replayed: "),
        Span::text(behind),
        Span::text("   lag "),
        Span::new(seconds(own.replay_lag_seconds).role, lag.unwrap_or_else(|| "?".into())),
    ];
    if own.paused == Some(true) {
        spans.push(Span::new(Role::Critical, "   replay is PAUSED"));
    }
    if let Some(waiting) = &own.waiting_on {
        spans.push(Span::new(Role::Critical, format!("   replay waits: {waiting}")));
    }
    canvas.spans(row(area, used), &spans);
    used + 1
}
