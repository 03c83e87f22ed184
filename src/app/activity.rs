//! Pane 1: the sessions, one by one or grouped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::list::{ListState, RowKey};
use super::table::{Align, Cell, Column, Role, Sort, Sql, Value, Width};
use crate::engine::PgTick;
use crate::engine::filter::Filter;
use crate::engine::vitals::is_own;
use crate::format::seconds_between;
use crate::model::postgres::{Session, SessionId, State};

/// What sessions are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the fields")]
pub enum GroupBy {
    Application,
    Client,
    User,
    Database,
    State,
    #[strum(serialize = "wait event")]
    Wait,
}

impl GroupBy {
    const fn next(self) -> Option<Self> {
        match self {
            Self::Application => Some(Self::Client),
            Self::Client => Some(Self::User),
            Self::User => Some(Self::Database),
            Self::Database => Some(Self::State),
            Self::State => Some(Self::Wait),
            Self::Wait => None,
        }
    }

    /// What a session has in common with its group.
    fn value(self, row: &ActivityRow<'_>) -> String {
        let session = row.session;
        if row.is_own() && self == Self::Application {
            return "(ours)".into();
        }
        match self {
            Self::Application => session.application_name.to_string(),
            Self::Client => row.client(),
            Self::User => row.user(),
            Self::Database => row.database(),
            Self::State => row.state().to_owned(),
            Self::Wait => row.wait().unwrap_or_else(|| "-".into()),
        }
    }
}

/// The sessions that alone are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// Those of a group.
    Group(GroupBy, String),
    /// Those that waited as is looked at in Waits.
    Waited(BTreeSet<SessionId>),
}

impl Only {
    fn holds(&self, row: &ActivityRow<'_>) -> bool {
        match self {
            Self::Group(by, value) => by.value(row) == *value,
            Self::Waited(sessions) => sessions.contains(&row.session.id),
        }
    }
}

/// State of the pane.
#[derive(Debug)]
pub struct ActivityView {
    /// Rows and selection.
    pub list: ListState,
    /// The order of the rows.
    pub sort: Sort,
    /// The text filter as typed.
    pub filter_text: String,
    /// How the sessions are grouped; `None`: not at all.
    pub group_by: Option<GroupBy>,
    /// Only some sessions are shown.
    pub only: Option<Only>,
    /// Whether idle sessions are shown.
    pub show_idle: bool,
    /// Whether rows keep their places although their figures change.
    pub frozen: bool,
    /// Sessions that the filters leave out.
    pub hidden: usize,
    /// Sessions that the filters leave out, listed because they block one that is shown.
    filtered: BTreeSet<SessionId>,
    /// The selected session after it has gone: it stays, struck through, until another is selected.
    pub departed: Option<Session>,
}

impl Default for ActivityView {
    fn default() -> Self {
        Self {
            list: ListState::default(),
            sort: Sort { column: "xact", descending: true },
            filter_text: String::new(),
            group_by: None,
            only: None,
            show_idle: true,
            frozen: false,
            hidden: 0,
            filtered: BTreeSet::new(),
            departed: None,
        }
    }
}

/// One session and what it is seen against.
#[derive(Debug, Clone, Copy)]
pub struct ActivityRow<'a> {
    /// The session.
    pub session: &'a Session,
    /// The tick it belongs to.
    pub tick: &'a PgTick,
    /// Whether it has gone.
    pub departed: bool,
    /// Whether the filters leave it out, and it is listed only because a session that is shown waits for it.
    pub filtered: bool,
}

