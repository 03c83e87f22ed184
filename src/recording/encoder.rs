//! From entries to the lines of a frame.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::line::{Before, Known, Line, Lists, Number, Numbers, PgLine, When, Written};
use super::{Entry, Note, Opening, frame};
use crate::model::postgres::{Sample as PgSample, Session, Statements, StatementsDelta, Tables};
use crate::model::{Body, Reading, Sample, TargetId};
use crate::text;

/// Counters are written in full again once more than a quarter of them differs.
const DIFFERENT_MAX: usize = 4;
/// Sessions and locks are written in full again after so long: as many of them are lost with a frame that is damaged.
const WHOLE_EVERY: Duration = Duration::from_secs(60);
/// Texts whose masked form is remembered.
const MASKED_MAX: usize = 5_000;

/// Writes entries as lines, and the lines as frames.
#[derive(Debug, Default)]
pub struct Encoder {
    redact: bool,
    known: BTreeMap<TargetId, Known>,
    number: Number,
    masked: BTreeMap<Arc<str>, Arc<str>>,
    lines: Vec<u8>,
    header: Option<frame::Header>,
    packer: frame::Packer,
}

impl Encoder {
    /// Nothing written yet; `redact`: the literals of statements are left out.
    pub fn new(redact: bool) -> Self {
        Self { redact, ..Self::default() }
    }

    /// Writes an entry into the frame that is being filled.
    pub fn write(&mut self, entry: &Entry) -> serde_json::Result<()> {
        match entry {
            Entry::Opening(opening) => self.open(opening),
            Entry::Sample(sample) => self.sample(sample),
            Entry::Note(note) => self.note(note),
        }
    }

    /// Bytes of the frame that is being filled, before they are packed.
    pub const fn pending_bytes(&self) -> usize {
        self.lines.len()
    }

    /// The frame with everything that was written since the last one; `None` where that is nothing.
    pub fn frame(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let Some(header) = self.header.take() else { return Ok(None) };
        // The frame before a frame may be lost.
        self.known.values_mut().for_each(|known| known.before = None);
        let frame = self.packer.pack(&self.lines, header);
        // The room is used again: made anew each time it would leave holes in the heap.
        self.lines.clear();
        frame.map(Some)
    }

    fn open(&mut self, opening: &Opening) -> serde_json::Result<()> {
        self.known.clear();
        // Numbers of two openings must differ: one of them may be lost.
        self.number = Number::try_from(opening.at.as_microsecond()).unwrap_or_default();
        self.started(opening.at).opens = true;
        self.line(&Line::Recording(opening.clone()))
    }

    fn note(&mut self, note: &Note) -> serde_json::Result<()> {
        let at = match note {
            Note::Action(record, ..) => record.at,
            Note::Baseline(at, _) => *at,
        };
        self.started(at);
        self.line(&Line::Note(note.clone()))
    }

    fn sample(&mut self, sample: &Sample) -> serde_json::Result<()> {
        let Sample { target, asked_at, taken_at, body } = sample;
        let when = When { target: *target, asked_at: *asked_at, taken_at: *taken_at };
        self.started(*taken_at);
        match body {
            Body::Postgres(sample) => self.postgres(when, sample),
            Body::Redis(sample) => self.line(&Line::Redis(when, Box::new(Cow::Borrowed(&**sample)))),
            Body::Outage(outage) => self.line(&Line::Outage(when, outage.clone())),
        }
    }

    fn postgres(&mut self, when: When, sample: &Arc<PgSample>) -> serde_json::Result<()> {
        let mut known = self.known.remove(&when.target).unwrap_or_default();
        let server = self.part(when.target, &mut known.server, &sample.server, Line::Server)?;
        let rights = self.part(when.target, &mut known.rights, &sample.rights, Line::Rights)?;
        let names = self.part(when.target, &mut known.names, &sample.names, Line::Names)?;
        let upkeep = match &sample.upkeep {
            Some(upkeep) => Some(self.part(when.target, &mut known.upkeep, upkeep, Line::Upkeep)?),
            None => None,
        };
        let tables = match &sample.tables {
            Some(tables) => Some(self.tables(when.target, &mut known, tables)?),
            None => None,
        };
        let statements = match sample.statements.value() {
            Some(now) => {
                self.texts(&mut known, when.target, sample)?;
                let number = self.statements(when.target, &mut known, now)?;
                sample.statements.map(|_| number)
            }
            None => sample.statements.map(|_| 0),
        };
        let numbers = Numbers { server, rights, names, statements, upkeep, tables };
        let mut line = PgLine::of(sample, numbers);
        if let Some(before) = known.before.take() {
            line = line.since(Before::from(&*before), None);
        } else if let Some((whole, number)) = known.whole.as_ref().filter(|(it, _)| is_near(it, sample)) {
            line = line.since(Before::from(&**whole), Some(*number));
        } else {
            line.number = Some(self.next());
            known.whole = line.whole();
        }
        known.before = Some(Arc::clone(sample));
        self.known.insert(when.target, known);
        if self.redact {
            // Where two sessions are the same, they are without their literals, too.
            line.sessions = Cow::Owned(line.sessions.map(|sessions| self.all_masked(sessions)));
            line.sessions_since = line.sessions_since.map(|it| it.map_new(|session| self.mask(session)));
        }
        self.line(&Line::Postgres(when, Box::new(line)))
    }

