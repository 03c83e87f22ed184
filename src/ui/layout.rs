//! How the screen is divided, by its size. Pure: the same size and state give the same division.

use ratatui::layout::Rect;

use super::canvas::Canvas;
use crate::app::{App, Pane, Viewport};

/// The least that anything useful fits into: columns, rows.
pub(super) const MINIMUM: (u16, u16) = (40, 10);

/// The size classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// All five panes.
    Wide,
    /// Three panes.
    Standard,
    /// One pane with a tab bar.
    Compact,
    /// One pane with fewer columns.
    Tiny,
    /// A message.
    TooSmall,
}

/// Where everything stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The whole screen.
    pub area: Rect,
    /// Its size class.
    pub class: Class,
    /// Target, role, state.
    pub identity: Rect,
    /// Figures with trends; empty in the tiny class.
    pub vitals: Rect,
    /// Findings, worst first.
    pub findings: Rect,
    /// The tab bar; empty where several panes are shown.
    pub tabs: Rect,
    /// The panes that are shown, title line included.
    pub panes: Vec<(Pane, Rect)>,
    /// A vertical line between panes: column, first row, row after the last.
    pub separator: Option<(u16, u16, u16)>,
    /// Keys, the filter being typed, or a message.
    pub footer: Rect,
}

/// Divides a screen of this size.
pub fn layout(area: Rect, app: &App) -> Layout {
    let class = class(area);
    let findings_rows = match class {
        Class::Wide | Class::Standard | Class::Compact => 2,
        Class::Tiny => 1,
        Class::TooSmall => 0,
    };
    let one_pane = app.zoomed || matches!(class, Class::Compact | Class::Tiny);
    let mut y = area.y;
    let mut take = |rows: u16| {
        let taken = Rect { y, height: rows, ..area };
        y += rows;
        taken
    };
    if class == Class::TooSmall {
        let nothing = Rect { height: 0, ..area };
        return Layout {
            area,
            class,
            identity: nothing,
            vitals: nothing,
            findings: nothing,
            tabs: nothing,
            panes: Vec::new(),
            separator: None,
            footer: nothing,
        };
    }
    let identity = take(1);
    let vitals = take(u16::from(class != Class::Tiny));
    let findings = take(findings_rows);
    let tabs = take(u16::from(one_pane));
    let body =
        take(area.height.saturating_sub(identity.height + vitals.height + findings.height + tabs.height + 1));
    let footer = take(1);
    let (panes, separator) = panes(body, class, one_pane, app.focus);
    Layout { area, class, identity, vitals, findings, tabs, panes, separator, footer }
}

const fn class(area: Rect) -> Class {
    match (area.width, area.height) {
        (160.., 45..) => Class::Wide,
        (100.., 30..) => Class::Standard,
        (76.., 18..) => Class::Compact,
        (40.., 10..) => Class::Tiny,
        _ => Class::TooSmall,
    }
}

type Panes = (Vec<(Pane, Rect)>, Option<(u16, u16, u16)>);

fn panes(body: Rect, class: Class, one_pane: bool, focus: Pane) -> Panes {
    if one_pane {
        return (vec![(focus, body)], None);
    }
    match class {
        Class::Wide => {
            let left = Rect { width: body.width * 3 / 5, ..body };
            let right = Rect { x: left.right() + 1, width: body.width - left.width - 1, ..body };
            let (activity, statements) = split(left, body.height * 3 / 5);
            let (locks, rest) = split(right, body.height - 21);
            let (replication, cache) = split(rest, 11);
            let lower = if is_guest(focus) { focus } else { Pane::Statements };
            let panes = vec![
                (Pane::Activity, activity),
                (Pane::Locks, locks),
                (lower, statements),
                (Pane::Replication, replication),
                (Pane::Cache, cache),
            ];
            (panes, Some((left.right(), body.y, body.bottom())))
        }
        Class::Standard | Class::Compact | Class::Tiny | Class::TooSmall => {
            let (activity, lower) = split(body, body.height / 2);
            let left = Rect { width: lower.width / 2, ..lower };
            let right = Rect { x: left.right() + 1, width: lower.width - left.width - 1, ..lower };
            // A pane that has no place of its own takes that of the statements while it is looked at.
            let is_shown = matches!(focus, Pane::Replication | Pane::Cache) || is_guest(focus);
            let third = if is_shown { focus } else { Pane::Statements };
            (
                vec![(Pane::Activity, activity), (Pane::Locks, left), (third, right)],
                Some((left.right(), lower.y, lower.bottom())),
            )
        }
    }
}

/// Whether a pane has no place of its own on any screen and is shown only while it is looked at.
const fn is_guest(pane: Pane) -> bool {
    matches!(pane, Pane::Waits | Pane::Tables | Pane::Events | Pane::Recovery)
}

/// A pane of this many rows has room for a second line of advice.
const TWO_ADVICES: u16 = 10;

/// Rows that the advice takes in the Locks pane, whose body is so high.
pub(super) const fn advice_rows(height: u16) -> u16 {
    if height < TWO_ADVICES { 1 } else { 2 }
}

/// Rows of the chart at most; what waits is worth more room than how it looked.
const CHART_ROWS_MAX: u16 = 12;

/// Rows of the chart in the Waits pane, whose body is so high: half of it, so that axis, legend and a list have room.
pub(super) const fn chart_rows(height: u16) -> u16 {
    let half = height.saturating_sub(2) / 2;
    if half < CHART_ROWS_MAX { half } else { CHART_ROWS_MAX }
}

/// Lines below the list in the question about many: who is left out, who is set apart, what to type.
pub(super) const BELOW_LIST: u16 = 4;

/// Rows of the list in the question about many, on a screen of this height when not all fit: less frame, summary, what
/// stands below, and the line that says how many more there are.
const fn list_rows(height: u16) -> u16 {
    height.saturating_sub(2 + 2 + 1 + BELOW_LIST + 1)
}

fn split(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    (Rect { height: rows, ..area }, Rect { y: area.y + rows, height: area.height - rows, ..area })
}

/// Draws the lines between panes.
pub(super) fn separators(canvas: &mut Canvas<'_>, layout: &Layout) {
    if let Some((x, top, bottom)) = layout.separator {
        canvas.upright(x, top, bottom);
    }
}

impl Layout {
    /// Whether a pane is on the screen.
    pub fn shows(&self, pane: Pane) -> bool {
        self.panes.iter().any(|(shown, _)| *shown == pane)
    }

    /// What the application must know of it.
    pub fn viewport(&self) -> Viewport {
        let rows = |(pane, area): &(Pane, Rect)| {
            let taken = match pane {
                Pane::Activity | Pane::Statements | Pane::Events | Pane::Recovery => 2,
                // Its title, the chart with axis and legend, the header of the list.
                Pane::Waits => 1 + chart_rows(area.height.saturating_sub(1)) + 3,
                Pane::Tables => 3,
                Pane::Locks => 2 + advice_rows(area.height.saturating_sub(1)),
                Pane::Replication | Pane::Cache => 1,
            };
            (*pane, usize::from(area.height.saturating_sub(taken)))
        };
        Viewport {
            rows: self.panes.iter().map(rows).collect(),
            overlay_rows: usize::from(self.area.height.saturating_sub(6)),
            list_rows: usize::from(list_rows(self.area.height)),
            too_small: self.class == Class::TooSmall,
        }
    }
}
