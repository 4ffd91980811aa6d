//! Programs as answers: what passes, and every way to pass that must not.
//!
//! The programs are graded through the command line, so that drivers, sandbox and verdicts are
//! tested together. Without Python or a safe sandbox these tests only say so.

use crate::binary::Bench;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Whether programs can be graded on this machine.
pub(crate) fn can_grade(bench: &Bench) -> bool {
    let findings = bench.good("doctor --json").json();
    let finding = |what: &str| {
        let findings = findings.as_array().expect("a list");
        findings.iter().find(|finding| finding["what"] == what).expect("a finding")["found"].clone()
    };
    let (python, sandbox) = (finding("python"), finding("sandbox"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let can = text(&python) != "none" && !text(&sandbox).starts_with("weak");
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    if !can {
        eprintln!("skipped: python {python}, sandbox {sandbox}");
    }
    can
}

/// Verdict and reason of each program on one set of tests.
fn verdicts(bench: &Bench, tests: &Value, programs: &[&str], flags: &str) -> Vec<[String; 2]> {
    let rows = programs.iter().fold(String::new(), |mut rows, program| {
        let mut row = json!({"program": program});
        for (name, value) in tests.as_object().expect("an object") {
            row[name] = value.clone();
        }
        writeln!(rows, "{row}").expect("text");
        rows
    });
    bench.write("programs.jsonl", rows);
    let outcome = bench.good(&format!("grade programs.jsonl --kind code {flags}"));
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let graded = outcome.stdout.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect(line);
        assert!(!word(&row, "sandbox").is_empty(), "every result tells its level: {row}");
        [word(&row, "verdict"), word(&row, "reason")]
    });
    graded.collect()
}

fn check(tests: &Value, cases: &[(&str, &str, &str)]) {
    let bench = Bench::new();
    if !can_grade(&bench) {
        return;
    }
    let programs: Vec<&str> = cases.iter().map(|case| case.0).collect();
    let found = verdicts(&bench, tests, &programs, "--time-limit 3 --memory-mib 256");
    for ((program, verdict, reason), found) in cases.iter().zip(&found) {
        assert_eq!(found, &[(*verdict).to_owned(), (*reason).to_owned()], "{program}");
    }
    assert_eq!(cases.len(), found.len());
}

/// Doubles a number; the second case tells who doubles from who copies.
fn streams() -> Value {
    json!({"tests": {"inputs": ["2\n", "21\n"], "outputs": ["4\n", "42\n"]}})
}

fn calls() -> Value {
    let cases = json!([[2], [21]]);
    json!({"tests": {"fn_name": "double", "inputs": cases, "outputs": [4, 42]}})
}

fn assertions() -> Value {
    json!({"tests": ["assert double(2) == 4", "assert double(21) == 42"]})
}

fn continuation() -> Value {
    json!({
        "prompt": "def half(x):\n    return x / 2\n\ndef double(x):\n    \"\"\"Twice x.\"\"\"\n",
        "entry_point": "double",
        "tests": "def check(candidate):\n    assert half(candidate(2)) == 2\n    \
                  assert candidate(21) == 42\n",
    })
}

#[test]
fn runs_pass_by_their_output_alone() {
    check(
        &streams(),
        &[
            ("print(2 * int(input()))", "correct", "all tests passed"),
            ("So:\n```python\nprint(int(input()) * 2)\n```", "correct", "all tests passed"),
            ("print('', sum(map(int, sys.stdin)) * 2, '\\n')", "correct", "all tests passed"),
            (
                "if __name__ == '__main__':\n    print(int(input()) * 2)",
                "correct",
                "all tests passed",
            ),
            ("print(4)", "incorrect", "wrong output"),
            ("", "no_answer", "no program found"),
            ("print(2 *", "incorrect", "exception"),
            ("import numpy", "incorrect", "exception"),
            ("import sys; sys.exit(0)", "incorrect", "wrong output"),
            ("import os; os._exit(0)", "incorrect", "wrong output"),
            ("print(2 * int(input())); import sys; sys.exit(1)", "incorrect", "exception"),
            ("while True: pass", "incorrect", "time limit"),
            ("import time; time.sleep(60)", "incorrect", "time limit"),
            (
                "try:\n    while True: pass\nexcept BaseException:\n    print(4)",
                "incorrect",
                "time limit",
            ),
            ("x = bytearray(1 << 30)", "incorrect", "memory limit"),
            ("while True: print('x' * 1000000)", "incorrect", "output limit"),
            ("import os; os.kill(os.getpid(), 11)", "incorrect", "crash"),
            (
                "import os\nprint(2 * int(input()), flush=True)\nos.kill(os.getppid(), 9)",
                "incorrect",
                "exception",
            ),
        ],
    );
}

