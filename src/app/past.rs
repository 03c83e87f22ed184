//! Looking at an earlier moment while reading goes on: pause, step, and the way back.
//!
//! It must not know where earlier samples are kept.

use jiff::Timestamp;

use super::{App, Effect, Pane, ReplayOrder};
use crate::engine::waits::BIN_SECONDS;
use crate::engine::{Metric, Observer, Series, Severity};
use crate::format::clock;
use crate::model::TargetId;

/// The moment that is looked at.
#[derive(Debug)]
pub struct Past {
    /// When its sample was taken, by the client's clock.
    pub at: Timestamp,
    /// Samples that have come since.
    pub samples_since: usize,
    observers: Vec<Observer>,
}

impl Past {
    /// A target as it was; `None` where there is none at that place.
    pub(super) fn observer(&self, place: usize) -> Option<&Observer> {
        self.observers.get(place)
    }
}

impl App {
    /// The targets as they are shown: now, or at the moment that is looked at.
    pub fn shown(&self) -> &[Observer] {
        self.past.as_ref().map_or(&self.observers, |past| &past.observers)
    }

    /// The time that ages are told against: now, or the moment that is looked at.
    pub fn clock(&self) -> Timestamp {
        self.past.as_ref().map_or_else(|| self.present(), |past| past.at)
    }

    /// The newest time: that of the clock, or how far a recording has been played.
    pub fn present(&self) -> Timestamp {
        self.replay.map_or(self.now, |replay| replay.played)
    }

    /// The last values of a figure of a target, and the place of the moment among them while an earlier one is looked
    /// at: then some of what came after it stands to its right.
    pub fn trend(&self, target: TargetId, metric: Metric, length: usize) -> (Series, Option<usize>) {
        let Some(observer) = self.observers.get(target.0) else { return (Series::new(), None) };
        match &self.past {
            None => (observer.history().series(metric, length), None),
            Some(past) => observer.history().around(metric, length, past.at),
        }
    }

    /// The observer whose samples are stepped through.
    pub(super) fn stepped(&self) -> Option<&Observer> {
        let target = self.postgres.or(self.redis)?;
        self.observers.get(target.0)
    }

    /// Stops at the newest sample, or goes back to the present; a recording stands, or is played on.
    pub(super) fn pause(&mut self) -> Vec<Effect> {
        if let Some(replay) = self.replay {
            return if replay.is_playing { replayed(self.stand()) } else { self.go_live() };
        }
        let newest = self.stepped().and_then(|observer| observer.times().next_back());
        match newest {
            Some(newest) if self.past.is_none() => self.look_at(newest),
            Some(_) | None => self.show_present(),
        }
        Vec::new()
    }

    /// Back to the present, or to the newest of what was played, which goes on.
    pub(super) fn go_live(&mut self) -> Vec<Effect> {
        self.show_present();
        replayed(self.play())
    }

    /// Looks at the sample so many before or after the one that is shown; past the newest comes the present. In a
    /// recording, which stands then, the next sample.
    pub(super) fn step_sample(&mut self, by: isize) -> Vec<Effect> {
        let stand = self.stand();
        let Some(observer) = self.stepped() else { return Vec::new() };
        let times: Vec<Timestamp> = observer.times().collect();
        let shown = self.past.as_ref().map(|past| past.at);
        let place = shown.map_or(times.len(), |at| times.partition_point(|it| *it <= at)).saturating_sub(1);
        let wanted = place.saturating_add_signed(by);
        if let Some(at) = times.get(wanted) {
            if wanted == 0 && by < 0 && shown == Some(*at) {
                self.say(Severity::Notice, format!("nothing is kept from before {}", clock(*at)));
            }
            self.look_at(*at);
            return replayed(stand);
        }
        self.show_present();
        let missing = wanted.saturating_sub(times.len().saturating_sub(1));
        // From an earlier moment the first step leads to the newest that was played.
        let missing = if shown.is_some() && missing == 1 { 0 } else { missing };
        let target = self.replay.and_then(|_| self.postgres.or(self.redis));
        let steps =
            target.into_iter().flat_map(|target| std::iter::repeat_n(ReplayOrder::Step(target), missing));
        stand.into_iter().chain(steps).map(Effect::Replay).collect()
    }