    /// The number of a part, which is written if it is not the one that was written last.
    fn part<T: PartialEq>(
        &mut self,
        target: TargetId,
        known: &mut Written<T>,
        part: &Arc<T>,
        line: fn(TargetId, Number, Arc<T>) -> Line<'static>,
    ) -> serde_json::Result<Number> {
        if let Some((written, number)) = known
            && (Arc::ptr_eq(written, part) || **written == **part)
        {
            return Ok(*number);
        }
        let number = self.next();
        self.line(&line(target, number, Arc::clone(part)))?;
        *known = Some((Arc::clone(part), number));
        Ok(number)
    }

    /// Definitions of indexes and constraints may hold literals.
    fn tables(
        &mut self,
        target: TargetId,
        known: &mut Known,
        tables: &Arc<Tables>,
    ) -> serde_json::Result<Number> {
        if let Some((written, number)) = &known.tables
            && Arc::ptr_eq(written, tables)
        {
            return Ok(*number);
        }
        let number = self.next();
        let shown = if self.redact { Arc::new(masked_tables(tables)) } else { Arc::clone(tables) };
        self.line(&Line::Tables(target, number, shown))?;
        known.tables = Some((Arc::clone(tables), number));
        Ok(number)
    }

    fn statements(
        &mut self,
        target: TargetId,
        known: &mut Known,
        now: &Arc<Statements>,
    ) -> serde_json::Result<Number> {
        if let Some((written, number)) = &known.statements
            && Arc::ptr_eq(written, now)
        {
            return Ok(*number);
        }
        let number = self.next();
        let delta = known.base.as_ref().map(|(base, of)| (StatementsDelta::between(base, now), *of));
        let small = delta.filter(|(delta, _)| delta.changed.rows.len() * DIFFERENT_MAX <= now.rows.len());
        if let Some((delta, of)) = small {
            self.line(&Line::StatementsSince(target, number, of, Box::new(delta)))?;
        } else {
            self.line(&Line::Statements(target, number, Arc::clone(now)))?;
            known.base = Some((Arc::clone(now), number));
        }
        known.statements = Some((Arc::clone(now), number));
        Ok(number)
    }

    fn texts(&mut self, known: &mut Known, target: TargetId, sample: &PgSample) -> serde_json::Result<()> {
        let before = std::mem::replace(&mut known.texts, Arc::clone(&sample.statement_texts));
        if Arc::ptr_eq(&before, &known.texts) {
            return Ok(());
        }
        let shown = |text: &Arc<str>| if self.redact { text::masked(text).into() } else { Arc::clone(text) };
        let new = known.texts.iter().filter(|(key, _)| !before.contains_key(key));
        let new: Vec<_> = new.map(|(key, text)| (*key, shown(text))).collect();
        if new.is_empty() { Ok(()) } else { self.line(&Line::Texts(target, new)) }
    }

    fn all_masked(&mut self, sessions: &[Session]) -> Vec<Session> {
        let mut sessions = sessions.to_vec();
        for session in &mut sessions {
            self.mask(session);
        }
        sessions
    }

    fn mask(&mut self, session: &mut Session) {
        if self.masked.len() > MASKED_MAX {
            self.masked.clear();
        }
        let known = self.masked.get(&session.query).cloned();
        session.query = known.unwrap_or_else(|| {
            let masked: Arc<str> = text::masked(&session.query).into();
            self.masked.insert(Arc::clone(&session.query), Arc::clone(&masked));
            masked
        });
    }

    const fn next(&mut self) -> Number {
        self.number += 1;
        self.number
    }

    /// The header of the frame, which begins with what happened at this time.
    fn started(&mut self, at: jiff::Timestamp) -> &mut frame::Header {
        self.header.get_or_insert(frame::Header { length: 0, at, opens: false })
    }

    fn line(&mut self, line: &Line<'_>) -> serde_json::Result<()> {
        let length = self.lines.len();
        let written = serde_json::to_writer(&mut self.lines, line);
        match written {
            Ok(()) => self.lines.push(b'\n'),
            // Half a line would spoil the next.
            Err(_) => self.lines.truncate(length),
        }
        written
    }
}

/// Whether what was written in full is young enough, by the server's clock, which may have been set back.
fn is_near(whole: &Lists, now: &PgSample) -> bool {
    now.server_time.duration_since(whole.server_time).unsigned_abs() < WHOLE_EVERY
}

fn masked_tables(tables: &Tables) -> Tables {
    let mut tables = tables.clone();
    if let Reading::Fresh(indexes) | Reading::Stale(indexes, _) = &mut tables.indexes {
        for index in indexes {
            index.definition = text::masked(&index.definition).into();
        }
    }
    if let Reading::Fresh(constraints) | Reading::Stale(constraints, _) = &mut tables.constraints {
        for constraint in constraints {
            constraint.definition = text::masked(&constraint.definition).into();
        }
    }
    tables
}
