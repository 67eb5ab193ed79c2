//! TLS to brokers, by rustls with ring. The PEM files are read again for each connection.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use config::model::MqttUplink;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::secret::file_may_come;

/// A reason why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file isn't the PEM that it should be.
    #[error("{path} holds no usable {what} in PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The kind of object that the file should hold.
        what: &'static str,
        /// The cause.
        source: PemError,
    },
    /// The system has no root certificates.
    #[error("the system has no root certificates: install ca-certificates, or set caCert")]
    NoSystemRoots,
    /// A client certificate without its key, or a key without its certificate.
    #[error("clientCert and clientKey belong together: set both or neither")]
    HalfAnIdentity,
    /// The key belongs to another certificate.
    #[error(
        "{key} doesn't belong to the certificate in {cert}: name the key that it was made with"
    )]
    WrongKey {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// rustls accepts neither as an identity.
    #[error("the client certificate and key can't be used: {0}")]
    Identity(rustls::Error),
    /// The provider supports no protocol version.
    #[error("TLS can't be set up: {0}")]
    Setup(rustls::Error),
}

/// A reason why a file holds no usable object in PEM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// The file holds none.
    #[error("there is none in it")]
    Missing,
    /// The PEM is valid, but its content is no certificate.
    #[error("it holds no certificate")]
    NoCertificate,
    /// The PEM is invalid.
    #[error(transparent)]
    Syntax(#[from] pem::Error),
}

/// The files for TLS to one broker.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The certificates of the trusted authorities; `None` trusts the system's.
    pub ca: Option<PathBuf>,
    /// The client certificate and its chain.
    pub cert: Option<PathBuf>,
    /// The client certificate's key.
    pub key: Option<PathBuf>,
}

impl TlsError {
    /// Returns whether a missing file may exist later, or for another user, as systemd's credentials do.
    #[must_use]
    pub fn may_come(&self) -> bool {
        matches!(self, Self::Read { source, .. } if file_may_come(source))
    }
}

impl TlsFiles {
    /// Returns the files that the resource names.
    #[must_use]
    pub fn of(spec: &MqttUplink) -> Self {
        Self {
            ca: spec.ca_cert.clone(),
            cert: spec.client_cert.clone(),
            key: spec.client_key.clone(),
        }
    }

    /// Checks each named file, and whether the key belongs to the certificate. Returns each error with the
    /// field of the resource. Blocks on the disk.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, TlsError)> {
        let mut problems = Vec::new();
        note("caCert", self.ca.as_deref().map(check_authorities), &mut problems);
        let chain = note("clientCert", self.cert.as_deref().map(certificates), &mut problems);
        let key = note("clientKey", self.key.as_deref().map(private_key), &mut problems);
        if let Some(chain) = chain
            && let Some(key) = key
        {
            let identity = self.check_identity(ClientIdentity { chain, key });
            note("clientKey", Some(identity), &mut problems);
        }
        problems
    }

    fn check_identity(&self, identity: ClientIdentity) -> Result<(), TlsError> {
        let material = TlsMaterial { roots: Vec::new(), identity: Some(identity) };
        match material.config() {
            Err(TlsError::Identity(rustls::Error::InconsistentKeys(_))) => {
                Err(TlsError::WrongKey {
                    cert: self.cert.clone().unwrap_or_default(),
                    key: self.key.clone().unwrap_or_default(),
                })
            }
            other => other.map(drop),
        }
    }
}

/// Notes the error of a field. Returns the field's value if it has one.
fn note<T>(
    field: &'static str,
    read: Option<Result<T, TlsError>>,
    problems: &mut Vec<(&'static str, TlsError)>,
) -> Option<T> {
    match read? {
        Ok(value) => Some(value),
        Err(error) => {
            problems.push((field, error));
            None
        }
    }
}

/// The client configuration for one broker. It is kept until a file changes, because its session
/// tickets save a kilobyte of the next handshake.
#[derive(Debug)]
pub struct ClientConfigs {
    files: TlsFiles,
    last: Mutex<Option<(TlsMaterial, Arc<ClientConfig>)>>,
}

impl ClientConfigs {
    /// Creates a configuration of these files, without reading them.
    #[must_use]
    pub fn new(files: TlsFiles) -> Self {
        Self { files, last: Mutex::new(None) }
    }

    /// Reads the files and returns their configuration. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// Returns an error that names the unusable file.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let material = TlsMaterial::read(&self.files)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, config)) = &*last
            && *known == material
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(material.config()?);
        *last = Some((material, Arc::clone(&config)));
        Ok(config)
    }
}

/// The content of the files.
#[derive(PartialEq)]
struct TlsMaterial {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<ClientIdentity>,
}

