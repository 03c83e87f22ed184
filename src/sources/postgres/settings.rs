//! Where and how to connect to PostgreSQL, resolved the way libpq does it.
//!
//! From lowest to highest: libpq's defaults, the environment, the service file, the connection string and the
//! flags (manual, "The Connection Service File": a service file overrides the environment and is overridden by
//! the connection string). The password file is asked last. The environment is an argument, so that tests need
//! not change their own. It must not know how a connection is opened.

mod conninfo;
mod keywords;
mod passfile;
mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use conninfo::{looks_like_conninfo, looks_like_uri};

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// Connection parameters by libpq's keyword.
pub type Parameters = BTreeMap<String, String>;

/// A server and how to reach it: every question answered, nothing looked up again.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers to try, in order; never empty.
    pub endpoints: Vec<Endpoint>,
    /// The role to log in as.
    pub user: String,
    /// The database to connect to.
    pub database: String,
    /// The password, where it is known for all endpoints.
    pub password: Option<Secret>,
    /// The password file, where one was there to be asked.
    pub password_file: Option<PasswordFile>,
    /// How much TLS is asked for.
    pub sslmode: SslMode,
    /// Authorities that are trusted.
    pub root_certificates: RootCertificates,
    /// Client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Whether SCRAM must, may or must not be bound to the TLS channel.
    pub channel_binding: tokio_postgres::config::ChannelBinding,
    /// How TLS is begun.
    pub ssl_negotiation: tokio_postgres::config::SslNegotiation,
    /// Command-line options for the server process.
    pub options: Option<String>,
    /// The limit of one attempt to connect, from the first packet to the first prompt.
    pub connect_timeout: Duration,
    /// Which kind of server is wanted when there are several.
    pub target_session_attrs: TargetSessionAttrs,
}

impl Settings {
    /// What should be said before connecting.
    pub fn warning(&self) -> Option<String> {
        let file = self.password_file.as_ref().filter(|file| !file.is_private)?.path.display();
        Some(format!("the password file {file} is ignored, because others may read it: chmod 0600 {file}"))
    }
}

/// A password file (`passfile`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whether nobody else may read it; else it is not used.
    pub is_private: bool,
}

/// One server that may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub host: Host,
    /// Its port; part of the socket's name for a Unix socket.
    pub port: u16,
    /// The password that the password file has for it.
    pub password: Option<Secret>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A host name or address, with the address to use instead of a look-up.
    Tcp {
        /// The name, also used to check the certificate.
        name: String,
        /// The address, when given by `hostaddr`.
        address: Option<std::net::IpAddr>,
    },
    /// The folder of a Unix socket.
    Socket(PathBuf),
}

impl Endpoint {
    /// The same at one address, where that is known and nothing else was asked for.
    pub(super) fn at(&self, found: Option<std::net::IpAddr>) -> Self {
        let host = match &self.host {
            Host::Tcp { name, address } => Host::Tcp { name: name.clone(), address: address.or(found) },
            Host::Socket(folder) => Host::Socket(folder.clone()),
        };
        Self { host, ..self.clone() }
    }

    /// What is connected to, as one looks for it: an address and port, or the file of the socket.
    pub(super) fn listener(&self) -> String {
        match &self.host {
            Host::Tcp { .. } => self.to_string(),
            Host::Socket(folder) => folder.join(format!(".s.PGSQL.{}", self.port)).display().to_string(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp { name, .. } if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Tcp { name, .. } => write!(f, "{name}:{}", self.port),
            Host::Socket(folder) => write!(f, "{}:{}", folder.display(), self.port),
        }
    }
}

/// A password. It is never printed, not even by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// `sslmode`. libpq's `allow` is read as `prefer`, which asks for more, never for less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it, unchecked.
    Prefer,
    /// TLS, unchecked, unless root certificates are at hand: then as `VerifyCa`.
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for this host.
    VerifyFull,
}

/// `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCertificates {
    /// None known: fine unless `sslmode` asks for a check.
    None,
    /// Those of the operating system (`sslrootcert=system`).
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    /// The first server that lets us in.
    Any,
    /// A server out of recovery (`primary`, `read-write`).
    Primary,
    /// A server in recovery (`standby`, `read-only`).
    Standby,
    /// A server in recovery, or else any.
    PreferStandby,
}

/// Why settings cannot be resolved; the text says what, and what to do.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// The longest that one attempt may take unless `connect_timeout` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a connection string of either form into parameters.
pub fn parse(text: &str) -> Result<Parameters, SettingsError> {
    if looks_like_uri(text) { conninfo::parse_uri(text) } else { conninfo::parse_keywords(text) }
}

