//! The menu of what can be taken out of the program: the moment that is shown, or the timeline, as a file or a copy.

/// What is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paper {
    /// The moment that is shown, for people.
    Text,
    /// The same for a ticket.
    Markdown,
    /// The same for a program.
    Json,
    /// What happened and what was done, as Markdown.
    Timeline,
}

impl Paper {
    /// How the name of its file ends.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Markdown | Self::Timeline => "md",
            Self::Json => "json",
        }
    }
}

/// One line of the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// What is taken out.
    pub paper: Paper,
    /// Whether it goes to the clipboard, and not into a file.
    pub is_copy: bool,
    /// What the menu says.
    pub label: &'static str,
}

const fn line(paper: Paper, is_copy: bool, label: &'static str) -> Export {
    Export { paper, is_copy, label }
}

/// The menu.
pub const EXPORTS: [Export; 7] = [
    line(Paper::Text, true, "copy this moment as text"),
    line(Paper::Markdown, true, "copy this moment as Markdown, for a ticket"),
    line(Paper::Timeline, true, "copy the timeline as Markdown, for the report after"),
    line(Paper::Text, false, "this moment as text, in a file"),
    line(Paper::Markdown, false, "this moment as Markdown, in a file"),
    line(Paper::Json, false, "this moment as JSON, in a file"),
    line(Paper::Timeline, false, "the timeline as Markdown, in a file"),
];

/// The place before or after one in the menu.
pub(super) fn stepped(place: usize, by: isize) -> usize {
    place.saturating_add_signed(by).min(EXPORTS.len() - 1)
}
