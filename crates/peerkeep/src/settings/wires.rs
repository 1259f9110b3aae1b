//! Settings of what is spoken on the wire, and of how names are looked up.

use super::read::Visitor;
use super::{ListenAddress, value};
use std::net::SocketAddr;
use std::path::PathBuf;

section! {
    /// What protects connections over TCP. QUIC always has TLS.
    TlsSettings["tls"] {
        /// TLS 1.3; `false` leaves encryption to somebody else.
        enabled: bool = true,
        /// Do without TLS also beyond loopback.
        insecure: bool = false,
    }
}

section! {
    /// QUIC, the mesh's second transport.
    QuicSettings["quic"] {
        /// Listen on it and dial it.
        enabled: bool = true,
        /// Send and answer early data on resumed sessions.
        early_data: bool = false,
        /// Inbound handshakes under way above which newcomers prove their address first.
        retry_above: u16 = 32,
    }
}

section! {
    /// How names are looked up.
    DnsSettings["dns"] {
        /// The servers to ask, at most four; none means those of the system.
        servers: Vec<SocketAddr> = Vec::new(),
    }
}

value::words! {
    /// What TCP connections that are dialled as libp2p are secured with.
    Libp2pSecurity {
        /// Noise, which every implementation speaks.
        Noise = "noise",
        /// TLS 1.3.
        Tls = "tls",
        /// Noise, or TLS after a round trip more.
        Any = "any",
    }
}

section! {
    /// The libp2p side of the node: the same identity, in another network.
    Libp2pSettings["libp2p"] {
        /// Speak it at all.
        enabled: bool = false,
        /// Addresses to listen on; an empty list means none.
        listen: Vec<ListenAddress> = vec![([127, 0, 0, 1], 4001).into()],
        /// Addresses told to others in place of those listened on.
        announce: Vec<ListenAddress> = Vec::new(),
        /// What dialled TCP connections are secured with.
        security: Libp2pSecurity = Libp2pSecurity::Noise,
        /// The file with the key of a private network.
        psk_file: Option<PathBuf> = None,
    }
}