/// A column of the pane.
pub(super) type ActivityColumn = Column<fn(&ActivityRow<'_>) -> Cell>;

const fn column(
    name: &'static str,
    title: &'static str,
    width: u16,
    align: Align,
    priority: u8,
    cell: fn(&ActivityRow<'_>) -> Cell,
) -> ActivityColumn {
    Column { name, title, width: Width::Fixed(width), align, priority, cell }
}

/// Every column, in the default order.
pub(super) const COLUMNS: &[ActivityColumn] = &[
    column("pid", "pid", 7, Align::Right, 0, |row| Value::Integer(row.session.id.pid.into()).into()),
    column("user", "user", 12, Align::Left, 5, |row| Value::Text(row.user()).into()),
    column("app", "application", 16, Align::Left, 2, |row| Value::Text(row.application()).into()),
    column("db", "database", 10, Align::Left, 7, |row| Value::Text(row.database()).into()),
    column("client", "client", 15, Align::Left, 8, |row| Value::Text(row.client()).into()),
    column("state", "state", 10, Align::Left, 1, state_cell),
    column("wait", "wait", 22, Align::Left, 4, |row| match row.wait() {
        Some(wait) => Cell {
            value: Value::Text(wait),
            role: if row.session.waits_for_lock() { Role::Warning } else { Role::Text },
        },
        None => Value::None.into(),
    }),
    column("behind", "behind", 6, Align::Right, 3, |row| {
        let behind = row.tick.forest.value().map_or(0, |forest| forest.behind(row.session.id.pid));
        match i64::try_from(behind) {
            Ok(0) | Err(_) => Value::None.into(),
            // Whoever waits in the middle is not the one to look for.
            Ok(behind) if row.session.waits_for_lock() => Value::Integer(behind).into(),
            Ok(behind) => Cell { value: Value::Integer(behind), role: Role::Critical },
        }
    }),
    column("xact", "xact", 7, Align::Right, 1, |row| row.age(row.session.xact_start).into()),
    column("stmt", "stmt", 7, Align::Right, 3, |row| {
        let running = row.session.state == Some(State::Active);
        row.age(row.session.query_start.filter(|_| running)).into()
    }),
    Column {
        name: "query",
        title: "query",
        width: Width::Rest,
        align: Align::Left,
        priority: 0,
        cell: |row| Value::Sql(row.query()).into(),
    },
];

fn state_cell(row: &ActivityRow<'_>) -> Cell {
    let (word, role) = match row.session.state {
        Some(State::Active) => ("active", Role::Text),
        Some(State::Idle) => ("idle", Role::Dim),
        Some(State::IdleInTransaction) => ("idle in tx", Role::Warning),
        Some(State::IdleInTransactionAborted) => ("idle abort", Role::Warning),
        Some(State::FastpathFunctionCall) => ("fastpath", Role::Text),
        Some(State::Starting) => ("starting", Role::Text),
        Some(State::Disabled) => ("disabled", Role::Dim),
        None => return Value::Unknown.into(),
    };
    Cell { value: Value::Text(word.to_owned()), role }
}

impl<'a> ActivityRow<'a> {
    /// A session of the tick.
    pub const fn present(session: &'a Session, tick: &'a PgTick) -> Self {
        Self { session, tick, departed: false, filtered: false }
    }
}

impl ActivityRow<'_> {
    /// Whether the session is one of ours.
    pub fn is_own(&self) -> bool {
        is_own(&self.tick.sample, self.session)
    }

    /// The role's name.
    pub fn user(&self) -> String {
        self.session.usesysid.map_or_else(String::new, |oid| self.tick.sample.names.role(oid).to_string())
    }

    /// The database's name.
    pub fn database(&self) -> String {
        self.session.datid.map_or_else(String::new, |oid| self.tick.sample.names.database(oid).to_string())
    }

    /// The client's address, or that it came over the socket.
    pub fn client(&self) -> String {
        match (self.session.client_addr, self.session.client_port) {
            (Some(address), _) => address.to_string(),
            (None, Some(-1)) => "socket".into(),
            (None, _) => String::new(),
        }
    }

    fn application(&self) -> String {
        if self.is_own() { "(ours)".into() } else { self.session.application_name.to_string() }
    }

    fn state(&self) -> &'static str {
        self.session.state.map_or("?", State::as_str)
    }

    fn wait(&self) -> Option<String> {
        let (kind, event) = (self.session.wait_event_type.as_deref()?, self.session.wait_event.as_deref()?);
        Some(format!("{kind}:{event}"))
    }

    fn age(&self, since: Option<jiff::Timestamp>) -> Value {
        // Of one that has gone no age goes on.
        let since = since.filter(|_| !self.departed);
        Value::some(since, |since| Value::Age(seconds_between(since, self.tick.sample.server_time)))
    }

    /// The statement; `last:` in front when it is over, and why it is listed where that needs saying.
    pub fn query(&self) -> Sql {
        let mut before = String::new();
        if self.filtered {
            let behind = self.tick.forest.value().map_or(0, |forest| forest.behind(self.session.id.pid));
            let blocks = if behind > 0 { format!(", blocks {behind}") } else { String::new() };
            before = format!("(outside the filter{blocks}) ");
        }
        let over = self.session.state.is_some_and(|state| state != State::Active);
        if over && !self.session.query.trim().is_empty() {
            before.push_str("last: ");
        }
        Sql { before, text: Arc::clone(&self.session.query) }
    }

    pub(super) fn searched(&self) -> String {
        let session = self.session;
        [
            session.id.pid.to_string(),
            self.user(),
            self.application(),
            self.database(),
            self.client(),
            self.state().to_owned(),
            self.wait().unwrap_or_default(),
            session.query.to_string(),
        ]
        .join(" ")
    }
}

