//! TLS as `sslmode` asks for it, on rustls: which certificates are believed, and what to say when one is not.
//!
//! It must not know how the settings were found.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, InconsistentKeys,
    PeerIncompatible, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::{RootCertificates, Settings, SslMode};
use crate::model::Reason;

/// The connector for these settings. Fails when a certificate file cannot be read, or when a check is asked for
/// without an authority to check against.
pub(super) fn connector(settings: &Settings) -> Result<MakeRustlsConnect, Reason> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Reason::new(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match &settings.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| unusable_pair(certificate, key, &error))?,
    };
    Ok(MakeRustlsConnect::new(config))
}

/// A connector for where no TLS is spoken: it reads no file.
pub(super) fn unused() -> Result<MakeRustlsConnect, Reason> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Reason::new(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn unusable(file: &Path, error: &dyn std::fmt::Display) -> Reason {
    Reason::new(format!("cannot use {}: {error}", file.display())).with_hint("it must be a readable PEM file")
}

fn unusable_pair(certificate: &Path, key: &Path, error: &Error) -> Reason {
    let pair = format!("{} and {}", certificate.display(), key.display());
    if *error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
        return Reason::new(format!("{pair} do not belong together"))
            .with_hint("name the certificate that was issued for this key (sslcert, sslkey)");
    }
    Reason::new(format!("cannot use {pair}: {error}")).with_hint("sslkey must be a private key in a PEM file")
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Reason> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(file, &error))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Reason> {
    // libpq: the group may read a key that is root's, which services share that way.
    let others_may = |meta: fs::Metadata| meta.mode() & if meta.uid() == 0 { 0o037 } else { 0o077 } != 0;
    let shown = file.display();
    if fs::metadata(file).is_ok_and(others_may) {
        return Err(Reason::new(format!("cannot use the private key {shown}: others may read it"))
            .with_hint(format!("chmod 0600 {shown}")));
    }
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        if !fs::read_to_string(file).is_ok_and(|text| text.contains("ENCRYPTED")) {
            return unusable(file, &error);
        }
        Reason::new(format!("cannot use {shown}: it has a passphrase, which cannot be asked for"))
            .with_hint(format!("write it without one: openssl pkey -in {shown} -out FILE"))
    })
}

/// How much of the server's certificate is checked.
#[derive(Debug)]
struct Verifier {
    /// Absent: any certificate will do (`prefer`, and `require` without root certificates).
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The root certificates, to recognise a self-signed server certificate that is its own root.
    roots: Vec<CertificateDer<'static>>,
    check_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(settings: &Settings, provider: &Arc<CryptoProvider>) -> Result<Self, Reason> {
        let checks = match settings.sslmode {
            SslMode::Disable | SslMode::Prefer => false,
            // libpq: `require` acts as `verify-ca` where a root certificate file is present.
            SslMode::Require => settings.root_certificates != RootCertificates::None,
            SslMode::VerifyCa | SslMode::VerifyFull => true,
        };
        let roots = if checks { root_certificates(&settings.root_certificates)? } else { Vec::new() };
        let authorities = checks.then(|| authorities(&roots, provider)).transpose()?;
        Ok(Self {
            authorities,
            roots,
            check_name: settings.sslmode == SslMode::VerifyFull,
            provider: Arc::clone(provider),
        })
    }
}

fn root_certificates(source: &RootCertificates) -> Result<Vec<CertificateDer<'static>>, Reason> {
    match source {
        RootCertificates::None => {
            Err(Reason::new("the server's certificate cannot be checked: no root certificate is known")
                .with_hint(
                    "give one with sslrootcert=FILE, use sslrootcert=system, or lower sslmode to require",
                ))
        }
        RootCertificates::File(file) => certificates(file),
        RootCertificates::System => Ok(rustls_native_certs::load_native_certs().certs),
    }
}

fn authorities(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Reason> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build().map_err(
        |error| {
            Reason::new(format!("the root certificates cannot be used: {error}"))
                .with_hint("sslrootcert must name a PEM file of X.509 v3 certificates")
        },
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        let outcome =
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match outcome {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            // A self-signed certificate that is itself the trusted root, byte for byte: WebPKI wants authority
            // and server apart, OpenSSL and so psql do not.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if !self.check_name && self.roots.contains(end_entity) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.authorities.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.authorities.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What to say, and what to do, when rustls refuses or is refused.
pub(super) fn explain(error: &Error, server: &str, settings: &Settings) -> Reason {
    let failed = |text: &str, hint: &str| {
        Reason::new(format!("TLS with {server} failed: {text}")).with_hint(hint.to_owned())
    };
    match (error, &settings.client_certificate) {
        (Error::InvalidCertificate(certificate), _) => {
            let (text, hint) = explain_certificate(certificate);
            failed(&text, hint)
        }
        (
            Error::AlertReceived(AlertDescription::ProtocolVersion)
            | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            _,
        ) => failed(
            "it speaks only versions older than TLS 1.2",
            "raise ssl_max_protocol_version there, or use sslmode=disable",
        ),
        (Error::AlertReceived(alert), Some((certificate, _))) if ABOUT_OURS.contains(alert) => failed(
            &format!("it does not accept our client certificate {} ({alert:?})", certificate.display()),
            "it must be valid today, and of an authority in the server's ssl_ca_file",
        ),
        (Error::AlertReceived(AlertDescription::CertificateRequired), None) => {
            failed("it asks for a client certificate", CLIENT_CERTIFICATE)
        }
        (other, _) => failed(&other.to_string(), "the server's TLS settings and ours have nothing in common"),
    }
}

/// How to show a client certificate.
pub(super) const CLIENT_CERTIFICATE: &str =
    "give one with sslcert=FILE and sslkey=FILE, or as ~/.postgresql/postgresql.crt and postgresql.key";

/// What a server says about a client's certificate, and never about its own.
const ABOUT_OURS: &[AlertDescription] = &[
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::CertificateRequired,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];

fn explain_certificate(error: &CertificateError) -> (String, &'static str) {
    let detail = error.to_string();
    // rustls hands on WebPKI's word for these two only inside `Other`.
    if detail.contains("UnsupportedCertVersion") {
        return (
            "its certificate is X.509 version 1".into(),
            "issue a version 3 certificate, or go on without a check: sslmode=prefer",
        );
    }
    if detail.contains("CaUsedAsEndEntity") {
        return (
            "its certificate is self-signed and marked as an authority".into(),
            "use it as sslrootcert with sslmode=verify-ca, or issue a server certificate from it",
        );
    }
    // `require` is no way round a check: with a root certificate at hand it checks too.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is open: the rest is told in its own words")]
    match error {
        // A bad signature is an authority of the same name with another key: rebuilt, or a stranger.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "its certificate is not of a trusted authority".into(),
            "give the authority's certificate with sslrootcert=FILE",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("its certificate has expired".into(), "renew it, or go on without a check: sslmode=prefer")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("its certificate is not valid yet".into(), "compare the clocks of both machines")
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => (
            "its certificate has no subject alternative name".into(),
            "issue one with it (the common name is not looked at), or use sslmode=verify-ca",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "its certificate is for another host name".into(),
            "connect by a name that it lists as a subject alternative name, or use sslmode=verify-ca",
        ),
        _ => (detail, "the server needs another certificate, or go on without a check: sslmode=prefer"),
    }
}
