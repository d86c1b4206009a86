//! Servers on the loopback interface stand for the container.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};

use testkit::wait::until;

use super::super::publish::{Publish, parse};
use super::super::reserve::reserve;
use super::*;

/// A forwarder of a free port to `port` of the loopback interface, and where it listens.
fn forward(port: u16, transport: &str) -> (Forwarder, SocketAddr) {
    let wishes: Vec<Publish> = parse(&format!("127.0.0.1::{port}/{transport}")).unwrap();
    let reserved = reserve(&wishes, false).unwrap();
    let address = reserved[0].published.host;
    (start(reserved, Destination { address: Ipv4Addr::LOCALHOST.into() }, None).unwrap(), address)
}

/// A server that sends back what it gets, in capitals, until the client has ended; `count` clients.
fn shouter(count: usize) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let clients: Vec<_> = (0..count)
            .map(|_| {
                let (mut client, _) = listener.accept().unwrap();
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 100_000];
                    while let Ok(length @ 1..) = client.read(&mut buffer) {
                        buffer[..length].make_ascii_uppercase();
                        client.write_all(&buffer[..length]).unwrap();
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    };
    (port, std::thread::spawn(serve))
}

#[test]
fn both_directions_and_their_ends_are_carried() {
    let (port, server) = shouter(1);
    let (forwarder, address) = forward(port, "tcp");
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HELLO");
    server.join().unwrap();
    drop(forwarder);
    until("the port is free again", || TcpListener::bind(address).is_ok());
}

#[test]
fn much_data_of_many_clients_arrives_whole() {
    const CLIENTS: usize = 8;
    const LENGTH: usize = 8 << 20;
    let (port, server) = shouter(CLIENTS);
    let (_forwarder, address) = forward(port, "tcp");
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            scope.spawn(move || {
                let client = TcpStream::connect(address).unwrap();
                let sent: Vec<u8> =
                    (0..LENGTH).map(|index| b'a' + ((index * 7 + number) % 26) as u8).collect();
                let (mut writer, mut reader) = (&client, &client);
                let mut answer = Vec::new();
                std::thread::scope(|both| {
                    both.spawn(|| {
                        writer.write_all(&sent).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                    });
                    reader.read_to_end(&mut answer).unwrap();
                });
                assert!(answer == sent.to_ascii_uppercase(), "client {number}: {} bytes", answer.len());
            });
        }
    });
    server.join().unwrap();
}

#[test]
fn nobody_inside_is_a_closed_connection() {
    let (_nobody, port) = testkit::ports::refusing();
    let (_forwarder, address) = forward(port, "tcp");
    let mut client = TcpStream::connect(address).unwrap();
    let mut answer = Vec::new();
    // An end or a reset, depending on what the kernel saw first.
    drop(client.read_to_end(&mut answer));
    assert!(answer.is_empty());
}

#[test]
fn messages_come_back_to_who_asked() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (forwarder, address) = forward(server.local_addr().unwrap().port(), "udp");
    let clients: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut buffer = [0; 64];
    for (name, client) in ["a", "b"].iter().zip(&clients) {
        client.connect(address).unwrap();
        client.send(name.as_bytes()).unwrap();
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        let answer = format!("for {}", String::from_utf8_lossy(&buffer[..length]));
        server.send_to(answer.as_bytes(), from).unwrap();
    }
    for (name, client) in ["a", "b"].iter().zip(&clients) {
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], *format!("for {name}").as_bytes());
    }
    drop(forwarder);
}
