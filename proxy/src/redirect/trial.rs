//! Do the rules do what they say? A connection to an address of nobody's must arrive at the sidecar's port, and the kernel must
//! know where it wanted to go. The sidecar does not run yet: its port is free.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::Family;

/// A connection that the rules lead is there at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As it should.
    Arrived,
    /// No connection leaves over this family, redirected or not.
    NoRoute,
}

pub(super) fn run(family: Family, port: u16) -> io::Result<Outcome> {
    // Addresses for documentation (RFC 5737, RFC 3849): nobody's.
    let (loopback, nobody): (IpAddr, IpAddr) = match family {
        Family::V4 => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(198, 51, 100, 1).into()),
        Family::V6 => (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    let listener = TcpListener::bind((loopback, port))?;
    listener.set_nonblocking(true)?;
    let wanted = SocketAddr::new(nobody, 443);
    let connected = match TcpStream::connect_timeout(&wanted, PATIENCE) {
        Ok(connected) => connected,
        Err(error) if is_no_route(&error) => return Ok(Outcome::NoRoute),
        Err(error) => return Err(error),
    };
    let (arrived, _) = accept(&listener)?;
    drop(connected);
    let original = match family {
        Family::V4 => SockRef::from(&arrived).original_dst_v4(),
        Family::V6 => SockRef::from(&arrived).original_dst_v6(),
    }?;
    match original.as_socket() {
        Some(original) if original == wanted => Ok(Outcome::Arrived),
        other => Err(io::Error::other(format!("it wanted to go to {wanted}, and the kernel says {other:?}"))),
    }
}

fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

fn is_no_route(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable
    )
}
