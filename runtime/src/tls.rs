//! TLS towards brokers: rustls with ring, from PEM files that are read again at each connect.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use config::model::MqttUplink;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::secret::file_may_come;

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file can't be read.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file isn't the PEM that it should be.
    #[error("{path} holds no usable {what} in PEM: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no root certificates.
    #[error("the system has no root certificates: install ca-certificates, or set caCert")]
    NoSystemRoots,
    /// A client certificate came without its key, or a key without its certificate.
    #[error("clientCert and clientKey belong together: set both or neither")]
    HalfAnIdentity,
    /// The key is another certificate's.
    #[error(
        "{key} doesn't belong to the certificate in {cert}: name the key that it was made with"
    )]
    WrongKey {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// rustls takes the files for no identity.
    #[error("the client certificate and key can't be used: {0}")]
    Identity(rustls::Error),
    /// The provider has no protocol version in common with us.
    #[error("TLS can't be set up: {0}")]
    Setup(rustls::Error),
}

/// The files that TLS towards one broker is made of.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates of the authorities to trust; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate chain.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl TlsError {
    /// Whether what is missing may be there later, or for another user, as systemd's credentials are.
    #[must_use]
    pub fn may_come(&self) -> bool {
        matches!(self, Self::Read { source, .. } if file_may_come(source))
    }
}

impl TlsFiles {
    /// Those that the resource names.
    #[must_use]
    pub fn of(spec: &MqttUplink) -> Self {
        Self {
            ca: spec.ca_cert.clone(),
            cert: spec.client_cert.clone(),
            key: spec.client_key.clone(),
        }
    }

    /// Finds what is wrong with each file that is named, and with the key for the certificate; with
    /// the field of the resource. Blocks on the disk.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, TlsError)> {
        let Self { ca, cert, key } = self;
        let ca = ca.as_ref().and_then(|path| authorities(path).err());
        let chain = cert.as_ref().map(|path| certificates(path).map(|chain| (path, chain)));
        let private = key.as_ref().map(|path| private_key(path).map(|key| (path, key)));
        let (cert, key) = match (chain, private) {
            (Some(Ok(chain)), Some(Ok(private))) => (None, check_identity(chain, private).err()),
            (chain, private) => (chain.and_then(Result::err), private.and_then(Result::err)),
        };
        [("caCert", ca), ("clientCert", cert), ("clientKey", key)]
            .into_iter()
            .filter_map(|(field, error)| Some((field, error?)))
            .collect()
    }
}

/// Makes the client configuration of one broker: anew when a file has changed, or else the one
/// before, so that its session tickets spare the next handshake a kilobyte.
#[derive(Debug)]
pub struct ClientConfigs {
    files: TlsFiles,
    last: Mutex<Option<(Material, Arc<ClientConfig>)>>,
}

impl ClientConfigs {
    /// For these files; none is read yet.
    #[must_use]
    pub fn new(files: TlsFiles) -> Self {
        Self { files, last: Mutex::new(None) }
    }

    /// Reads the files and gives the configuration that they make. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// Names the file that can't be used.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let material = Material::read(&self.files)?;
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

/// What the files said.
#[derive(PartialEq)]
struct Material {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}

impl Material {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let TlsFiles { ca, cert, key } = files;
        let roots = match ca {
            Some(path) => certificates(path)?,
            None => system_roots()?,
        };
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((certificates(cert)?, private_key(key)?)),
            (None, None) => None,
            _ => return Err(TlsError::HalfAnIdentity),
        };
        Ok(Self { roots, identity })
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let mut roots = RootCertStore::empty();
        // Some systems ship roots that don't parse; what is then missing shows at the handshake.
        roots.add_parsable_certificates(self.roots.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots);
        match &self.identity {
            Some((chain, key)) => builder
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
    let unusable = |reason| TlsError::Pem { path: path.into(), what: "certificate", reason };
    let pem = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if found.is_empty() { Err(unusable("there is none in it".into())) } else { Ok(found) }
}

/// Certificates of authorities, one of which at least can be used.
fn authorities(path: &Path) -> Result<(), TlsError> {
    let found = certificates(path)?;
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(found);
    if usable > 0 {
        return Ok(());
    }
    let reason = "it holds no certificate".to_owned();
    Err(TlsError::Pem { path: path.into(), what: "certificate", reason })
}

type Chain<'a> = (&'a PathBuf, Vec<CertificateDer<'static>>);
type Key<'a> = (&'a PathBuf, PrivateKeyDer<'static>);

fn check_identity((cert, chain): Chain<'_>, (key, private): Key<'_>) -> Result<(), TlsError> {
    let material = Material { roots: Vec::new(), identity: Some((chain, private)) };
    match material.config() {
        Err(TlsError::Identity(rustls::Error::InconsistentKeys(_))) => {
            Err(TlsError::WrongKey { cert: cert.clone(), key: key.clone() })
        }
        other => other.map(drop),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| TlsError::Pem {
        path: path.into(),
        what: "private key",
        reason: error.to_string(),
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
    fn each_file_is_checked_for_itself_and_the_key_for_its_certificate() {
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
    fn a_certificate_that_is_pem_and_nothing_else_is_of_no_use() {
        let dir = TempDir::new().unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let ca = Some(write(&dir, "ca.pem", pem));
        let problems = TlsFiles { ca, ..TlsFiles::default() }.problems();
        assert!(matches!(problems[..], [("caCert", TlsError::Pem { .. })]), "{problems:?}");
    }
}
