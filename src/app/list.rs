//! A list with a selection that follows identity, never a row number.

use crate::engine::waits::Part;
use crate::model::postgres::{Oid, SessionId, StatementKey};

/// What tells one row from another for as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// A session.
    Session(SessionId),
    /// A process in the lock forest whose session is not known.
    Pid(i32),
    /// A prepared transaction, by its gid.
    Prepared(String),
    /// A deadlock, by its processes.
    Deadlock(Vec<i32>),
    /// A statement.
    Statement(StatementKey),
    /// A part of the waits.
    Wait(Part),
    /// A table, an index or a constraint, by its identifier.
    Relation(Oid),
    /// An event, by its number.
    Event(u64),
    /// A group of sessions, by what they have in common.
    Group(String),
    /// Waiters of one queue folded into a line: the node they stand under, and what they want.
    Fold(Box<Self>, String),
}

/// Rows by key, which one is selected, and which one stands at the top.
#[derive(Debug, Clone, Default)]
pub struct ListState {
    /// The rows, in the order shown.
    pub rows: Vec<RowKey>,
    /// The selected row.
    pub selected: Option<RowKey>,
    /// The first row on the screen.
    pub offset: usize,
    /// Whether the window follows the selection: once somebody has chosen it. Until then the top of the list stays
    /// in sight, wherever its first row of the beginning has gone.
    follows: bool,
}

impl ListState {
    /// Takes new rows. The selection never moves by itself: a selected row that has left keeps its place until
    /// another is chosen. A list with rows always has a selection.
    pub fn set_rows(&mut self, rows: Vec<RowKey>) {
        let place = self.position();
        self.rows = rows;
        match (&self.selected, place) {
            (Some(key), _) if self.rows.contains(key) => {}
            (Some(key), Some(place)) => self.rows.insert(place.min(self.rows.len()), key.clone()),
            (Some(_) | None, _) => self.to_top(),
        }
    }

    /// Selects the first row: after a filter or a sort.
    pub fn to_top(&mut self) {
        self.selected = self.rows.first().cloned();
        self.offset = 0;
        self.follows = false;
    }

    /// Selects a row by key; false when it is not there.
    pub fn select(&mut self, key: RowKey) -> bool {
        let is_there = self.rows.contains(&key);
        if is_there {
            self.selected = Some(key);
            self.follows = true;
        }
        is_there
    }

    /// The number of the selected row.
    pub fn position(&self) -> Option<usize> {
        self.selected.as_ref().and_then(|key| self.rows.iter().position(|row| row == key))
    }

    /// Moves the selection by so many rows, stopping at the ends.
    pub fn step(&mut self, by: isize) {
        let Some(last) = self.rows.len().checked_sub(1) else { return };
        let place = self.position().unwrap_or_default().saturating_add_signed(by).min(last);
        self.selected = self.rows.get(place).cloned();
        self.follows = true;
    }

    /// Whether the selected row is in the window of `height` rows; from now on the window follows it.
    pub fn show_selection(&mut self, height: usize) -> bool {
        self.follows = true;
        let window = self.offset..self.offset + height.max(1);
        let is_in_sight = self.position().is_none_or(|place| window.contains(&place));
        self.scroll_to_selection(height);
        is_in_sight
    }

    /// Moves the window of `height` rows so that the selection is in it.
    pub fn scroll_to_selection(&mut self, height: usize) {
        let place = self.position().filter(|_| self.follows).unwrap_or(self.offset);
        if place < self.offset {
            self.offset = place;
        } else if height > 0 && self.offset + height <= place {
            self.offset = place + 1 - height;
        }
        self.offset = self.offset.min(self.rows.len().saturating_sub(height.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn keys(pids: &[i32]) -> Vec<RowKey> {
        pids.iter().map(|pid| RowKey::Pid(*pid)).collect()
    }

    #[test]
    fn the_selection_follows_its_row() {
        let mut list = ListState::default();
        list.set_rows(keys(&[1, 2, 3]));
        assert_eq!(list.selected, Some(RowKey::Pid(1)));
        list.step(1);
        list.set_rows(keys(&[9, 8, 2, 1]));
        assert_eq!((list.selected.clone(), list.position()), (Some(RowKey::Pid(2)), Some(2)));
        // It has left: its row stays, and nothing else is selected in its stead.
        list.set_rows(keys(&[9, 8]));
        assert_eq!((list.selected.clone(), list.rows.clone()), (Some(RowKey::Pid(2)), keys(&[9, 8, 2])));
        list.set_rows(Vec::new());
        assert_eq!(list.rows, keys(&[2]));
        list.to_top();
        list.set_rows(keys(&[5]));
        list.step(-1);
        list.set_rows(keys(&[5]));
        assert_eq!(
            list.selected,
            Some(RowKey::Pid(2)),
            "the last row that is left is still the selected one"
        );
    }

    #[test]
    fn the_window_stays_at_the_top_until_somebody_chooses() {
        let mut list = ListState::default();
        list.set_rows(keys(&[1, 2, 3]));
        list.set_rows(keys(&[7, 8, 9, 1]));
        list.scroll_to_selection(2);
        assert_eq!((list.selected.clone(), list.offset), (Some(RowKey::Pid(1)), 0));
        list.step(0);
        list.scroll_to_selection(2);
        assert_eq!(list.offset, 2);
    }

    #[test]
    fn the_window_follows_the_selection() {
        let mut list = ListState::default();
        list.set_rows(keys(&[1, 2, 3, 4, 5]));
        list.step(10);
        list.scroll_to_selection(2);
        assert_eq!((list.position(), list.offset), (Some(4), 3));
        list.step(-10);
        list.scroll_to_selection(2);
        assert_eq!(list.offset, 0);
    }
}
