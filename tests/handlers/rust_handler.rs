// SPDX-License-Identifier: Apache-2.0
// The standard library only, with a thread for each connection.
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

fn answer(mut client: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let random = RandomState::new().build_hasher().finish();
    let body = format!("{{\"language\": \"rust\", \"pid\": {}, \"random\": {}}}\n", std::process::id(), random);
    write!(client, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}", body.len(), body)
}

fn main() {
    let port = std::env::var("AETHER_TRIGGER_PORT").unwrap();
    let listener = TcpListener::bind(format!("127.0.0.1:{}", port)).unwrap();
    let mut aether = UnixStream::connect(std::env::var("AETHER_SOCKET").unwrap()).unwrap();
    aether.write_all(b"READY").unwrap();
    for client in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let _ = answer(client);
        });
    }
}
