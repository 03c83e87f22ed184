//! Whether it got better: the figures before an action, the worst of them, now, and a verdict.
//!
//! A baseline is the sample before and the minute that led to it. It must not know what was done, only when.

mod culprits;
mod figures;
mod statements;

use std::collections::VecDeque;

use jiff::Timestamp;
use strum::{EnumCount as _, IntoEnumIterator as _};

use self::culprits::{Blocking, Culprits};
pub use self::figures::{Figure, Figures};
pub use self::statements::{Mean, StatementLine};
use super::{Finding, PgTick, RedisTick, Severity};
use crate::format::seconds_between;
use crate::model::postgres::SessionId;

/// What a baseline holds beside the sample before it.
const BEFORE_SECONDS: f64 = 60.0;
/// It must improve for so long before that is said.
const IMPROVING_SECONDS: f64 = 3.0;
/// Everything must be within its limits for so long, and in so many samples.
const CALM_SECONDS: f64 = 60.0;
const CALM_SAMPLES: u32 = 10;
/// After so long without any effect that is said.
const EFFECT_SECONDS: f64 = 10.0;
/// What blocks again within this time has come back.
const RELAPSE_SECONDS: f64 = 300.0;
/// It must block in so many samples in a row: on a busy table somebody waits for a moment in many a sample.
const RELAPSE_SAMPLES: u32 = 2;
/// Traffic is that of before the incident from this share on.
const TRAFFIC_SHARE: f64 = 0.5;
/// Traffic is judged over so many samples.
const TRAFFIC_SAMPLES: usize = 10;
/// A figure has improved when it is better by this share.
const BETTER_SHARE: f64 = 0.05;
/// Samples kept of one recovery.
const POINTS_MAX: usize = 3600;
/// Recoveries kept.
const RECOVERIES_MAX: usize = 50;

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
pub enum Verdict {
    /// It is too early to say.
    #[strum(serialize = "WATCHING")]
    Watching,
    /// What was worst gets better.
    #[strum(serialize = "RECOVERING")]
    Recovering,
    /// Everything has been within its limits for a minute, and the traffic is back.
    #[strum(serialize = "RECOVERED")]
    Recovered,
    /// Everything is within its limits, but so is a server that nobody uses.
    #[strum(serialize = "NO TRAFFIC")]
    NoTraffic,
    /// The same statement or relation blocks again.
    #[strum(serialize = "RELAPSED")]
    Relapsed,
    /// It is as it was.
    #[strum(serialize = "NO EFFECT")]
    NoEffect,
}

impl Verdict {
    /// Its word.
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// How it is meant.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Watching | Self::Recovering | Self::Recovered => Severity::Notice,
            Self::NoTraffic | Self::NoEffect => Severity::Warning,
            Self::Relapsed => Severity::Critical,
        }
    }
}

/// What followed on a baseline.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// When the baseline was set, by the client's clock.
    pub at: Timestamp,
    /// What was done then, in words.
    pub cause: String,
    /// The session that was acted on; absent where the baseline was set by hand.
    pub session: Option<SessionId>,
    /// The figures before.
    pub before: Figures,
    /// The worst since the minute before.
    pub worst: Figures,
    /// Transactions per second while all was well; `None` where that was not seen.
    pub usual_transactions_per_second: Option<f64>,
    /// Means of the statements that were in trouble.
    pub statements: Vec<StatementLine>,
    /// How often it came back.
    pub relapses: u32,
    /// When the session was seen to be gone.
    pub gone_at: Option<Timestamp>,
    /// The verdicts, with the time from which each held.
    pub verdicts: Vec<(Timestamp, Verdict)>,
    /// The figures since the minute before, oldest first.
    pub points: VecDeque<(Timestamp, Figures)>,
    /// The figures that are outside their limits, worst first, with the time from which each set held.
    outside: VecDeque<(Timestamp, Vec<Figure>)>,
    blockers: Vec<String>,
    culprits: Culprits,
    led: Option<Figure>,
    calm: Option<(Timestamp, u32)>,
    cleared_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    quiet_since: Option<Timestamp>,
    blocks_again: u32,
}