/// A client certificate's chain, and its key.
#[derive(PartialEq)]
struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

impl TlsMaterial {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { ca, cert, key } = files;
        let roots = match ca {
            Some(path) => certificates(path)?,
            None => system_roots()?,
        };
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => {
                Some(ClientIdentity { chain: certificates(cert)?, key: private_key(key)? })
            }
            (None, None) => None,
            _ => return Err(TlsError::HalfAnIdentity),
        };
        Ok(Self { roots, identity })
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        // Some systems ship roots that don't parse. If one of them is needed, the handshake fails.
        roots.add_parsable_certificates(self.roots.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots);
        match &self.identity {
            Some(ClientIdentity { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(TlsError::Identity),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() { Err(TlsError::NoSystemRoots) } else { Ok(found) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |source| TlsError::Pem { path: path.into(), what: "certificate", source };
    let pem = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.into()))?;
    if found.is_empty() { Err(unusable(PemError::Missing)) } else { Ok(found) }
}

/// Checks that a file holds at least one usable certificate of an authority.
fn check_authorities(path: &Path) -> Result<(), TlsError> {
    let found = certificates(path)?;
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(found);
    if usable > 0 {
        return Ok(());
    }
    let source = PemError::NoCertificate;
    Err(TlsError::Pem { path: path.into(), what: "certificate", source })
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| TlsError::Pem {
        path: path.into(),
        what: "private key",
        source: error.into(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tempfile::TempDir;

    use super::*;

    fn write(dir: &TempDir, name: &str, content: &str) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn certificate() -> String {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn the_same_files_make_the_same_configuration_and_a_renewed_file_a_new_one() {
        let dir = TempDir::new().unwrap();
        let ca = write(&dir, "renewed.pem", &certificate());
        let configs = ClientConfigs::new(TlsFiles { ca: Some(ca), ..TlsFiles::default() });
        let first = configs.load().unwrap();
        assert!(Arc::ptr_eq(&first, &configs.load().unwrap()));
        write(&dir, "renewed.pem", &certificate());
        assert!(!Arc::ptr_eq(&first, &configs.load().unwrap()));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let missing = TlsFiles { ca: Some("/nowhere/ca.pem".into()), ..TlsFiles::default() };
        let error = ClientConfigs::new(missing).load().unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");

        let dir = TempDir::new().unwrap();
        let empty = write(&dir, "empty.pem", "no certificate here");
        let files = TlsFiles { ca: Some(empty), ..TlsFiles::default() };
        let error = ClientConfigs::new(files).load().unwrap_err();
        assert!(error.to_string().contains("empty.pem"), "{error}");
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let dir = TempDir::new().unwrap();
        let cert = write(&dir, "half.pem", &certificate());
        let files = TlsFiles { ca: Some(cert.clone()), cert: Some(cert), key: None };
        assert!(matches!(ClientConfigs::new(files).load(), Err(TlsError::HalfAnIdentity)));
    }

    #[test]
    fn each_file_is_checked_and_the_key_must_fit_its_certificate() {
        let dir = TempDir::new().unwrap();
        let one = rcgen::generate_simple_self_signed(["one".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        let cert = write(&dir, "cert.pem", &one.cert.pem());
        let key = write(&dir, "key.pem", &one.signing_key.serialize_pem());
        let wrong = write(&dir, "wrong.pem", &other.signing_key.serialize_pem());
        let files = |ca: &PathBuf, cert: &PathBuf, key: &PathBuf| TlsFiles {
            ca: Some(ca.clone()),
            cert: Some(cert.clone()),
            key: Some(key.clone()),
        };
        assert_eq!(files(&cert, &cert, &key).problems().len(), 0);
        assert_eq!(TlsFiles::default().problems().len(), 0);
        let problems = files(&cert, &cert, &wrong).problems();
        assert!(matches!(problems[..], [("clientKey", TlsError::WrongKey { .. })]), "{problems:?}");
        let gone = dir.path().join("gone");
        let problems = files(&gone, &key, &cert).problems();
        let shown: Vec<_> = problems.iter().map(|(field, e)| (*field, e.may_come())).collect();
        assert_eq!(shown, [("caCert", true), ("clientCert", false), ("clientKey", false)]);
    }

    #[test]
    fn valid_pem_that_is_no_certificate_is_refused() {
        let dir = TempDir::new().unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let ca = Some(write(&dir, "ca.pem", pem));
        let problems = TlsFiles { ca, ..TlsFiles::default() }.problems();
        assert!(matches!(problems[..], [("caCert", TlsError::Pem { .. })]), "{problems:?}");
    }
}
