//! The private runtime of a lab, behind calls that block.
//!
//! The caller may itself be inside of a tokio runtime, where `block_on` panics: work is spawned
//! here and its result comes back through a plain channel.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::runtime::{Builder, Handle, Runtime};

/// A small multi-threaded runtime that can be dropped anywhere.
#[derive(Debug)]
pub(crate) struct Engine {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Engine {
    /// Starts the runtime with two workers.
    pub(crate) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("lab")
            .enable_all()
            .build()
            .context("could not start the lab's runtime")?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    /// Runs a future to its end and blocks the calling thread meanwhile, for at most `limit`.
    pub(crate) fn run<T, F>(&self, limit: Duration, future: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.start(future).wait(limit)
    }

    /// Starts a future and returns at once.
    pub(crate) fn start<T, F>(&self, future: F) -> Pending<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        self.handle.spawn(async move {
            // Nobody waits any more when this fails: the result has no reader.
            sender.send(future.await).ok();
        });
        Pending { receiver }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The result of a future that runs in the engine.
#[derive(Debug)]
pub(crate) struct Pending<T> {
    receiver: mpsc::Receiver<Result<T>>,
}

impl<T> Pending<T> {
    /// Waits for the result, for at most `limit`.
    pub(crate) fn wait(&self, limit: Duration) -> Result<T> {
        match self.receiver.recv_timeout(limit) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(anyhow!("no answer within {} ms", limit.as_millis())),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(anyhow!("the work ended without a result: it panicked, or was waited for before"))
            }
        }
    }
}
