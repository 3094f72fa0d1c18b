//! Where the server listens: TCP addresses as Go writes them, Unix sockets, sockets handed over by systemd.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::config::Web;
use crate::root::Root;

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "--web.listen-address {address:?}: {reason}; allowed: \":10217\", \"127.0.0.1:10217\", \"[::1]:10217\", \"unix:/path\""
    )]
    Address { address: String, reason: String },
    #[error("--web.listen-address {address:?}: cannot listen: {source}")]
    Bind { address: String, source: io::Error },
    #[error(
        "--web.systemd-socket: no socket was handed over (LISTEN_PID and LISTEN_FDS); start it through a .socket unit"
    )]
    NoSystemdSocket,
    #[error("--web.systemd-socket: descriptor {fd}: {source}")]
    SystemdSocket { fd: i32, source: io::Error },
}

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Ip(SocketAddr),
    /// A Unix socket: its file's permissions decide who gets here.
    Local,
}

impl Peer {
    /// On this machine, by the address alone.
    pub fn is_loopback(self) -> bool {
        match self {
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Local => true,
        }
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(l) => l.local_addr().map_or_else(|e| e.to_string(), |a| a.to_string()),
            Self::Unix(_, path) => path.clone(),
        }
    }

    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(l) => l.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    pub async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Self::Tcp(l) => {
                let (stream, address) = l.accept().await?;
                // Answers are written whole: waiting to fill a segment only delays the last one.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Peer::Ip(address)))
            }
            Self::Unix(l, _) => Ok((Box::new(l.accept().await?.0), Peer::Local)),
        }
    }
}

/// Opens all listeners that the configuration names. Must be called within a tokio runtime.
pub(super) fn open(root: &Root, config: &Web) -> Result<Vec<Listener>, ListenError> {
    // systemd hands sockets only to a service that it started for them: their addresses can't be listened on again.
    if config.systemd_socket || !root.handed_over().is_empty() {
        return systemd(root);
    }
    config.listen.iter().map(|address| open_one(root, address)).collect()
}

fn open_one(root: &Root, address: &str) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Bind { address: address.to_owned(), source };
    if let Some(path) = address.strip_prefix("unix:") {
        return open_unix(root, Path::new(path)).map_err(failed);
    }
    let wrong = |reason: &str| ListenError::Address { address: address.to_owned(), reason: reason.to_owned() };
    let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
    let port: u16 = port.parse().map_err(|_| wrong("the port is not a number from 0 to 65535"))?;
    if host.is_empty() {
        // All addresses of both families; IPv4 alone where the kernel has no IPv6.
        return open_tcp((Ipv6Addr::UNSPECIFIED, port).into())
            .or_else(|_| open_tcp((Ipv4Addr::UNSPECIFIED, port).into()))
            .map_err(failed);
    }
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let resolved =
        (host, port).to_socket_addrs().map_err(failed)?.next().ok_or_else(|| wrong("the name has no address"))?;
    open_tcp(resolved).map_err(failed)
}

fn open_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // The kernel cuts it to net.core.somaxconn.
    socket.listen(4096)?;
    Ok(Listener::Tcp(TcpListener::from_std(socket.into())?))
}

/// Takes the place of a socket file that nobody listens at any more.
fn open_unix(root: &Root, path: &Path) -> io::Result<Listener> {
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
            root.remove_socket(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    Ok(Listener::Unix(listener, format!("unix:{}", path.display())))
}

fn is_dead(path: &Path) -> bool {
    let Ok(socket) = Socket::new(Domain::UNIX, Type::STREAM, None) else { return false };
    let Ok(address) = socket2::SockAddr::unix(path) else { return false };
    socket.connect(&address).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

fn systemd(root: &Root) -> Result<Vec<Listener>, ListenError> {
    let handed_over = root.handed_over();
    if handed_over.is_empty() {
        return Err(ListenError::NoSystemdSocket);
    }
    handed_over.map(|fd| adopt(fd).map_err(|source| ListenError::SystemdSocket { fd, source })).collect()
}

fn adopt(fd: i32) -> io::Result<Listener> {
    // SAFETY: F_SETFD on any number is harmless: a closed descriptor gives EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above) and, by the protocol, this process' own; it is taken once.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    if address.is_unix() {
        let path = address.as_pathname().map_or_else(|| "unix:".to_owned(), |p| format!("unix:{}", p.display()));
        return Ok(Listener::Unix(UnixListener::from_std(StdUnixListener::from(OwnedFd::from(socket)))?, path));
    }
    Ok(Listener::Tcp(TcpListener::from_std(StdTcpListener::from(OwnedFd::from(socket)))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_as_go_writes_them() {
        for good in ["127.0.0.1:0", ":0", "localhost:0"] {
            let listener = open_one(&Root::default(), good).unwrap_or_else(|e| panic!("{e}"));
            assert_ne!(listener.tcp_address().unwrap().port(), 0, "{good}");
        }
        for bad in ["10217", "127.0.0.1", ":http", ":70000", ""] {
            let error =
                open_one(&Root::default(), bad).err().unwrap_or_else(|| panic!("{bad:?} was taken")).to_string();
            assert!(error.contains("--web.listen-address") && error.contains("allowed"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_dead_socket_file_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = format!("unix:{}", path.display());
        let first = open_one(&Root::default(), &address).unwrap();
        assert!(matches!(open_one(&Root::default(), &address), Err(ListenError::Bind { .. })));
        drop(first);
        assert!(path.exists());
        open_one(&Root::default(), &address).unwrap();
    }

    #[test]
    fn loopback_by_any_spelling() {
        for (address, expected) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("[::ffff:127.8.0.1]:1", true), ("10.0.0.1:1", false)]
        {
            assert_eq!(Peer::Ip(address.parse().unwrap()).is_loopback(), expected, "{address}");
        }
    }
}
