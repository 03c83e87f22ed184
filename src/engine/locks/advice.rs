//! What is the least that helps against a root, in words; never done by itself.
//!
//! It must not promise more than would happen: queues drain one by one, so the figure named is `frees_now`.

use super::{Forest, Node, NodeKind, RootSituation};
use crate::format;

/// What is the least that helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// What to do.
    pub action: AdvisedAction,
    /// To which process; `None` when there is none to act on.
    pub pid: Option<i32>,
    /// Why, in a sentence.
    pub reason: String,
    /// The statement to run where no signal helps.
    pub statement: Option<String>,
}

/// The kinds of advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvisedAction {
    /// Cancel the statement.
    Cancel,
    /// Terminate the session.
    Terminate,
    /// It ends by itself.
    Wait,
    /// Finish the prepared transaction in SQL.
    RollbackPrepared,
    /// Nothing that can be done here.
    None,
}

impl AdvisedAction {
    /// Its name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Wait => "wait",
            Self::RollbackPrepared => "rollback_prepared",
            Self::None => "none",
        }
    }
}

impl Forest {
    /// What is the least that helps against a root.
    pub fn advice(&self, root: &Node) -> Advice {
        self.waiter_to_cancel(root).unwrap_or_else(|| root.advice())
    }

    /// What helps as well, where something else does.
    pub fn alternative(&self, root: &Node) -> Option<Advice> {
        if self.waiter_to_cancel(root).is_some() {
            let own = root.advice();
            return matches!(
                own.action,
                AdvisedAction::Cancel | AdvisedAction::Terminate | AdvisedAction::RollbackPrepared
            )
            .then_some(own);
        }
        let ddl = self.waiting_ddl(root)?;
        Some(cancel_waiter(ddl, root))
    }

    /// The one waiter whose cancel is better than anything done to the root: the only one that waits for the root
    /// itself, so that nobody is left behind it; or, while the root works, a schema change that others queue behind.
    fn waiter_to_cancel(&self, root: &Node) -> Option<Advice> {
        if root.kind == NodeKind::Deadlock {
            return None;
        }
        let only = self.children(root).next().filter(|child| {
            root.behind_directly == 1
                && child.behind + 1 == root.behind
                && child.is_cancellable()
                && child.frees_now > 0
        });
        let ddl = || self.waiting_ddl(root).filter(|_| root.situation == RootSituation::Active);
        only.or_else(ddl).map(|waiter| cancel_waiter(waiter, root))
    }

    /// The schema change waiting for a root that most others queue behind.
    fn waiting_ddl<'a>(&'a self, root: &'a Node) -> Option<&'a Node> {
        self.children(root)
            .filter(|child| child.is_waiting_ddl() && child.is_cancellable() && child.frees_now > 0)
            .max_by_key(|child| child.behind)
    }
}

fn cancel_waiter(waiter: &Node, root: &Node) -> Advice {
    let what = if waiter.is_waiting_ddl() { "its DDL" } else { "its statement" };
    let stays = match root.kind {
        NodeKind::Session => root.pid_text(),
        NodeKind::Prepared | NodeKind::Deadlock | NodeKind::Unknown => root.title(),
    };
    advise(
        AdvisedAction::Cancel,
        waiter.pid,
        format!("cancel {} frees {} now; {what} fails, {stays} stays", waiter.pid_text(), waiter.frees_now),
    )
}

const fn advise(action: AdvisedAction, pid: Option<i32>, reason: String) -> Advice {
    Advice { action, pid, reason, statement: None }
}

impl Node {
    /// Whether it waits for a table lock that most others must queue behind: the mark of a schema change.
    pub(super) fn is_waiting_ddl(&self) -> bool {
        self.waits_for.as_ref().is_some_and(|wait| {
            &*wait.tag.locktype == "relation"
                && matches!(
                    &*wait.mode,
                    "AccessExclusiveLock" | "ShareRowExclusiveLock" | "ExclusiveLock" | "ShareLock"
                )
        })
    }

