//! Who we are: client certificates, and SCRAM bound to the TLS channel.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use dbtriage::sources::postgres::Cure;
use dbtriage_lab::Lab;
use pretty_assertions::assert_eq;
use tempfile::TempDir;

use super::certificates::{Authority, Flaw, Identity};
use super::{admit_first, assert_says, install, lab, open_in, refusal, reload, write_private};

/// Roles by how they must show who they are.
const RULES: &str = "
hostssl all certified 127.0.0.1/32 trust clientcert=verify-full
hostssl all bearer 127.0.0.1/32 cert
host all scrammed 127.0.0.1/32 scram-sha-256
host all hashed 127.0.0.1/32 md5
";

const BOUND: &str = "password=sesame channel_binding=require";

/// A server with TLS, and the authority that it believes about clients.
struct Site {
    lab: Lab,
    clients: Authority,
}

static SITE: LazyLock<Site> = LazyLock::new(|| {
    let lab = lab(50);
    let server = lab.primary();
    let clients = Authority::new("authority of the clients");
    let identity = Authority::new("root").sign("db.example", &["127.0.0.1"], Flaw::None);
    install(&server.data, "server.crt", &identity.certificate);
    install(&server.data, "server.key", &identity.key);
    install(&server.data, "clients.crt", &clients.certificate);
    let admin = server.client("postgres", "shop").unwrap();
    let roles = "CREATE ROLE certified LOGIN; CREATE ROLE bearer LOGIN; \
                 SET password_encryption = 'scram-sha-256'; CREATE ROLE scrammed LOGIN PASSWORD 'sesame'; \
                 SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'sesame'";
    admin.execute(roles).unwrap();
    admin.execute("ALTER SYSTEM SET ssl = on").unwrap();
    admin.execute("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'").unwrap();
    admit_first(server, RULES);
    reload(server);
    Site { lab, clients }
});

fn login(user: &str, more: &str) -> String {
    format!("host=127.0.0.1 port={} user={user} dbname=shop {more}", SITE.lab.primary().port)
}