/// Answers every question that `given` leaves open from the service file, the environment and the defaults.
pub fn resolve(given: &Parameters, environment: &Environment) -> Result<Settings, SettingsError> {
    let mut parameters = given.clone();
    fill_from_service(&mut parameters, environment)?;
    for (keyword, variable) in keywords::KNOWN {
        // An empty variable counts as not set, as in libpq.
        if let Some(value) = environment.get(*variable).filter(|value| !value.is_empty()) {
            parameters.entry((*keyword).to_owned()).or_insert_with(|| value.clone());
        }
    }
    keywords::check_met(&parameters)?;
    let get = |keyword: &str| parameters.get(keyword).map(String::as_str).filter(|value| !value.is_empty());
    let user = get("user")
        .map(str::to_owned)
        .or_else(|| operating_system_user(environment))
        .ok_or_else(|| SettingsError("no user name is known: give it with -U or set PGUSER".into()))?;
    let database = get("dbname").map_or_else(|| user.clone(), str::to_owned);
    let mut endpoints = endpoints(get("host"), get("hostaddr"), get("port"))?;
    let password = get("password").map(|word| Secret(word.to_owned()));
    let mut password_file = None;
    if password.is_none()
        && let Some((file, text)) = passfile::locate(get("passfile"), environment).and_then(passfile::read)
    {
        for endpoint in &mut endpoints {
            endpoint.password = passfile::find(&text, endpoint, &database, &user);
        }
        password_file = Some(file);
    }
    let sslmode = sslmode(get("sslmode"), get("sslrootcert"))?;
    Ok(Settings {
        endpoints,
        password,
        password_file,
        sslmode,
        root_certificates: root_certificates(get("sslrootcert"), environment),
        client_certificate: client_certificate(get("sslcert"), get("sslkey"), environment)?,
        channel_binding: channel_binding(get("channel_binding"))?,
        ssl_negotiation: ssl_negotiation(get("sslnegotiation"), sslmode)?,
        options: get("options").map(str::to_owned),
        connect_timeout: connect_timeout(get("connect_timeout"))?,
        target_session_attrs: target_session_attrs(get("target_session_attrs"))?,
        user,
        database,
    })
}

fn fill_from_service(parameters: &mut Parameters, environment: &Environment) -> Result<(), SettingsError> {
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
    let Some(name) = parameters.get("service").cloned().or_else(|| variable("PGSERVICE")) else {
        return Ok(());
    };
    let given_file = parameters.get("servicefile").cloned().or_else(|| variable("PGSERVICEFILE"));
    for (keyword, value) in service::read(&name, given_file.as_deref(), environment)? {
        parameters.entry(keyword).or_insert(value);
    }
    Ok(())
}

fn operating_system_user(environment: &Environment) -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map(|user| user.name)
        .or_else(|| environment.get("USER").cloned())
}

/// The folder of the home directory that libpq looks into, from `HOME` as libpq does.
fn home(environment: &Environment) -> Option<PathBuf> {
    environment.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

fn endpoints(
    host: Option<&str>,
    hostaddr: Option<&str>,
    port: Option<&str>,
) -> Result<Vec<Endpoint>, SettingsError> {
    let split =
        |list: Option<&str>| list.map_or_else(Vec::new, |list| list.split(',').map(str::to_owned).collect());
    let (hosts, addresses): (Vec<String>, Vec<String>) = (split(host), split(hostaddr));
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(SettingsError(format!(
            "{} host names for {} hostaddr values: give one address for each name",
            hosts.len(),
            addresses.len()
        )));
    }
    let count = hosts.len().max(addresses.len()).max(1);
    let ports = port_numbers(port, count)?;
    (0..count)
        .map(|place| {
            let name = hosts.get(place).map(|name| name.trim()).filter(|name| !name.is_empty());
            let address = addresses.get(place).map(|word| word.trim()).filter(|word| !word.is_empty());
            let host = host_of(name, address)?;
            let port = ports.get(place).or_else(|| ports.first()).copied().unwrap_or(5432);
            Ok(Endpoint { host, port, password: None })
        })
        .collect()
}

fn host_of(name: Option<&str>, address: Option<&str>) -> Result<Host, SettingsError> {
    let address = address
        .map(|word| {
            word.parse().map_err(|_| SettingsError(format!("hostaddr \"{word}\" is not an IP address")))
        })
        .transpose()?;
    Ok(match (name, address) {
        (Some(path), None) if path.starts_with('/') => Host::Socket(path.into()),
        (Some(name), address) => Host::Tcp { name: name.to_owned(), address },
        (None, Some(address)) => Host::Tcp { name: address.to_string(), address: Some(address) },
        (None, None) => default_host(),
    })
}

/// Debian's libpq looks in /var/run/postgresql, the original in /tmp: the first that exists.
fn default_host() -> Host {
    ["/var/run/postgresql", "/tmp"]
        .into_iter()
        .map(PathBuf::from)
        .find(|folder| folder.is_dir())
        .map_or_else(|| Host::Tcp { name: "localhost".into(), address: None }, Host::Socket)
}

fn port_numbers(port: Option<&str>, hosts: usize) -> Result<Vec<u16>, SettingsError> {
    let Some(list) = port else { return Ok(vec![5432]) };
    let ports = list
        .split(',')
        .map(|word| match word.trim() {
            "" => Ok(5432),
            word => word
                .parse()
                .ok()
                .filter(|number| *number > 0)
                .ok_or_else(|| SettingsError(format!("port \"{word}\" is not a number from 1 to 65535"))),
        })
        .collect::<Result<Vec<u16>, _>>()?;
    if ports.len() > 1 && ports.len() != hosts {
        return Err(SettingsError(format!(
            "{} ports for {hosts} hosts: give one port, or one for each",
            ports.len()
        )));
    }
    Ok(ports)
}

