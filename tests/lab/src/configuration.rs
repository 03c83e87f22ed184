//! Writes the configuration files of the servers.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The ports of one lab.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) primary: u16,
    pub(crate) standby: u16,
    pub(crate) redis: u16,
}

impl Ports {
    /// Finds three free ports. Nothing reserves them, so a server may find its port taken after
    /// all: the lab then starts again with others.
    pub(crate) fn find() -> Result<Self> {
        let bind = || TcpListener::bind("127.0.0.1:0").context("found no free port on 127.0.0.1");
        // All three stay bound until the end, so that they differ.
        let (primary, standby, redis) = (bind()?, bind()?, bind()?);
        let port = |listener: &TcpListener| {
            listener.local_addr().map(|it| it.port()).context("could not read a port")
        };
        Ok(Self { primary: port(&primary)?, standby: port(&standby)?, redis: port(&redis)? })
    }
}

/// Settings of which a standby may not have less than the server its data came from, with the
/// values which `initdb` leaves in the data.
const AT_LEAST: [(&str, u64); 5] = [
    ("max_connections", 100),
    ("max_worker_processes", 8),
    ("max_wal_senders", 10),
    ("max_prepared_transactions", 0),
    ("max_locks_per_transaction", 64),
];

/// What the two clusters have in common.
pub(crate) struct Common<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) max_connections: u32,
    pub(crate) settings: &'a [(String, String)],
}

impl Common<'_> {
    /// Writes `primary.conf`, which the keeper appends to the primary's configuration.
    pub(crate) fn write_primary(&self, ports: Ports) -> Result<()> {
        let settings = self.settings(ports.primary);
        self.write("primary.conf", &settings)
    }

    /// Writes `standby.conf`, which the keeper appends to the standby's configuration.
    pub(crate) fn write_standby(&self, ports: Ports) -> Result<()> {
        let mut settings = self.settings(ports.standby);
        for (name, least) in AT_LEAST {
            let value = settings.iter_mut().rev().find(|(it, _)| it == name);
            if let Some((_, value)) = value
                && value.parse().is_ok_and(|it: u64| it < least)
            {
                *value = least.to_string();
            }
        }
        let sockets = sockets(self.directory);
        let primary = format!("host={sockets} port={} user=postgres application_name=standby", ports.primary);
        settings.extend(pairs(&[
            ("primary_conninfo", primary.as_str()),
            ("primary_slot_name", "standby"),
            // The standby starts before its slot exists, and shall not wait five seconds for it.
            ("wal_retrieve_retry_interval", "50ms"),
        ]));
        self.write("standby.conf", &settings)
    }

    /// The settings of a cluster; of two with one name PostgreSQL takes the later.
    fn settings(&self, port: u16) -> Vec<(String, String)> {
        let mut settings = pairs(&[
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", &sockets(self.directory)),
            ("port", &port.to_string()),
            ("max_connections", &self.max_connections.to_string()),
            ("shared_preload_libraries", "pg_stat_statements"),
            ("max_prepared_transactions", "20"),
            ("wal_level", "logical"),
            ("fsync", "off"),
            // Shared memory as files of the data directory: it goes with the directory.
            ("dynamic_shared_memory_type", "mmap"),
            ("log_min_messages", "warning"),
            ("log_line_prefix", "%m [%p] %u@%d %a "),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ]);
        settings.extend(self.settings.iter().cloned());
        settings
    }

    fn write(&self, name: &str, settings: &[(String, String)]) -> Result<()> {
        let lines: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
            .collect();
        write(&self.directory.join(name), &lines.concat())
    }
}

/// Writes `redis.conf`.
pub(crate) fn write_redis(directory: &Path, port: u16) -> Result<()> {
    let lab = directory.display();
    let text = format!(
        "bind 127.0.0.1\nport {port}\nunixsocket {}/redis\nunixsocketperm 777\n\
         dir {lab}/data\npidfile {lab}/redis.pid\nlogfile {lab}/redis.log\n\
         save \"\"\nappendonly no\nmaxmemory 20mb\nmaxmemory-policy allkeys-lru\n",
        sockets(directory)
    );
    write(&directory.join("redis.conf"), &text)
}

/// The directory of the unix sockets, whose paths must stay under 107 bytes.
pub(crate) fn sockets(directory: &Path) -> String {
    directory.join("sockets").display().to_string()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
