//! What can stand above the panes, and which of it is a question about sessions.

use super::{Confirm, Detail, Many, Plan, RuleMenu};
use crate::model::TargetId;

/// What stands above the panes.
#[derive(Debug)]
pub enum Overlay {
    /// The list of commands, scrolled by this many lines.
    Help(usize),
    /// One row in full.
    Detail(Detail),
    /// A question before an action.
    Confirm(Box<Confirm>),
    /// A question before acting on many, or its carrying out.
    Many(Box<Many>),
    /// The ready-made selections.
    Rules(RuleMenu),
    /// What the role sees and may do on this server, scrolled by this many lines.
    Server(usize),
    /// The plan of a statement.
    Plan(Plan),
    /// What can be taken out; the place in the menu.
    Export(usize),
}

/// A question about sessions, or its carrying out.
#[derive(Debug)]
pub(super) enum Question<'a> {
    /// About one.
    One(&'a mut Confirm),
    /// About many.
    Many(&'a mut Many),
}

impl Overlay {
    /// The question that it is; `None` where it only shows something.
    pub(super) fn question(&mut self) -> Option<Question<'_>> {
        match self {
            Self::Confirm(confirm) => Some(Question::One(confirm)),
            Self::Many(many) => Some(Question::Many(many)),
            Self::Help(_)
            | Self::Detail(_)
            | Self::Rules(_)
            | Self::Server(_)
            | Self::Plan(_)
            | Self::Export(_) => None,
        }
    }

    /// Whether it is a question about sessions of this server.
    pub(super) fn is_about(&self, server: TargetId) -> bool {
        match self {
            Self::Confirm(confirm) => confirm.target == server,
            Self::Many(many) => many.target == server,
            Self::Help(_)
            | Self::Detail(_)
            | Self::Rules(_)
            | Self::Server(_)
            | Self::Plan(_)
            | Self::Export(_) => false,
        }
    }
}