fn one_of<T: Copy>(keyword: &str, value: &str, allowed: &[(&str, T)]) -> Result<T, SettingsError> {
    allowed.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = allowed.iter().map(|(word, _)| *word).collect();
        SettingsError(format!("{keyword} \"{value}\" is not known: use one of {}", words.join(", ")))
    })
}

fn sslmode(value: Option<&str>, root_certificates: Option<&str>) -> Result<SslMode, SettingsError> {
    let Some(value) = value else {
        // libpq: the system's roots are only useful with the full check, so that is their default.
        return Ok(if root_certificates == Some("system") { SslMode::VerifyFull } else { SslMode::Prefer });
    };
    let mode = one_of(
        "sslmode",
        value,
        &[
            ("disable", SslMode::Disable),
            ("allow", SslMode::Prefer),
            ("prefer", SslMode::Prefer),
            ("require", SslMode::Require),
            ("verify-ca", SslMode::VerifyCa),
            ("verify-full", SslMode::VerifyFull),
        ],
    )?;
    if root_certificates == Some("system") && mode != SslMode::VerifyFull {
        return Err(SettingsError(format!(
            "sslmode \"{value}\" is too weak for sslrootcert=system: use sslmode=verify-full"
        )));
    }
    Ok(mode)
}

fn root_certificates(value: Option<&str>, environment: &Environment) -> RootCertificates {
    match value {
        Some("system") => RootCertificates::System,
        Some(file) => RootCertificates::File(file.into()),
        None => home(environment)
            .map(|home| home.join(".postgresql/root.crt"))
            .filter(|file| file.exists())
            .map_or(RootCertificates::None, RootCertificates::File),
    }
}

fn client_certificate(
    certificate: Option<&str>,
    key: Option<&str>,
    environment: &Environment,
) -> Result<Option<(PathBuf, PathBuf)>, SettingsError> {
    let in_home = |name: &str| home(environment).map(|home| home.join(".postgresql").join(name));
    let default_key = || in_home("postgresql.key").filter(|file| file.exists());
    match (certificate, key) {
        (Some(certificate), key) => {
            let key = key.map(PathBuf::from).or_else(default_key).ok_or_else(|| {
                SettingsError(format!("the certificate {certificate} has no key: give it with sslkey"))
            })?;
            Ok(Some((certificate.into(), key)))
        }
        (None, key) => {
            let certificate = in_home("postgresql.crt").filter(|file| file.exists());
            Ok(certificate.zip(key.map(PathBuf::from).or_else(default_key)))
        }
    }
}

fn channel_binding(value: Option<&str>) -> Result<tokio_postgres::config::ChannelBinding, SettingsError> {
    use tokio_postgres::config::ChannelBinding::{Disable, Prefer, Require};
    let allowed = [("disable", Disable), ("prefer", Prefer), ("require", Require)];
    one_of("channel_binding", value.unwrap_or("prefer"), &allowed)
}

fn ssl_negotiation(
    value: Option<&str>,
    sslmode: SslMode,
) -> Result<tokio_postgres::config::SslNegotiation, SettingsError> {
    use tokio_postgres::config::SslNegotiation::{Direct, Postgres};
    let allowed = [("postgres", Postgres), ("direct", Direct)];
    let negotiation = one_of("sslnegotiation", value.unwrap_or("postgres"), &allowed)?;
    if negotiation == Direct && matches!(sslmode, SslMode::Disable | SslMode::Prefer) {
        // libpq: without an answer to a question nobody learns whether the server speaks TLS at all.
        return Err(SettingsError(
            "sslnegotiation=direct needs TLS: use sslmode=require, verify-ca or verify-full with it".into(),
        ));
    }
    Ok(negotiation)
}

fn connect_timeout(value: Option<&str>) -> Result<Duration, SettingsError> {
    let Some(word) = value else { return Ok(CONNECT_TIMEOUT) };
    let seconds: i64 = word
        .parse()
        .map_err(|_| SettingsError(format!("connect_timeout \"{word}\" is not a number of seconds")))?;
    // libpq: zero or less waits for ever, which a monitor must not; one second is raised to two.
    Ok(u64::try_from(seconds)
        .ok()
        .filter(|s| *s > 0)
        .map_or(CONNECT_TIMEOUT, |s| Duration::from_secs(s.clamp(2, 60))))
}

fn target_session_attrs(value: Option<&str>) -> Result<TargetSessionAttrs, SettingsError> {
    use TargetSessionAttrs::{Any, PreferStandby, Primary, Standby};
    one_of(
        "target_session_attrs",
        value.unwrap_or("any"),
        &[
            ("any", Any),
            ("read-write", Primary),
            ("read-only", Standby),
            ("primary", Primary),
            ("standby", Standby),
            ("prefer-standby", PreferStandby),
        ],
    )
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
