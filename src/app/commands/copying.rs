//! What a copy of the selected row is: text that can be pasted anywhere without doing anything there by itself.

use super::super::{App, Pane, locks, statements, tables};
use super::selected_session;
use crate::text;

/// What would be copied now; `None` where there is nothing.
pub(super) fn copied(app: &App) -> Option<String> {
    if app.focus == Pane::Events {
        let event = app.events.find(app.events.list.selected.as_ref()?)?;
        return event.record().map(|record| record.sql.clone()).filter(|sql| !sql.is_empty());
    }
    let tick = app.pg()?;
    match app.focus {
        Pane::Statements => match &tick.statements {
            crate::model::Reading::Unavailable(reason) => {
                reason.hint.as_deref().map(|hint| hint.split("  (").next().unwrap_or(hint).to_owned())
            }
            crate::model::Reading::Fresh(_) | crate::model::Reading::Stale(..) => {
                statements::find(tick, app.statements.list.selected.as_ref()?)?
                    .query
                    .as_deref()
                    .map(|query| statement(app, query))
            }
        },
        Pane::Locks => locks::statement_to_copy(&app.locks, tick)
            .or_else(|| selected_session(app).map(|session| statement(app, &session.query))),
        Pane::Activity => selected_session(app).map(|session| statement(app, &session.query)),
        Pane::Tables => tables::cure(tick, app.tables.shown, app.tables.list.selected.as_ref()?)
            .map(|sql| text::lines(&sql).collect::<Vec<_>>().join("\n")),
        Pane::Waits | Pane::Recovery | Pane::Replication | Pane::Cache | Pane::Events => None,
    }
}

/// The text of a statement, as the screen may show it, with its lines and without what acts on a terminal: who
/// pastes it into a shell hands every escape sequence in it on.
fn statement(app: &App, sql: &str) -> String {
    text::lines(&app.shown_sql(sql)).collect::<Vec<_>>().join("\n")
}
