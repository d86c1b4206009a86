//! Both ends of published ports.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use testkit::wait::{PATIENCE, until};

/// Waits until nobody has a port: a process that is just being made may have a copy of a socket for a moment.
pub(crate) fn assert_free(port: u16) {
    until(&format!("port {port} is free"), || testkit::ports::is_free(port));
}

/// What a web server answers at an address of this machine, if one does.
pub(crate) fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Sends one message back, from inside of a network.
pub(crate) fn echo_inside(network: OwnedFd, port: u16) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let server = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        ready.send(()).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length], from).unwrap();
    });
    is_ready.recv().unwrap();
}
