//! Pieces that several panes are made of.

pub(super) mod table;
pub(super) mod trend;
