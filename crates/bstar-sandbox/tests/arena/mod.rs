//! Where attacks are run: every level that this host can play, bait outside, and a look at the host
//! afterwards. Whether an attack was contained is read from the host, never from what it says.

#![allow(dead_code, reason = "each file of attacks uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "this is a test, in a module of its own"
)]

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bstar_sandbox::{
    Ended, Launcher, Layers, Limits, Namespaces, Program, Report, Sandbox, SandboxError, Settings,
    Struck,
};

/// What no program may ever see.
pub(crate) const SECRET: &str = "the-secret-that-nobody-may-read";

/// Before every attack. `attempt` prints `DONE` and what it got, or `no` and why.
const PRELUDE: &str = r#"
import ctypes, errno, mmap, os, resource, select, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def syscall(*args):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def attempt(action):
    try:
        print("DONE", action(), flush=True)
    except BaseException as error:
        print("no", type(error).__name__, error, flush=True)
"#;

pub(crate) fn launcher() -> Launcher {
    Launcher::new(env!("CARGO_BIN_EXE_sandbox-child").into(), Vec::new())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The system's interpreter, without links.
pub(crate) fn python() -> PathBuf {
    let path = Path::new("/usr/bin/python3");
    path.canonicalize().expect("the attacks are written for /usr/bin/python3")
}

/// A sandbox at the best level of these layers. None where that is below the floor.
pub(crate) fn sandbox(layers: Layers) -> Option<Sandbox> {
    let readable = ["/etc/python3.11", "/etc/python3.12", "/etc/python3.13"];
    let readable = readable.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
    let settings = Settings { slots: 2, readable, layers, ..Settings::default() };
    match Sandbox::new(launcher(), settings) {
        Err(SandboxError::TooWeak { .. }) => None,
        other => Some(other.unwrap()),
    }
}

/// Every level at or above the floor that this host and this user can play.
pub(crate) fn levels() -> Vec<Sandbox> {
    let full = Layers::default();
    let mut played = vec![
        full,
        // Only the mount namespace closes the files off.
        Layers { landlock: 0, ..full },
        // A container that forbids namespaces.
        Layers { namespaces: false, ..full },
        // The same on an older kernel, without scopes for signals.
        Layers { namespaces: false, landlock: 3, ..full },
    ];
    if is_root() {
        played.push(Layers { user_namespace: false, ..full });
    }
    let mut sandboxes: Vec<Sandbox> = Vec::new();
    for layers in played {
        let Some(sandbox) = sandbox(layers) else { continue };
        if sandboxes.iter().all(|other| other.level() != sandbox.level()) {
            sandboxes.push(sandbox);
        }
    }
    if sandboxes.is_empty() {
        eprintln!("skipped: this host is below the floor");
    }
    sandboxes
}

/// Bait on the host.
pub(crate) struct Arena {
    pub(crate) marker: String,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) tcp: TcpListener,
    pub(crate) tcp6: Option<TcpListener>,
    pub(crate) udp: UdpSocket,
    pub(crate) unix: UnixListener,
    pub(crate) hidden: UnixListener,
}

impl Arena {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let marker = format!("mark-{}-{count}-end", std::process::id());
        let folder = tempfile::Builder::new().prefix("bait-").tempdir().unwrap();
        // Readable for everybody: only the sandbox stands between.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        let unix = UnixListener::bind(folder.path().join("socket")).unwrap();
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(folder.path().join("socket"), open).unwrap();
        let hidden = SocketAddr::from_abstract_name(&marker).unwrap();
        let hidden = UnixListener::bind_addr(&hidden).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp6 = TcpListener::bind("[::1]:0").ok();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        for result in [
            unix.set_nonblocking(true),
            hidden.set_nonblocking(true),
            tcp.set_nonblocking(true),
            udp.set_nonblocking(true),
            tcp6.as_ref().map_or(Ok(()), |tcp6| tcp6.set_nonblocking(true)),
        ] {
            result.unwrap();
        }
        Self { marker, folder, tcp, tcp6, udp, unix, hidden }
    }

    /// The script with the bait's names in it.
    fn script(&self, code: &str) -> String {
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port().to_string();
        let body = code
            .replace("@MARK@", &self.marker)
            .replace("@HOST@", self.folder.path().to_str().unwrap())
            .replace("@PORT@", &port(&self.tcp))
            .replace("@PORT6@", &self.tcp6.as_ref().map_or("9".to_owned(), port))
            .replace("@UDP@", &self.udp.local_addr().unwrap().port().to_string())
            .replace("@PARENT@", &std::process::id().to_string());
        format!("{PRELUDE}\n{body}")
    }

    /// Asserts that nothing of the program runs, lies around, or reached the bait.
    fn look_around(&self, place: &str) {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let alive = self.alive();
            if alive.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{place}: still running: {alive:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(fs::read_to_string(self.folder.path().join("secret")).unwrap(), SECRET);
        let home = std::env::var("HOME").unwrap_or_default();
        let temp = std::env::temp_dir();
        let own = self.folder.path().to_str().unwrap();
        for folder in ["/tmp", "/var/tmp", "/dev/shm", "/", &home, temp.to_str().unwrap(), own] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                assert!(!name.contains(&self.marker), "{place}: {folder}/{name} was left");
            }
        }
        let quiet = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::WouldBlock, "{place}: was reached");
        };
        quiet(self.tcp.accept().map(drop));
        quiet(self.unix.accept().map(drop));
        quiet(self.hidden.accept().map(drop));
        quiet(self.udp.recv(&mut [0; 16]).map(drop));
        if let Some(tcp6) = &self.tcp6 {
            quiet(tcp6.accept().map(drop));
        }
    }

    /// The processes that carry the marker.
    pub(crate) fn alive(&self) -> Vec<String> {
        let mut alive = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let text = |name| {
                let bytes = fs::read(entry.path().join(name)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let (line, environment) = (text("cmdline"), text("environ"));
            if line.contains(&self.marker) || environment.contains(&self.marker) {
                alive.push(format!("{} {line}", entry.path().display()));
            }
        }
        alive
    }
}