/// Programs that do not solve the task and try to pass in other ways, for tests by calls.
const CHEATS: [(&str, &str); 17] = [
    ("import sys\ndef double(x): sys.exit(0)", "exception"),
    ("import os\nos._exit(0)", "exception"),
    ("import os\nos._exit(40)", "exception"),
    ("import os\ndef double(x): os._exit(40)", "exception"),
    (
        "class Same:\n    def __eq__(self, other): return True\ndef double(x): return Same()",
        "wrong output",
    ),
    (
        "class Same(int):\n    def __eq__(self, other): return True\ndef double(x): return Same(1)",
        "wrong output",
    ),
    (
        "class Same(list):\n    def __eq__(self, other): return True\ndef double(x): return Same()",
        "wrong output",
    ),
    (
        "class Same(str):\n    __eq__ = lambda self, other: True\ndef double(x): return Same()",
        "wrong output",
    ),
    (
        "import builtins\nbuiltins.AssertionError = ValueError\ndef double(x): return 0",
        "wrong output",
    ),
    (
        "import json\ndef double(x):\n    json.dumps = lambda value: '{\"value\": true}'\n    return 0",
        "wrong output",
    ),
    (
        "import sys\nsys.settrace(lambda *_: None)\nsys.excepthook = lambda *_: None\ndef double(x): raise SystemExit(0)",
        "exception",
    ),
    (
        "import glob\ndef double(x):\n    for path in glob.glob('/**/tests.py', recursive=True):\n        \
      return int(open(path).read().split('== ')[-1 if x > 2 else 1].split()[0])\n    return 0",
        "wrong output",
    ),
    (
        "import os\ndef double(x):\n    for pid in range(1, 99):\n        try:\n            \
      text = open(f'/proc/{pid}/cwd/tests.py').read()\n            return 4 if x == 2 else 42\n        \
      except Exception: pass\n    return 0",
        "wrong output",
    ),
    (
        "import gc\ndef double(x):\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and 42 in o.values()]\n    \
      return 42 if found else 0",
        "wrong output",
    ),
    ("def double(x):\n    while True: pass", "time limit"),
    ("def double(x): return 'x' * (1 << 29)", "memory limit"),
    ("x = 1", "exception"),
];

#[test]
fn calls_pass_by_their_results_alone() {
    let mut cases = vec![
        ("def double(x): return x + x", "correct", "all tests passed"),
        (
            "class Solution:\n    def double(self, x: List[int]): return 2 * x",
            "correct",
            "all tests passed",
        ),
        (
            "print('noise')\ndef double(x):\n    print(x)\n    return 2.0 * x",
            "correct",
            "all tests passed",
        ),
        ("def double(x): return 4", "incorrect", "wrong output"),
        ("def double(x): return '4'", "incorrect", "wrong output"),
        (
            "def double(x):\n    y = []\n    for _ in range(9999): y = [y]\n    return y",
            "incorrect",
            "wrong output",
        ),
    ];
    cases.extend(CHEATS.iter().map(|(program, reason)| (*program, "incorrect", *reason)));
    check(&calls(), &cases);
}

#[test]
fn assertions_pass_by_their_results_alone() {
    let mut cases = vec![
        ("def double(x): return x + x", "correct", "all tests passed"),
        ("```python\ndef double(x):\n    return x + x\n```", "correct", "all tests passed"),
        ("def double(x): return None", "incorrect", "wrong output"),
    ];
    cases.extend(CHEATS.iter().map(|(program, reason)| (*program, "incorrect", *reason)));
    check(&assertions(), &cases);
}

#[test]
fn replies_can_be_forged_but_not_made_right() {
    let forged = |reply: &str| {
        format!(
            "import os\nos.write(4, ({reply}).encode())\ntime.sleep(0.2)\ndef double(x): return 0"
        )
    };
    let replies = [
        "'{\"value\": null}\\n' * 3",
        "'{\"value\": {\"object\": 0}}\\n' * 9",
        "'{\"value\": {\"dict\": [[1, 2]]}}\\n' * 9",
        "'{\"value\": {\"unheard\": [1]}}\\n' * 9",
        "'[' * 100000 + '\\n'",
        "'not json\\n' * 3",
        "'{\"error\": \"SystemExit\", \"message\": \"0\"}\\n' * 3",
        "'{\"error\": \"AssertionError\", \"message\": \"\"}\\n' * 3",
        "'{}\\n' * 3",
        "'\\n' * 3",
        "'x' * 30000000",
        "'{\"value\": {\"int\": \"0x' + 'f' * 1000000 + '\"}}\\n'",
    ];
    let programs: Vec<String> = replies.iter().map(|reply| forged(reply)).collect();
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    let bench = Bench::new();
    if !can_grade(&bench) {
        return;
    }
    for tests in [calls(), assertions(), continuation()] {
        let flags = "--time-limit 3 --memory-mib 256";
        for (program, [verdict, reason]) in
            programs.iter().zip(verdicts(&bench, &tests, &programs, flags))
        {
            assert_eq!(verdict, "incorrect", "{reason}: {program}");
        }
    }
}

