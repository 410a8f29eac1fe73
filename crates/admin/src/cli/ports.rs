//! The ports of the API: which ones, with which TLS, and what their connections may take.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use flyte_platform::{
    Tasks,
    server::{self, ConnectionLimits, Stopping},
    tls,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::{TlsAcceptor, rustls};

use super::outcome::Outcome;
use crate::config::ServerConfig;

/// What section `server` says of ports; `flyteadmin serve` and `flyte start --config` both listen by it.
pub struct Ports {
    /// Ports and the keys that set them; all serve gRPC and REST.
    numbers: Vec<(u16, &'static str)>,
    tls: Option<TlsAcceptor>,
    /// What connections may take.
    pub limits: ConnectionLimits,
    /// What open calls have at the end.
    pub grace: Duration,
}

impl Ports {
    /// Reads certificate and key, if there is to be TLS.
    ///
    /// # Errors
    /// What is not built and would be missed (authentication), and files that cannot be read.
    pub fn of(config: &ServerConfig) -> Outcome<Self> {
        if config.security.use_auth {
            return Err(
                "server.security.useAuth: authentication is not built yet; set it to false".into(),
            );
        }
        tls::install_crypto_provider();
        Ok(Self {
            numbers: ports(config),
            tls: acceptor(config)?,
            limits: config.connection_limits(),
            grace: Duration::from_secs(u64::from(config.graceful_shutdown_timeout_seconds)),
        })
    }

    /// Listens on them all.
    ///
    /// # Errors
    /// A port that is taken.
    pub async fn serve(self, tasks: &mut Tasks, router: &Router) -> Outcome {
        for (port, key) in self.numbers {
            let address = SocketAddr::from(([0, 0, 0, 0], port));
            let listener = server::bind(address, key, &format!("--{key}")).await?;
            let stopping = Stopping {
                stop: tasks.stop_token().child_token(),
                grace: self.grace,
            };
            let (tls, router) = (self.tls.clone(), router.clone());
            tasks.spawn_infallible(
                key,
                server::serve_within(self.limits, listener, tls, router, stopping),
            );
        }
        Ok(())
    }
}

/// Ports and the keys that set them; both serve gRPC and REST.
fn ports(server: &ServerConfig) -> Vec<(u16, &'static str)> {
    if server.security.secure {
        return vec![(server.http_port, "server.httpPort")];
    }
    let grpc = match server.grpc.port {
        negative if negative < 0 => server.grpc_port,
        port => port,
    };
    let mut ports = vec![(server.http_port, "server.httpPort")];
    if let Ok(grpc) = u16::try_from(grpc)
        && grpc != 0
        && grpc != server.http_port
    {
        ports.push((grpc, "server.grpc.port"));
    }
    ports
}

/// TLS of the listeners, if it is on.
fn acceptor(server: &ServerConfig) -> Outcome<Option<TlsAcceptor>> {
    if !server.security.secure {
        return Ok(None);
    }
    let ssl = &server.security.ssl;
    let certificates = CertificateDer::pem_file_iter(&ssl.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| {
            format!(
                "server.security.ssl.certificateFile {:?}: {error}",
                ssl.certificate_file
            )
        })?;
    let key = PrivateKeyDer::from_pem_file(&ssl.key_file)
        .map_err(|error| format!("server.security.ssl.keyFile {:?}: {error}", ssl.key_file))?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

#[cfg(test)]
mod tests {
    use flyte_platform::config::{Config, Sources};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };
    use tokio_rustls::TlsConnector;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::{GrpcConfig, SecurityConfig};

    #[test]
    fn the_section_says_where_to_listen() {
        let config = |http_port, grpc_port, port, secure| ServerConfig {
            http_port,
            grpc_port,
            grpc: GrpcConfig {
                port,
                ..GrpcConfig::default()
            },
            security: SecurityConfig {
                secure,
                ..SecurityConfig::default()
            },
            ..ServerConfig::default()
        };
        for (case, config, expected) in [
            ("two ports", config(80, 0, 81, false), vec![80, 81]),
            ("one for both", config(80, 0, 80, false), vec![80]),
            ("no port of gRPC", config(80, 0, 0, false), vec![80]),
            (
                "the deprecated key",
                config(80, 82, -1, false),
                vec![80, 82],
            ),
            ("TLS has one port", config(80, 0, 81, true), vec![80]),
        ] {
            let ports: Vec<u16> = ports(&config).into_iter().map(|(port, _)| port).collect();
            assert_eq!(ports, expected, "{case}");
        }
    }

    #[test]
    fn calls_have_as_long_to_end_as_the_section_says() {
        let config = ServerConfig {
            graceful_shutdown_timeout_seconds: 7,
            ..ServerConfig::default()
        };
        assert_eq!(Ports::of(&config).unwrap().grace, Duration::from_secs(7));
        let usual = Ports::of(&ServerConfig::default()).unwrap();
        assert_eq!(usual.grace, Duration::from_secs(10));
    }

    #[test]
    fn files_of_tls_that_are_not_there_are_named_with_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("tls.crt").display().to_string();
        let mut config = ServerConfig::default();
        config.security.secure = true;
        config
            .security
            .ssl
            .certificate_file
            .clone_from(&certificate);
        let refused = Ports::of(&config).err().unwrap().to_string();
        let expected = format!("server.security.ssl.certificateFile {certificate:?}");
        assert!(refused.starts_with(&expected), "{refused}");
        std::fs::write(&certificate, "").unwrap();
        config.security.ssl.key_file = "/nowhere".into();
        let refused = Ports::of(&config).err().unwrap().to_string();
        let expected = "server.security.ssl.keyFile \"/nowhere\"";
        assert!(refused.starts_with(expected), "{refused}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_certificate_of_the_files_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| folder.path().join(name));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let file = folder.path().join("admin.yaml");
        let text = serde_json::json!({"server": {"security": {
            "secure": true,
            "ssl": {"certificateFile": certificate, "keyFile": key},
        }}});
        std::fs::write(&file, text.to_string()).unwrap();
        let mut config = Config::load(Sources {
            pattern: file.display().to_string(),
            ..Sources::default()
        })
        .unwrap();
        let ports = Ports::of(&config.section("server")).unwrap();
        config.finish().unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopping = Stopping {
            stop: stop.clone(),
            grace: ports.grace,
        };
        let router = Router::new().route("/", axum::routing::get(|| async { "served" }));
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn_infallible(
            "port",
            server::serve_within(ports.limits, listener, ports.tls, router, stopping),
        );

        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let trusting = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connection = TcpStream::connect(address).await.unwrap();
        let mut connection = TlsConnector::from(Arc::new(trusting))
            .connect("localhost".try_into().unwrap(), connection)
            .await
            .unwrap();
        let served = connection.get_ref().1.peer_certificates().unwrap().to_vec();
        assert_eq!(served, [made.cert.der().clone()]);
        connection
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.ends_with("served"), "{answer}");
        stop.cancel();
    }

    #[test]
    fn what_is_not_built_is_refused() {
        let mut config = ServerConfig::default();
        config.security.use_auth = true;
        let refused = Ports::of(&config).err().unwrap().to_string();
        assert!(refused.starts_with("server.security.useAuth"), "{refused}");
    }
}
