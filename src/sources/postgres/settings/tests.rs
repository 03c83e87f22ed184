//! libpq's rules, one line a case.

use std::os::unix::fs::PermissionsExt as _;

use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn resolved(text: &str, pairs: &[(&str, &str)]) -> Settings {
    resolve(&parse(text).unwrap(), &environment(pairs)).unwrap()
}

fn error(text: &str) -> String {
    parse(text).and_then(|given| resolve(&given, &environment(&[("PGUSER", "u")]))).unwrap_err().to_string()
}

#[test]
fn both_forms_say_the_same() {
    let keywords = parse(r"host=shop-db port=5433 user='on call' dbname=reports password='it\'s'").unwrap();
    let uri = parse("postgres://on%20call:it's@shop-db:5433/reports").unwrap();
    assert_eq!(keywords, uri);
}

#[test]
fn uris_of_every_shape_are_read() {
    let cases = [
        ("postgresql://", vec![]),
        ("postgresql://localhost", vec![("host", "localhost")]),
        (
            "postgresql://u@h1:1,h2:2/d",
            vec![("dbname", "d"), ("host", "h1,h2"), ("port", "1,2"), ("user", "u")],
        ),
        ("postgresql://[::1]:5433/d", vec![("dbname", "d"), ("host", "::1"), ("port", "5433")]),
        ("postgresql://%2Ftmp%2Fpg/d", vec![("dbname", "d"), ("host", "/tmp/pg")]),
        (
            "postgresql:///d?host=/tmp&sslmode=require",
            vec![("dbname", "d"), ("host", "/tmp"), ("sslmode", "require")],
        ),
        (
            "postgresql://u:p%40ss@h/d?ssl=true",
            vec![("dbname", "d"), ("host", "h"), ("password", "p@ss"), ("sslmode", "require"), ("user", "u")],
        ),
    ];
    for (uri, expected) in cases {
        let found = parse(uri).unwrap();
        let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{uri}");
    }
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("host=a sslmod=require", "unknown connection parameter \"sslmod\": did you mean \"sslmode\"?"),
        ("host=a port=x", "port \"x\" is not a number from 1 to 65535"),
        ("host=a,b port=1,2,3", "3 ports for 2 hosts: give one port, or one for each"),
        ("host='a", "the quoted value of \"host\" has no closing quote"),
        (
            "sslmode=verify",
            "sslmode \"verify\" is not known: use one of disable, allow, prefer, require, verify-ca, verify-full",
        ),
        (
            "sslrootcert=system sslmode=require",
            "sslmode \"require\" is too weak for sslrootcert=system: use sslmode=verify-full",
        ),
        ("host=x hostaddr=nonsense", "hostaddr \"nonsense\" is not an IP address"),
        ("secret", "missing \"=\" after a word of the connection string"),
        ("postgres://h/d?x", "a parameter of the URI has no \"=\""),
        ("postgres://h/%zz", "the value of \"dbname\" in the URI is not percent-encoded UTF-8"),
        (
            "service=nowhere",
            "service \"nowhere\" is not defined (no service file was found): add a section [nowhere] to ~/.pg_service.conf",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(error(text), message);
    }
}

