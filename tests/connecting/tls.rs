//! `sslmode`, met or refused with the reason: one server whose certificate is replaced again and again.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use dbtriage::sources::postgres::Cure;
use dbtriage_lab::{Client, Lab, Postgres};
use pretty_assertions::assert_eq;
use tokio::sync::{Mutex, MutexGuard};

use super::certificates::{Authority, Flaw, Identity, VERSION_1, self_signed};
use super::{admit_first, assert_says, install, lab, open, open_in, refusal, reload};

/// How a login with an `sslmode` ends.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// In, and the server says that the connection is not encrypted.
    Plain,
    /// In, and the server says that the connection is encrypted.
    Encrypted,
    /// Not in; the words of the cause and of the next step.
    Refused(&'static [&'static str]),
}
use Outcome::{Encrypted, Plain, Refused};

/// The host to name, what follows it in the connection string (`ROOT` is the authority of the certificate), outcome.
type Case = (&'static str, &'static str, Outcome);

/// A TLS server, and who watches what comes in.
struct Site {
    lab: Lab,
    watcher: Client,
    folder: tempfile::TempDir,
}

/// The server of all tests that do no more to it than replace its certificate: one test at a time.
static SITE: LazyLock<Mutex<Site>> = LazyLock::new(|| Mutex::new(Site::new()));

/// Two roles that the server admits one way only.
const RULES: &str =
    "hostssl all plain_only 127.0.0.1/32 reject\nhostnossl all tls_only 127.0.0.1/32 reject\n";

async fn site() -> MutexGuard<'static, Site> {
    SITE.lock().await
}

impl Site {
    fn new() -> Self {
        let lab = lab(50);
        let watcher = lab.primary().client("postgres", "shop").unwrap();
        watcher.execute("CREATE ROLE plain_only LOGIN; CREATE ROLE tls_only LOGIN").unwrap();
        admit_first(lab.primary(), RULES);
        reload(lab.primary());
        Self { lab, watcher, folder: tempfile::tempdir().unwrap() }
    }

    fn server(&self) -> &Postgres {
        self.lab.primary()
    }

    /// Serves this certificate from now on.
    fn serve(&self, identity: &Identity) {
        install(&self.server().data, "server.crt", &identity.certificate);
        install(&self.server().data, "server.key", &identity.key);
        self.watcher.execute("ALTER SYSTEM SET ssl = on").unwrap();
        // A test that failed may have left them.
        self.watcher.execute("ALTER SYSTEM RESET ssl_min_protocol_version").unwrap();
        self.watcher.execute("ALTER SYSTEM RESET ssl_max_protocol_version").unwrap();
        reload(self.server());
        assert_eq!(self.watcher.cell("SHOW ssl").unwrap(), "on", "the server takes the certificate");
    }

    fn serve_no_tls(&self) {
        self.watcher.execute("ALTER SYSTEM SET ssl = off").unwrap();
        reload(self.server());
    }

    fn conninfo(&self, host: &str, more: &str) -> String {
        let root = self.root().display().to_string();
        let more = more.replace("ROOT", &root);
        format!("host={host} hostaddr=127.0.0.1 port={} user=oncall dbname=shop {more}", self.server().port)
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("root.crt")
    }

    fn is_encrypted(&self) -> bool {
        let ours = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE application_name = 'dbtriage' ORDER BY backend_start DESC LIMIT 1";
        self.watcher.cell(ours).unwrap() == "t"
    }

    async fn check(&self, certificate: &str, root: &str, cases: &[Case]) {
        fs::write(self.root(), root).unwrap();
        for (host, more, outcome) in cases {
            let what = format!("{certificate}, host={host} {more}");
            let result = open(&self.conninfo(host, more)).await;
            match (outcome, result) {
                (Plain | Encrypted, Ok(opened)) => {
                    assert_eq!(self.is_encrypted(), matches!(outcome, Encrypted), "{what}");
                    drop(opened);
                }
                (Refused(words), Err(error)) => {
                    assert_eq!(error.cure, Cure::None, "{what}: {}", error.reason);
                    assert_says(&error.reason.to_string(), words, &what);
                }
                (_, Ok(_)) => panic!("{what}: let in"),
                (_, Err(error)) => panic!("{what}: {}", error.reason),
            }
        }
    }
}

