//! Ports for servers that tests start.

use std::{
    net::{TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// The first port tried, and how many follow: all below those that Linux gives to clients. Of a client's port, a connection that is
/// tried again and again while nothing listens may one day reach itself.
const FIRST: u32 = 16_000;
const COUNT: u32 = 16_000;

/// A port on which nothing listens, for TCP and UDP. Tests that run at the same time, each in a separate process, get different ones.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let own = process::id() % 1000 * 16;
    let ports = (0..COUNT).map(|_| FIRST + (own + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT);
    let mut ports = ports.map(|port| u16::try_from(port).expect("below 65536"));
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("a free port")
}
