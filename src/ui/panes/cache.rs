//! Pane 5: PostgreSQL's buffer cache and Redis, both over the interval, with what spoils them.

use ratatui::layout::Rect;

use super::paragraph;
use crate::app::{App, Role, Scale, Span};
use crate::engine::rates::float;
use crate::engine::{Metric, Observer, PgTick, RedisTick};
use crate::format;
use crate::model::TargetId;
use crate::model::redis::Sample;
use crate::ui::canvas::{Canvas, below, row};
use crate::ui::widgets::trend;

pub(super) fn draw(canvas: &mut Canvas<'_>, area: Rect, app: &App) {
    let mut area = area;
    if let (Some(target), Some(tick)) = (app.postgres, app.pg()) {
        postgres(canvas, area, (app, target), tick);
        area = below(area, 3);
    }
    match (app.redis_observer(), app.redis_tick()) {
        (None, _) => paragraph(
            canvas,
            area,
            &[Span::new(Role::Dim, "no Redis is watched: --redis redis://host adds one")],
        ),
        (Some(observer), tick) => redis(canvas, area, app, observer, tick),
    }
}

fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "?".into(), show)
}

/// Whose figures, and where their trend is kept.
type Whose<'a> = (&'a App, TargetId);

/// A label, its figure and its trend.
fn figure(
    canvas: &Canvas<'_>,
    (app, target): Whose<'_>,
    label: &str,
    value: &str,
    metric: Metric,
    scale: Scale,
) -> Vec<Span> {
    const SLOTS: usize = 10;
    let mut spans = vec![Span::new(Role::Label, format!("  {label} ")), Span::text(format!("{value} "))];
    spans.extend(trend::spans(app.trend(target, metric, SLOTS), SLOTS, scale, canvas.glyphs().ascii));
    spans
}

fn postgres(canvas: &mut Canvas<'_>, area: Rect, whose: Whose<'_>, tick: &PgTick) {
    let cache = &tick.cache;
    let hit = match (cache.buffer_hit_ratio, cache.blocks_hit_per_second) {
        (Some(ratio), _) => format::share(ratio),
        (None, Some(_)) => "no reads".into(),
        (None, None) => "?".into(),
    };
    let per_second =
        |value: Option<f64>, unit: &str| known(value, |rate| format!("{}{unit}/s", format::count(rate)));
    let mut first = vec![Span::new(Role::Title, "  PostgreSQL")];
    first.extend(figure(canvas, whose, "hit", &hit, Metric::BufferHitRatio, Scale::Percent));
    first.extend(figure(
        canvas,
        whose,
        "reads",
        &per_second(cache.blocks_read_per_second, " blocks"),
        Metric::BlocksRead,
        Scale::ZeroToMax(1.0),
    ));
    canvas.spans(row(area, 0), &first);
    let by_database: Vec<String> = cache
        .by_database
        .iter()
        .take(4)
        .map(|(oid, ratio)| format!("{} {}", tick.sample.names.database(*oid), format::share(*ratio)))
        .collect();
    let temp = known(cache.temp_bytes_per_second, |rate| format!("{}/s", format::bytes(rate)));
    let second = [
        Span::new(Role::Label, "    temp "),
        Span::text(temp),
        Span::new(Role::Label, "  by database "),
        Span::text(if by_database.is_empty() { "-".into() } else { by_database.join(" · ") }),
    ];
    canvas.spans(row(area, 1), &second);
}

fn redis(canvas: &mut Canvas<'_>, area: Rect, app: &App, observer: &Observer, tick: Option<&RedisTick>) {
    let name = Span::new(Role::Title, format!("  Redis {}", observer.target.name));
    if let Some(outage) = observer.outage() {
        let text =
            format!("  {} for {}: {}", outage.kind, format::age_at(outage.since, app.clock()), outage.reason);
        canvas.spans(row(area, 0), &[name, Span::new(Role::Critical, text)]);
        let Some(last) = observer.tick() else { return };
        let age = format::age_at(last.taken_at, app.clock());
        canvas.spans(row(area, 1), &[Span::new(Role::Warning, format!("    what follows is {age} old"))]);
    } else {
        let state = match tick {
            None => Span::new(Role::Dim, "  connecting …"),
            Some(tick) => Span::text(format!(
                "  {} {}",
                tick.sample.version.as_deref().unwrap_or("?"),
                tick.sample.role.as_deref().unwrap_or("?")
            )),
        };
        canvas.spans(row(area, 0), &[name, state]);
    }
    let area = below(area, if observer.outage().is_some() { 2 } else { 1 });
    if let Some(tick) = tick {
        redis_figures(canvas, area, (app, observer.target.id), tick);
    }
}

