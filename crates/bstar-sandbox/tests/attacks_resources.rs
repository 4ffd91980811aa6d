//! Attacks on the machine's resources: time, memory, processes, output, disk.

mod arena;

use std::time::Duration;

use arena::{attack, attack_with};
use bstar_sandbox::{Ended, Limits, Struck};

const KILLED: Ended = Ended::Signal(9);

#[test]
fn as_an_ordinary_user() {
    arena::again_as_an_ordinary_user("as_an_ordinary_user");
}

#[test]
fn fork_bomb() {
    let code = "
while True:
    try: os.fork()
    except OSError: pass";
    attack_with(
        |limits| limits.wall = Duration::from_secs(2),
        code,
        |seen| {
            assert!(seen.report.struck.is_some(), "{seen}");
            seen.ended(KILLED);
            assert!(seen.report.left_over < 600, "{seen}");
        },
    );
}

#[test]
fn fork_bomb_whose_main_process_ends() {
    let code = "
for _ in range(200):
    try:
        if os.fork() == 0: time.sleep(100)
    except OSError: pass
os._exit(0)";
    attack(code, |seen| {
        assert!((10..=600).contains(&seen.report.left_over), "{seen}");
    });
}

#[test]
fn thread_bomb() {
    let code = "
threading.stack_size(65536)
count = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(50,), daemon=True).start()
        count += 1
except RuntimeError: print('refused')
os._exit(0)";
    attack(code, |seen| {
        if seen.report.struck != Some(Struck::Processes) {
            seen.says("refused").ended(Ended::Code(0)).left_over(0);
        }
    });
}

#[test]
fn memory_of_one_process() {
    let code = "
held = []
try:
    while True: held.append(bytearray(1 << 24))
except MemoryError: print('refused')";
    attack(code, |seen| {
        seen.says("refused").ended(Ended::Code(0)).struck(None);
        assert!(seen.report.peak_memory > 300 << 20, "{seen}");
        assert!(seen.report.peak_memory < 600 << 20, "{seen}");
    });
}

#[test]
fn memory_of_many_processes() {
    let code = "
for _ in range(8):
    if os.fork() == 0: break
held = bytearray(os.urandom(1 << 20) * 300)
time.sleep(100)";
    attack(code, |seen| {
        seen.ended(KILLED).struck(Struck::Memory);
    });
}

#[test]
fn memory_that_is_shared_by_mmap() {
    let code = "
for _ in range(8):
    if os.fork() == 0: break
held = mmap.mmap(-1, 300 << 20)
for at in range(0, 300 << 20, 4096): held[at] = 1
time.sleep(100)";
    attack(code, |seen| {
        seen.ended(KILLED).struck(Struck::Memory);
    });
}

#[test]
fn pages_that_processes_share_are_counted_once() {
    let code = "
held = bytearray(os.urandom(1 << 20) * 150)
for _ in range(6):
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(0)
for _ in range(6): os.wait()
print('well')";
    attack(code, |seen| {
        seen.says("well").ended(Ended::Code(0)).struck(None);
    });
}

#[test]
fn filling_shared_memory_files() {
    let code = "
with open('/dev/shm/@MARK@', 'wb') as file:
    while True: file.write(bytes(1 << 20))";
    attack(code, |seen| {
        seen.ended(Ended::Code(1)).struck(None);
    });
}

#[test]
fn hidden_memory() {
    let code = "
attempt(lambda: syscall(319, b'x', 0))          # memfd_create
attempt(lambda: syscall(447, 0))                # memfd_secret
attempt(lambda: syscall(29, 0, 1 << 30, 0o1600)) # shmget
attempt(lambda: syscall(240, b'q', 0o102, 0o600, None)) # mq_open";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn pipes_that_hold_data() {
    let code = "
held = []
try:
    while True:
        r, w = os.pipe(); held.append((r, w)); os.set_blocking(w, False)
        try:
            while True: os.write(w, bytes(4096))
        except BlockingIOError: pass
except OSError as error: print('refused', error)";
    attack(code, |seen| {
        seen.says("refused").ended(Ended::Code(0));
    });
}

#[test]
fn endless_output() {
    for stream in ["stdout", "stderr"] {
        let code = format!("while True: sys.{stream}.write('x' * 4096)");
        attack(&code, |seen| {
            seen.ended(KILLED).struck(Struck::Output);
            let kept = seen.report.stdout.len() + seen.report.stderr.len();
            assert_eq!(kept, 1 << 16, "{seen}");
        });
    }
}

