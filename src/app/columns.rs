//! Which columns each table shows: the defaults, or what the config names.

use std::collections::BTreeMap;

use super::table::Column;
use super::{activity, statements, tables};
use crate::text;

/// Which columns are shown, by table.
#[derive(Debug, Clone)]
pub struct Columns {
    /// Columns of the Activity pane.
    pub activity: Vec<activity::ActivityColumn>,
    /// Columns of the Statements pane.
    pub statements: Vec<statements::StatementColumn>,
    /// Columns of the list of tables.
    pub tables: Vec<tables::TableColumn>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            activity: activity::COLUMNS.to_vec(),
            statements: statements::COLUMNS.to_vec(),
            tables: tables::COLUMNS.to_vec(),
        }
    }
}

impl Columns {
    /// The defaults with the tables that the config names replaced.
    pub fn with_changes(changes: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut columns = Self::default();
        for (table, names) in changes {
            match table.as_str() {
                "activity" => columns.activity = chosen(table, names, activity::COLUMNS)?,
                "statements" => columns.statements = chosen(table, names, statements::COLUMNS)?,
                "tables" => columns.tables = chosen(table, names, tables::COLUMNS)?,
                other => {
                    let nearest = text::nearest(other, ["activity", "statements", "tables"].into_iter());
                    return Err(format!("[columns] has no table \"{other}\"{}", text::did_you_mean(nearest)));
                }
            }
        }
        Ok(columns)
    }
}

fn chosen<F: Copy>(table: &str, names: &[String], all: &[Column<F>]) -> Result<Vec<Column<F>>, String> {
    if names.is_empty() {
        return Err(format!("[columns] {table} names no column"));
    }
    names
        .iter()
        .map(|name| {
            all.iter().find(|column| column.name == name).copied().ok_or_else(|| {
                let nearest = text::nearest(name, all.iter().map(|column| column.name));
                format!("[columns] {table} has no column \"{name}\"{}", text::did_you_mean(nearest))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_column_is_refused() {
        let changes = BTreeMap::from([("activity".to_owned(), vec!["pdi".to_owned()])]);
        assert_eq!(
            Columns::with_changes(&changes).unwrap_err(),
            "[columns] activity has no column \"pdi\": did you mean \"pid\"?"
        );
    }
}