/// What one run of an attack came to.
pub(crate) struct Seen<'a> {
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) report: Report,
    pub(crate) place: String,
}

impl Seen<'_> {
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.report.stdout).into_owned()
    }

    pub(crate) fn has_namespaces(&self) -> bool {
        self.sandbox.level().namespaces != Namespaces::None
    }

    #[track_caller]
    pub(crate) fn ended(&self, ended: Ended) -> &Self {
        assert_eq!(self.report.ended, ended, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn struck(&self, struck: impl Into<Option<Struck>>) -> &Self {
        assert_eq!(self.report.struck, struck.into(), "{self}");
        self
    }

    /// It ran to its end and no attempt succeeded.
    #[track_caller]
    pub(crate) fn refused(&self) -> &Self {
        assert!(self.out().contains("no ") && !self.out().contains("DONE"), "{self}");
        self.ended(Ended::Code(0)).struck(None)
    }

    #[track_caller]
    pub(crate) fn says(&self, what: &str) -> &Self {
        assert!(self.out().contains(what), "{what} is missing: {self}");
        self
    }

    #[track_caller]
    pub(crate) fn left_over(&self, count: u32) -> &Self {
        assert_eq!(self.report.left_over, count, "{self}");
        self
    }
}

impl std::fmt::Display for Seen<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tail = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.chars().take(3000).collect::<String>()
        };
        let Report { ended, struck, stdout, stderr, wall, cpu, peak_memory, left_over } =
            &self.report;
        write!(
            out,
            "at {}: {ended:?} {struck:?} wall {wall:?} cpu {cpu:?} peak {peak_memory} left \
             {left_over}\n--- stdout\n{}\n--- stderr\n{}",
            self.place,
            tail(stdout),
            tail(stderr)
        )
    }
}

/// Runs a Python attack at every level with limits of a few seconds, looks at the host each time,
/// and hands what was seen to a check.
pub(crate) fn attack(code: &str, check: impl Fn(&Seen<'_>)) {
    attack_with(|_| {}, code, check);
}

/// The same with other limits.
pub(crate) fn attack_with(adjust: impl Fn(&mut Limits), code: &str, check: impl Fn(&Seen<'_>)) {
    for sandbox in levels() {
        let arena = Arena::new();
        let mut program = arena.program(code);
        adjust(&mut program.limits);
        let started = Instant::now();
        let limits = program.limits.clone();
        let report =
            sandbox.run(program).unwrap_or_else(|error| panic!("{}: {error}", sandbox.level()));
        let place = sandbox.level().to_string();
        let most = limits.wall + Duration::from_secs(3);
        assert!(started.elapsed() < most, "{place}: took {:?}", started.elapsed());
        let seen = Seen { sandbox: &sandbox, report, place };
        arena.look_around(&seen.to_string());
        let left: Vec<_> = fs::read_dir(sandbox.folder()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "more than the lock is left: {left:?} {seen}");
        let written = [&seen.report.stdout[..], &seen.report.stderr].concat();
        assert!(!String::from_utf8_lossy(&written).contains(SECRET), "{seen}");
        check(&seen);
        let folder = sandbox.folder().to_owned();
        drop(sandbox);
        assert!(!folder.exists());
    }
}

impl Arena {
    /// A Python program with the marker on its command line and in its environment.
    pub(crate) fn program(&self, code: &str) -> Program {
        let name = format!("{}.py", self.marker);
        let interpreter = python();
        let mut program =
            Program::new([interpreter.as_os_str(), "-I".as_ref(), "-Bu".as_ref(), name.as_ref()]);
        program.files.push((name, self.script(code).into_bytes()));
        program.env.push(("MARK".into(), self.marker.clone().into()));
        program.limits = Limits {
            wall: Duration::from_secs(8),
            cpu: Duration::from_secs(4),
            memory: 512 << 20,
            output: 1 << 16,
            file_size: 4 << 20,
            disk: 16 << 20,
            open_files: 64,
            processes: 32,
        };
        program
    }
}

/// Runs this test program again as an ordinary user, if it runs as root.
pub(crate) fn again_as_an_ordinary_user(this_test: &str) {
    if !is_root() {
        eprintln!("skipped: this is not root already");
        return;
    }
    let output = Command::new("/usr/bin/setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--skip", this_test, "--test-threads=2"])
        .current_dir("/")
        .output();
    match output {
        Err(error) => eprintln!("skipped: no setpriv ({error})"),
        Ok(output) => assert!(
            output.status.success(),
            "as an ordinary user: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}
