//! From the lines of frames to entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::line::{Before, Known, Line, Number, PgLine, When, Whole};
use super::{Entry, VERSION};
use crate::model::postgres::Sample as PgSample;
use crate::model::{Body, Reading, Sample, TargetId};

/// Bytes of sessions and locks that the samples of one frame may be made of.
const FRAME_BYTES_MAX: usize = 512 << 20;

/// Reads frames in their order, and remembers the parts that their samples refer to.
#[derive(Debug, Default)]
pub struct Decoder {
    known: BTreeMap<TargetId, Known>,
    /// Bytes that what differs from samples of this frame may still become.
    room: usize,
}

/// What became of one line.
enum Read {
    Entry(Box<Entry>),
    /// A part, which is remembered.
    Part,
    /// It cannot be read, or refers to a part that was lost.
    Lost,
}

impl Decoder {
    /// The entries of a frame's lines, and how many of its lines could not be read: written by a later version, or
    /// referring to a part that was in a damaged frame. `Err` where the recording is of a version that is not known.
    pub fn read(&mut self, lines: &[u8]) -> Result<(Vec<Entry>, usize), u32> {
        let (mut entries, mut lost) = (Vec::new(), 0);
        self.room = FRAME_BYTES_MAX;
        self.known.values_mut().for_each(|known| known.before = None);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match self.line(line)? {
                Read::Entry(entry) => entries.push(*entry),
                Read::Part => {}
                Read::Lost => lost += 1,
            }
        }
        Ok((entries, lost))
    }

    fn line(&mut self, line: &[u8]) -> Result<Read, u32> {
        let Ok(line) = serde_json::from_slice(line) else {
            // It may have been a sample, and what differs from that one cannot be read either.
            self.known.values_mut().for_each(|known| known.before = None);
            return Ok(Read::Lost);
        };
        let entry = match line {
            Line::Recording(opening) if VERSION < opening.version => return Err(opening.version),
            Line::Recording(opening) => {
                self.known.clear();
                Some(Entry::Opening(opening))
            }
            Line::Note(note) => Some(Entry::Note(note)),
            Line::Redis(when, sample) => Some(entry(when, Body::Redis(Arc::new(sample.into_owned())))),
            Line::Outage(when, outage) => Some(entry(when, Body::Outage(outage))),
            Line::Postgres(when, line) => {
                if let Some(whole) = line.whole() {
                    self.of(when.target).whole = Some(whole);
                }
                let sample = self.postgres(when, *line).map(Arc::new);
                // What differs from one that is lost cannot be read either.
                self.of(when.target).before.clone_from(&sample);
                let Some(sample) = sample else { return Ok(Read::Lost) };
                Some(entry(when, Body::Postgres(sample)))
            }
            part @ (Line::Server(..)
            | Line::Rights(..)
            | Line::Names(..)
            | Line::Upkeep(..)
            | Line::Tables(..)
            | Line::Statements(..)
            | Line::StatementsSince(..)
            | Line::Texts(..)) => return Ok(if self.keep(part) { Read::Part } else { Read::Lost }),
        };
        Ok(entry.map_or(Read::Part, |entry| Read::Entry(Box::new(entry))))
    }

    /// Remembers a part; false where it differs from one that was lost.
    fn keep(&mut self, part: Line<'_>) -> bool {
        match part {
            Line::Server(target, number, part) => self.of(target).server = Some((part, number)),
            Line::Rights(target, number, part) => self.of(target).rights = Some((part, number)),
            Line::Names(target, number, part) => self.of(target).names = Some((part, number)),
            Line::Upkeep(target, number, part) => self.of(target).upkeep = Some((part, number)),
            Line::Tables(target, number, part) => self.of(target).tables = Some((part, number)),
            Line::Statements(target, number, part) => {
                let known = self.of(target);
                known.base = Some((Arc::clone(&part), number));
                known.statements = Some((part, number));
            }
            Line::StatementsSince(target, number, of, delta) => {
                let known = self.of(target);
                let Some(base) = numbered(known.base.as_ref(), of) else { return false };
                known.statements = Some((Arc::new(delta.applied_to(&base)), number));
            }
            Line::Texts(target, new) => Arc::make_mut(&mut self.of(target).texts).extend(new),
            Line::Recording(_) | Line::Postgres(..) | Line::Redis(..) | Line::Outage(..) | Line::Note(_) => {}
        }
        true
    }

    fn of(&mut self, target: TargetId) -> &mut Known {
        self.known.entry(target).or_default()
    }

    /// `None` where it refers to a part that was lost.
    fn postgres(&mut self, when: When, line: PgLine<'_>) -> Option<PgSample> {
        let known = self.known.get(&when.target)?;
        let statements = match &line.statements {
            Reading::Unavailable(reason) => Reading::Unavailable(reason.clone()),
            Reading::Fresh(number) => Reading::Fresh(numbered(known.statements.as_ref(), *number)?),
            Reading::Stale(number, since) => {
                Reading::Stale(numbered(known.statements.as_ref(), *number)?, *since)
            }
        };
        let whole = Whole {
            server: numbered(known.server.as_ref(), line.server)?,
            rights: numbered(known.rights.as_ref(), line.rights)?,
            names: numbered(known.names.as_ref(), line.names)?,
            statements,
            upkeep: match line.upkeep {
                Some(number) => Some(numbered(known.upkeep.as_ref(), number)?),
                None => None,
            },
            tables: match line.tables {
                Some(number) => Some(numbered(known.tables.as_ref(), number)?),
                None => None,
            },
            statement_texts: Arc::clone(&known.texts),
        };
        let lists = line.of.and_then(|number| numbered(known.whole.as_ref(), number));
        let before = match line.of {
            Some(_) => lists.as_deref().map(Before::from),
            None => known.before.as_deref().map(Before::from),
        };
        Some(line.in_full(before, &mut self.room)?.into_sample(whole))
    }
}

/// A part, if it is the one that is meant.
fn numbered<T>(known: Option<&(Arc<T>, Number)>, wanted: Number) -> Option<Arc<T>> {
    known.filter(|(_, number)| *number == wanted).map(|(part, _)| Arc::clone(part))
}

fn entry(when: When, body: Body) -> Entry {
    let When { target, asked_at, taken_at } = when;
    Entry::Sample(Sample { target, asked_at, taken_at, body })
}
