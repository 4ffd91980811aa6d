//! A hub of one model on this machine, which can fail in the ways that networks fail.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The commit of its only revision, `main`.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How a file comes.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Whole.
    Whole,
    /// The connection breaks after so many bytes of an answer, so many times.
    Breaks { after: usize, times: usize },
    /// Other bytes come than were announced.
    Changed,
    /// With this status and nothing else.
    Status(u16),
}

/// A file and how it comes.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) manner: Manner,
}

/// What the server knows and remembers.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Served>,
    /// The status of everything, where it is not 200.
    pub(crate) refuse: Option<u16>,
    /// Request lines, with the range asked for and whether a token came.
    pub(crate) asked: Vec<(String, Option<String>, bool)>,
}

/// A running server; it ends with the process.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves these files of the repository `org/tiny`.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let mut state = State::default();
        for (name, bytes) in files {
            let served = Served { bytes: bytes.to_vec(), manner: Manner::Whole };
            state.files.insert((*name).to_owned(), served);
        }
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(stream.expect("a connection"), &shared));
            }
        });
        Self { endpoint, state }
    }

    /// Lets a file come in another manner.
    pub(crate) fn set(&self, file: &str, manner: Manner) {
        self.state.lock().expect("no panic").files.get_mut(file).expect("a served file").manner =
            manner;
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<(String, Option<String>, bool)> {
        self.state.lock().expect("no panic").asked.clone()
    }
}

/// One request, one answer, and the connection is closed.
fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let (mut line, mut range, mut token) = (String::new(), None, false);
    for (number, header) in BufReader::new(&stream).lines().enumerate() {
        let Ok(header) = header else { return };
        if header.is_empty() {
            break;
        }
        if number == 0 {
            line = header;
            continue;
        }
        let lower = header.to_ascii_lowercase();
        if let Some(asked) = lower.strip_prefix("range: bytes=") {
            range = Some(asked.to_owned());
        }
        token |= lower.starts_with("authorization: bearer ");
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut state = state.lock().expect("no panic");
    state.asked.push((path.clone(), range.clone(), token));
    let reply = reply(&mut state, &path, range.as_deref());
    drop(state);
    let _ = stream.write_all(&reply);
}

fn reply(state: &mut State, path: &str, range: Option<&str>) -> Vec<u8> {
    if let Some(status) = state.refuse {
        return status_only(status);
    }
    if path == "/api/models/org/tiny/revision/main" {
        let names: Vec<_> =
            state.files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", names.join(", "));
        return with_body("200 OK", "", body.as_bytes(), body.len());
    }
    let Some(name) = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")) else {
        return status_only(404);
    };
    let Some(file) = state.files.get_mut(name) else { return status_only(404) };
    let whole = file.bytes.len();
    let (start, end) = match range.and_then(|range| range.split_once('-')) {
        None => (0, whole),
        Some((start, "")) => (start.parse().expect("a number"), whole),
        Some((start, end)) => {
            (start.parse().expect("a number"), end.parse::<usize>().expect("a number") + 1)
        }
    };
    let is_probe = range == Some("0-0");
    let mut body = file.bytes[start..end.min(whole)].to_vec();
    let length = body.len();
    match &mut file.manner {
        Manner::Status(status) => return status_only(*status),
        Manner::Breaks { after, times } if !is_probe && *times > 0 => {
            *times -= 1;
            body.truncate(*after);
        }
        Manner::Whole | Manner::Breaks { .. } => {}
        Manner::Changed => body.iter_mut().for_each(|byte| *byte ^= 1),
    }
    let mut hash = String::new();
    for byte in Sha256::digest(&file.bytes) {
        write!(hash, "{byte:02x}").expect("text");
    }
    let headers = format!(
        "x-repo-commit: {COMMIT}\r\netag: \"{hash}\"\r\ncontent-range: bytes {start}-{}/{whole}\r\n",
        end - 1
    );
    with_body("206 Partial Content", &headers, &body, length)
}

fn status_only(status: u16) -> Vec<u8> {
    with_body(&format!("{status} No"), "", b"", 0)
}

fn with_body(status: &str, headers: &str, body: &[u8], length: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
