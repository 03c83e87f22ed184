//! The two forms of a connection string (manual, "Connection Strings"): `host=... dbname=...` and
//! `postgresql://...`. Text to parameters, nothing else: the meaning of a parameter is not known here.
//!
//! What may be a piece of a password is not repeated: it often holds what should have been quoted or encoded.

use super::{Parameters, SettingsError, keywords};

/// Whether the text begins like a PostgreSQL URI.
pub fn looks_like_uri(text: &str) -> bool {
    rest_of_uri(text).is_some()
}

/// Whether the text looks like `keyword=value` pairs.
pub fn looks_like_conninfo(text: &str) -> bool {
    text.split_once('=').is_some_and(|(keyword, _)| {
        let keyword = keyword.trim();
        !keyword.is_empty() && keyword.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    })
}

fn rest_of_uri(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// Reads `keyword = value` pairs; a value may stand in single quotes, and a backslash takes the next character
/// as it is.
pub(super) fn parse_keywords(text: &str) -> Result<Parameters, SettingsError> {
    let mut parameters = Parameters::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(parameters);
        }
        let mut keyword = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            keyword.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            // The word is not repeated: it may be part of a password that was not quoted.
            return Err(SettingsError("missing \"=\" after a word of the connection string".into()));
        }
        keywords::check(&keyword, parameters.contains_key("password"))?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let value = keyword_value(&keyword, &mut chars)?;
        parameters.insert(keyword, value);
    }
}

fn keyword_value(
    keyword: &str,
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<String, SettingsError> {
    let quoted = chars.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match chars.peek().copied() {
            None if quoted => {
                return Err(SettingsError(format!("the quoted value of \"{keyword}\" has no closing quote")));
            }
            None => return Ok(value),
            Some('\'') if quoted => {
                chars.next();
                return Ok(value);
            }
            Some(c) if !quoted && c.is_whitespace() => return Ok(value),
            Some('\\') => {
                chars.next();
                value.extend(chars.next());
            }
            Some(c) => {
                chars.next();
                value.push(c);
            }
        }
    }
}

/// What to do where a URI was not read as it was meant.
const ENCODE: &str =
    "in a name or password write %2F for \"/\", %3F for \"?\", %23 for \"#\", %40 for \"@\", %3A for \":\"";

/// Reads `postgresql://[user[:password]@][host[:port][,...]][/database][?parameter=value[&...]]`.
pub(super) fn parse_uri(text: &str) -> Result<Parameters, SettingsError> {
    let rest = rest_of_uri(text).ok_or_else(|| SettingsError("not a PostgreSQL URI".into()))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    if user_info.is_empty() && hosts.contains(':') && database.contains('@') {
        return Err(SettingsError(format!("the URI has an \"@\" after its first \"/\": {ENCODE}")));
    }

    let mut parameters = Parameters::new();
    let mut set = |keyword: &str, raw: &str| -> Result<(), SettingsError> {
        if !raw.is_empty() {
            parameters.insert(keyword.to_owned(), percent_decode(keyword, raw)?);
        }
        Ok(())
    };
    set("user", user)?;
    set("password", password)?;
    set("dbname", database)?;
    let (names, ports) = split_hosts(hosts)?;
    set("host", &names)?;
    set("port", &ports)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (keyword, value) = pair
            .split_once('=')
            .ok_or_else(|| SettingsError("a parameter of the URI has no \"=\"".into()))?;
        if (keyword, value) == ("ssl", "true") {
            set("sslmode", "require")?;
        } else {
            let keyword = percent_decode("parameter", keyword)?;
            keywords::check(&keyword, query.contains('@'))?;
            set(&keyword, value)?;
        }
    }
    Ok(parameters)
}

/// `a:1,[::1]:2` to the lists `a,::1` and `1,2`.
fn split_hosts(hosts: &str) -> Result<(String, String), SettingsError> {
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = if let Some(bracketed) = host.strip_prefix('[') {
            let (address, rest) = bracketed
                .split_once(']')
                .ok_or_else(|| SettingsError("an IPv6 address of the URI has no closing \"]\"".into()))?;
            (address, rest.strip_prefix(':').unwrap_or(rest))
        } else {
            host.split_once(':').unwrap_or((host, ""))
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(SettingsError(format!("the port of the URI is not a number: {ENCODE}")));
        }
        names.push(name);
        ports.push(port);
    }
    let all_empty = |list: &[&str]| list.iter().all(|word| word.is_empty());
    let join = |list: &[&str]| if all_empty(list) { String::new() } else { list.join(",") };
    Ok((join(&names), join(&ports)))
}

fn percent_decode(keyword: &str, raw: &str) -> Result<String, SettingsError> {
    let invalid =
        || SettingsError(format!("the value of \"{keyword}\" in the URI is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or_else(invalid);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok().filter(|b| *b != 0).ok_or_else(invalid)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}
