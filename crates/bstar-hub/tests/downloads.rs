//! Models that are fetched from a hub on this machine, or cannot be.

#![expect(clippy::unwrap_used, reason = "a file that cannot be written fails the test")]

mod server;

use bstar_core::{Fault, FaultClass};
use bstar_hub::{Hub, HubError, ModelName, Snapshot, Watcher};
use server::{COMMIT, Manner, Server};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const INDEX: &str = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;

/// A model of two shards, with files that are no part of it.
fn sharded() -> Server {
    let second = vec![7; 100_000];
    Server::start(&[
        ("README.md", b"hello"),
        ("config.json", b"{}"),
        ("generation_config.json", b"{\"eos_token_id\": 1}"),
        ("m-1.safetensors", b"first"),
        ("m-2.safetensors", &second),
        ("model.safetensors.index.json", INDEX.as_bytes()),
        ("pytorch_model.bin", b"other"),
        ("tokenizer.json", b"{}"),
    ])
}

/// A program with a cache of its own.
struct Machine {
    folder: TempDir,
    hub: Hub,
}

impl Machine {
    fn new(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub {
            cache: folder.path().to_owned(),
            endpoint: server.endpoint.clone(),
            token: None,
            offline: false,
        };
        Self { folder, hub }
    }

    fn find(&self, name: &str) -> Result<Snapshot, HubError> {
        self.hub.find(&ModelName::parse(name).unwrap(), &mut Silent)
    }

    fn fault(&self, name: &str, words: &[&str]) -> Fault {
        let fault = Fault::from(self.find(name).unwrap_err());
        let hint = fault.hint.clone().unwrap();
        let text = format!("{}; {hint}", fault.message);
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        fault
    }

    fn in_cache(&self, path: &str) -> PathBuf {
        self.folder.path().join("models--org--tiny").join(path)
    }

    /// Whether the cache says that a revision is there.
    fn has_main(&self) -> bool {
        self.in_cache("refs/main").exists()
    }
}

struct Silent;

impl Watcher for Silent {
    fn begin(&mut self, _: &ModelName, _: usize, _: u64) {}
    fn advance(&mut self, _: &str, _: u64) {}
    fn end(&mut self) {}
}

/// Remembers what it was told.
#[derive(Default)]
struct Sum {
    announced: u64,
    came: u64,
    ended: usize,
}

impl Watcher for Sum {
    fn begin(&mut self, name: &ModelName, files: usize, bytes: u64) {
        assert!(files > 0 && name.repository() == "org/tiny");
        self.announced += bytes;
    }

    fn advance(&mut self, _: &str, bytes: u64) {
        self.came += bytes;
    }

