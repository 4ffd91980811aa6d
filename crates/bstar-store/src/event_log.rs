//! `events.jsonl`: the append-only truth of a run.
//!
//! A line is `{"v":1,"seq":N,"at":"…","elapsed_s":…,…}` followed by the fields of a
//! [`bstar_core::event::Event`]. `at` (RFC 3339, UTC) and `elapsed_s` (seconds since the previous
//! event that the same process wrote, or since it opened the log) are the only wall-clock fields.
//!
//! Each event is one `write` past no buffer of ours, so a killed process loses at most part of its
//! last line. Durable events (a published piece, a commit, start and end of a run) are synced. On
//! resume the log is cut after its last durable event with `ftruncate` and `fsync`: one step of the
//! file system, so a crash during it leaves a log that is cut the same way next time. Lines that
//! cannot be read are dropped, with all after them, where no durable event follows: resume would cut
//! there anyway. Followed by a durable event they are damage to what counts, and an error.

use crate::clock::{Clock, Stamp};
use crate::disk::{DiskError, READ};
use bstar_core::event::Event;
use bstar_core::{Fault, FaultClass};
use serde_json::{Map, Value};
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Version of the line format.
const LINE_VERSION: u64 = 1;

/// The fields of a line that are not the event's own.
const ENVELOPE: [&str; 4] = ["v", "seq", "at", "elapsed_s"];

/// An event with its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedEvent {
    /// Number of the event in the run, from 0, without gaps.
    pub seq: u64,
    /// When it was written, RFC 3339 UTC.
    pub at: String,
    /// Seconds since the same process wrote the event before, or opened the log.
    pub elapsed_s: f64,
    /// The event.
    pub event: Event,
}

/// What can be wrong with an event log.
#[derive(Debug, Error)]
pub enum EventLogError {
    /// A line within the log is damaged.
    #[error("broken event at {}:{line}: {problem}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A newer bstar wrote the line.
    #[error("event of format {found} at {}:{line}; this bstar reads up to {LINE_VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: u64,
        /// The format of the line.
        found: u64,
    },
    /// An event would not read back as it is, because it holds a NaN or an infinity.
    #[error("event cannot be written as JSON: {event}")]
    Unwritable {
        /// The event.
        event: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<EventLogError> for Fault {
    fn from(error: EventLogError) -> Self {
        let message = error.to_string();
        match error {
            EventLogError::Disk(error) => error.into(),
            EventLogError::Broken { line, .. } => Self::new(FaultClass::Run, message).hint(format!(
                "restore the file, or remove line {line} and all after it: the run continues from \
                 the last piece published before"
            )),
            EventLogError::Newer { .. } => Self::new(FaultClass::Run, message)
                .hint("use the version of bstar that wrote the run, or a later one"),
            EventLogError::Unwritable { .. } => Self::new(FaultClass::Bug, message),
        }
    }
}

/// Whether resume may trust what the event says to be on disk.
pub(crate) fn is_durable(event: &Event) -> bool {
    match event {
        Event::RunStarted { .. }
        | Event::Published { .. }
        | Event::IterationCommitted { .. }
        | Event::RunFinished { .. } => true,
        Event::Step { .. }
        | Event::RewardModelStep { .. }
        | Event::RewardModelTrained { .. }
        | Event::Validated { .. }
        | Event::StepsChosen { .. }
        | Event::Decided { .. }
        | Event::Graded { .. }
        | Event::Selected { .. }
        | Event::QueriesRenewed { .. }
        | Event::NothingSelected { .. }
        | Event::Measured { .. } => false,
    }
}

/// Reads the events of a log that another process may be writing; a damaged tail without durable
/// events is left out.
pub(crate) fn read_events(path: &Path) -> Result<Vec<LoggedEvent>, EventLogError> {
    let bytes = std::fs::read(path).map_err(|error| DiskError::new(READ, path, error))?;
    Ok(parse(&bytes, path)?.into_iter().map(|line| line.event).collect())
}

/// An open log at whose end events are appended.
#[derive(Debug)]
pub(crate) struct EventLog {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines; what lies beyond is left of a failed append.
    length: u64,
    next_seq: u64,
    clock: Clock,
}

impl EventLog {
    /// Opens a log, cuts it after its last durable event, and gives the events that remain.
    pub(crate) fn resume(path: &Path) -> Result<(Self, Vec<Event>), EventLogError> {
        let failed = |action, error| DiskError::new(action, path, error);
        let bytes = std::fs::read(path).map_err(|error| failed(READ, error))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| failed("open", error))?;
        let mut lines = parse(&bytes, path)?;
        let kept = lines.iter().rposition(|line| is_durable(&line.event.event));
        lines.truncate(kept.map_or(0, |last| last + 1));
        let length = lines.last().map_or(0, |line| line.end);
        if length < bytes.len() as u64 {
            file.set_len(length)
                .and_then(|()| file.sync_all())
                .map_err(|error| failed("cut", error))?;
        }
        let next_seq = lines.len() as u64;
        let log = Self { path: path.to_owned(), file, length, next_seq, clock: Clock::start() };
        Ok((log, lines.into_iter().map(|line| line.event.event).collect()))
    }

    /// Appends an event, synced if it is durable. After an error the log is as it was before.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), EventLogError> {
        let line = to_line(self.next_seq, self.clock.read(), event)?;
        if let Err(error) = self.write(line.as_bytes(), is_durable(event)) {
            // Best effort: the next append and the next resume cut at the same place.
            let _ = self.file.set_len(self.length);
            return Err(DiskError::new("append to", &self.path, error).into());
        }
        self.length += line.len() as u64;
        self.next_seq += 1;
        Ok(())
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, line: &[u8], durable: bool) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(line)?;
        if durable { self.file.sync_all() } else { Ok(()) }
    }
}

