//! Deadlines, and waiting for a condition: the one place of the lab that reads the clock.

#![allow(clippy::disallowed_methods, reason = "deadlines need the clock")]

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// A moment after which waiting is in vain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The deadline that lies `limit` from now.
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Says if the moment has passed.
    pub(crate) fn passed(self) -> bool {
        self.0 <= Instant::now()
    }
}

/// Looks at a condition until it holds; an error of the last look is part of the message.
pub(crate) async fn until<F, W>(what: &str, limit: Duration, mut look: F) -> Result<()>
where
    F: FnMut() -> W,
    W: Future<Output = Result<bool>>,
{
    let deadline = Deadline::after(limit);
    loop {
        let seen = look().await;
        if matches!(seen, Ok(true)) {
            return Ok(());
        }
        if deadline.passed() {
            match seen {
                Ok(_) => bail!("waited {} ms in vain for {what}", limit.as_millis()),
                Err(error) => {
                    return Err(error.context(format!("waited {} ms in vain for {what}", limit.as_millis())));
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