    fn end(&mut self) {
        self.ended += 1;
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_once_and_then_found_without_a_connection() {
    let server = sharded();
    let machine = Machine::new(&server);
    let mut told = Sum::default();
    let name = ModelName::parse("org/tiny").unwrap();
    let snapshot = machine.hub.find(&name, &mut told).unwrap();
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.folder, machine.in_cache(&format!("snapshots/{COMMIT}")));
    let expected = [
        "config.json",
        "generation_config.json",
        "m-1.safetensors",
        "m-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ];
    assert_eq!(names(&snapshot.folder), expected);
    assert_eq!(std::fs::read(snapshot.folder.join("m-2.safetensors")).unwrap(), vec![7; 100_000]);
    assert_eq!((told.came, told.ended), (told.announced, 2));
    assert!(told.announced > 100_000);
    let requests = server.asked().len();
    for name in ["org/tiny", "org/tiny@main"] {
        assert_eq!(machine.find(name).unwrap(), snapshot);
    }
    let commit = format!("org/tiny@{COMMIT}");
    let offline = Hub { offline: true, ..machine.hub.clone() };
    assert_eq!(offline.find(&ModelName::parse(&commit).unwrap(), &mut Silent).unwrap(), snapshot);
    assert_eq!(server.asked().len(), requests, "nothing more was asked for");
}

#[test]
fn offline_says_what_is_missing_and_where_it_looked() {
    let server = sharded();
    let mut machine = Machine::new(&server);
    let snapshot = machine.find("org/tiny").unwrap();
    machine.hub.offline = true;
    let place = snapshot.folder.display().to_string();
    std::fs::remove_file(snapshot.folder.join("m-2.safetensors")).unwrap();
    std::fs::remove_file(snapshot.folder.join("tokenizer.json")).unwrap();
    let lacks = "org/tiny lacks tokenizer.json, m-2.safetensors in ";
    let fault = machine.fault("org/tiny", &["offline", lacks, &place, "HF_HUB_OFFLINE"]);
    assert_eq!(fault.class, FaultClass::Data);
    let folder = machine.in_cache("").display().to_string();
    let folder = folder.trim_end_matches('/');
    machine.fault("org/tiny@v2", &["revision v2 of org/tiny is not in", folder]);
    machine.fault("org/other", &["revision main of org/other is not in", "models--org--other"]);
}

#[test]
fn only_what_is_missing_is_fetched() {
    let server = sharded();
    let machine = Machine::new(&server);
    let snapshot = machine.find("org/tiny").unwrap();
    // The link stays and points at nothing.
    let shard = snapshot.folder.join("m-1.safetensors");
    std::fs::remove_file(shard.canonicalize().unwrap()).unwrap();
    let before = server.asked().len();
    assert_eq!(machine.find("org/tiny").unwrap(), snapshot);
    assert_eq!(std::fs::read(&shard).unwrap(), b"first");
    let asked = &server.asked()[before..];
    assert!(asked.iter().all(|(path, ..)| path.contains("revision") || path.contains("m-1")));
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let server = sharded();
    server.set("m-2.safetensors", Manner::Breaks { after: 60_000, times: 1 });
    let machine = Machine::new(&server);
    let mut told = Sum::default();
    let name = ModelName::parse("org/tiny").unwrap();
    let snapshot = machine.hub.find(&name, &mut told).unwrap();
    assert_eq!(std::fs::read(snapshot.folder.join("m-2.safetensors")).unwrap(), vec![7; 100_000]);
    assert_eq!(told.came, told.announced, "each byte is told once");
    let ranges: Vec<_> = server.asked().into_iter().filter_map(|(_, range, _)| range).collect();
    assert!(ranges.contains(&"60000-".to_owned()), "{ranges:?}");
}

#[test]
fn an_interrupted_download_is_not_taken_for_whole_and_goes_on_later() {
    let server = sharded();
    server.set("m-2.safetensors", Manner::Breaks { after: 10_000, times: 3 });
    let machine = Machine::new(&server);
    let fault = machine.fault("org/tiny", &["cannot fetch m-2.safetensors", &server.endpoint]);
    assert_eq!(fault.class, FaultClass::Resource);
    let folder = machine.in_cache(&format!("snapshots/{COMMIT}"));
    assert!(!folder.join("m-2.safetensors").exists() && !machine.has_main());
    let offline = Hub { offline: true, ..machine.hub.clone() };
    let name = ModelName::parse(&format!("org/tiny@{COMMIT}")).unwrap();
    let error = offline.find(&name, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("lacks m-2.safetensors"), "{error}");
    machine.find("org/tiny").unwrap();
    assert_eq!(std::fs::read(folder.join("m-2.safetensors")).unwrap(), vec![7; 100_000]);
    let ranges: Vec<_> = server.asked().into_iter().filter_map(|(_, range, _)| range).collect();
    assert!(ranges.contains(&"30000-".to_owned()), "{ranges:?}");
}

#[test]
fn bytes_that_were_not_announced_are_thrown_away() {
    let server = sharded();
    server.set("m-2.safetensors", Manner::Changed);
    let machine = Machine::new(&server);
    machine.fault("org/tiny", &["m-2.safetensors of org/tiny came damaged", "SHA-256"]);
    assert!(!machine.has_main());
    server.set("m-2.safetensors", Manner::Whole);
    let folder = machine.find("org/tiny").unwrap().folder;
    assert_eq!(std::fs::read(folder.join("m-2.safetensors")).unwrap(), vec![7; 100_000]);
}

#[test]
fn a_model_that_needs_permission_says_how_to_get_it() {
    let server = sharded();
    let mut machine = Machine::new(&server);
    for status in [401, 403] {
        server.state.lock().unwrap().refuse = Some(status);
        let status = status.to_string();
        let words = ["refuses org/tiny", &status, "without a token", "HF_TOKEN", "access"];
        assert_eq!(machine.fault("org/tiny", &words).class, FaultClass::Data);
    }
    machine.hub.token = Some("secret".into());
    let fault = machine.fault("org/tiny", &["with the token that is set", "HF_TOKEN"]);
    assert!(!format!("{fault:?}").contains("secret"));
    assert!(server.asked().last().unwrap().2, "the token was sent");
    // Lists are for everybody, files are not.
    server.state.lock().unwrap().refuse = None;
    server.set("config.json", Manner::Status(403));
    machine.fault("org/tiny", &["refuses org/tiny", "403"]);
}

#[test]
fn what_is_not_there_is_named() {
    let server = sharded();
    let machine = Machine::new(&server);
    machine.fault("org/none", &["has no model org/none of revision main"]);
    machine.fault("org/tiny@v9", &["has no model org/tiny of revision v9", "check the name"]);
    server.state.lock().unwrap().files.remove("m-2.safetensors");
    machine.fault("org/tiny", &["has no m-2.safetensors of org/tiny"]);
    let other = Server::start(&[("config.json", b"{}"), ("pytorch_model.bin", b"")]);
    Machine::new(&other)
        .fault("org/tiny", &["no weights as safetensors (it has pytorch_model.bin)", "convert"]);
    let none = Server::start(&[("README.md", b"")]);
    Machine::new(&none).fault("org/tiny", &["has no config.json of org/tiny"]);
    server.state.lock().unwrap().refuse = Some(503);
    machine.fault("org/tiny", &["cannot fetch", "503"]);
}

#[test]
fn a_hub_that_cannot_be_reached_is_named() {
    let server = sharded();
    let mut machine = Machine::new(&server);
    machine.hub.endpoint = "http://127.0.0.1:1".into();
    machine.fault("org/tiny", &["http://127.0.0.1:1", "HF_HUB_OFFLINE", "HF_ENDPOINT"]);
}

#[test]
fn an_adapter_is_fetched_without_a_model() {
    let server = Server::start(&[
        ("README.md", b"hello"),
        ("adapter_config.json", b"{}"),
        ("adapter_model.safetensors", b"factors"),
    ]);
    let machine = Machine::new(&server);
    let folder = machine.find("org/tiny").unwrap().folder;
    assert_eq!(names(&folder), ["adapter_config.json", "adapter_model.safetensors"]);
}