/// A group of sessions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupRow {
    /// What they have in common.
    pub name: String,
    /// Sessions in all.
    pub total: usize,
    /// Running a statement.
    pub active: usize,
    /// Waiting for a lock.
    pub waiting: usize,
    /// Idle in a transaction.
    pub idle_in_transaction: usize,
    /// Idle.
    pub idle: usize,
    /// Age of their oldest transaction, seconds.
    pub oldest_transaction_seconds: Option<f64>,
}

impl ActivityView {
    /// Lists the rows anew.
    pub(super) fn refresh(&mut self, tick: &PgTick, columns: &[ActivityColumn]) {
        let before = std::mem::take(&mut self.list.rows);
        if let Some(by) = self.group_by {
            let groups = groups(tick, by);
            self.hidden = 0;
            self.list.rows = before;
            self.list.set_rows(groups.into_iter().map(|group| RowKey::Group(group.name)).collect());
            return;
        }
        let (mut shown, hidden) = self.passing(tick);
        self.hidden = hidden;
        self.order(&mut shown, columns, &before);
        let rows: Vec<RowKey> = shown.iter().map(|row| RowKey::Session(row.session.id)).collect();
        self.filtered = shown.iter().filter(|row| row.filtered).map(|row| row.session.id).collect();
        // The selected row stays although it does not pass any more, and says so.
        if let Some(RowKey::Session(id)) = self.list.selected
            && !rows.contains(&RowKey::Session(id))
        {
            self.filtered.insert(id);
        }
        self.list.rows = before;
        self.list.set_rows(rows);
        self.remember(tick);
    }

    /// The sessions that pass the filters, with how many do not. Of those that do not, whoever blocks one that is
    /// shown is listed all the same.
    fn passing<'a>(&self, tick: &'a PgTick) -> (Vec<ActivityRow<'a>>, usize) {
        let filter = Filter::parse(&self.filter_text);
        let sessions = tick.sample.sessions.value().map(Vec::as_slice).unwrap_or_default();
        let all = sessions
            .iter()
            .filter(|session| session.is_client())
            .map(|session| ActivityRow::present(session, tick));
        let passes = |row: &ActivityRow<'_>| {
            let blocks = || tick.forest.value().is_some_and(|forest| forest.behind(row.session.id.pid) > 0);
            // One who blocks others is never hidden as idle: it is what is being looked for.
            (self.show_idle || row.session.state != Some(State::Idle) || blocks())
                && self.only.as_ref().is_none_or(|only| only.holds(row))
                && (filter.is_empty() || filter.passes(&row.searched()))
        };
        let (mut shown, left_out): (Vec<_>, Vec<_>) = all.partition(passes);
        let forest = tick.forest.value().filter(|_| !left_out.is_empty());
        let ahead = forest.map(|forest| forest.pids_ahead(shown.iter().map(|row| row.session.id.pid)));
        let blocks_shown =
            |row: &ActivityRow<'_>| ahead.as_ref().is_some_and(|pids| pids.contains(&row.session.id.pid));
        let total = left_out.len();
        let blockers: Vec<_> = left_out.into_iter().filter(blocks_shown).collect();
        let hidden = total - blockers.len();
        shown.extend(blockers.into_iter().map(|row| ActivityRow { filtered: true, ..row }));
        (shown, hidden)
    }

    fn order(&self, rows: &mut [ActivityRow<'_>], columns: &[ActivityColumn], before: &[RowKey]) {
        let by = columns.iter().chain(COLUMNS).find(|column| column.name == self.sort.column);
        let Some(by) = by else { return };
        let keyed = |row: &ActivityRow<'_>| (by.cell)(row).value;
        rows.sort_by_key(|row| row.session.id);
        let mut values: Vec<(Value, usize, ActivityRow<'_>)> =
            rows.iter().map(|row| (keyed(row), rank(row.session), *row)).collect();
        values.sort_by(|(a, a_rank, a_row), (b, b_rank, b_row)| {
            // What was asked for comes first, who blocks it after that.
            let order = a_row.filtered.cmp(&b_row.filtered).then(a.compare(b, self.sort.descending));
            order.then(a_rank.cmp(b_rank))
        });
        if self.frozen {
            let place = |row: &ActivityRow<'_>| {
                before.iter().position(|key| *key == RowKey::Session(row.session.id)).unwrap_or(usize::MAX)
            };
            values.sort_by_cached_key(|(.., row)| place(row));
        }
        for (slot, (.., row)) in rows.iter_mut().zip(values) {
            *slot = row;
        }
    }

    /// The data of the selected session are kept for the time after it has gone.
    fn remember(&mut self, tick: &PgTick) {
        if let Some(RowKey::Session(id)) = self.list.selected
            && let Some(session) = find(tick, id)
        {
            self.departed = Some(session.clone());
        }
    }

    /// Whether a row is listed only because it blocks one that is shown.
    pub(super) fn is_filtered(&self, key: &RowKey) -> bool {
        matches!(key, RowKey::Session(id) if self.filtered.contains(id))
    }

    /// The row of a key: from the tick, or the departed one.
    pub fn row<'a>(&'a self, tick: &'a PgTick, key: &RowKey) -> Option<ActivityRow<'a>> {
        let RowKey::Session(id) = key else { return None };
        let present = find(tick, *id).map(|session| ActivityRow {
            filtered: self.filtered.contains(id),
            ..ActivityRow::present(session, tick)
        });
        present.or_else(|| {
            let departed = self.departed.as_ref().filter(|departed| departed.id == *id);
            departed.map(|session| ActivityRow { departed: true, ..ActivityRow::present(session, tick) })
        })
    }

    /// Groups the sessions, or stops to.
    pub(super) fn group(&mut self, by: Option<GroupBy>) {
        self.group_by = by;
        self.only = None;
        self.list.selected = None;
    }

    pub(super) fn next_group(&mut self) {
        self.group(self.group_by.map_or(Some(GroupBy::Application), GroupBy::next));
    }

    /// Shows the sessions of the selected group.
    pub(super) fn open_group(&mut self) -> bool {
        let (Some(by), Some(RowKey::Group(name))) = (self.group_by, self.list.selected.clone()) else {
            return false;
        };
        self.group(None);
        self.only = Some(Only::Group(by, name));
        true
    }

    /// Takes every filter away, so that nothing that is looked for is hidden.
    pub(super) fn show_all(&mut self) {
        self.group(None);
        self.filter_text.clear();
        self.show_idle = true;
    }
}

