//! The plan of the selected statement, asked for once: which text is sent, and how the answer is shown.
//!
//! It must not know how a server is asked.

use std::sync::Arc;

use super::detail::Sheet;
use super::table::{Role, Span};
use super::{App, Effect, Overlay, Pane, statements};
use crate::engine::PgTick;
use crate::model::postgres::{Session, StatementKey};
use crate::model::{Reason, TargetId};
use crate::text::{explained, masked};

/// As much of a session's statement as is read: one of this length or more may be cut off.
const SESSION_TEXT_MAX: usize = 1023;
/// The same of the texts of counted statements.
const COUNTED_TEXT_MAX: usize = 3_999;

/// A plan that was asked for.
#[derive(Debug)]
pub struct Plan {
    /// The server.
    pub target: TargetId,
    /// The text that was sent.
    pub sql: Arc<str>,
    /// The plan, line by line, or why there is none; absent until the server has answered.
    pub answer: Option<Result<Vec<String>, Reason>>,
    /// How many lines it is scrolled by.
    pub offset: usize,
}

/// What would be sent: the text and its database.
struct Question {
    sql: Arc<str>,
    database: Arc<str>,
}

impl App {
    /// Why the selected row has no plan; `None` where one can be asked for.
    pub(super) fn explain_disabled(&self) -> Option<String> {
        if self.replay.is_some() {
            return Some("this is a recording".into());
        }
        if self.past.is_some() {
            let live = self.options.keymap.hint("live");
            return Some(format!("the plan would be that of now: {live} goes back to the present"));
        }
        self.question().err()
    }

    /// Asks for the plan of the selected row.
    pub(super) fn explain(&mut self) -> Vec<Effect> {
        let (Ok(Question { sql, database }), Some(target)) = (self.question(), self.postgres) else {
            return Vec::new();
        };
        let effect = Effect::Explain(target, database, Arc::clone(&sql));
        self.overlay = Some(Overlay::Plan(Plan { target, sql, answer: None, offset: 0 }));
        vec![effect]
    }

    /// Takes the answer to the question that is still open.
    pub(super) fn planned(&mut self, target: TargetId, sql: &str, answer: Result<Vec<String>, Reason>) {
        if let Some(Overlay::Plan(plan)) = &mut self.overlay
            && plan.target == target
            && &*plan.sql == sql
        {
            plan.answer = Some(answer);
        }
    }

    /// The plan as it is shown.
    pub fn plan_sheet(&self, plan: &Plan) -> Sheet {
        let mut fields = vec![("statement", Span::text(self.shown_sql(&plan.sql)))];
        let text = match &plan.answer {
            None => {
                fields.push(("plan", Span::new(Role::Dim, "asked for ...")));
                String::new()
            }
            Some(Err(reason)) => {
                fields.push(("no plan", Span::new(Role::Warning, reason.text.to_string())));
                fields.extend(reason.hint.iter().map(|hint| ("what helps", Span::text(hint.to_string()))));
                String::new()
            }
            Some(Ok(lines)) => lines.iter().map(|line| self.shown_line(line) + "\n").collect(),
        };
        Sheet { title: "Plan, not run".into(), fields, heading: "plan for any values", text }
    }

    /// A line with figures names what is done; one without tells by which values.
    fn shown_line(&self, line: &str) -> String {
        let tells_values = !line.contains("(cost=");
        if self.private && tells_values { masked(line).into_owned() } else { line.to_owned() }
    }

    fn question(&self) -> Result<Question, String> {
        let tick = self.pg().ok_or("no data from a PostgreSQL server yet")?;
        let question = match self.focus {
            Pane::Statements => {
                let selected = self.statements.list.selected.as_ref();
                let row =
                    selected.and_then(|key| statements::find(tick, key)).ok_or("no statement is selected")?;
                of_statement(tick, row.key)
            }
            Pane::Activity | Pane::Locks => {
                of_session(tick, self.session_at_hand().ok_or("no session is selected")?)
            }
            Pane::Recovery | Pane::Replication | Pane::Cache | Pane::Waits | Pane::Tables | Pane::Events => {
                return Err("only in Activity (1), Locks (2) and Statements (3)".into());
            }
        }?;
        explained(&question.sql).map_err(|why| why.to_string())?;
        Ok(question)
    }
}

fn of_statement(tick: &PgTick, key: StatementKey) -> Result<Question, String> {
    let text = tick.sample.statement_texts.get(&key).ok_or("its text has not been read yet")?;
    if COUNTED_TEXT_MAX <= text.len() {
        return Err(format!("its text is longer than {COUNTED_TEXT_MAX} bytes and was read in part"));
    }
    Ok(Question { sql: Arc::clone(text), database: database(tick, key.dbid)? })
}

fn of_session(tick: &PgTick, session: &Session) -> Result<Question, String> {
    let database = database(tick, session.datid.ok_or("the session is in no database")?)?;
    if session.query.len() < SESSION_TEXT_MAX {
        return Ok(Question { sql: Arc::clone(&session.query), database });
    }
    // Cut off here, but perhaps known as a whole among the counted ones.
    let texts = &tick.sample.statement_texts;
    let counted = texts.iter().find(|(key, _)| Some(key.queryid) == session.query_id);
    let (key, _) = counted.ok_or("its text is cut off (track_activity_query_size)")?;
    of_statement(tick, *key)
}

fn database(tick: &PgTick, oid: u32) -> Result<Arc<str>, String> {
    let known = tick.sample.names.databases.get(&oid);
    known.cloned().ok_or_else(|| "the name of its database has not been read yet".into())
}
