//! A laboratory of real incidents: starts a PostgreSQL primary, a hot standby and a Redis in a
//! temporary directory, and plays real load on them.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use dbtriage_lab::{Lab, Options, Scenario};
//!
//! let lab = Lab::start(Options::default())?;
//! let load = lab.play(Scenario::LockPileup)?;
//! println!("{:?} blocks {:?}", load.facts.root_pid, load.facts.blocked_pids);
//! # Ok(())
//! # }
//! ```
//!
//! The servers end with their owner, however it ends: see the keeper. Several labs run side by
//! side, each on its own ports and in its own directory. A server that is not installed is an
//! error which names the cure, never a reason to skip a test.

mod cache;
mod client;
mod configuration;
mod engine;
mod every_major;
pub mod imitation;
mod keeper;
mod laboratory;
mod majors;
mod pooler;
mod postgres;
mod programs;
mod proxy;
mod scenario;
mod shop;
mod stage;
mod stopped;
pub mod terminal;
mod wait;

pub use cache::Redis;
pub use client::{Client, Running};
pub use every_major::on_every_other_major;
pub use laboratory::{Lab, Options};
pub use majors::{MAJORS, server_directory};
pub use pooler::{PoolMode, Pooler};
pub use postgres::Postgres;
pub use proxy::{Network, Proxy};
pub use scenario::{Facts, Load, Scenario};
pub use stopped::Stopped;
