//! A way to PostgreSQL that a test can cut or stop.

use flyte_platform::sql::DatabaseConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A port in front of the server of a database. Dropping it cuts the way for good.
pub(crate) struct Proxy {
    open: watch::Sender<bool>,
    flowing: watch::Sender<bool>,
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
        let flowing = watch::Sender::new(true);
        let way = Way {
            open: open.subscribe(),
            flowing: flowing.subscribe(),
        };
        connections.spawn(accept(listener, server, way));
        let proxy = Self {
            open,
            flowing,
            _connections: connections,
        };
        (proxy, config)
    }

    /// Ends all connections, and every new one at once, until [`Proxy::restore`].
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Passes nothing on, and ends nothing: as a server does whose processes are stopped.
    pub(crate) fn freeze(&self) {
        self.flowing.send_replace(false);
    }

    /// Passes on again.
    pub(crate) fn thaw(&self) {
        self.flowing.send_replace(true);
    }

    /// Lets connections through again.
    pub(crate) fn restore(&self) {
        self.open.send_replace(true);
    }
}

/// What a connection watches.
#[derive(Clone)]
struct Way {
    open: watch::Receiver<bool>,
    flowing: watch::Receiver<bool>,
}

async fn accept(listener: TcpListener, server: (String, u16), way: Way) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _address) = listener.accept().await.unwrap();
        if *way.open.borrow() {
            connections.spawn(forward(client, server.clone(), way.clone()));
        }
    }
}

async fn forward(mut client: TcpStream, server: (String, u16), way: Way) {
    let Way {
        mut open,
        mut flowing,
    } = way;
    let pass = async {
        let mut server = TcpStream::connect(server).await.unwrap();
        let mut flows = flowing.clone();
        // Who waits for `flowing` is gone with the proxy.
        while flows.wait_for(|flowing| *flowing).await.is_ok() {
            tokio::select! {
                // How either side ends is the other's business.
                _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                _stopped = flowing.wait_for(|flowing| !flowing) => {}
            }
        }
    };
    tokio::select! {
        _cut = open.wait_for(|open| !open) => {}
        () = pass => {}
    }
}