fn redis_figures(canvas: &mut Canvas<'_>, area: Rect, whose: Whose<'_>, tick: &RedisTick) {
    let (sample, rates) = (&tick.sample, &tick.rates);
    let hit = match (rates.hit_ratio, rates.hits_per_second) {
        (Some(ratio), _) => format::share(ratio),
        (None, Some(_)) => "no look-ups".into(),
        (None, None) => "?".into(),
    };
    let rate = |value: Option<f64>| known(value, |rate| format!("{}/s", format::count(rate)));
    let mut line = figure(canvas, whose, "  hit", &hit, Metric::RedisHitRatio, Scale::Percent);
    line.extend(figure(
        canvas,
        whose,
        "evictions",
        &rate(rates.evictions_per_second),
        Metric::RedisEvictions,
        Scale::ZeroToMax(1.0),
    ));
    canvas.spans(row(area, 0), &line);
    let mut line = figure(
        canvas,
        whose,
        "  commands",
        &rate(rates.commands_per_second),
        Metric::RedisCommands,
        Scale::ZeroToMax(1.0),
    );
    line.push(Span::new(Role::Label, "  ping "));
    line.push(Span::text(format::duration_ms(sample.ping_seconds * 1000.0)));
    line.push(Span::new(Role::Label, "  main thread "));
    line.push(Span::text(known(rates.main_thread_cpu_ratio, |ratio| format::share(ratio.min(1.0)))));
    canvas.spans(row(area, 1), &line);
    let size =
        |value: Option<u64>| value.map_or_else(|| "?".into(), |n| format::bytes(float(n.cast_signed())));
    let limit = match sample.maxmemory_bytes {
        Some(0) => "no limit".to_owned(),
        limit => size(limit),
    };
    let number = |value: Option<u64>| value.map_or_else(|| "?".into(), |n| n.to_string());
    let line = [
        Span::new(Role::Label, "    memory "),
        Span::text(format!(
            "{} of {limit} {}",
            size(sample.used_memory_bytes),
            sample.maxmemory_policy.as_deref().unwrap_or("")
        )),
        Span::new(Role::Label, "  clients "),
        Span::text(format!("{}/{}", number(sample.connected_clients), number(sample.maxclients))),
        Span::new(Role::Label, "  blocked "),
        Span::text(number(sample.blocked_clients)),
    ];
    canvas.spans(row(area, 2), &line);
    ties(canvas, below(area, 3), sample);
}

/// What it is tied to: the cluster that it is a node of, the master that it follows.
fn ties(canvas: &mut Canvas<'_>, area: Rect, sample: &Sample) {
    let cluster = sample.upkeep.as_deref().and_then(|upkeep| upkeep.cluster.as_ref()?.value());
    if let Some(cluster) = cluster {
        let role = if &*cluster.state == "ok" { Role::Text } else { Role::Critical };
        let line = [
            Span::new(Role::Label, "    cluster "),
            Span::new(role, cluster.state.to_string()),
            Span::text(format!(
                "  {} nodes  {} of 16384 slots assigned, {} failing",
                cluster.known_nodes,
                cluster.slots_assigned,
                cluster.slots_fail + cluster.slots_pfail
            )),
        ];
        canvas.spans(row(area, 0), &line);
    }
    if let Some(link) = sample.master_link_status.as_deref() {
        let role = if link == "up" { Role::Text } else { Role::Critical };
        canvas.spans(
            row(area, u16::from(cluster.is_some())),
            &[Span::new(Role::Label, "    link to its master "), Span::new(role, link.to_owned())],
        );
    }
}
