//! Attacks on other processes, on the supervisor, and on the report.

mod arena;

use std::time::{Duration, Instant};

use arena::{Arena, attack, attack_with};
use bstar_sandbox::{Ended, Struck};

const KILLED: Ended = Ended::Signal(9);

#[test]
fn as_an_ordinary_user() {
    arena::again_as_an_ordinary_user("as_an_ordinary_user");
}

#[test]
fn stopping_itself_and_its_parent() {
    let code = "
attempt(lambda: os.kill(os.getppid(), signal.SIGSTOP) if os.getppid() > 1 else 1 / 0)
os.kill(os.getpid(), signal.SIGSTOP)";
    attack_with(
        |limits| limits.wall = Duration::from_millis(600),
        code,
        |seen| {
            seen.says("no ").ended(KILLED).struck(Struck::Wall);
        },
    );
}

#[test]
fn killing_everything() {
    let code = "
for number in (signal.SIGSTOP, signal.SIGKILL):
    attempt(lambda: os.kill(@PARENT@, number))
    for pid in list(range(2, 400)) + list(range(@PARENT@ - 40, @PARENT@ + 200)):
        if pid != os.getpid():
            try: os.kill(pid, number); print('killed', pid)
            except OSError: pass
signal.signal(signal.SIGTERM, signal.SIG_IGN)
try: os.kill(-1, signal.SIGTERM)
except OSError: pass
try: os.kill(1, signal.SIGKILL)
except OSError: pass
time.sleep(0.2)
print('end')";
    attack(code, |seen| {
        seen.says("no ").says("end").ended(Ended::Code(0)).struck(None).left_over(0);
        assert!(!seen.out().contains("killed"), "{seen}");
    });
}

#[test]
fn signals_by_other_calls() {
    let code = "
def watch():
    r, w = os.pipe()
    import fcntl
    fcntl.fcntl(r, fcntl.F_SETOWN, @PARENT@)
    fcntl.fcntl(r, 10, signal.SIGKILL) # F_SETSIG
    fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(w, b'x')
    return 0
try: watch()
except OSError: pass
attempt(lambda: syscall(200, @PARENT@, 9))         # tkill
attempt(lambda: syscall(234, @PARENT@, @PARENT@, 9)) # tgkill
attempt(lambda: syscall(424, syscall(434, @PARENT@, 0), 9, 0, 0)) # by pidfd";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn a_daemon_that_outlives_it() {
    let code = "
if os.fork() == 0:
    try: os.setsid()
    except OSError: pass
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        time.sleep(100)
    os._exit(0)
os.wait()
print('well')";
    attack(code, |seen| {
        seen.says("well").ended(Ended::Code(0)).struck(None).left_over(1);
        assert!(seen.report.wall < Duration::from_secs(2), "{seen}");
    });
}

#[test]
fn a_child_that_keeps_the_pipes_open() {
    let code = "
if os.fork() == 0:
    time.sleep(100)
print('well')";
    attack(code, |seen| {
        seen.says("well").ended(Ended::Code(0)).left_over(1);
        assert!(seen.report.wall < Duration::from_secs(2), "{seen}");
    });
}

#[test]
fn leaving_the_session_the_group_and_the_tie_to_the_keeper() {
    let code = "
libc.prctl(1, 0, 0, 0, 0)  # no signal when the parent dies
libc.prctl(36, 1, 0, 0, 0) # reaper of its own
for _ in range(5):
    if os.fork() == 0:
        for leave in (os.setsid, lambda: os.setpgid(0, 0)):
            try: leave()
            except OSError: pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        if os.fork(): os._exit(0)
        time.sleep(100)
time.sleep(0.3)
os._exit(3)";
    attack(code, |seen| {
        seen.ended(Ended::Code(3)).left_over(5);
    });
}

#[test]
fn children_nobody_waits_for() {
    let code = "
count = 0
for _ in range(300):
    try: pid = os.fork()
    except OSError: time.sleep(0.01); continue
    if pid == 0:
        if os.fork() == 0: os._exit(0)
        os._exit(0)
    os.waitpid(pid, 0)
    count += 1
print('orphans', count > 100)";
    attack(code, |seen| {
        seen.says("orphans True").ended(Ended::Code(0)).left_over(0);
    });
}

