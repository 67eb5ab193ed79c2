use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Certificates of a server and of a client, and what they can be checked with; all in PEM.
pub struct Certificates {
    /// The CA's certificate.
    pub ca: String,
    /// The server's, for `localhost`, 127.0.0.1 and ::1.
    pub certificate: String,
    /// The server's private key.
    pub key: String,
    /// A client's.
    pub client_certificate: String,
    /// The client's private key.
    pub client_key: String,
}

/// Makes a CA, and lets it sign the certificates.
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
    let server = named("tests: a broker", &["localhost", "127.0.0.1", "::1"]);
    let (certificate, key) = signed(&server, &issuer);
    let (client_certificate, client_key) = signed(&named("tests: a client", &[]), &issuer);
    Certificates { ca, certificate, key, client_certificate, client_key }
}

fn signed(params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().expect("a key can be drawn");
    let certificate = params.signed_by(&key, issuer).expect("a CA signs a certificate");
    (certificate.pem(), key.serialize_pem())
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("the hosts are names and addresses");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
