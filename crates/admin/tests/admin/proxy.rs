//! A way to PostgreSQL that a test can cut.

use flyte_platform::sql::DatabaseConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A port in front of the server of a database. Dropping it cuts the way for good.
pub(crate) struct Proxy {
    open: watch::Sender<bool>,
    _connections: JoinSet<()>,
}

impl Proxy {
    /// Opens a way to the server of `config`, and answers the configuration that takes it.
    pub(crate) async fn before(mut config: DatabaseConfig) -> (Self, DatabaseConfig) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = (config.postgres.host.clone(), config.postgres.port);
        let port = listener.local_addr().unwrap().port();
        "127.0.0.1".clone_into(&mut config.postgres.host);
        config.postgres.port = port;
        let open = watch::Sender::new(true);
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, server, open.subscribe()));
        let proxy = Self {
            open,
            _connections: connections,
        };
        (proxy, config)
    }

    /// Ends all connections, and every new one at once, until [`Proxy::restore`].
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub(crate) fn restore(&self) {
        self.open.send_replace(true);
    }
}

async fn accept(listener: TcpListener, server: (String, u16), open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _address) = listener.accept().await.unwrap();
        if *open.borrow() {
            connections.spawn(forward(client, server.clone(), open.clone()));
        }
    }
}

async fn forward(mut client: TcpStream, server: (String, u16), mut open: watch::Receiver<bool>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    tokio::select! {
        _cut = open.wait_for(|open| !open) => {}
        // How either side ends is the other's business.
        _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
    }
}