/// A line with the offset just past it.
struct Line {
    event: LoggedEvent,
    end: u64,
}

fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Line>, EventLogError> {
    let mut lines = Vec::new();
    let mut end = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let start = end;
        end += line.len();
        let seq = lines.len() as u64;
        let Some(line) = line.strip_suffix(b"\n") else { break };
        match from_line(line, seq) {
            Ok(event) => lines.push(Line { event, end: end as u64 }),
            Err(Unread::Newer(found)) => {
                return Err(EventLogError::Newer { path: path.to_owned(), line: seq + 1, found });
            }
            Err(Unread::Broken(problem)) => {
                if !holds_durable(&bytes[start..]) {
                    break;
                }
                return Err(EventLogError::Broken {
                    path: path.to_owned(),
                    line: seq + 1,
                    problem,
                });
            }
        }
    }
    Ok(lines)
}

/// Whether a line in `rest`, wherever it belongs, is an event that resume trusts, or may be one of a
/// newer format.
fn holds_durable(rest: &[u8]) -> bool {
    rest.split(|&byte| byte == b'\n').any(|line| {
        let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(line) else {
            return false;
        };
        let version = fields.get("v").and_then(Value::as_u64);
        for name in ENVELOPE {
            fields.shift_remove(name);
        }
        let event = serde_json::from_value::<Event>(Value::Object(fields));
        version.is_some_and(|version| version > LINE_VERSION)
            || event.is_ok_and(|event| is_durable(&event))
    })
}

enum Unread {
    Broken(String),
    Newer(u64),
}

/// An event as a line of the log.
pub(crate) fn to_line(seq: u64, stamp: Stamp, event: &Event) -> Result<String, EventLogError> {
    let unwritable = || EventLogError::Unwritable { event: format!("{event:?}") };
    let Ok(Value::Object(fields)) = serde_json::to_value(event) else { return Err(unwritable()) };
    let mut line = Map::with_capacity(fields.len() + 4);
    line.insert("v".to_owned(), LINE_VERSION.into());
    line.insert("seq".to_owned(), seq.into());
    line.insert("at".to_owned(), stamp.at.into());
    line.insert("elapsed_s".to_owned(), stamp.elapsed_s.into());
    line.extend(fields);
    let mut line = Value::Object(line).to_string();
    // JSON has no NaN: an event with one would make the whole log unreadable.
    match from_line(line.as_bytes(), seq) {
        Ok(back) if back.event == *event => {}
        _ => return Err(unwritable()),
    }
    line.push('\n');
    Ok(line)
}

