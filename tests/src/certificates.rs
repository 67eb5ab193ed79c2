use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A server's certificate, and what it can be checked with; all in PEM.
pub struct Certificates {
    /// The CA's certificate.
    pub ca: String,
    /// The server's, for `localhost` and 127.0.0.1.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
}

/// Makes a CA, and lets it sign a certificate.
///
/// # Panics
/// When the system has no random numbers.
#[must_use]
pub fn make() -> Certificates {
    let mut authority = named("tests: a CA", &[]);
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate().expect("a key can be drawn");
    let ca = authority.self_signed(&authority_key).expect("a CA signs itself").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key can be drawn");
    let server = named("tests: a broker", &["localhost", "127.0.0.1"]);
    let certificate = server.signed_by(&key, &issuer).expect("a CA signs a certificate").pem();
    Certificates { ca, certificate, key: key.serialize_pem() }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("the hosts are names and addresses");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