const NAME: &str = "db.example";

/// Nobody looks at the certificate.
const UNCHECKED: [Case; 4] = [
    (NAME, "sslmode=disable", Plain),
    (NAME, "sslmode=allow", Encrypted),
    (NAME, "sslmode=prefer", Encrypted),
    (NAME, "sslmode=require", Encrypted),
];

const STRANGER: Outcome = Refused(&["not of a trusted authority", "sslrootcert"]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_met_or_refused_as_sslmode_says() {
    let site = site().await;
    site.serve_no_tls();
    let no_tls: Outcome = Refused(&["does not offer TLS", "ssl = on", "sslmode=prefer"]);
    let root = Authority::new("root").certificate;
    let cases = [
        (NAME, "", Plain),
        (NAME, "sslmode=disable", Plain),
        (NAME, "sslmode=allow", Plain),
        (NAME, "sslmode=prefer", Plain),
        (NAME, "sslmode=require", no_tls),
        (NAME, "sslmode=require sslrootcert=ROOT", no_tls),
        (NAME, "sslmode=verify-ca sslrootcert=ROOT", no_tls),
        (NAME, "sslmode=verify-full sslrootcert=ROOT", no_tls),
        (NAME, "sslrootcert=system", no_tls),
    ];
    site.check("no TLS", &root, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_certificate_is_checked_as_far_as_sslmode_asks() {
    let site = site().await;
    let root = Authority::new("root");
    let intermediate = root.intermediate("intermediate");
    let leaf = intermediate.sign(NAME, &[NAME, "127.0.0.1"], Flaw::None);
    let chain = format!("{}{}", leaf.certificate, intermediate.certificate);
    let elsewhere = "other.example";
    let wrong_host = Refused(&["for another host name", "subject alternative name", "sslmode=verify-ca"]);
    let no_root = Refused(&["no root certificate is known", "sslrootcert=FILE", "sslrootcert=system"]);

    site.serve(&Identity { certificate: chain, ..leaf.clone() });
    site.check("root, intermediate and leaf", &root.certificate, &UNCHECKED).await;
    let cases = [
        (NAME, "sslmode=require sslrootcert=ROOT", Encrypted),
        (NAME, "sslmode=verify-ca sslrootcert=ROOT", Encrypted),
        (NAME, "sslmode=verify-full sslrootcert=ROOT", Encrypted),
        ("127.0.0.1", "sslmode=verify-full sslrootcert=ROOT", Encrypted),
        ("DB.Example", "sslmode=verify-full sslrootcert=ROOT", Encrypted),
        (elsewhere, "sslmode=require sslrootcert=ROOT", Encrypted),
        (elsewhere, "sslmode=verify-ca sslrootcert=ROOT", Encrypted),
        (elsewhere, "sslmode=verify-full sslrootcert=ROOT", wrong_host),
        ("127.0.0.2", "sslmode=verify-full sslrootcert=ROOT", wrong_host),
        (NAME, "sslmode=verify-ca", no_root),
        (NAME, "sslmode=verify-full", no_root),
        (NAME, "sslrootcert=system", STRANGER),
        (NAME, "sslmode=verify-full sslrootcert=/nonexistent/root.crt", {
            Refused(&["cannot use /nonexistent/root.crt", "readable PEM file"])
        }),
    ];
    site.check("root, intermediate and leaf", &root.certificate, &cases).await;
    let stranger = Authority::new("root").certificate;
    let cases = ["require", "verify-ca", "verify-full"].map(|mode| match mode {
        "require" => (NAME, "sslmode=require sslrootcert=ROOT", STRANGER),
        "verify-ca" => (NAME, "sslmode=verify-ca sslrootcert=ROOT", STRANGER),
        _ => (NAME, "sslmode=verify-full sslrootcert=ROOT", STRANGER),
    });
    site.check("another authority", &stranger, &cases).await;

    site.serve(&leaf);
    site.check("leaf without its intermediate", &root.certificate, &UNCHECKED).await;
    let cases = [
        (NAME, "sslmode=verify-ca sslrootcert=ROOT", STRANGER),
        (NAME, "sslmode=verify-full sslrootcert=ROOT", STRANGER),
    ];
    site.check("leaf without its intermediate", &root.certificate, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_out_of_its_time_is_refused_where_it_is_checked() {
    let site = site().await;
    let root = Authority::new("root");
    let expired = Refused(&["has expired", "renew it"]);
    let early = Refused(&["is not valid yet", "clocks"]);
    for (flaw, outcome) in [(Flaw::Expired, expired), (Flaw::NotYetValid, early)] {
        site.serve(&root.sign(NAME, &[NAME], flaw));
        let what = format!("{flaw:?}");
        site.check(&what, &root.certificate, &UNCHECKED).await;
        let cases = [
            (NAME, "sslmode=require sslrootcert=ROOT", outcome),
            (NAME, "sslmode=verify-ca sslrootcert=ROOT", outcome),
            (NAME, "sslmode=verify-full sslrootcert=ROOT", outcome),
        ];
        site.check(&what, &root.certificate, &cases).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_version_1_is_refused_where_it_is_checked() {
    let site = site().await;
    let (root, certificate, key) = VERSION_1;
    site.serve(&Identity { certificate: certificate.to_owned(), key: key.to_owned() });
    site.check("version 1", root, &UNCHECKED).await;
    let refused = Refused(&["X.509 version 1", "issue a version 3 certificate"]);
    let cases = [
        (NAME, "sslmode=require sslrootcert=ROOT", refused),
        (NAME, "sslmode=verify-ca sslrootcert=ROOT", refused),
        (NAME, "sslmode=verify-full sslrootcert=ROOT", refused),
    ];
    site.check("version 1", root, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_with_a_common_name_only_is_told_as_that() {
    let site = site().await;
    let root = Authority::new("root");
    site.serve(&root.sign(NAME, &[], Flaw::None));
    site.check("CN only", &root.certificate, &UNCHECKED).await;
    let cases = [
        (NAME, "sslmode=verify-ca sslrootcert=ROOT", Encrypted),
        // The common name is this very host: that the certificate is "for another host" would send one astray.
        (NAME, "sslmode=verify-full sslrootcert=ROOT", {
            Refused(&["no subject alternative name", "sslmode=verify-ca"])
        }),
    ];
    site.check("CN only", &root.certificate, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_self_signed_certificate_is_its_own_authority() {
    let site = site().await;
    let stranger = Authority::new("db.example").certificate;
    for authority in [false, true] {
        let what = format!("self-signed, authority: {authority}");
        let own = self_signed(&[NAME], authority);
        site.serve(&own);
        site.check(&what, &own.certificate, &UNCHECKED).await;
        let full = if authority {
            Refused(&["self-signed and marked as an authority", "sslrootcert", "sslmode=verify-ca"])
        } else {
            Encrypted
        };
        let cases = [
            (NAME, "sslmode=require sslrootcert=ROOT", Encrypted),
            (NAME, "sslmode=verify-ca sslrootcert=ROOT", Encrypted),
            (NAME, "sslmode=verify-full sslrootcert=ROOT", full),
        ];
        site.check(&what, &own.certificate, &cases).await;
        let refused = Refused(&["certificate", "sslrootcert"]);
        let cases = [
            (NAME, "sslmode=require sslrootcert=ROOT", refused),
            (NAME, "sslmode=verify-ca sslrootcert=ROOT", refused),
            (NAME, "sslmode=verify-full sslrootcert=ROOT", refused),
        ];
        site.check(&what, &stranger, &cases).await;
    }
}

/// Puts a root certificate where libpq looks for it.
fn home_with(root: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    super::write_private(&home.path().join(".postgresql/root.crt"), root);
    home
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_certificate_at_home_makes_require_a_check() {
    let site = site().await;
    let root = Authority::new("root");
    site.serve(&root.sign(NAME, &[NAME], Flaw::None));
    let home = home_with(&root.certificate);
    let environment = [("HOME", path(home.path()))];
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        let _opened = open_in(&site.conninfo(NAME, &format!("sslmode={mode}")), &environment).await.unwrap();
        assert!(site.is_encrypted(), "{mode}");
    }
    let home = home_with(&Authority::new("another").certificate);
    let environment = [("HOME", path(home.path()))];
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = refusal(&site.conninfo(NAME, &format!("sslmode={mode}")), &environment).await;
        assert_says(&error.reason.to_string(), &["not of a trusted authority", "sslrootcert"], mode);
    }
    let _opened = open_in(&site.conninfo(NAME, "sslmode=prefer"), &environment).await.unwrap();
}

/// The `sslmode` that a message advises.
fn advised(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("sslmode=")?;
    rest.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).next()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sslmode_that_a_refusal_advises_gets_one_in() {
    let site = site().await;
    let root = Authority::new("root");
    let mut stuck = Vec::new();
    let (old_root, old, old_key) = VERSION_1;
    let old = Identity { certificate: old.to_owned(), key: old_key.to_owned() };
    let own = self_signed(&[NAME], true);
    let kinds = [
        ("expired", root.sign(NAME, &[NAME], Flaw::Expired), root.certificate.clone()),
        ("version 1", old, old_root.to_owned()),
        ("CN only", root.sign(NAME, &[], Flaw::None), root.certificate.clone()),
        ("self-signed", own.clone(), own.certificate),
    ];
    for (kind, identity, root) in kinds {
        site.serve(&identity);
        // The root certificate is at home, where one forgets that it is.
        let home = home_with(&root);
        let environment = [("HOME", path(home.path()))];
        let error = refusal(&site.conninfo(NAME, "sslmode=verify-full"), &environment).await;
        let message = error.reason.to_string();
        let mode = advised(&message).unwrap_or_else(|| panic!("{kind}: {message:?} advises an sslmode"));
        if let Err(error) = open_in(&site.conninfo(NAME, &format!("sslmode={mode}")), &environment).await {
            stuck.push(format!("{kind}: \"{message}\"; then, with {mode}: \"{}\"", error.reason));
        }
    }
    assert!(stuck.is_empty(), "{stuck:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_preferred_is_tried_first_and_then_the_other() {
    let site = site().await;
    let root = Authority::new("root");
    site.serve(&root.sign(NAME, &[NAME], Flaw::None));
    let cases = [
        (NAME, "user=plain_only sslmode=disable", Plain),
        (NAME, "user=plain_only", Plain),
        (NAME, "user=plain_only sslmode=allow", Plain),
        (NAME, "user=plain_only sslmode=prefer", Plain),
    ];
    site.check("hostnossl", &root.certificate, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_for_or_against_tls_is_told_with_the_sslmode_that_meets_it() {
    let site = site().await;
    let root = Authority::new("root");
    site.serve(&root.sign(NAME, &[NAME], Flaw::None));
    let cases = [
        (NAME, "user=plain_only sslmode=require", Refused(&["pg_hba.conf", "sslmode=disable"])),
        (NAME, "user=tls_only", Encrypted),
        (NAME, "user=tls_only sslmode=allow", Encrypted),
        (NAME, "user=tls_only sslmode=disable", Refused(&["pg_hba.conf", "sslmode=require"])),
    ];
    site.check("rules of pg_hba.conf", &root.certificate, &cases).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_old_tls_only_is_told_as_that() {
    let site = site().await;
    let root = Authority::new("root");
    site.serve(&root.sign(NAME, &[NAME], Flaw::None));
    let limits = |least: &str, most: &str| {
        for (name, value) in [("min", least), ("max", most)] {
            let set = format!("ALTER SYSTEM SET ssl_{name}_protocol_version = '{value}'");
            site.watcher.execute(&set).unwrap();
        }
        reload(site.server());
    };
    limits("TLSv1.2", "TLSv1.2");
    let cases =
        [(NAME, "sslmode=require", Encrypted), (NAME, "sslmode=verify-full sslrootcert=ROOT", Encrypted)];
    site.check("TLS 1.2", &root.certificate, &cases).await;
    limits("TLSv1", "TLSv1.1");
    // libpq goes on without TLS where it is only preferred.
    let cases = [
        (NAME, "sslmode=require", Refused(&["TLS", "older than TLS 1.2", "ssl_max_protocol_version"])),
        (NAME, "sslmode=prefer", Plain),
    ];
    site.check("TLS 1.1", &root.certificate, &cases).await;
}
