//! Connecting before the screen opens, so that what waiting does not cure is said in one sentence on standard
//! error, with the terminal untouched.

use std::collections::BTreeMap;

use futures::future::join_all;
use tokio::sync::{mpsc, watch};

use super::Failure;
use crate::config::{PgTarget, RedisTarget, Targets};
use crate::model::{Sample, Target, TargetId};
use crate::sources::postgres::settings::Secret;
use crate::sources::postgres::{self, ConnectError, Cure};
use crate::sources::{Pace, redis};
use crate::terminal;

/// A password is asked for this often before it is given up.
const PASSWORD_TRIES: usize = 3;

/// A target that can be started: connected, or to be connected later, with the reason why not yet.
#[derive(Debug)]
pub(super) enum Opened {
    Postgres(Target, Box<postgres::Opened>, Option<ConnectError>),
    Redis(Target, Box<redis::Opened>, Option<ConnectError>),
}

impl Opened {
    pub(super) const fn target(&self) -> &Target {
        match self {
            Self::Postgres(target, ..) | Self::Redis(target, ..) => target,
        }
    }

    /// Why it is not connected.
    pub(super) const fn failure(&self) -> Option<&ConnectError> {
        match self {
            Self::Postgres(_, _, failure) | Self::Redis(_, _, failure) => failure.as_ref(),
        }
    }
}

/// The running sources.
#[derive(Debug, Default)]
pub(super) struct Handles {
    pub(super) postgres: BTreeMap<TargetId, postgres::Handle>,
    pub(super) redis: BTreeMap<TargetId, redis::Handle>,
}

/// Connects to every target. Fails when none can be reached for a reason that waiting does not cure, unless
/// `wait` says to go on all the same.
pub(super) async fn open(targets: Targets, wait: bool) -> Result<Vec<Opened>, Failure> {
    let may_ask = targets.may_ask;
    let ask_first = targets.ask_first;
    let mut waiting = Vec::new();
    for mut target in targets.postgres {
        if ask_first {
            ask(&mut target)?;
        }
        waiting.push(target);
    }
    let (mut opened, redis): (Vec<Opened>, Vec<Opened>) = futures::join!(
        join_all(waiting.into_iter().map(|target| open_postgres(target, may_ask))),
        join_all(targets.redis.into_iter().map(open_redis))
    );
    opened.extend(redis);
    let hopeless = |it: &Opened| it.failure().is_some_and(|error| error.cure != Cure::Wait);
    if !wait && !opened.is_empty() && opened.iter().all(hopeless) {
        let reasons: Vec<String> =
            opened.iter().filter_map(Opened::failure).map(|error| error.reason.to_string()).collect();
        return Err(Failure::unreachable(reasons.join(" | ")));
    }
    Ok(opened)
}

async fn open_postgres(mut target: PgTarget, may_ask: bool) -> Opened {
    for _ in 0..PASSWORD_TRIES {
        match postgres::open(target.settings.clone()).await {
            Ok(opened) => return Opened::Postgres(target.target, Box::new(opened), None),
            Err(error) if error.cure == Cure::Password && may_ask => {
                if ask(&mut target).is_err() {
                    return not_yet(target, Some(error));
                }
            }
            Err(error) => {
                return not_yet(target, Some(error));
            }
        }
    }
    not_yet(target, None)
}

fn not_yet(target: PgTarget, failure: Option<ConnectError>) -> Opened {
    Opened::Postgres(target.target, Box::new(postgres::not_yet_open(target.settings)), failure)
}

fn ask(target: &mut PgTarget) -> Result<(), Failure> {
    let prompt =
        super::one_line(&format!("Password for user {} on {}: ", target.settings.user, target.target.name));
    match terminal::ask_password(&prompt) {
        Ok(answer) => {
            target.settings.password = Some(Secret(answer));
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
            Err(Failure { message: "interrupted".into(), code: 130 })
        }
        Err(error) => Err(Failure::unreachable(format!(
            "cannot ask for a password: {error}; set PGPASSWORD or use ~/.pgpass"
        ))),
    }
}

async fn open_redis(target: RedisTarget) -> Opened {
    match redis::open(target.settings.clone()).await {
        Ok(opened) => Opened::Redis(target.target, Box::new(opened), None),
        Err(error) => {
            Opened::Redis(target.target, Box::new(redis::not_yet_open(target.settings)), Some(error))
        }
    }
}

/// Starts reading every target.
pub(super) fn start(
    opened: Vec<Opened>,
    pace: &watch::Receiver<Pace>,
    samples: &mpsc::Sender<Sample>,
) -> Handles {
    let mut handles = Handles::default();
    for it in opened {
        match it {
            Opened::Postgres(target, opened, _) => {
                drop(
                    handles.postgres.insert(target.id, opened.start(&target, pace.clone(), samples.clone())),
                );
            }
            Opened::Redis(target, opened, _) => {
                drop(handles.redis.insert(target.id, opened.start(&target, pace.clone(), samples.clone())));
            }
        }
    }
    handles
}