/// What is known of one sample, for a recovery.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// The server's tick.
    pub tick: &'a PgTick,
    /// That of the Redis beside it.
    pub redis: Option<&'a RedisTick>,
    /// What was found, on both.
    pub findings: &'a [&'a Finding],
    /// When it was taken, by the client's clock.
    pub at: Timestamp,
}

/// Follows one server: what is usual, the last minute, and what became of each baseline.
#[derive(Debug, Default)]
pub struct Watch {
    recent: VecDeque<(Timestamp, Figures)>,
    calm_transactions: VecDeque<f64>,
    recoveries: Vec<Recovery>,
    /// The worst of each figure while it was watched, and when that was.
    peaks: [Option<(f64, Timestamp)>; Figure::COUNT],
}

impl Watch {
    /// What followed on the last baseline; `None` before the first.
    pub fn last(&self) -> Option<&Recovery> {
        self.recoveries.last()
    }

    /// What followed on each baseline, oldest first.
    pub fn all(&self) -> &[Recovery] {
        &self.recoveries
    }

    /// The worst of a figure while it was watched, and when that was.
    pub fn peak(&self, figure: Figure) -> Option<(f64, Timestamp)> {
        self.peaks.get(figure as usize).copied().flatten()
    }

    /// Sets a baseline.
    pub fn set(&mut self, now: &Now<'_>, cause: String, session: Option<SessionId>) {
        let latest = figures::read(now.tick, now.redis);
        let mut before = [None; Figure::COUNT];
        let mut worst = latest;
        for figure in Figure::iter() {
            let values = || self.recent.iter().map(|(_, figures)| figure.of(figures));
            let value = if figure.is_over_time() { mean(values().flatten()) } else { None };
            if let Some(place) = before.get_mut(figure as usize) {
                *place = value.or_else(|| figure.of(&latest));
            }
            if let Some(place) = worst.get_mut(figure as usize) {
                *place = values().fold(*place, |worst, value| figure.worse(worst, value));
            }
        }
        let outside = outside(now.findings);
        let culprits = Culprits::of(now.tick, session);
        let recovery = Recovery {
            at: now.at,
            cause,
            session,
            before,
            worst,
            usual_transactions_per_second: mean(self.calm_transactions.iter().copied()),
            statements: StatementLine::in_trouble(now),
            relapses: 0,
            gone_at: None,
            verdicts: vec![(now.at, Verdict::Watching)],
            points: self.recent.clone(),
            led: outside.iter().copied().find(|figure| figure.leads(&before)),
            outside: VecDeque::from([(now.at, outside)]),
            blockers: culprits.statements().map(str::to_owned).collect(),
            culprits,
            calm: None,
            cleared_at: None,
            stopped_at: None,
            quiet_since: None,
            blocks_again: 0,
        };
        if self.recoveries.len() >= RECOVERIES_MAX {
            self.recoveries.remove(0);
        }
        self.recoveries.push(recovery);
    }

    /// Takes a sample; says so when the verdict on the last baseline has changed.
    pub fn observe(&mut self, now: &Now<'_>) -> Option<Verdict> {
        let figures = figures::read(now.tick, now.redis);
        self.recent.push_back((now.at, figures));
        while self.recent.front().is_some_and(|(at, _)| BEFORE_SECONDS < seconds_between(*at, now.at)) {
            self.recent.pop_front();
        }
        for figure in Figure::iter() {
            let Some((place, value)) = self.peaks.get_mut(figure as usize).zip(figure.of(&figures)) else {
                continue;
            };
            if place.is_none_or(|(worst, _)| figure.worse(Some(worst), Some(value)) != Some(worst)) {
                *place = Some((value, now.at));
            }
        }
        // What follows on an incident is not what is usual: a server that nobody uses any more is calm, too.
        let is_over = self.last().is_none_or(|last| last.verdict() == Verdict::Recovered);
        let is_calm = is_over && now.findings.iter().all(|finding| finding.severity < Severity::Warning);
        if let Some(rate) = Figure::Transactions.of(&figures).filter(|_| is_calm) {
            self.calm_transactions.push_back(rate);
            if f64::from(u32::try_from(self.calm_transactions.len()).unwrap_or(u32::MAX)) > BEFORE_SECONDS {
                self.calm_transactions.pop_front();
            }
        }
        self.recoveries.last_mut()?.observe(now, figures)
    }

