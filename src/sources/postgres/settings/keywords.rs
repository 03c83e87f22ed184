//! The names that a connection string may hold, as data: what decides something here, what is accepted and changes
//! nothing, and what cannot be promised. It must not know where a value came from.

use super::{Parameters, SettingsError};

/// Parameters of libpq that decide something here, with their environment variable.
pub(super) const KNOWN: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("service", "PGSERVICE"),
    ("servicefile", "PGSERVICEFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("options", "PGOPTIONS"),
    ("gssencmode", "PGGSSENCMODE"),
    ("require_auth", "PGREQUIREAUTH"),
    ("requirepeer", "PGREQUIREPEER"),
    ("requiressl", "PGREQUIRESSL"),
    ("min_protocol_version", "PGMINPROTOCOLVERSION"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("sslcertmode", "PGSSLCERTMODE"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
];

/// Of these only the values that ask for nothing can be met. Who writes another one wants no connection without it.
const UNMET: &[(&str, &[&str])] = &[
    ("gssencmode", &["disable", "prefer"]),
    ("require_auth", &[]),
    ("requirepeer", &[]),
    ("requiressl", &["0"]),
    ("min_protocol_version", &["3.0"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("sslcertmode", &["allow"]),
    ("sslcrl", &[]),
    ("sslcrldir", &[]),
];

/// Parameters of libpq that are accepted and change nothing here.
const IGNORED: &[&str] = &[
    "application_name",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "replication",
    "scram_client_key",
    "scram_server_key",
    "ssl_max_protocol_version",
    "sslcompression",
    "sslkeylogfile",
    "sslpassword",
    "sslsni",
    "tcp_user_timeout",
];

/// Refuses a keyword that libpq does not know. It is repeated only where it cannot be a piece of a password that
/// should have been quoted: `may_be_password` says whether one may have begun before it.
pub(super) fn check(keyword: &str, may_be_password: bool) -> Result<(), SettingsError> {
    let names = || KNOWN.iter().map(|(name, _)| *name).chain(IGNORED.iter().copied());
    if names().any(|name| name == keyword) {
        return Ok(());
    }
    let is_word = !keyword.is_empty() && keyword.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    Err(SettingsError(if is_word && !may_be_password {
        let nearest = crate::text::nearest(keyword, names());
        format!("unknown connection parameter \"{keyword}\"{}", crate::text::did_you_mean(nearest))
    } else {
        "unknown connection parameter (not repeated: it may be part of a password, which needs quotes where it \
         holds a blank, and percent-encoding in a URI)"
            .into()
    }))
}

/// Refuses what asks for more than is done here.
pub(super) fn check_met(parameters: &Parameters) -> Result<(), SettingsError> {
    let unmet = UNMET.iter().find(|(keyword, met)| {
        parameters.get(*keyword).is_some_and(|value| !value.is_empty() && !met.contains(&value.as_str()))
    });
    let Some((keyword, met)) = unmet else { return Ok(()) };
    let variable = KNOWN.iter().find(|(name, _)| name == keyword).map_or("", |(_, variable)| *variable);
    let instead = if met.is_empty() { String::new() } else { format!(", or use {}", met.join(" or ")) };
    Err(SettingsError(format!(
        "{keyword} ({variable}) asks for more than dbtriage can promise: leave it out to connect without{instead}"
    )))
}
