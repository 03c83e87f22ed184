//! From the words of the command line to servers with their settings.

use super::{ConfigError, File};
use crate::cli::ConnectionArgs;
use crate::model::{Kind, Target, TargetId};
use crate::sources::postgres::settings::{self as pg, Environment, Parameters, Secret};
use crate::sources::redis;
use crate::text;

/// What to watch.
#[derive(Debug)]
pub struct Targets {
    /// PostgreSQL servers.
    pub postgres: Vec<PgTarget>,
    /// Redis servers.
    pub redis: Vec<RedisTarget>,
    /// What should be said before anything else, such as a password that others can see.
    pub warnings: Vec<String>,
    /// Whether a password may be asked for.
    pub may_ask: bool,
    /// Whether a password is asked for before the first attempt.
    pub ask_first: bool,
}

impl Targets {
    /// The targets as they are shown.
    pub fn names(&self) -> String {
        let postgres = self.postgres.iter().map(|it| it.target.name.as_str());
        let redis = self.redis.iter().map(|it| it.target.name.as_str());
        postgres.chain(redis).collect::<Vec<_>>().join(", ")
    }
}

/// A PostgreSQL server.
#[derive(Debug)]
pub struct PgTarget {
    /// Its name and place.
    pub target: Target,
    /// How to connect.
    pub settings: pg::Settings,
}

/// A Redis server.
#[derive(Debug)]
pub struct RedisTarget {
    /// Its name and place.
    pub target: Target,
    /// How to connect.
    pub settings: redis::Settings,
}

/// What was named, before it is resolved.
#[derive(Default)]
struct Named {
    postgres: Vec<Parameters>,
    redis: Vec<(String, Option<Secret>)>,
}

/// Finds out what every word means.
pub(super) fn resolve(
    args: &ConnectionArgs,
    file: &File,
    environment: &Environment,
) -> Result<Targets, ConfigError> {
    let mut named = Named::default();
    for word in &args.targets {
        named.add(word, file)?;
    }
    let typed =
        [("host", &args.host), ("port", &args.port), ("user", &args.username), ("dbname", &args.dbname)];
    let mut flags: Parameters =
        typed.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect();
    if let Some(conninfo) =
        args.dbname.as_deref().filter(|word| pg::looks_like_uri(word) || pg::looks_like_conninfo(word))
    {
        // psql: a connection string in place of the name overrides the flags.
        flags.remove("dbname");
        flags.extend(pg::parse(conninfo).map_err(|error| ConfigError(error.to_string()))?);
    }
    let only_redis =
        named.postgres.is_empty() && flags.is_empty() && !(named.redis.is_empty() && args.redis.is_empty());
    if named.postgres.is_empty() && (!only_redis || libpq_environment(environment)) {
        named.postgres.push(Parameters::new());
    }
    let own_password =
        environment.get("REDISCLI_AUTH").filter(|word| !word.is_empty()).map(|word| Secret(word.clone()));
    named.redis.extend(args.redis.iter().map(|url| (url.clone(), None)));

    let mut targets = Targets {
        postgres: Vec::new(),
        redis: Vec::new(),
        warnings: Vec::new(),
        may_ask: !args.no_password,
        ask_first: args.password,
    };
    for mut parameters in named.postgres {
        // psql: a flag wins over what the connection string says.
        parameters.extend(flags.clone());
        let settings =
            pg::resolve(&parameters, environment).map_err(|error| ConfigError(error.to_string()))?;
        targets.add_postgres(settings);
    }
    let typed_urls: Vec<&String> = args.targets.iter().chain(&args.redis).chain(&args.dbname).collect();
    if typed_urls.iter().any(|url| redis::url_has_password(url) || has_postgres_password(url)) {
        let warning = "a password on the command line can be read by every user of this machine (ps): use ~/.pgpass, PGPASSWORD, REDISCLI_AUTH or the config";
        targets.warnings.push(warning.into());
    }
    for (url, password) in named.redis {
        let settings = redis::settings(&url, password.or_else(|| own_password.clone()).as_ref())
            .map_err(|reason| ConfigError(reason.to_string()))?;
        targets.add_redis(settings);
    }
    Ok(targets)
}

fn has_postgres_password(word: &str) -> bool {
    (pg::looks_like_uri(word) || pg::looks_like_conninfo(word))
        && pg::parse(word).is_ok_and(|given| given.contains_key("password"))
}

/// Somebody who has set these wants PostgreSQL too, though only a Redis was named.
fn libpq_environment(environment: &Environment) -> bool {
    ["PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE"]
        .iter()
        .any(|name| environment.get(*name).is_some_and(|value| !value.is_empty()))
}

impl Named {
    fn add(&mut self, word: &str, file: &File) -> Result<(), ConfigError> {
        if redis::looks_like_url(word) {
            self.redis.push((word.to_owned(), None));
        } else if pg::looks_like_uri(word) || pg::looks_like_conninfo(word) {
            self.postgres.push(pg::parse(word).map_err(|error| ConfigError(error.to_string()))?);
        } else if let Some(profile) = file.profiles.get(word) {
            for conninfo in &profile.postgres {
                let given = pg::parse(conninfo)
                    .map_err(|error| ConfigError(format!("profile \"{word}\": {error}")))?;
                self.postgres.push(given);
            }
            let password = profile.redis_password.clone().map(Secret);
            self.redis.extend(profile.redis.iter().map(|url| (url.clone(), password.clone())));
        } else {
            let nearest = text::nearest(word, file.profiles.keys().map(String::as_str));
            // A mistyped URL may hold a password.
            let word = if word.contains(['@', '=']) || word.contains("://") { "..." } else { word };
            return Err(ConfigError(format!(
                "unknown target \"{word}\"{}: give postgres://..., redis://..., \"host=... dbname=...\", a profile of the config, or a database with -d",
                text::did_you_mean(nearest)
            )));
        }
        Ok(())
    }
}

impl Targets {
    fn next(&self, name: String, kind: Kind) -> Target {
        Target { id: TargetId(self.postgres.len() + self.redis.len()), name, kind }
    }

    fn add_postgres(&mut self, settings: pg::Settings) {
        let servers: Vec<String> = settings.endpoints.iter().map(ToString::to_string).collect();
        let server = servers.join(",");
        self.warnings.extend(settings.warning());
        let target = self.next(format!("{server}/{}", settings.database), Kind::Postgres);
        self.postgres.push(PgTarget { target, settings });
    }

    fn add_redis(&mut self, settings: redis::Settings) {
        let target = self.next(settings.name.clone(), Kind::Redis);
        self.redis.push(RedisTarget { target, settings });
    }
}
