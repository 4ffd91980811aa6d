//! Drives the real binary in a folder of its own.

use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A config that reads questions and answers from files.
pub(crate) const RECORDS: &str = r#"
iterations = 1
[task]
kind = "records"
[task.files]
train = "train.jsonl"
test = "test.jsonl"
extract = [{ after_last = "A:" }]
verifier = "number"
columns = { solution = "solution" }
[model]
size = 16
context_length = 64
[supervised]
steps = 2
batch_size = 4
[sample]
k = 2
max_tokens = 20
[train]
steps = 2
batch_size = 4
[evaluate]
sampled_queries = 0
"#;

/// A folder to work in, with a config of a run that takes about a second.
pub(crate) struct Bench {
    folder: TempDir,
}

/// What a command left behind.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The smallest config in which every stage has something to do.
const TINY: &str = r#"
method = "b-star"
iterations = 2

[task]
kind = "arithmetic"

[task.arithmetic]
supervised = 200
train = 40
validation = 10
test = 10

[model]
size = 16
context_length = 96

[supervised]
steps = 6
batch_size = 8

[sample]
queries = 20
k = 4
max_tokens = 40

[balance]
temperatures = "0.5,1"
thresholds = "-0.5,0,0.5"
probe_queries = 8

[train]
steps = 4
batch_size = 8

[evaluate]
sampled_queries = 4
samples = 4
k = [1, 4]
s = [1, 2]
"#;

/// [`RECORDS`] with the keys of `over` in place of its own; an empty table empties one.
pub(crate) fn records_with(over: &str) -> String {
    fn merge(table: &mut toml::Table, over: toml::Table) {
        for (key, value) in over {
            match (table.get_mut(&key), value) {
                (Some(toml::Value::Table(inner)), toml::Value::Table(over)) if !over.is_empty() => {
                    merge(inner, over);
                }
                (_, value) => drop(table.insert(key, value)),
            }
        }
    }
    let mut table: toml::Table = toml::from_str(RECORDS).expect("TOML");
    merge(&mut table, toml::from_str(over).expect("TOML"));
    toml::to_string(&table).expect("TOML")
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        bench.write("tiny.toml", TINY);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bstar"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn bstar(&self, arguments: &str) -> Outcome {
        Outcome::of(&self.command(arguments).output().expect("the binary runs"))
    }

    /// Runs and insists on success.
    pub(crate) fn good(&self, arguments: &str) -> Outcome {
        let outcome = self.bstar(arguments);
        assert_eq!(outcome.code, Some(0), "{arguments}: {}", outcome.stderr);
        outcome
    }

    /// Runs and insists on this exit code and on all of these words on stderr.
    pub(crate) fn bad(&self, arguments: &str, code: i32, words: &[&str]) -> Outcome {
        let outcome = self.bstar(arguments);
        assert_eq!(outcome.code, Some(code), "{arguments}: {}", outcome.stderr);
        for word in words {
            assert!(outcome.stderr.contains(word), "no `{word}` in: {}", outcome.stderr);
        }
        outcome
    }

    /// The events of a run without their wall-clock fields.
    pub(crate) fn events(&self, run: &str) -> Vec<Value> {
        let mut events = Vec::new();
        for line in self.read(&format!("{run}/events.jsonl")).lines() {
            let mut event: Value = serde_json::from_str(line).expect("an event");
            let fields = event.as_object_mut().expect("an object");
            fields.remove("at");
            fields.remove("elapsed_s");
            events.push(event);
        }
        events
    }

    /// The events of a run, and hashes of its weights.
    pub(crate) fn trace(&self, run: &str) -> (Vec<Value>, String) {
        let events = self.events(run);
        let mut weights = String::new();
        for iteration in 0.. {
            let name = format!("{run}/checkpoints/iter-{iteration:04}/model.safetensors");
            let Ok(bytes) = std::fs::read(self.path(&name)) else {
                assert!(iteration > 2, "only {iteration} checkpoints");
                break;
            };
            let mut sum = 0_u64;
            for byte in &bytes {
                sum = sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(*byte));
            }
            write!(weights, "{sum:016x} ").expect("text");
        }
        (events, weights)
    }
}

impl Outcome {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// The folder of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The shared data beside the checkout, or a word that it is not there.
pub(crate) fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("BSTAR_SHARED").map(PathBuf::from);
    let path = named.unwrap_or_else(|| repository().join("../shared"));
    if path.is_dir() {
        return Some(path);
    }
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: no shared data");
    }
    None
}