#[test]
fn a_function_is_completed_or_written_whole() {
    check(
        &continuation(),
        &[
            ("    return x * 2\n", "correct", "all tests passed"),
            ("    return x * 2\n\nprint(double(3))\nassert False\n", "correct", "all tests passed"),
            (
                "```python\ndef double(x):\n    return 2 * half(2 * x)\n```",
                "correct",
                "all tests passed",
            ),
            ("    return x\n", "incorrect", "wrong output"),
            // A helper of the prompt that the tests use is the data set's, whatever the program says.
            (
                "```python\ndef half(x): return 2\ndef double(x): return 42\n```",
                "incorrect",
                "wrong output",
            ),
            ("return x", "incorrect", "exception"),
        ],
    );
}

#[test]
fn tests_keep_their_own_modules_loops_and_functions() {
    let cases: [(&str, &str, &str); 6] = [
        ("assert math.isclose(f(2), 4)", "def f(x): return 4.0", "correct"),
        (
            "assert math.isclose(f(2), 4)",
            "class math:\n    isclose = staticmethod(lambda *a: True)\ndef f(x): return 0",
            "incorrect",
        ),
        (
            "assert Counter(f(2)) == Counter([4])",
            "def Counter(x): return 0\ndef f(x): return 5",
            "incorrect",
        ),
        (
            "for a, b in zip(map(f, [1, 2]), [3, 4]): assert a == b",
            "def f(x): raise StopIteration",
            "incorrect",
        ),
        ("assert all(map(f, [1, 2]))", "def f(x): return x > 0", "correct"),
        ("assert g(f(1).items()) == 5", "def f(x): return {}\ndef g(x): return 5", "incorrect"),
    ];
    let bench = Bench::new();
    if !can_grade(&bench) {
        return;
    }
    for (tests, program, verdict) in cases {
        let found = verdicts(&bench, &json!({"tests": [tests]}), &[program], "");
        assert_eq!(found[0][0], verdict, "{tests}: {found:?}");
    }
    // Texts in a set have one order, run after run: the hash seed is fixed.
    let ordered =
        "import os\nprint(int(os.environ['PYTHONHASHSEED'] == '0' and hash('a') == hash('a')))";
    let tests = json!({"tests": {"inputs": [""], "outputs": ["1"]}});
    assert_eq!(verdicts(&bench, &tests, &[ordered], "")[0][0], "correct");
}

#[test]
fn tests_that_cannot_run_make_no_verdict() {
    let bench = Bench::new();
    if !can_grade(&bench) {
        return;
    }
    for tests in ["assert double(2) ==", "import no_such_module", "assert double(lambda x: x)"] {
        let found = verdicts(&bench, &json!({"tests": [tests]}), &["def double(x): return x"], "");
        assert_eq!(found, [["ungradable", "tests cannot run"]], "{tests}");
    }
    bench.write("bad.jsonl", "{\"program\": \"x\"}\n{\"program\": \"x\", \"tests\": []}\n");
    bench.bad("grade bad.jsonl --kind code", 3, &["no `tests`", "no test case", "bad.jsonl:2"]);
    bench.bad("grade bad.jsonl --kind code --time-limit 0", 2, &["task.programs.time_limit"]);
    let missing = "grade bad.jsonl --kind code --python /no/such/python";
    bench.bad(missing, 5, &["/no/such/python", "install Python"]);
}

#[test]
fn objects_of_the_program_can_be_used_by_its_tests() {
    let tests = json!({
        "test_setup_code": "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)",
        "tests": [
            "assert height(root) == 3",
            "assert height(root.left) == 2",
            "assert list(values(root)) == [1, 2, 3] and root.value == 1",
            "assert of_type((1, 2.5, 'a'), str) == ('a',)",
            "assert sorted(pairs({1: {2, 3}})) == [(1, 2), (1, 3)]",
        ],
    });
    let program = "class Node:\n    def __init__(self, value):\n        self.value = value\n        \
                   self.left = self.right = None\n\n\
                   def height(node):\n    return 0 if node is None else \
                   1 + max(height(node.left), height(node.right))\n\n\
                   def values(node):\n    if node is not None:\n        yield node.value\n        \
                   yield from values(node.left)\n        yield from values(node.right)\n\n\
                   def of_type(items, kind):\n    return tuple(i for i in items if type(i) is kind)\n\n\
                   def pairs(groups):\n    return {(k, v) for k, vs in groups.items() for v in vs}\n";
    check(
        &tests,
        &[
            (program, "correct", "all tests passed"),
            (&program.replace("1 + max", "max"), "incorrect", "wrong output"),
        ],
    );
}
