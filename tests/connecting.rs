//! Getting in: TLS as `sslmode` asks for it, against a real server with real certificates; and a server that admits
//! one connection only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for conditions by the clock"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use dbtriage::model::action::{Action, ActionReply};
use dbtriage::model::{Body, Kind, Sample, Target, TargetId};
use dbtriage::sources::Pace;
use dbtriage::sources::postgres::settings::{self, Environment};
use dbtriage::sources::postgres::{self, ConnectError, Cure, Opened};
use dbtriage_lab::{Lab, Options};
use pretty_assertions::assert_eq;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::sync::{mpsc, watch};

fn lab(max_connections: u32) -> Lab {
    Lab::start(Options { standby: false, redis: false, max_connections, ..Options::default() }).unwrap()
}

async fn open(conninfo: &str) -> Result<Opened, ConnectError> {
    // No home: nothing of the machine may leak in.
    let settings = settings::resolve(&settings::parse(conninfo).unwrap(), &Environment::new()).unwrap();
    postgres::open(settings).await
}

/// An authority, and a certificate of it for these names.
struct Chain {
    authority: String,
    certificate: String,
    key: String,
}

fn chain(names: &[&str]) -> Chain {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    Chain { authority: authority_pem, certificate: certificate.pem(), key: key.serialize_pem() }
}

/// Puts a file into the server's folder, private to the server's own user.
fn install(data: &Path, name: &str, content: &str) {
    let file = data.join(name);
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(data).unwrap();
    nix::unistd::chown(&file, Some(owner.uid().into()), Some(owner.gid().into())).unwrap();
}

fn serve_tls(lab: &Lab, chain: &Chain) {
    let primary = lab.primary();
    install(&primary.data, "server.crt", &chain.certificate);
    install(&primary.data, "server.key", &chain.key);
    let client = primary.client("postgres", "shop").unwrap();
    client.execute("ALTER SYSTEM SET ssl = on").unwrap();
    client.execute("SELECT pg_reload_conf()").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while client.cell("SHOW ssl").unwrap() != "on" {
        assert!(Instant::now() < deadline, "the server does not switch TLS on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sslmode_is_met_or_refused_with_the_reason() {
    let lab = lab(50);
    let port = lab.primary().port;
    let login = |more: &str| format!("host=127.0.0.1 port={port} user=oncall dbname=shop {more}");
    let refused = async |more: &str| match open(&login(more)).await {
        Ok(_) => panic!("{more}: let in"),
        Err(error) => {
            assert_eq!(error.cure, Cure::None, "{more}");
            error.reason.to_string()
        }
    };
    // A server without TLS.
    open(&login("sslmode=disable")).await.unwrap();
    open(&login("sslmode=prefer")).await.unwrap();
    let reason = refused("sslmode=require").await;
    assert!(reason.contains("does not offer TLS") && reason.contains("sslmode=prefer"), "{reason}");

    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("root.crt");
    let chain_of_server = chain(&["db.example", "127.0.0.1"]);
    serve_tls(&lab, &chain_of_server);
    fs::write(&trusted, &chain_of_server.authority).unwrap();
    let stranger = folder.path().join("stranger.crt");
    fs::write(&stranger, chain(&["x"]).authority).unwrap();
    let (trusted, stranger) = (trusted.display(), stranger.display());

    for mode in ["prefer", "require"] {
        open(&login(&format!("sslmode={mode}"))).await.unwrap();
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        open(&login(&format!("sslmode={mode} sslrootcert={trusted}"))).await.unwrap();
    }
    // The right authority for another name: enough for verify-ca, not for verify-full.
    let elsewhere = format!(
        "host=other.example hostaddr=127.0.0.1 port={port} user=oncall dbname=shop sslrootcert={trusted}"
    );
    open(&format!("{elsewhere} sslmode=verify-ca")).await.unwrap();
    let reason =
        open(&format!("{elsewhere} sslmode=verify-full")).await.map(drop).unwrap_err().reason.to_string();
    assert!(reason.contains("for another host name") && reason.contains("verify-ca"), "{reason}");

    for mode in ["require", "verify-ca", "verify-full"] {
        let reason = refused(&format!("sslmode={mode} sslrootcert={stranger}")).await;
        assert!(
            reason.contains("not of a trusted authority") && reason.contains("sslrootcert"),
            "{mode}: {reason}"
        );
    }
    let reason = refused("sslmode=verify-full").await;
    assert!(reason.contains("no root certificate is known"), "{reason}");
    let reason = refused("sslmode=verify-full sslrootcert=/nonexistent/root.crt").await;
    assert!(reason.starts_with("cannot use /nonexistent/root.crt"), "{reason}");
    // What is asked over TLS is answered over TLS: the second client sees it.
    let _connected = open(&login("sslmode=require")).await.unwrap();
    let watcher = lab.primary().client("postgres", "shop").unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'dbtriage'";
    assert_eq!(watcher.cell(encrypted).unwrap(), "1");
}

/// The next sample that satisfies the condition.
async fn wait_for(
    samples: &mut mpsc::Receiver<Sample>,
    what: &str,
    wanted: impl Fn(&Body) -> bool,
) -> Sample {
    let waiting = async {
        loop {
            let sample = samples.recv().await.expect("the source ended");
            if wanted(&sample.body) {
                return sample;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("no sample with {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_is_enough_to_see_and_to_act() {
    let lab = lab(12);
    let watcher = lab.primary().client("postgres", "shop").unwrap();
    let application = || lab.primary().client_as("shop_owner", "shop", "web").unwrap();
    let (holder, waiter) = (application(), application());
    holder.execute("BEGIN; LOCK TABLE reports IN ACCESS EXCLUSIVE MODE").unwrap();
    let blocked = waiter.spawn("SELECT count(*) FROM reports");
    // Of twelve slots three are for superusers: all the others but one are taken.
    let taken = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> 'postgres'";
    let mut others = Vec::new();
    while watcher.cell(taken).unwrap().parse::<u32>().unwrap() + 1 < 12 - 3 - 1 {
        others.push(application());
    }
    // The watcher sits in an ordinary slot: superusers take those too while there are any.
    let opened = open(&lab.primary().conninfo("oncall", "shop")).await.unwrap();
    let target = Target { id: TargetId(0), name: "lab".into(), kind: Kind::Postgres };
    let (sender, mut samples) = mpsc::channel(4);
    let (_keep, pace) = watch::channel(Pace::screen(Duration::from_millis(500)));
    let handle = opened.start(&target, pace, sender);
    let sample = wait_for(&mut samples, "a lock table", |body| match body {
        Body::Postgres(sample) => {
            sample.locks.value().is_some_and(|locks| locks.rows.iter().any(|lock| !lock.granted))
        }
        Body::Redis(_) | Body::Outage(_) => false,
    })
    .await;
    let Body::Postgres(sample) = sample.body else { panic!("{sample:?}") };
    assert_eq!(sample.server.own_pids.len(), 1, "the server was to admit one only");
    let sessions = sample.sessions.value().unwrap();
    let root = sessions.iter().find(|session| session.id.pid == holder.pid()).unwrap();
    let action = Action::Terminate { session: root.id, xact_start: root.xact_start };
    assert_eq!(handle.act(action).await, Ok(ActionReply::Signalled));
    blocked.wait(Duration::from_secs(5)).unwrap();
    drop(others);
}