    /// Forgets what the samples from a moment on will tell again: what had not ended by then.
    pub fn forget_from(&mut self, at: Timestamp) {
        let mut ends: Vec<Timestamp> = self.recoveries.iter().skip(1).map(|next| next.at).collect();
        ends.push(Timestamp::MAX);
        let has_ended = |(recovery, next): &(Recovery, Timestamp)| *next < at || recovery.is_settled(at);
        let all = std::mem::take(&mut self.recoveries).into_iter().zip(ends);
        let recoveries = all.filter(has_ended).map(|(recovery, _)| recovery).collect();
        let peaks = self.peaks.map(|peak| peak.filter(|(_, taken_at)| *taken_at < at));
        *self = Self { recoveries, peaks, ..Self::default() };
    }

    /// There are no data for now: nobody knows whether all is within its limits meanwhile.
    pub fn interrupt(&mut self) {
        if let Some(recovery) = self.recoveries.last_mut() {
            recovery.calm = None;
            recovery.blocks_again = 0;
        }
    }
}

/// The figures that are outside their limits by what was found, worst first.
fn outside(findings: &[&Finding]) -> Vec<Figure> {
    let severity = |figure: Figure| {
        let own = findings.iter().filter(|finding| figure.checks().contains(&finding.check));
        own.map(|finding| finding.severity).max().filter(|severity| *severity >= Severity::Warning)
    };
    let mut outside: Vec<(Figure, Severity)> =
        Figure::iter().filter_map(|figure| Some((figure, severity(figure)?))).collect();
    // Stable: of those as bad the first of the list leads.
    outside.sort_by_key(|(_, severity)| std::cmp::Reverse(*severity));
    outside.into_iter().map(|(figure, _)| figure).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

impl Recovery {
    /// What those who blocked ran, without literals.
    pub fn blockers(&self) -> impl Iterator<Item = &str> {
        self.blockers.iter().map(String::as_str)
    }

    /// The verdict now.
    pub fn verdict(&self) -> Verdict {
        self.verdicts.last().map_or(Verdict::Watching, |(_, verdict)| *verdict)
    }

    /// The verdict that held at a moment, and since when.
    pub fn verdict_at(&self, at: Timestamp) -> (Timestamp, Verdict) {
        let known = self.verdicts.iter().rev().find(|(since, _)| *since <= at);
        known.copied().unwrap_or((self.at, Verdict::Watching))
    }

    /// The figures at a moment.
    pub fn figures_at(&self, at: Timestamp) -> Option<&Figures> {
        self.points.iter().rev().find(|(taken_at, _)| *taken_at <= at).map(|(_, figures)| figures)
    }

    /// Whether a figure was outside its limits at a moment.
    pub fn is_outside(&self, figure: Figure, at: Timestamp) -> bool {
        let known = self.outside.iter().rev().find(|(since, _)| *since <= at);
        known.is_some_and(|(_, outside)| outside.contains(&figure))
    }

    /// The worst of a figure from the minute before up to a moment.
    pub fn worst_at(&self, figure: Figure, at: Timestamp) -> Option<f64> {
        if self.points.back().is_none_or(|(newest, _)| *newest <= at) {
            return figure.of(&self.worst);
        }
        let until = self.points.iter().take_while(|(taken_at, _)| *taken_at <= at);
        until.fold(None, |worst, (_, figures)| figure.worse(worst, figure.of(figures)))
    }

    /// How often it had come back by a moment.
    pub fn relapses_at(&self, at: Timestamp) -> usize {
        let by_then = self.verdicts.iter().take_while(|(since, _)| *since <= at);
        by_then.filter(|(_, verdict)| *verdict == Verdict::Relapsed).count()
    }

    /// Values of a figure up to a moment, oldest first.
    pub fn trend(&self, figure: Figure, at: Timestamp, length: usize) -> super::Series {
        let until = self.points.partition_point(|(taken_at, _)| *taken_at <= at);
        let first = until.saturating_sub(length);
        self.points.range(first..until).map(|(_, figures)| figure.of(figures)).collect()
    }

    /// How fast a figure changes over the last ten seconds before a moment, per second.
    pub fn slope(&self, figure: Figure, at: Timestamp) -> Option<f64> {
        let until = self.points.partition_point(|(taken_at, _)| *taken_at <= at);
        let known = |(at, figures): &(Timestamp, Figures)| Some((*at, figure.of(figures)?));
        let (last_at, last) = self.points.range(..until).next_back().and_then(known)?;
        let recent = self.points.range(..until).rev().filter_map(known);
        let (first_at, first) =
            recent.take_while(|(at, _)| seconds_between(*at, last_at) <= EFFECT_SECONDS).last()?;
        let seconds = seconds_between(first_at, last_at);
        (seconds > 0.0).then(|| (last - first) / seconds)
    }

    fn observe(&mut self, now: &Now<'_>, figures: Figures) -> Option<Verdict> {
        self.points.push_back((now.at, figures));
        if self.points.len() > POINTS_MAX {
            self.points.pop_front();
        }
        for figure in Figure::iter() {
            if let Some(place) = self.worst.get_mut(figure as usize) {
                *place = figure.worse(*place, figure.of(&figures));
            }
        }
        let sessions = now.tick.sample.sessions.value();
        let is_gone = |id: SessionId| sessions.is_some_and(|all| all.iter().all(|session| session.id != id));
        if self.gone_at.is_none() && self.session.is_some_and(is_gone) {
            self.gone_at = Some(now.at);
        }
        self.statements.iter_mut().for_each(|line| line.observe(now));
        let outside = outside(now.findings);
        let is_within = outside.is_empty();
        if self.outside.back().is_none_or(|(_, before)| *before != outside) {
            self.outside.push_back((now.at, outside));
        }
        if self.outside.len() > POINTS_MAX {
            self.outside.pop_front();
        }
        let verdict = self.judge(now, is_within);
        let changed = verdict != self.verdict();
        if changed {
            self.verdicts.push((now.at, verdict));
        }
        changed.then_some(verdict)
    }

    fn judge(&mut self, now: &Now<'_>, is_within: bool) -> Verdict {
        let seconds = seconds_between(self.at, now.at);
        if self.is_settled(now.at) {
            return Verdict::Recovered;
        }
        let is_fresh = now.tick.forest.stale_since().is_none() && now.tick.forest.value().is_some();
        // What is not known anew is as it was.
        let is_relapse = if is_fresh { self.is_relapse(now) } else { self.verdict() == Verdict::Relapsed };
        if is_relapse {
            self.calm = None;
            return Verdict::Relapsed;
        }
        let is_there = !self.culprits.is_empty() && self.cleared_at.is_none();
        if is_within && !is_there {
            let (since, samples) = self.calm.unwrap_or((now.at, 0));
            self.calm = Some((since, samples + 1));
            if CALM_SECONDS <= seconds_between(since, now.at) && CALM_SAMPLES <= samples + 1 {
                return if self.has_traffic() { Verdict::Recovered } else { Verdict::NoTraffic };
            }
        } else {
            self.calm = None;
        }
        let improves = self.improves(now.at, is_there);
        if EFFECT_SECONDS <= seconds
            && (is_there || (self.verdict() == Verdict::Watching && !improves && self.has_not_moved()))
        {
            return Verdict::NoEffect;
        }
        match self.verdict() {
            // What was well stays so until it blocks again; what else is found is told as what it is.
            verdict @ (Verdict::Recovered | Verdict::NoTraffic) => verdict,
            _ if improves => Verdict::Recovering,
            verdict @ (Verdict::Watching | Verdict::Recovering) => verdict,
            Verdict::Relapsed | Verdict::NoEffect => {
                if is_within {
                    Verdict::Recovering
                } else {
                    self.verdict()
                }
            }
        }
    }

    /// Whether it has been well for so long that what comes now is another matter: a quiet night, another incident.
    fn is_settled(&self, now: Timestamp) -> bool {
        let last = self.verdicts.last();
        last.is_some_and(|(since, verdict)| {
            *verdict == Verdict::Recovered && RELAPSE_SECONDS < seconds_between(*since, now)
        })
    }

    /// Whether who blocked had stopped and blocks again.
    fn is_relapse(&mut self, now: &Now<'_>) -> bool {
        if self.culprits.is_empty() {
            return false;
        }
        if self.cleared_at.is_none() {
            if !self.culprits.are_there(now.tick).is_over(&mut self.quiet_since, now.at) {
                return self.relapses > 0;
            }
            self.cleared_at = Some(now.at);
            self.quiet_since = None;
        }
        let blocks = self.culprits.block_again(now.tick);
        // Those who were freed may go on holding up each other for a while.
        let Some(stopped_at) = self.stopped_at else {
            self.stopped_at = blocks.is_over(&mut self.quiet_since, now.at).then_some(now.at);
            return false;
        };
        let is_soon = seconds_between(stopped_at, now.at) <= RELAPSE_SECONDS;
        self.blocks_again = if blocks == Blocking::Lasts { self.blocks_again + 1 } else { 0 };
        if is_soon && RELAPSE_SAMPLES <= self.blocks_again {
            self.relapses += 1;
            self.cleared_at = None;
            self.stopped_at = None;
            self.quiet_since = None;
            self.blocks_again = 0;
            // Who blocks now is looked for again, too.
            self.culprits = Culprits::of(now.tick, None);
            return true;
        }
        false
    }

    /// Whether what led was better than before over the last seconds, and did not become worse in them; while those who
    /// blocked are there still, it must go on getting better: one less waits when one of them takes the lock.
    fn improves(&self, now: Timestamp, is_there: bool) -> bool {
        let Some(figure) = self.led else { return false };
        let Some(before) = figure.of(&self.before) else { return false };
        let sign = if figure.less_is_better() { 1.0 } else { -1.0 };
        let limit = before - sign * before.abs() * BETTER_SHARE;
        let mut recent = Vec::new();
        for (at, figures) in self.points.iter().rev() {
            if self.at < *at
                && let Some(value) = figure.of(figures)
            {
                recent.push(value);
            }
            if *at <= self.at || IMPROVING_SECONDS <= seconds_between(*at, now) {
                break;
            }
        }
        let is_long_enough = IMPROVING_SECONDS <= seconds_between(self.at, now);
        let is_better = |value: &f64| sign * (value - limit) < 0.0;
        let change = recent.first().zip(recent.last()).map(|(last, first)| sign * (last - first));
        let fell = change.is_some_and(|change| if is_there { change < 0.0 } else { change <= 0.0 });
        is_long_enough && fell && recent.iter().all(is_better)
    }

    /// Whether what led is no better than before.
    fn has_not_moved(&self) -> bool {
        let Some(figure) = self.led else { return false };
        let now = self.points.back().and_then(|(_, figures)| figure.of(figures));
        now.zip(figure.of(&self.before))
            .is_some_and(|(now, before)| if figure.less_is_better() { before <= now } else { now <= before })
    }

    /// Whether the traffic of the last samples is that of before the incident; where that is not known, there is nothing
    /// to compare with.
    fn has_traffic(&self) -> bool {
        let Some(usual) = self.usual_transactions_per_second else { return true };
        let recent = self.points.iter().rev().take(TRAFFIC_SAMPLES);
        let now = mean(recent.filter_map(|(_, figures)| Figure::Transactions.of(figures)));
        now.is_some_and(|now| usual * TRAFFIC_SHARE <= now)
    }
}
