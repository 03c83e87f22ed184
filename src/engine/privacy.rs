//! Samples without the literals of statements: for reports and files that leave the machine.

use std::sync::Arc;

use crate::model::{Body, Reading, Sample};
use crate::text;

/// Takes every literal out of the statements of a sample.
pub fn mask(sample: &mut Sample) {
    let Body::Postgres(sample) = &mut sample.body else { return };
    let sample = Arc::make_mut(sample);
    if let Reading::Fresh(sessions) | Reading::Stale(sessions, _) = &mut sample.sessions {
        for session in sessions {
            session.query = masked(&session.query);
        }
    }
    let texts = sample.statement_texts.iter().map(|(key, text)| (*key, masked(text)));
    sample.statement_texts = Arc::new(texts.collect());
}

fn masked(text: &str) -> Arc<str> {
    Arc::from(&*text::masked(text))
}
