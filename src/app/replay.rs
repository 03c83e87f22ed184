//! Looking at a recording: the same application, whose samples come from a file and whose clock is the recording's.
//!
//! It must not know how a recording is read.

use jiff::{SignedDuration, Timestamp};

use super::App;
use crate::engine::{Observer, Severity};
use crate::format::clock;
use crate::model::TargetId;

/// The fastest that a recording is played.
const SPEED_MAX: u32 = 64;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replay {
    /// How fast it is played.
    pub speed: u32,
    /// Whether it is played, or stands.
    pub is_playing: bool,
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends, but for some seconds.
    pub ends: Timestamp,
    /// Whether everything has been played.
    pub is_over: bool,
    /// When the newest sample that was played was taken.
    pub played: Timestamp,
}

/// What the runtime is asked to do with the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOrder {
    /// Play it so fast.
    Play(u32),
    /// Let it stand.
    Stop,
    /// Give everything up to the next sample of this target.
    Step(TargetId),
    /// Go to a time: what leads to it is derived again.
    Seek(Timestamp),
}

/// What the runtime tells of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayNews {
    /// Everything has been played.
    Over,
    /// It stands where it was asked to go to.
    Arrived,
    /// What follows begins at this time: everything from there on is derived again.
    Rewound(Timestamp),
    /// Something is missing at this time.
    Cut(Timestamp),
}

impl Replay {
    /// A recording that is played from its beginning.
    pub const fn new(begins: Timestamp, ends: Timestamp, speed: u32) -> Self {
        Self { speed, is_playing: true, begins, ends, is_over: false, played: begins }
    }
}

impl App {
    /// Looks at a recording.
    #[must_use]
    pub fn replaying(self, replay: Replay) -> Self {
        Self { replay: Some(replay), ..self }
    }

    /// Plays the recording, from the newest sample that was played.
    pub(super) fn play(&mut self) -> Option<ReplayOrder> {
        let replay = self.replay.as_mut().filter(|replay| !replay.is_over)?;
        replay.is_playing = true;
        Some(ReplayOrder::Play(replay.speed))
    }

    /// Lets it stand.
    pub(super) const fn stand(&mut self) -> Option<ReplayOrder> {
        match &mut self.replay {
            Some(replay) if replay.is_playing => {
                replay.is_playing = false;
                Some(ReplayOrder::Stop)
            }
            Some(_) | None => None,
        }
    }

    /// Plays it faster or slower.
    pub(super) fn change_speed(&mut self, is_faster: bool) -> Option<ReplayOrder> {
        let replay = self.replay.as_mut()?;
        let speed = if is_faster { replay.speed * 2 } else { replay.speed / 2 };
        replay.speed = speed.clamp(1, SPEED_MAX);
        let (speed, is_playing) = (replay.speed, replay.is_playing);
        self.say(Severity::Notice, format!("{speed} times as fast as it was"));
        is_playing.then_some(ReplayOrder::Play(speed))
    }

    /// Takes what is told of the recording.
    pub(super) fn take_replay_news(&mut self, news: ReplayNews) {
        let Some(replay) = self.replay.as_mut() else { return };
        match news {
            ReplayNews::Over => {
                replay.is_over = true;
                replay.is_playing = false;
                let at = clock(replay.played);
                self.say(Severity::Notice, format!("the recording ends at {at}"));
            }
            ReplayNews::Arrived => replay.is_playing = false,
            ReplayNews::Cut(at) => {
                self.say(
                    Severity::Warning,
                    format!("the recording is damaged at {}: samples after that are missing", clock(at)),
                );
            }
            ReplayNews::Rewound(at) => {
                let is_gap = replay.played < at || at < self.began;
                replay.is_over = false;
                replay.played = at;
                // Of what was passed over nothing is known: then what is told begins here.
                let from = if is_gap { Timestamp::MIN } else { at };
                if is_gap {
                    self.began = at;
                }
                self.forget_from(from);
            }
        }
    }

    /// Forgets everything that the samples from a moment on will tell again.
    fn forget_from(&mut self, at: Timestamp) {
        self.observers = self.observers.iter().map(Observer::without_samples).collect();
        self.past = None;
        self.incident = None;
        self.recoveries.values_mut().for_each(|watch| watch.forget_from(at));
        self.events.forget_from(at);
        self.waits.moment = None;
        self.refresh();
    }

    /// The time that was typed, as `16:15`, `16:15:30`, `-5m` or `+30s`, by the day of what is shown.
    pub(super) fn typed_time(&self, typed: &str) -> Option<Timestamp> {
        let (shown, typed) = (self.clock(), typed.trim().trim_end_matches('Z'));
        if let Some(back) = typed.strip_prefix('-') {
            return shown.checked_sub(back.parse::<SignedDuration>().ok()?).ok();
        }
        if let Some(on) = typed.strip_prefix('+') {
            return shown.checked_add(on.parse::<SignedDuration>().ok()?).ok();
        }
        let time: jiff::civil::Time = typed.parse().ok()?;
        let day = shown.to_zoned(jiff::tz::TimeZone::UTC).date();
        let on = |day: jiff::civil::Date| {
            Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.with().time(time).build().ok()?.timestamp())
        };
        let days = [Some(day), day.yesterday().ok(), day.tomorrow().ok()];
        let kept = || Some(self.stepped()?.times().next()?..=self.present());
        let known = self.replay.map(|replay| replay.begins..=replay.ends).or_else(kept);
        let mut times = days.into_iter().flatten().filter_map(on);
        let first = times.next();
        first
            .into_iter()
            .chain(times)
            .find(|at| known.as_ref().is_some_and(|known| known.contains(at)))
            .or(first)
    }
}