fn from_line(line: &[u8], expected_seq: u64) -> Result<LoggedEvent, Unread> {
    let broken = |problem: &dyn std::fmt::Display| Unread::Broken(problem.to_string());
    let mut fields: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| broken(&error))?;
    let mut take = |name: &str| {
        fields.shift_remove(name).ok_or_else(|| Unread::Broken(format!("no field `{name}`")))
    };
    let version = take("v")?.as_u64().unwrap_or(0);
    if version > LINE_VERSION {
        return Err(Unread::Newer(version));
    }
    let (seq, at, elapsed_s) = (take("seq")?, take("at")?, take("elapsed_s")?);
    if seq.as_u64() != Some(expected_seq) {
        return Err(broken(&format!("expected seq {expected_seq}, found {seq}")));
    }
    let at = at.as_str().ok_or_else(|| broken(&"`at` is not text"))?.to_owned();
    let elapsed_s = elapsed_s.as_f64().ok_or_else(|| broken(&"`elapsed_s` is not a number"))?;
    let event = serde_json::from_value(Value::Object(fields)).map_err(|error| broken(&error))?;
    Ok(LoggedEvent { seq: expected_seq, at, elapsed_s, event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bstar_core::event::Piece;
    use bstar_core::event::TrainStep;

    fn step(step: u64, loss: f64) -> Event {
        let (learning_rate, gradient_norm, tokens) = (0.1 + 0.2, 1e-7, 9);
        let step = TrainStep { step, loss, learning_rate, gradient_norm, tokens };
        Event::Step { iteration: 1, step }
    }

    fn published(piece: Piece) -> Event {
        Event::Published { iteration: 1, piece }
    }

    fn log_with(events: &[Event]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, "").unwrap();
        let (mut log, _) = EventLog::resume(&path).unwrap();
        for event in events {
            log.append(event).unwrap();
        }
        (folder, path)
    }

    fn events_of(path: &Path) -> Vec<Event> {
        read_events(path).unwrap().into_iter().map(|line| line.event).collect()
    }

    #[test]
    fn events_read_back_as_they_were_in_order() {
        let events = [step(0, 0.1), published(Piece::Probe), step(1, 1.0 / 3.0)];
        let (_folder, path) = log_with(&events);
        assert_eq!(events_of(&path), events);
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with(r#"{"v":1,"seq":1,"at":"20"#), "{line}");
        let end = r#""event":"published","iteration":1,"piece":"probe"}"#;
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn resume_cuts_after_the_last_durable_event_and_goes_on_counting() {
        let (_folder, path) = log_with(&[published(Piece::Probe), step(0, 1.0), step(1, 1.0)]);
        let (mut log, kept) = EventLog::resume(&path).unwrap();
        assert_eq!(kept, [published(Piece::Probe)]);
        log.append(&step(5, 2.0)).unwrap();
        assert_eq!(events_of(&path), [published(Piece::Probe), step(5, 2.0)]);
    }

    #[test]
    fn a_torn_tail_is_left_out_and_damage_within_is_an_error() {
        let (_folder, path) = log_with(&[published(Piece::Probe), published(Piece::Draw)]);
        let whole = std::fs::read(&path).unwrap();
        let zeros = [whole.as_slice(), b"\0\0\0\n\0\0\n{\"v\":1"].concat();
        std::fs::write(&path, zeros).unwrap();
        assert_eq!(events_of(&path).len(), 2);
        let mut damaged = whole.clone();
        damaged[3] = b'#';
        std::fs::write(&path, damaged).unwrap();
        let error = EventLog::resume(&path).unwrap_err().to_string();
        assert!(
            error.contains("broken event at ") && error.contains("events.jsonl:1: "),
            "{error}"
        );
        let first_line = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        std::fs::write(&path, &whole[first_line..]).unwrap();
        let error = EventLog::resume(&path).unwrap_err().to_string();
        assert!(error.ends_with("expected seq 0, found 1"), "{error}");
    }

    #[test]
    fn damage_after_the_last_durable_event_is_cut() {
        let events = [published(Piece::Probe), step(0, 1.0), step(1, 1.0), step(2, 1.0)];
        let (_folder, path) = log_with(&events);
        let whole = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [("\"seq\":1,", "\"seq\":#,"), ("\"seq\":1,", "\"seq\":7,")] {
            std::fs::write(&path, whole.replacen(from, to, 1)).unwrap();
            assert_eq!(events_of(&path), events[..1]);
            let (mut log, kept) = EventLog::resume(&path).unwrap();
            assert_eq!(kept, events[..1]);
            log.append(&published(Piece::Draw)).unwrap();
            assert_eq!(events_of(&path), [published(Piece::Probe), published(Piece::Draw)]);
        }
        // A durable event anywhere behind the damage would be lost with it.
        let first = whole.lines().next().unwrap();
        let damaged = whole.replace("\"seq\":1,", "\"seq\":#,");
        let durable = damaged + &first.replace("\"seq\":0,", "\"seq\":4,") + "\n";
        std::fs::write(&path, &durable).unwrap();
        assert!(matches!(EventLog::resume(&path), Err(EventLogError::Broken { line: 2, .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), durable);
    }

    #[test]
    fn a_newer_line_is_refused_even_at_the_end() {
        let (_folder, path) = log_with(&[published(Piece::Probe)]);
        let newer = std::fs::read_to_string(&path).unwrap().replace("\"v\":1", "\"v\":2");
        std::fs::write(&path, newer).unwrap();
        assert!(matches!(EventLog::resume(&path), Err(EventLogError::Newer { found: 2, .. })));
    }

    #[test]
    fn an_event_that_json_cannot_hold_is_refused_and_the_log_stays_readable() {
        let (_folder, path) = log_with(&[published(Piece::Probe)]);
        let (mut log, _) = EventLog::resume(&path).unwrap();
        for loss in [f64::NAN, f64::INFINITY] {
            let error = log.append(&step(0, loss)).unwrap_err();
            assert!(matches!(error, EventLogError::Unwritable { .. }), "{error}");
        }
        assert_eq!(events_of(&path), [published(Piece::Probe)]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_device_is_told_and_the_log_can_go_on() {
        let (_folder, path) = log_with(&[published(Piece::Probe)]);
        let (mut log, _) = EventLog::resume(&path).unwrap();
        let good = std::mem::replace(
            &mut log.file,
            OpenOptions::new().write(true).open("/dev/full").unwrap(),
        );
        let error = log.append(&published(Piece::Draw)).unwrap_err();
        assert!(matches!(error, EventLogError::Disk(DiskError::Full { .. })), "{error}");
        log.file = good;
        log.append(&published(Piece::Draw)).unwrap();
        assert_eq!(events_of(&path), [published(Piece::Probe), published(Piece::Draw)]);
    }
}