#[test]
fn looking_into_other_processes() {
    let code = "
class Vec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(64)
local, remote = Vec(ctypes.addressof(buffer), 64), Vec(0x400000, 64)
for pid in {1, os.getppid(), @PARENT@}:
    if pid == 0: continue
    attempt(lambda: syscall(101, 16, pid, 0, 0))     # ptrace: attach
    attempt(lambda: syscall(101, 0x4206, pid, 0, 0)) # ptrace: seize
    attempt(lambda: syscall(310, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
    attempt(lambda: syscall(311, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
    attempt(lambda: syscall(312, pid, os.getpid(), 2, 0, 0)) # kcmp
    attempt(lambda: syscall(438, syscall(434, pid, 0), 0, 0)) # pidfd_getfd
    for name in ('environ', 'mem', 'cmdline', 'maps', 'fd', 'fd/0', 'cwd/x', 'root/etc/passwd',
                 'task', 'stack', 'ns/user', 'exe', 'stat'):
        path = f'/proc/{pid}/{name}'
        attempt(lambda: os.listdir(path) if name in ('fd', 'task') else open(path, 'rb').read())
attempt(lambda: os.listdir('/proc'))";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn forging_the_report() {
    let code = "
for fd in range(3, 1200):
    try: os.write(fd, b'\\0' * 64); print('wrote', fd)
    except OSError: pass
    try: os.read(fd, 64); print('read', fd)
    except OSError: pass
os._exit(9)";
    attack(code, |seen| {
        seen.ended(Ended::Code(9)).struck(None);
        assert!(!seen.out().contains("wrote") && !seen.out().contains("read"), "{seen}");
    });
}

#[test]
fn its_own_input_cannot_be_changed_or_grown() {
    let code = "
attempt(lambda: os.write(0, b'x'))
attempt(lambda: os.ftruncate(0, 1 << 20))
attempt(lambda: mmap.mmap(0, 4096))";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn ending_early_and_closed_streams() {
    attack("print('half'); sys.exit(0); print('other half')", |seen| {
        seen.says("half").ended(Ended::Code(0)).struck(None);
        assert!(!seen.out().contains("other"), "{seen}");
    });
    attack(
        "for fd in range(256): \n  try: os.close(fd)\n  except OSError: pass\nos._exit(5)",
        |seen| {
            seen.ended(Ended::Code(5)).struck(None);
        },
    );
}

#[test]
fn threads_that_go_on_after_the_main_one() {
    let code = "
def go_on():
    while True: time.sleep(0.01)
for _ in range(3): threading.Thread(target=go_on, daemon=True).start()
libc.syscall(60, 0) # the main thread alone";
    attack_with(
        |limits| limits.wall = Duration::from_millis(700),
        code,
        |seen| {
            seen.ended(KILLED).struck(Struck::Wall);
        },
    );
}

#[test]
fn vfork_and_exec_of_another_program() {
    let code = "
print(subprocess.run(['/bin/sh', '-c', 'echo out; exec sleep 0.01'], capture_output=True).stdout)
subprocess.Popen(['/bin/sleep', '100'])";
    attack(code, |seen| {
        seen.says("out").ended(Ended::Code(0)).left_over(1);
    });
}

/// The supervisor is the child of this process whose program carries the marker.
fn supervisor_of(arena: &Arena) -> rustix::process::Pid {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        for line in arena.alive() {
            let folder = line.split_whitespace().next().expect("a path").to_owned();
            let mut pid: i32 = folder.trim_start_matches("/proc/").parse().expect("a process id");
            loop {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
                let Some(parent) = rest.split_whitespace().nth(1) else { break };
                let parent: i32 = parent.parse().expect("a process id");
                if parent == std::process::id().cast_signed() {
                    return rustix::process::Pid::from_raw(pid).expect("not zero");
                }
                pid = parent;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the program did not start");
}

#[test]
fn a_killed_supervisor_takes_everything_with_it_and_is_an_error() {
    let code = "
for _ in range(3):
    if os.fork() == 0: break
time.sleep(100)";
    for sandbox in arena::levels() {
        let arena = Arena::new();
        let program = arena.program(code);
        let error = std::thread::scope(|scope| {
            let run = scope.spawn(|| sandbox.run(program));
            let supervisor = supervisor_of(&arena);
            rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
            run.join().unwrap().unwrap_err()
        });
        assert!(error.to_string().contains("died"), "{error}");
        let deadline = Instant::now() + Duration::from_secs(2);
        while !arena.alive().is_empty() {
            assert!(Instant::now() < deadline, "{}: {:?}", sandbox.level(), arena.alive());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
