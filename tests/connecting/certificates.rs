//! Certificates of every kind that one meets: those that are well made, and those that are not.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// A certificate with its key, as PEM; more certificates of its chain may follow the first.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// An authority that signs.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// How a certificate deviates from a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Expired,
    NotYetValid,
}

/// The certificate of X.509 version 1 which `openssl x509 -req` makes after the manual's recipe, for `db.example`; it
/// is valid until 2126.
pub(crate) const VERSION_1: (&str, &str, &str) = (
    include_str!("version_1/root.crt"),
    include_str!("version_1/server.crt"),
    include_str!("version_1/server.key"),
);

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = named(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(common_name: &str, names: &[&str], flaw: Flaw) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = named(common_name);
    match flaw {
        Flaw::None => {}
        Flaw::Expired => params.not_after = date_time_ymd(2020, 1, 1),
        Flaw::NotYetValid => params.not_before = date_time_ymd(2120, 1, 1),
    }
    params
}

impl Authority {
    pub(crate) fn new(common_name: &str) -> Self {
        let params = authority_params(common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// An authority of which this one says that it may sign.
    pub(crate) fn intermediate(&self, common_name: &str) -> Self {
        let params = authority_params(common_name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names.
    pub(crate) fn sign(&self, common_name: &str, names: &[&str], flaw: Flaw) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params(common_name, names, flaw).signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// A certificate that nobody but itself vouches for; with `authority` also one that says that it may sign, as
/// `openssl req -x509` makes it.
pub(crate) fn self_signed(names: &[&str], authority: bool) -> Identity {
    let mut params = params("db.example", names, Flaw::None);
    if authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}
