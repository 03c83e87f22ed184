//! Connecting before the screen opens, so that what waiting does not cure is said in one sentence on standard
//! error, with the terminal untouched.

use std::collections::BTreeMap;

use futures::future::join_all;
use tokio::sync::{Mutex, mpsc, watch};

use super::Failure;
use crate::config::{PgTarget, RedisTarget, Targets};
use crate::model::{Body, Outage, Sample, Target, TargetId};
use crate::sources::postgres::settings::Secret;
use crate::sources::postgres::{self, ConnectError, Cure};
use crate::sources::{Pace, redis};
use crate::terminal;

/// The exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;
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

    /// Why there are no data, as a sample says it; `None` when it is connected.
    pub(super) fn outage(&self) -> Option<Sample> {
        let error = self.failure()?;
        let at = super::now();
        let outage = Outage { kind: error.outage, reason: error.reason.clone(), since: at, retry_at: None };
        let body = Body::Outage(outage);
        Some(Sample { target: self.target().id, asked_at: at, taken_at: at, body })
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
/// `wait` says to go on all the same, and when a question for a password is interrupted.
pub(super) async fn open(targets: Targets, wait: bool) -> Result<Vec<Opened>, Failure> {
    let questions =
        Questions { may_ask: targets.may_ask, ask_first: targets.ask_first, one_at_a_time: Mutex::new(()) };
    let (postgres, redis) = futures::join!(
        join_all(targets.postgres.into_iter().map(|target| open_postgres(target, &questions))),
        join_all(targets.redis.into_iter().map(open_redis))
    );
    let mut opened = postgres.into_iter().collect::<Result<Vec<_>, _>>()?;
    opened.extend(redis);
    let hopeless = |it: &Opened| it.failure().is_some_and(|error| error.cure != Cure::Wait);
    if !wait && !opened.is_empty() && opened.iter().all(hopeless) {
        let reasons: Vec<String> =
            opened.iter().filter_map(Opened::failure).map(|error| error.reason.to_string()).collect();
        return Err(Failure::unreachable(reasons.join(" | ")));
    }
    Ok(opened)
}

/// When a password is asked for.
struct Questions {
    may_ask: bool,
    ask_first: bool,
    /// Several servers may want one, and there is one terminal.
    one_at_a_time: Mutex<()>,
}

async fn open_postgres(mut target: PgTarget, questions: &Questions) -> Result<Opened, Failure> {
    if questions.ask_first {
        ask(&mut target, questions).await?;
    }
    let mut failure = None;
    for _ in 0..PASSWORD_TRIES {
        match postgres::open(target.settings.clone()).await {
            Ok(opened) => return Ok(Opened::Postgres(target.target, Box::new(opened), None)),
            Err(error) => {
                let wants_password = error.cure == Cure::Password && questions.may_ask;
                failure = Some(error);
                if !wants_password {
                    break;
                }
                match ask(&mut target, questions).await {
                    Err(interrupted) if interrupted.code == INTERRUPTED => return Err(interrupted),
                    // Without a terminal to ask on, the server's wish is what is told.
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
        }
    }
    Ok(Opened::Postgres(target.target, Box::new(postgres::not_yet_open(target.settings)), failure))
}

async fn ask(target: &mut PgTarget, questions: &Questions) -> Result<(), Failure> {
    let _turn = questions.one_at_a_time.lock().await;
    let prompt =
        super::one_line(&format!("Password for user {} on {}: ", target.settings.user, target.target.name));
    // On a thread of its own, so that a signal can end the program while it waits for the answer.
    let answer = tokio::task::spawn_blocking(move || terminal::ask_password(&prompt)).await;
    match answer.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(answer) => {
            target.settings.password = Some(Secret(answer));
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
            Err(Failure { message: "interrupted".into(), code: INTERRUPTED })
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