#[test]
fn flood_from_a_child_after_the_main_process_closed_its_streams() {
    let code = "
if os.fork() == 0:
    while True: os.write(1, b'x' * 65536)
os.close(1); os.close(2)
time.sleep(100)";
    attack(code, |seen| {
        seen.ended(KILLED).struck(Struck::Output);
    });
}

#[test]
fn sleeping_beyond_the_clock() {
    attack_with(
        |limits| limits.wall = Duration::from_millis(400),
        "time.sleep(100)",
        |seen| {
            seen.ended(KILLED).struck(Struck::Wall);
            assert!(seen.report.wall >= Duration::from_millis(400), "{seen}");
            assert!(seen.report.wall < Duration::from_millis(900), "{seen}");
        },
    );
}

/// A limit of processor time that strikes first, however busy the machine is.
fn cpu_alone(limits: &mut Limits, milliseconds: u64) {
    limits.cpu = Duration::from_millis(milliseconds);
    limits.wall = Duration::from_secs(90);
}

#[test]
fn busy_beyond_the_processor_time_with_signals_ignored() {
    let code = "
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass";
    attack_with(
        |limits| cpu_alone(limits, 500),
        code,
        |seen| {
            seen.ended(KILLED).struck(Struck::Cpu);
            assert!(seen.report.cpu < Duration::from_millis(1100), "{seen}");
        },
    );
}

#[test]
fn processor_time_shared_out_among_children() {
    let code = "
for _ in range(4):
    if os.fork() == 0:
        while True: pass
time.sleep(100)";
    attack_with(
        |limits| cpu_alone(limits, 800),
        code,
        |seen| {
            seen.ended(KILLED).struck(Struck::Cpu);
        },
    );
}

#[test]
fn a_huge_file() {
    let code = "
try:
    with open('big', 'wb', buffering=0) as file:
        for _ in range(100): file.write(bytes(1 << 20))
except OSError as error: print('refused', os.path.getsize('big') <= 4 << 20)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open('big2', 'wb', buffering=0) as file:
    for _ in range(100): file.write(bytes(1 << 20))";
    attack(code, |seen| {
        seen.says("refused True").ended(Ended::Signal(25)).struck(Struck::FileSize);
    });
}

#[test]
fn a_sparse_file() {
    let code = "
attempt(lambda: os.truncate(os.open('s', os.O_CREAT | os.O_RDWR), 1 << 40))
def reserve():
    fd = os.open('t', os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, 1 << 33)
attempt(reserve)";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn many_files() {
    let large = "
for number in range(40):
    with open(f'f{number}', 'wb') as file: file.write(bytes(3 << 20))
time.sleep(100)";
    let empty = "
for number in range(1000000):
    os.close(os.open(f'f{number}', os.O_CREAT))
time.sleep(100)";
    for (code, disk) in [(large, 16 << 20), (empty, 1 << 20)] {
        attack_with(
            |limits| limits.disk = disk,
            code,
            |seen| {
                if seen.has_namespaces() {
                    seen.ended(Ended::Code(1)).struck(None);
                    let error = String::from_utf8_lossy(&seen.report.stderr).into_owned();
                    assert!(error.contains("No space left"), "{seen}");
                } else {
                    seen.ended(KILLED).struck(Struck::Disk);
                }
            },
        );
    }
}

#[test]
fn all_descriptors() {
    let code = "
try:
    while True: os.dup(0)
except OSError as error: print('refused', error.errno == errno.EMFILE)";
    attack(code, |seen| {
        seen.says("refused True").ended(Ended::Code(0));
    });
}

#[test]
fn raising_its_own_limits() {
    let code = "
for what in range(16):
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        attempt(lambda: resource.setrlimit(what, (hard + 1, hard + 1)))
        attempt(lambda: resource.setrlimit(what, (-1, -1)))
attempt(lambda: os.nice(-5))
attempt(lambda: os.setpriority(os.PRIO_USER, 0, 19))
attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
attempt(lambda: resource.prlimit(@PARENT@, resource.RLIMIT_NOFILE, (3, 3)))
attempt(lambda: os.sched_setaffinity(@PARENT@, [0]))
for name in ['oom_score_adj', 'oom_adj', 'coredump_filter', 'comm', 'attr/current', 'uid_map']:
    attempt(lambda: open(f'/proc/self/{name}', 'w').write('-1000'))
attempt(lambda: open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/sh'))
attempt(lambda: open('/sys/fs/cgroup/cgroup.procs', 'w').write('0'))";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn a_crash_and_its_core() {
    let code = "ctypes.string_at(0)";
    attack(code, |seen| {
        seen.ended(Ended::Signal(11)).struck(None);
    });
    attack("os.abort()", |seen| {
        seen.ended(Ended::Signal(6)).struck(None);
    });
}
