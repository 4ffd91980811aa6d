//! Attacks by the network and by system calls.

mod arena;

use arena::attack;
use bstar_sandbox::Ended;

#[test]
fn as_an_ordinary_user() {
    arena::again_as_an_ordinary_user("as_an_ordinary_user");
}

#[test]
fn reaching_the_network() {
    let code = "
def tcp(family, address):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(1); s.connect(address); s.send(b'x')
def udp(address):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', address)
attempt(lambda: tcp(socket.AF_INET, ('127.0.0.1', @PORT@)))
attempt(lambda: tcp(socket.AF_INET6, ('::1', @PORT6@)))
attempt(lambda: tcp(socket.AF_INET, ('192.0.2.1', 80)))
attempt(lambda: udp(('127.0.0.1', @UDP@)))
attempt(lambda: socket.getaddrinfo('localhost', 80) and tcp(socket.AF_INET, ('localhost', @PORT@)))
attempt(lambda: socket.gethostbyname('example.org'))
attempt(lambda: tcp(socket.AF_UNIX, '@HOST@/socket'))
attempt(lambda: tcp(socket.AF_UNIX, b'\\0@MARK@'))
def listen():
    s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()
attempt(listen)
for family in range(0, 46):
    for kind in (1, 2, 3, 5):
        try: socket.socket(family, kind); print('socket', family, kind)
        except OSError: pass";
    attack(code, |seen| {
        seen.refused();
        assert!(!seen.out().contains("socket "), "{seen}");
    });
}

#[test]
fn pairs_of_sockets_reach_nobody() {
    let code = "
a, b = socket.socketpair()
a.send(b'x'); print('pair', b.recv(1))
def to_host(kind, address):
    s, _ = socket.socketpair(socket.AF_UNIX, kind)
    try: s.sendto(b'x', address); return 'sent'
    except OSError: pass
    s.sendmsg([b'x'], [], 0, address); return 'sent'
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    for address in ('@HOST@/socket', b'\\0@MARK@'):
        attempt(lambda: to_host(kind, address))
attempt(lambda: a.connect('@HOST@/socket'))
attempt(lambda: a.bind(b'\\0@MARK@-mine'))";
    attack(code, |seen| {
        seen.says("pair b'x'").refused();
    });
}

#[test]
fn new_namespaces() {
    let code = "
flags = [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000, 0x80]
for flag in flags:
    attempt(lambda: syscall(272, flag))                  # unshare
    attempt(lambda: syscall(272, flag | 0x10000000))     # with a user namespace
    if flag != 0x80: # which is an old flag of clone without effect
        attempt(lambda: syscall(56, flag | 17, 0, 0, 0, 0) or os._exit(0)) # clone
attempt(lambda: syscall(435, ctypes.create_string_buffer(88), 88)) # clone3
attempt(lambda: syscall(308, 0, 0))                      # setns";
    attack(code, |seen| {
        seen.refused();
    });
}

#[test]
fn calls_nobody_needs() {
    let code = "
zero = ctypes.create_string_buffer(256)
calls = dict(bpf=(321, 0, zero, 64), perf_event_open=(298, zero, 0, -1, -1, 0),
    userfaultfd=(323, 1), io_uring_setup=(425, 4, zero), io_uring_enter=(426, 0, 0, 0, 0, 0),
    io_uring_register=(427, 0, 0, zero, 0), keyctl=(250, 0, -3, 0), add_key=(248, b'user', b'a', b'b', 1, -3),
    request_key=(249, b'user', b'a', None, -3), personality=(135, 0x40000), fanotify=(300, 0, 0),
    kexec_load=(246, 0, 0, 0, 0), init_module=(175, zero, 1, b''), finit_module=(313, 0, b'', 0),
    delete_module=(176, b'x', 0), reboot=(169, 0xfee1dead, 672274793, 0, 0), swapon=(167, b'x', 0),
    acct=(163, None), settimeofday=(164, zero, None), sethostname=(170, b'x', 1), syslog=(103, 3, zero, 64),
    quotactl=(179, 0, None, 0, zero), modify_ldt=(154, 0, zero, 64), iopl=(172, 3), ioperm=(173, 0, 1, 1),
    shmget=(29, 0, 4096, 0o1600), msgget=(68, 0, 0o1600), semget=(64, 0, 1, 0o1600),
    process_madvise=(440, 0, zero, 1, 4, 0), move_pages=(279, 0, 0, None, None, None, 0))
for name, call in calls.items():
    def one(call=call, name=name): return name, syscall(*call)
    attempt(one)";
    attack(code, |seen| {
        seen.refused();
        let refused = seen.out().matches("Operation not permitted").count();
        assert_eq!(refused, 30, "{seen}");
    });
}

#[test]
fn typing_into_the_terminal() {
    let code = "
import fcntl, termios
for path in ('/dev/tty', '/dev/console', '/dev/tty0', '/dev/ptmx', '/dev/pts/0', '/dev/pts/ptmx'):
    attempt(lambda: fcntl.ioctl(os.open(path, os.O_RDWR), termios.TIOCSTI, b'x'))
for fd in range(3):
    attempt(lambda: fcntl.ioctl(fd, termios.TIOCSTI, b'x'))
    attempt(lambda: fcntl.ioctl(fd, 0x541c, b'\\3'))";
    attack(code, |seen| {
        seen.refused();
        let refused = seen.out().matches("Operation not permitted").count();
        assert!(refused >= 6, "{seen}");
    });
}

/// The numbers of other system call tables would pass by a list of this one's.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_by_other_tables() {
    let code = "
for number in (41, 101, 272, 165):
    attempt(lambda: syscall(0x40000000 + number, 2, 1, 0)) # with 32-bit pointers";
    attack(code, |seen| {
        seen.refused();
        assert_eq!(seen.out().matches("Function not implemented").count(), 4, "{seen}");
    });
    let code = "
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3])) # the 32-bit getpid
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print('DONE', ctypes.CFUNCTYPE(ctypes.c_int)(address)())";
    attack(code, |seen| {
        seen.ended(Ended::Signal(31)).struck(None);
    });
}

#[test]
fn a_huge_command_line_and_environment() {
    for sandbox in arena::levels() {
        let arena = arena::Arena::new();
        let mut program = arena.program("print(len(sys.argv), len(os.environ['BIG']))");
        program.command.extend((0..1000).map(|_| "y".repeat(1000).into()));
        program.env.push(("BIG".into(), "z".repeat(100_000).into()));
        let report = sandbox.run(program).unwrap();
        assert_eq!(report.stdout, b"1001 100000\n", "{report:?}");
        // More than the system takes is the caller's mistake, and said so.
        let mut program = arena.program("pass");
        program.env.push(("BIG".into(), "z".repeat(1_000_000).into()));
        let error = sandbox.run(program).unwrap_err().to_string();
        assert!(error.contains("failed to execute"), "{error}");
    }
}
