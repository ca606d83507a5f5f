//! A door before the HTTP side of an emulator: lets tokens through, and the catalog as the test wants it.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What the catalog does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Catalog {
    /// It answers.
    Open,
    /// It answers 503.
    Away,
    /// It takes the question and says nothing.
    Silent,
    /// It sends the client, with its token, somewhere else.
    Elsewhere,
    /// Its answer has no end.
    Endless,
    /// It refuses and repeats all that it was told.
    Parrot,
}

/// A door that is open while this lives, and until the process ends.
pub(crate) struct Gate {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    behind: String,
    catalog: Mutex<Catalog>,
    asked: AtomicUsize,
}

impl Gate {
    /// Before what listens, or will, at this URL.
    pub(crate) fn before(url: &str, catalog: Catalog) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own_url = format!("http://{}", listener.local_addr().unwrap());
        let behind = url.strip_prefix("http://").unwrap().to_owned();
        let state = Arc::new(State { behind, catalog: Mutex::new(catalog), asked: AtomicUsize::new(0) });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                // A client that goes away in the middle is its own business.
                std::thread::spawn(move || state.answer(client).ok());
            }
        });
        Gate { url: own_url, state }
    }

    pub(crate) fn set(&self, catalog: Catalog) {
        *self.state.catalog.lock().unwrap() = catalog;
    }

    /// How often the catalog was asked.
    pub(crate) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }
}

impl State {
    fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        let request = read_request(&mut client)?;
        if !request.starts_with("GET /api/2.1/unity-catalog/") {
            return self.pass(&request, client);
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let end = |status: &str, body: &str| {
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        let catalog = *self.catalog.lock().unwrap();
        match catalog {
            Catalog::Open => self.pass(&request, client),
            Catalog::Away => client.write_all(end("503 Service Unavailable", "later").as_bytes()),
            Catalog::Silent => client.read(&mut [0]).map(drop),
            Catalog::Elsewhere => {
                let head = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n";
                client.write_all(head.as_bytes())
            }
            Catalog::Endless => {
                client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"columns\": [")?;
                loop {
                    client.write_all(&[b' '; 64 * 1024])?;
                }
            }
            Catalog::Parrot => client.write_all(end("403 Forbidden", &request).as_bytes()),
        }
    }

    fn pass(&self, request: &str, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect(&self.behind)?;
        let (first_line, rest) = request.split_once("\r\n").unwrap();
        write!(server, "{first_line}\r\nConnection: close\r\n{rest}")?;
        io::copy(&mut server, &mut client).map(drop)
    }
}

/// One request with its body.
fn read_request(client: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Ok(text);
            }
        }
        match client.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
