//! Lock graphs by chance: which sessions there are, what each holds and what it then asks for. The same seed gives
//! the same plan.

/// Sessions of one graph.
const SESSIONS: usize = 56;
/// The tables that are locked as a whole.
const TABLES: [&str; 3] = ["locks.t1", "locks.t2", "locks.t3"];
/// The rows of `locks.rows`.
pub(crate) const ROWS: usize = 6;
/// The advisory lock that only a parallel worker takes at first.
const WORKERS_KEY: usize = 77;

const MODES: [&str; 8] = [
    "ACCESS SHARE",
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
];

const STRENGTHS: [&str; 4] = ["KEY SHARE", "SHARE", "NO KEY UPDATE", "UPDATE"];

/// Numbers that look random and follow from a seed: splitmix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// What a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In a transaction.
    Transaction,
    /// Outside of one: it can only hold advisory locks of the session.
    Idle,
    /// Its transaction is prepared, so that nobody holds its locks.
    Prepared,
    /// In a transaction; its last statement runs in this many processes besides its own.
    Parallel(usize),
    /// Outside of a transaction; builds an index while others write.
    Builder,
}

/// One session of a plan.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) kind: Kind,
    /// Taken at once, or not at all.
    pub(crate) holds: Vec<String>,
    /// Asked for one after the other, until one has to wait.
    pub(crate) demands: Vec<String>,
}

/// A lock graph.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sessions: Vec<Session>,
    /// The order in which the sessions make their demands.
    pub(crate) order: Vec<usize>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut sessions: Vec<Session> =
            (0..SESSIONS).map(|place| session(&mut random, kind(place))).collect();
        // Somebody always waits for what a worker holds.
        sessions[6].demands =
            vec![format!("SELECT locks.hold('SELECT pg_advisory_xact_lock({WORKERS_KEY})')")];
        sessions[10].demands = vec![format!("SELECT pg_advisory_lock_shared({WORKERS_KEY})")];
        let mut order: Vec<usize> = (0..SESSIONS).collect();
        for place in (1..SESSIONS).rev() {
            order.swap(place, random.below(place + 1));
        }
        // And that worker is there first.
        order.retain(|place| *place != 6);
        order.insert(0, 6);
        Self { sessions, order }
    }
}

fn kind(place: usize) -> Kind {
    match place {
        0..3 => Kind::Idle,
        3..6 => Kind::Prepared,
        6 | 7 => Kind::Parallel(1),
        8 => Kind::Parallel(2),
        9 => Kind::Builder,
        _ => Kind::Transaction,
    }
}

fn session(random: &mut Random, kind: Kind) -> Session {
    let holds = match kind {
        Kind::Builder => 0,
        Kind::Idle | Kind::Prepared => 1 + random.below(3),
        Kind::Transaction | Kind::Parallel(_) => random.below(4),
    };
    let holds = (0..holds).map(|_| hold(random, kind)).collect();
    let demands = match kind {
        Kind::Idle | Kind::Prepared => Vec::new(),
        Kind::Builder => vec![format!("CREATE INDEX CONCURRENTLY built ON {} (id)", random.pick(&TABLES))],
        Kind::Parallel(workers) => vec![in_workers(random, workers)],
        Kind::Transaction if random.percent(15) => Vec::new(),
        Kind::Transaction => (0..3).map(|_| demand(random)).collect(),
    };
    Session { kind, holds, demands }
}

/// A lock that is taken at once or not at all.
fn hold(random: &mut Random, kind: Kind) -> String {
    if kind == Kind::Idle {
        return advisory(random, "pg_try_advisory_lock");
    }
    match random.below(10) {
        0..5 => {
            // Weak ones mostly, which several can hold at a time.
            let strongest = if random.percent(80) { 4 } else { MODES.len() };
            let mode = random.pick(&MODES[..strongest]);
            format!("LOCK TABLE {} IN {mode} MODE NOWAIT", random.pick(&TABLES))
        }
        5..7 => {
            let row = random.below(ROWS);
            format!("SELECT id FROM locks.rows WHERE id = {row} FOR {} NOWAIT", random.pick(&STRENGTHS))
        }
        7 => {
            let row = random.below(ROWS);
            format!(
                "SELECT id FROM locks.rows WHERE id = {row} FOR NO KEY UPDATE NOWAIT; \
                 UPDATE locks.rows SET value = value + 1 WHERE id = {row}"
            )
        }
        8 if kind != Kind::Prepared => advisory(random, "pg_try_advisory_lock"),
        _ => advisory(random, "pg_try_advisory_xact_lock"),
    }
}

/// A lock that is waited for.
fn demand(random: &mut Random) -> String {
    match random.below(14) {
        0..7 => format!("LOCK TABLE {} IN {} MODE", random.pick(&TABLES), random.pick(&MODES)),
        7..9 => {
            let row = random.below(ROWS);
            format!("SELECT id FROM locks.rows WHERE id = {row} FOR {}", random.pick(&STRENGTHS))
        }
        9..11 => {
            let first = random.below(ROWS);
            let last = first + random.below(2);
            format!("UPDATE locks.rows SET value = value + 1 WHERE id BETWEEN {first} AND {last}")
        }
        11 => advisory(random, "pg_advisory_lock"),
        12 => advisory(random, "pg_advisory_xact_lock"),
        _ => "COMMENT ON SCHEMA locks IS 'waited for'".to_owned(),
    }
}

/// One of a few advisory locks, shared or not, with one key or two.
fn advisory(random: &mut Random, function: &str) -> String {
    let shared = if random.percent(40) { "_shared" } else { "" };
    let key = random.below(3);
    let keys = if random.percent(50) { key.to_string() } else { format!("1, {key}") };
    format!("SELECT {function}{shared}({keys})")
}

/// A lock that is taken inside of parallel workers, which then go on for long.
fn in_workers(random: &mut Random, workers: usize) -> String {
    let lock = if random.percent(30) {
        advisory(random, "pg_advisory_xact_lock")
    } else {
        format!("LOCK TABLE {} IN {} MODE", random.pick(&TABLES), random.pick(&MODES[..3]))
    };
    // One worker does all of it, or two besides the leader.
    if workers == 1 {
        format!("SELECT locks.hold('{lock}')")
    } else {
        format!("SELECT sum(locks.hold('{lock}')) FROM locks.wide")
    }
}