/// Among equals those come first that do something.
fn rank(session: &Session) -> usize {
    session
        .state
        .and_then(|state| State::ALL.iter().position(|known| *known == state))
        .unwrap_or(State::ALL.len())
}

/// The session of an identity.
pub(super) fn find(tick: &PgTick, id: SessionId) -> Option<&Session> {
    tick.sessions_of(id.pid).find(|session| session.id == id)
}

/// The sessions of a group.
pub fn of_group<'a>(tick: &'a PgTick, by: GroupBy, name: &str) -> Vec<&'a Session> {
    let sessions = tick.sample.sessions.value().into_iter().flatten();
    let clients = sessions.filter(|session| session.is_client());
    clients.filter(|session| by.value(&ActivityRow::present(session, tick)) == name).collect()
}

/// The groups of all client sessions, largest first.
pub fn groups(tick: &PgTick, by: GroupBy) -> Vec<GroupRow> {
    let sessions = tick.sample.sessions.value().map(Vec::as_slice).unwrap_or_default();
    let mut groups: BTreeMap<String, GroupRow> = BTreeMap::new();
    for session in sessions.iter().filter(|session| session.is_client()) {
        let row = ActivityRow::present(session, tick);
        let name = by.value(&row);
        let group = groups.entry(name.clone()).or_insert_with(|| GroupRow { name, ..GroupRow::default() });
        group.total += 1;
        group.active += usize::from(session.state == Some(State::Active));
        group.waiting += usize::from(session.waits_for_lock());
        group.idle_in_transaction += usize::from(session.state.is_some_and(State::is_idle_in_transaction));
        group.idle += usize::from(session.state == Some(State::Idle));
        let age = session
            .xact_start
            .filter(|_| !row.is_own())
            .map(|start| seconds_between(start, tick.sample.server_time));
        group.oldest_transaction_seconds =
            [group.oldest_transaction_seconds, age].into_iter().flatten().max_by(f64::total_cmp);
    }
    let mut groups: Vec<GroupRow> = groups.into_values().collect();
    groups.sort_by(|a, b| b.total.cmp(&a.total).then(a.name.cmp(&b.name)));
    groups
}