#[test]
fn a_password_that_was_not_quoted_or_encoded_is_never_repeated() {
    let cases = [
        "host=h password=a hunter2zq=x",
        "host=h password=a hunter=x",
        "host=h password=a hunter='x",
        "postgres://oncall:a?hunter2zq@db.example:5432/shop?sslmode=require",
        "postgres://oncall:a?hunter=b@db.example:5432/shop",
        "postgres://oncall:hunter2/x@h/shop",
        "postgres://oncall:123/hunter2@h/shop",
        "postgres://oncall:hunter2",
        "postgres://oncall:hunter2#x@h:1/shop/x",
    ];
    for text in cases {
        let said =
            parse(text).map_or_else(|error| error.to_string(), |given| format!("{:?}", given.get("host")));
        assert!(!said.contains("hunter"), "{text}: {said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    std::fs::write(&file, "[shop]\npassword hunter2zq=\n").unwrap();
    let given = parse(&format!("service=shop servicefile={}", file.display())).unwrap();
    let said = resolve(&given, &environment(&[])).unwrap_err().to_string();
    assert!(said.contains("line 2") && !said.contains("hunter2"), "{said}");
}

#[test]
fn what_cannot_be_promised_is_refused_wherever_it_is_asked_for() {
    let variables = [("PGUSER", "u"), ("PGGSSENCMODE", "require")];
    let said = resolve(&Parameters::new(), &environment(&variables)).unwrap_err().to_string();
    assert!(said.starts_with("gssencmode (PGGSSENCMODE) asks for more"), "{said}");
    assert!(error("sslnegotiation=direct").contains("use sslmode=require"));
    resolved("user=u gssencmode=prefer requirepeer='' sslcertmode=allow", &[]);
}

#[test]
fn the_string_beats_the_service_file_which_beats_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    std::fs::write(
        &file,
        "# ours\n[other]\nhost=wrong\n[shop]\nhost=from-service\nport=7777\nuser=service-user\n",
    )
    .unwrap();
    let variables = [
        ("PGSERVICEFILE", file.to_str().unwrap()),
        ("PGHOST", "from-env"),
        ("PGDATABASE", "env-db"),
        ("PGUSER", "env-user"),
    ];
    let settings = resolved("service=shop user=typed", &variables);
    assert_eq!(settings.endpoints[0].to_string(), "from-service:7777");
    assert_eq!(settings.user, "typed");
    assert_eq!(settings.database, "env-db");
}

#[test]
fn a_file_that_is_no_service_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    std::fs::write(&file, "[shop]\nhunter2\n").unwrap();
    let given = parse(&format!("service=shop servicefile={}", file.display())).unwrap();
    let message = resolve(&given, &environment(&[])).unwrap_err().to_string();
    assert!(
        message.ends_with("is not a service file: line 2 is neither [name] nor keyword=value"),
        "{message}"
    );
    assert!(!message.contains("hunter2"));
}

#[test]
fn defaults_are_those_of_libpq() {
    let settings = resolved("", &[("PGUSER", "oncall")]);
    assert_eq!((settings.user.as_str(), settings.database.as_str()), ("oncall", "oncall"));
    assert_eq!(settings.endpoints[0].port, 5432);
    assert_eq!(settings.sslmode, SslMode::Prefer);
    assert_eq!(settings.endpoints[0].host, default_host());
}

#[test]
fn the_password_file_is_used_when_it_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    std::fs::write(&file, "# all\nother:*:*:*:no\nshop\\:db:5432:*:on\\\\call:se:cr\\:et\n*:*:d:u:wild\n")
        .unwrap();
    let path = file.to_str().unwrap();
    let find = |text: &str| {
        let settings = resolved(text, &[("PGPASSFILE", path)]);
        settings.endpoints[0].password.clone().map(|secret| secret.0)
    };
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(find(r"host=shop:db user='on\\call' dbname=x").as_deref(), Some("se:cr:et"));
    assert_eq!(find("host=any user=u dbname=d").as_deref(), Some("wild"));
    assert_eq!(find("host=any user=u dbname=e"), None);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(find("host=any user=u dbname=d"), None);
}

#[test]
fn a_secret_is_not_printed() {
    let settings = resolved("user=u password=hunter2", &[]);
    assert!(!format!("{settings:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        // The value is not of interest: it must not panic.
        drop(parse(&text));
        drop(parse(&format!("postgres://{text}")));
    }

    #[test]
    fn a_quoted_value_comes_back(value in "[^\0]{0,20}") {
        let quoted = value.replace('\\', r"\\").replace('\'', r"\'");
        let parameters = parse(&format!("password='{quoted}'")).unwrap();
        prop_assert_eq!(parameters.get("password").map(String::as_str), Some(value.as_str()));
    }
}
