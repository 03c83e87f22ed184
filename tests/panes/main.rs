//! What is read on real servers of every major version: sessions as they change, and beside the tick tables and what works on
//! them, housekeeping, and counters of very many statements.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test fails by panicking, measures time by the clock, and says what it measured"
)]

mod sessions;
mod statements;
mod tables;
mod upkeep;

use std::time::Duration;

use dbtriage::model::postgres::Sample as PgSample;
use dbtriage::model::{Body, Kind, Sample, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::postgres::settings::{self, Environment};
use dbtriage::sources::postgres::{self, Handle};
use dbtriage_lab::{Lab, Options, Postgres};
use tokio::sync::{mpsc, watch};

/// The longest that anything may take to show.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program's connections to a server, as a role of the database `shop`.
pub(crate) struct Watching {
    _handle: Handle,
    pace: watch::Sender<Pace>,
    samples: mpsc::Receiver<Sample>,
}

impl Watching {
    pub(crate) async fn start(server: &Postgres, user: &str) -> Self {
        let conninfo = settings::parse(&server.conninfo(user, "shop")).unwrap();
        let settings = settings::resolve(&conninfo, &Environment::new()).unwrap();
        let (sender, samples) = mpsc::channel(1);
        let (pace_sender, pace) = watch::channel(Pace::screen(Duration::from_millis(500)));
        let target = Target { id: TargetId(0), name: "shop".into(), kind: Kind::Postgres };
        let handle = postgres::open(settings).await.unwrap().start(&target, pace, sender);
        Self { _handle: handle, pace: pace_sender, samples }
    }

    /// Shows the tables, or shows them no more.
    pub(crate) fn look_at_tables(&self, looks: bool) {
        self.pace.send_modify(|pace| pace.tables_of = looks.then_some(TargetId(0)));
    }

    /// The next sample.
    pub(crate) async fn next(&mut self) -> Sample {
        self.samples.recv().await.unwrap()
    }

    /// The first sample in which something is found.
    pub(crate) async fn wait_for<T>(&mut self, what: &str, look: impl Fn(&PgSample) -> Option<T>) -> T {
        self.wait_within(PATIENCE, what, look).await
    }

    pub(crate) async fn wait_within<T>(
        &mut self,
        limit: Duration,
        what: &str,
        look: impl Fn(&PgSample) -> Option<T>,
    ) -> T {
        let found = tokio::time::timeout(limit, async {
            loop {
                if let Body::Postgres(sample) = self.next().await.body
                    && let Some(found) = look(&sample)
                {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("waited {limit:?} for {what}"))
    }
}

pub(crate) fn lab(settings: &[(&str, &str)]) -> Lab {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Lab::start(Options { standby: false, redis: false, settings, ..Options::default() }).unwrap()
}

#[test]
fn every_other_major() {
    dbtriage_lab::on_every_other_major(&["every_other_major", "statements::"]).unwrap();
}