    /// Looks at the last sample up to a moment; at the oldest that is kept, where that is later.
    pub(super) fn look_at(&mut self, at: Timestamp) {
        let oldest = self.stepped().and_then(|observer| observer.times().next());
        let at = oldest.map_or(at, |oldest| oldest.max(at));
        let blank = |observer: &Observer| observer.without_samples();
        let observers = self.observers.iter().map(|it| it.as_of(at).unwrap_or_else(|| blank(it))).collect();
        let samples_since = self.stepped().map_or(0, |it| it.times().rev().take_while(|it| at < *it).count());
        self.past = Some(Past { at, samples_since, observers });
        self.waits.moment = Some(at.as_second().div_euclid(BIN_SECONDS));
        self.refresh();
    }

    /// Looks at the moment of the selected event.
    pub(super) fn go_to_event(&mut self) -> Vec<Effect> {
        let selected = self.events.list.selected.as_ref();
        let Some(at) = selected.and_then(|key| self.events.find(key)).map(|event| event.at) else {
            return Vec::new();
        };
        self.go_to(at)
    }

    /// Looks at the moment of the event before or after the one that is shown.
    pub(super) fn step_event(&mut self, by: isize) -> Vec<Effect> {
        let shown = self.clock();
        let mut times: Vec<Timestamp> = self.events.all().map(|event| event.at).collect();
        times.sort_unstable();
        let wanted = if by < 0 {
            times.iter().rev().find(|at| **at < shown)
        } else {
            times.iter().find(|at| shown < **at)
        };
        if let Some(at) = wanted.copied() {
            return self.go_to(at);
        }
        let place = if by < 0 { "before" } else { "after" };
        let of_what = if self.replay.is_some() { " in what was played" } else { "" };
        self.say(Severity::Notice, format!("no event {place} {}{of_what}", clock(shown)));
        Vec::new()
    }

    /// Looks at a moment, as far as samples of it are kept; a recording is gone through again.
    pub(super) fn go_to(&mut self, at: Timestamp) -> Vec<Effect> {
        let kept = self.stepped().and_then(|it| Some((it.times().next()?, it.times().next_back()?)));
        match (kept, self.replay) {
            (Some((oldest, newest)), _) if oldest <= at && at <= newest => {
                let stand = self.stand();
                self.look_at(at);
                replayed(stand)
            }
            (_, Some(replay)) => {
                self.past = None;
                vec![Effect::Replay(ReplayOrder::Seek(at.max(replay.begins)))]
            }
            (Some((oldest, _)), None) if at < oldest => {
                self.say(Severity::Notice, format!("nothing is kept from before {}", clock(oldest)));
                Vec::new()
            }
            (_, None) => {
                if self.now < at {
                    self.say(Severity::Notice, format!("{} is still to come", clock(at)));
                }
                self.show_present();
                Vec::new()
            }
        }
    }

    /// Comes back to the present.
    pub(super) fn show_present(&mut self) {
        self.past = None;
        self.waits.moment = None;
        if self.waits.is_everything() {
            self.show_everybody();
        }
        self.refresh();
    }

    /// Looks at the waits some seconds earlier or later.
    pub(super) fn step_bin(&mut self, by: i64) {
        let Some(waits) = self.live_pg().map(Observer::waits) else { return };
        let newest = waits.stepped(None, 0);
        let Some(bin) = waits.stepped(self.waits.moment, by) else { return };
        // The newest is the present.
        if newest == Some(bin) && by > 0 {
            self.show_present();
            return;
        }
        let last = Timestamp::from_millisecond((bin + 1) * BIN_SECONDS * 1000 - 1).unwrap_or(self.now);
        // The waits reach further back than the samples: what was before those is seen here only.
        if self.stepped().and_then(|it| it.times().next()).is_some_and(|oldest| oldest <= last) {
            self.look_at(last);
        } else {
            self.past = None;
        }
        self.waits.moment = Some(bin);
        self.refresh();
    }

    /// The shown PostgreSQL server as it is now, whatever moment is looked at.
    pub fn live_pg(&self) -> Option<&Observer> {
        self.observers.get(self.postgres?.0)
    }

    /// Whether what is shown is of an earlier moment.
    pub(super) fn is_past(&self) -> bool {
        self.past.is_some() || (self.focus == Pane::Waits && self.waits.moment.is_some())
    }
}

fn replayed(order: Option<ReplayOrder>) -> Vec<Effect> {
    order.map(Effect::Replay).into_iter().collect()
}