    /// Whether a cancel would reach a statement of a client.
    const fn is_cancellable(&self) -> bool {
        matches!(self.kind, NodeKind::Session) && matches!(self.situation, RootSituation::Active)
    }

    /// What helps against the root itself, by its state.
    fn advice(&self) -> Advice {
        match self.kind {
            NodeKind::Deadlock => advise(
                AdvisedAction::Wait,
                None,
                "the server cancels one of them within deadlock_timeout".into(),
            ),
            NodeKind::Prepared => self.prepared_advice(),
            NodeKind::Unknown => advise(
                AdvisedAction::None,
                self.pid,
                "the holder is not in the list of sessions: it has gone, or it still logs in".into(),
            ),
            NodeKind::Session => self.session_advice(),
        }
    }

    fn prepared_advice(&self) -> Advice {
        let Some(gid) = &self.gid else {
            return advise(
                AdvisedAction::None,
                None,
                "a prepared transaction whose name is not known yet".into(),
            );
        };
        let statement = format!("ROLLBACK PREPARED {};", format::literal(gid));
        let database = self.database.as_deref().unwrap_or("its database");
        Advice {
            action: AdvisedAction::RollbackPrepared,
            pid: None,
            reason: format!(
                "{statement} in database {database}, or COMMIT PREPARED: it has no process to signal"
            ),
            statement: Some(statement),
        }
    }

    fn session_advice(&self) -> Advice {
        let pid = self.pid_text();
        let frees = self.frees_now;
        // Queues drain one by one: those who are not freed at once go on when the one before them has ended.
        let later = match self.behind.saturating_sub(frees) {
            0 => String::new(),
            others => format!(", then {others} in turn"),
        };
        let (action, reason) = match self.situation {
            RootSituation::IdleInTransaction => (
                AdvisedAction::Terminate,
                format!("terminate {pid} frees {frees} now{later}; its transaction rolls back"),
            ),
            RootSituation::Active => (
                AdvisedAction::Cancel,
                format!("cancel {pid} first: frees {frees} now{later}, unless its transaction stays open"),
            ),
            RootSituation::ClientRead => (
                AdvisedAction::Terminate,
                format!("terminate {pid} frees {frees} now{later}; a cancel does not reach it while it waits for its client's data"),
            ),
            RootSituation::Idle => (
                AdvisedAction::Terminate,
                format!("terminate {pid} frees {frees} now; idle, so it holds advisory locks: check first, it may be a leader lock or a migration lock"),
            ),
            RootSituation::SyncRep => (
                AdvisedAction::None,
                format!("{pid} has committed and waits for a standby; ending it only gives up that wait: restore the standby or change synchronous_standby_names"),
            ),
            RootSituation::Autovacuum => {
                (AdvisedAction::Wait, "autovacuum yields to a waiting lock by itself within deadlock_timeout".into())
            }
            RootSituation::AutovacuumWraparound => (
                AdvisedAction::Wait,
                "autovacuum to prevent wraparound does not yield: let it finish, if cancelled it starts again".into(),
            ),
            RootSituation::Startup => (
                AdvisedAction::None,
                "the startup process replays a lock of the primary: end the transaction there".into(),
            ),
            RootSituation::Walsender => {
                (AdvisedAction::None, format!("{pid} is a walsender: ending it breaks replication or a backup"))
            }
            RootSituation::Background => {
                (AdvisedAction::None, format!("{pid} is a process of the server itself: it must not be ended"))
            }
            RootSituation::Unknown => (
                AdvisedAction::None,
                format!("the state of {pid} is hidden from this role: GRANT pg_monitor TO your role"),
            ),
        };
        advise(action, self.pid, reason)
    }

    fn pid_text(&self) -> String {
        self.pid.map_or_else(|| "it".into(), |pid| pid.to_string())
    }
}
