//! Samples without the literals of statements: for reports and files that leave the machine.

use std::sync::Arc;

use super::{Tick, TickBody};
use crate::model::postgres::Sample as PgSample;
use crate::model::{Body, Reading, Sample};
use crate::text;

/// Takes every literal out of the statements of a sample.
pub fn mask(sample: &mut Sample) {
    let Body::Postgres(sample) = &mut sample.body else { return };
    mask_postgres(Arc::make_mut(sample));
}

fn mask_postgres(sample: &mut PgSample) {
    if let Reading::Fresh(sessions) | Reading::Stale(sessions, _) = &mut sample.sessions {
        for session in sessions {
            session.query = masked(&session.query);
        }
    }
    let texts = sample.statement_texts.iter().map(|(key, text)| (*key, masked(text)));
    sample.statement_texts = Arc::new(texts.collect());
}

/// Takes every literal out of the statements of a tick.
pub(super) fn mask_tick(tick: &mut Tick) {
    let TickBody::Postgres(tick) = &mut tick.body else { return };
    mask_postgres(Arc::make_mut(&mut tick.sample));
    if let Reading::Fresh(table) | Reading::Stale(table, _) = &mut tick.statements {
        for row in &mut Arc::make_mut(table).rows {
            row.query = row.query.as_deref().map(masked);
        }
    }
}

fn masked(text: &str) -> Arc<str> {
    Arc::from(&*text::masked(text))
}
