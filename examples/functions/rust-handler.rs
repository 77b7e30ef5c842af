// SPDX-License-Identifier: Apache-2.0
// src/main.rs
use std::os::unix::net::UnixStream;
use std::io::Write;
use std::net::TcpListener;

fn main() {
    // Connect to orchestrator
    let socket_path = std::env::var("AETHER_SOCKET").unwrap();
    let mut stream = UnixStream::connect(&socket_path).unwrap();
    stream.write_all(b"READY").unwrap();
    
    // Start server
    let port = std::env::var("AETHER_TRIGGER_PORT").unwrap_or("9000".into());
    let listener = TcpListener::bind(format!("0.0.0.0:{}", port)).unwrap();
    
    for stream in listener.incoming().flatten() {
        let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"status\":\"ok\"}";
        let _ = std::io::Write::write_all(&mut &stream, response.as_bytes());
    }
}