/// A home with a client's certificate and key where libpq looks for them.
struct Holder {
    home: TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Holder {
    fn of(identity: &Identity) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".postgresql");
        let (certificate, key) = (folder.join("postgresql.crt"), folder.join("postgresql.key"));
        write_private(&certificate, &identity.certificate);
        write_private(&key, &identity.key);
        Self { home, certificate, key }
    }

    fn environment(&self) -> [(&'static str, &str); 1] {
        [("HOME", text(self.home.path()))]
    }

    /// The parameters that name both files.
    fn named(&self) -> String {
        format!("sslcert={} sslkey={}", text(&self.certificate), text(&self.key))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a refusal for a reason that waiting does not cure says.
async fn refused(conninfo: &str, environment: &[(&str, &str)], words: &[&str]) {
    let error = refusal(conninfo, environment).await;
    let said = error.reason.to_string();
    assert_says(&said, words, conninfo);
    assert_eq!(error.cure, Cure::None, "{conninfo}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    for user in ["certified", "bearer"] {
        let holder = Holder::of(&SITE.clients.sign(user, &[], Flaw::None));
        let named = format!("sslmode=require {}", holder.named());
        open_in(&login(user, &named), &[]).await.unwrap();
        // Where libpq finds it by itself, and by the environment.
        open_in(&login(user, "sslmode=require"), &holder.environment()).await.unwrap();
        let environment = [
            ("PGSSLCERT", text(&holder.certificate)),
            ("PGSSLKEY", text(&holder.key)),
            ("PGSSLMODE", "require"),
        ];
        open_in(&login(user, ""), &environment).await.unwrap();
        // The certificate named, the key where libpq looks for it.
        let certificate = format!("sslcert={}", text(&holder.certificate));
        open_in(&login(user, &certificate), &holder.environment()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_client_certificate_the_way_to_name_one_is_told() {
    refused(&login("certified", "sslmode=require"), &[], &["valid client certificate", "sslcert", "sslkey"])
        .await;
    refused(&login("bearer", "sslmode=require"), &[], &["valid client certificate", "sslcert", "sslkey"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_for_another_role_is_told_as_that() {
    let holder = Holder::of(&SITE.clients.sign("somebody_else", &[], Flaw::None));
    for user in ["certified", "bearer"] {
        let conninfo = login(user, &format!("sslmode=require {}", holder.named()));
        refused(&conninfo, &[], &["failed for user", user, "client certificate", "common name"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_that_the_server_does_not_believe_is_told_as_that() {
    let stranger = Holder::of(&Authority::new("another authority").sign("certified", &[], Flaw::None));
    let expired = Holder::of(&SITE.clients.sign("certified", &[], Flaw::Expired));
    for holder in [stranger, expired] {
        let conninfo = login("certified", &format!("sslmode=require {}", holder.named()));
        refused(&conninfo, &[], &["our client certificate", text(&holder.certificate), "ssl_ca_file"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_others_may_read_is_not_used() {
    let holder = Holder::of(&SITE.clients.sign("certified", &[], Flaw::None));
    for mode in [0o644, 0o640, 0o604, 0o660] {
        // libpq allows the group to read a key that is root's.
        let root_may = nix::unistd::geteuid().is_root() && mode == 0o640;
        fs::set_permissions(&holder.key, fs::Permissions::from_mode(mode)).unwrap();
        let conninfo = login("certified", &format!("sslmode=require {}", holder.named()));
        if root_may {
            open_in(&conninfo, &[]).await.unwrap();
        } else {
            refused(&conninfo, &[], &[text(&holder.key), "0600", "chmod"]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_or_key_that_cannot_be_used_is_named() {
    let holder = Holder::of(&SITE.clients.sign("certified", &[], Flaw::None));
    let other = Holder::of(&SITE.clients.sign("certified", &[], Flaw::None));
    let (certificate, key) = (text(&holder.certificate), text(&holder.key));
    let login = |more: &str| login("certified", &format!("sslmode=require {more}"));

    let mixed = format!("sslcert={certificate} sslkey={}", text(&other.key));
    refused(&login(&mixed), &[], &[certificate, text(&other.key), "do not belong together"]).await;
    let absent = format!("sslcert={certificate} sslkey=/nonexistent/key");
    refused(&login(&absent), &[], &["/nonexistent/key", "No such file"]).await;
    let absent = format!("sslcert=/nonexistent/crt sslkey={key}");
    refused(&login(&absent), &[], &["/nonexistent/crt", "No such file"]).await;
    let locked = fs::read_to_string(key).unwrap().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    write_private(&other.key, &locked);
    let locked = format!("sslcert={certificate} sslkey={}", text(&other.key));
    refused(&login(&locked), &[], &[text(&other.key), "passphrase"]).await;
}

#[test]
fn a_certificate_without_a_key_is_refused_before_connecting() {
    use dbtriage::sources::postgres::settings::{Environment, parse, resolve};
    let given = parse("host=127.0.0.1 sslcert=/etc/client.crt").unwrap();
    let error = resolve(&given, &Environment::new()).unwrap_err();
    assert_says(&error.to_string(), &["/etc/client.crt", "has no key", "sslkey"], "sslcert alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_that_cannot_be_used_stops_nobody_who_uses_no_tls() {
    let certificates = "sslcert=/nonexistent/crt sslkey=/nonexistent/key sslrootcert=/nonexistent/root";
    open_in(&login("oncall", &format!("sslmode=disable {certificates}")), &[]).await.unwrap();
    let socket = SITE.lab.primary().conninfo("oncall", "shop");
    open_in(&format!("{socket} sslmode=verify-full {certificates}"), &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scram_is_bound_to_the_channel_where_there_is_one() {
    for binding in ["disable", "prefer", "require"] {
        let more = format!("password=sesame sslmode=require channel_binding={binding}");
        open_in(&login("scrammed", &more), &[]).await.unwrap();
    }
    for binding in ["disable", "prefer"] {
        let more = format!("password=sesame sslmode=disable channel_binding={binding}");
        open_in(&login("scrammed", &more), &[]).await.unwrap();
    }
    let environment = [("PGCHANNELBINDING", "require"), ("PGPASSWORD", "sesame"), ("PGSSLMODE", "require")];
    open_in(&login("scrammed", ""), &environment).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_binding_without_tls_is_refused_with_the_reason() {
    let conninfo = login("scrammed", &format!("{BOUND} sslmode=disable"));
    refused(&conninfo, &[], &["channel_binding=require", "TLS", "sslmode=require"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_binding_with_a_server_that_does_not_ask_for_scram_is_refused_with_the_reason() {
    // `hashed` sends a hash of the password, `oncall` nothing at all: whoever answers need not be the server.
    for user in ["hashed", "oncall"] {
        let conninfo = login(user, &format!("{BOUND} sslmode=require"));
        refused(&conninfo, &[], &["channel_binding=require", "SCRAM", "channel_binding=prefer"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_as_that_with_channel_binding_too() {
    let wrong = login("scrammed", "password=wr0ng channel_binding=require sslmode=require");
    refused(&wrong, &[], &["password authentication failed", "PGPASSWORD"]).await;
}
