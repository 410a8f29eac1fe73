//! Who may use the Kubernetes API over a socket: a token and a certificate, made on the first start and kept in the data
//! folder, and the kubeconfig that has both for clients.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::{BoxFuture, Either, Ready, ready};
use http::{Request, Response, header};
use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cluster::{ApiService, ApiStatus};
use crate::files::{read_json, write_json};

/// Certificate and token of one data folder, kept in a file of mode 0600.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    /// The names and addresses that the certificate is for.
    hosts: Vec<String>,
    /// PEM of the authority that clients trust.
    authority: String,
    /// PEM of the server's certificate.
    certificate: String,
    /// PEM of its key.
    key: String,
    pub(crate) token: String,
}

/// The access of a data folder cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file cannot be read or written.
    #[error("the file {} cannot be used", file.display())]
    File {
        /// The kubeconfig file.
        file: std::path::PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The certificate cannot be made.
    #[error("the certificate of the Kubernetes API cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// The certificate that was made earlier is not usable.
    #[error("the certificate in {} cannot be used; remove the file and a new one is made", file.display())]
    Damaged {
        /// The kubeconfig file.
        file: std::path::PathBuf,
        /// Why it could not be understood.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Access {
    /// Reads what an earlier start made in this file; makes it anew if there is none, or for other hosts.
    pub(crate) fn load(file: &Path, host: &str) -> Result<Self, AccessError> {
        let failed = |source| AccessError::File {
            file: file.to_owned(),
            source,
        };
        let mut hosts = vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        if !hosts.iter().any(|known| known == host) && !matches!(host, "0.0.0.0" | "::") {
            hosts.push(host.to_owned());
        }
        let known: Option<Self> = read_json(file).map_err(failed)?;
        match known {
            Some(known) if known.hosts == hosts => Ok(known),
            known => {
                let made = Self::make(hosts, known.map(|known| known.token))?;
                write_json(file, &made).map_err(failed)?;
                Ok(made)
            }
        }
    }

    fn make(hosts: Vec<String>, token: Option<String>) -> Result<Self, AccessError> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority
            .distinguished_name
            .push(DnType::CommonName, "flyte local authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let authority_certificate = authority.self_signed(&authority_key)?;
        // The authority's key is not kept: it signs this one certificate.
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(hosts.clone())?;
        server
            .distinguished_name
            .push(DnType::CommonName, "flyte local Kubernetes API");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        let certificate = server.signed_by(&key, &issuer)?;
        let token = token.unwrap_or_else(|| {
            let random: [u8; 32] = rand::rng().random();
            hex::encode(random)
        });
        Ok(Self {
            hosts,
            authority: authority_certificate.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            token,
        })
    }

    /// The TLS side of the server.
    pub(crate) fn tls(&self, file: &Path) -> Result<Arc<rustls::ServerConfig>, AccessError> {
        let damaged = |source| AccessError::Damaged {
            file: file.to_owned(),
            source,
        };
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| damaged(Box::new(error)))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| damaged(Box::new(error)))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(certificates, key)
            })
            .map_err(|error| damaged(Box::new(error)))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Writes the kubeconfig, mode 0600. The context has the name that tutorials use (spec 07 §11).
    pub(crate) fn write_kubeconfig(&self, file: &Path, server: &str) -> Result<(), AccessError> {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: flyte-sandbox\nclusters:\n- name: flyte-sandbox\n  cluster:\n    \
             server: {server}\n    certificate-authority-data: {}\nusers:\n- name: flyte-sandbox\n  user:\n    token: \
             {}\ncontexts:\n- name: flyte-sandbox\n  context:\n    cluster: flyte-sandbox\n    user: flyte-sandbox\n",
            BASE64_STANDARD.encode(&self.authority),
            self.token
        );
        let mut temporary = file.as_os_str().to_owned();
        temporary.push(".new");
        let written = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut opened| opened.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&temporary, file));
        written.map_err(|source| AccessError::File {
            file: file.to_owned(),
            source,
        })
    }
}

/// The API for whoever knows the token; health is for all.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated {
    service: ApiService,
    /// Only the token's digest is compared, so that the time it takes reveals nothing about the token.
    digest: Arc<[u8; 32]>,
}

impl Authenticated {
    pub(crate) fn new(service: ApiService, token: &str) -> Self {
        Self {
            service,
            digest: Arc::new(Sha256::digest(token.as_bytes()).into()),
        }
    }

    fn knows_token<B>(&self, request: &Request<B>) -> bool {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = given
            .and_then(|given| given.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        token.is_some_and(|(_, token)| {
            let digest: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
            digest == *self.digest
        })
    }
}

impl<B> tower::Service<Request<B>> for Authenticated
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Response<Body>, Infallible>>,
        BoxFuture<'static, Result<Response<Body>, Infallible>>,
    >;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let public = matches!(request.uri().path(), "/livez" | "/readyz" | "/healthz");
        if public || self.knows_token(&request) {
            Either::Right(self.service.call(request))
        } else {
            Either::Left(ready(Ok(crate::cluster::error_response(
                &ApiStatus::unauthorized(),
            ))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_made_once_per_set_of_hosts_and_the_token_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.json");
        let first = Access::load(&file, "127.0.0.1").unwrap();
        assert_eq!(first, Access::load(&file, "127.0.0.1").unwrap());
        let second = Access::load(&file, "box.example").unwrap();
        assert_ne!(first.certificate, second.certificate);
        assert_eq!(first.token, second.token);
        second.tls(&file).unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
