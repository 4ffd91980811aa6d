//! Tasks whose answers are programs or puzzles, from their files to the events of a run; and the
//! published solutions, where the shared data is at hand.

use crate::binary::Bench;
use crate::programs::can_grade;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A model that knows nothing and a run that asks it little.
const SMALL: &str = r#"
method = "sft"
[model]
size = 16
context_length = 400
[supervised]
steps = 4
batch_size = 4
validate_every = 0
[sample]
max_tokens = 40
[evaluate]
sampled_queries = 2
samples = 2
k = [1, 2]
s = [1]
"#;

fn task(kind: &str, extra: &str) -> String {
    format!("{SMALL}\n[task]\nkind = \"{kind}\"\n{extra}")
}

fn rows(row: impl Fn(usize) -> Value, count: usize) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        writeln!(text, "{}", row(i)).expect("text");
        text
    })
}

/// The `graded` events of a run.
fn graded(bench: &Bench, run: &str) -> Vec<Value> {
    bench.events(run).into_iter().filter(|event| event["event"] == "graded").collect()
}

#[test]
fn each_kind_of_program_is_run_by_a_run() {
    let bench = Bench::new();
    if !can_grade(&bench) {
        return;
    }
    let apps = |i: usize| {
        json!({
            "problem_id": format!("p{i}"), "question": format!("Print {i} plus a number."),
            "input_output": json!({"inputs": ["1\n"], "outputs": [format!("{}\n", i + 1)]}).to_string(),
            "solutions": json!([format!("print({i} + int(input()))"), format!("print(int(input()) + {i})")]).to_string(),
            "starter_code": "",
        })
    };
    let humaneval = |i: usize| {
        json!({
            "task_id": format!("t/{i}"), "prompt": format!("def add{i}(x):\n    \"\"\"x + {i}\"\"\"\n"),
            "canonical_solution": format!("    return x + {i}\n"), "entry_point": format!("add{i}"),
            "test": format!("def check(candidate):\n    assert candidate(1) == {}\n", i + 1),
        })
    };
    let mbpp = |i: usize| {
        json!({
            "task_id": i, "text": format!("Add {i}."), "code": format!("def add(x):\r\n    return x + {i}"),
            "test_list": [format!("assert add(1) == {}", i + 1)], "test_setup_code": "",
        })
    };
    for (kind, text) in
        [("apps", rows(apps, 8)), ("humaneval", rows(humaneval, 8)), ("mbpp", rows(mbpp, 8))]
    {
        bench.write("train.jsonl", &text);
        bench.write(
            "test.jsonl",
            text.replace("plus", "and").replace("Add", "Sum").replace("x +", "y +"),
        );
        let files = "[task.files]\ntrain = \"train.jsonl\"\ntest = \"test.jsonl\"\nvalidation_size = 2\n\
                     [task.programs]\ntime_limit = 2.0\n";
        bench.write("code.toml", task(kind, files));
        bench.good(&format!("run code.toml --dir {kind} --quiet"));
        let graded = graded(&bench, kind);
        let counts = graded.last().expect("an evaluation");
        // Greedy answers to 8 queries and 2 samples of 2.
        let total: u64 = counts["reasons"]
            .as_object()
            .expect("reasons")
            .values()
            .filter_map(Value::as_u64)
            .sum();
        assert_eq!((total, &counts["correct"]), (12, &0.into()), "{kind}: {counts}");
        assert!(counts["reasons"]["all tests passed"].is_null(), "{counts}");
        let checker = counts["checker"].as_str().expect("what checked them");
        assert!(checker.starts_with("Python 3.") && checker.contains("sandbox: "), "{checker}");
    }
}

#[test]
fn tests_that_cannot_be_read_are_named_or_left_out() {
    let bench = Bench::new();
    if !can_grade(&bench) {
        return;
    }
    bench.write("mbpp.jsonl", "{\"text\": \"Add.\", \"code\": \"x\"}\n");
    bench.write("mbpp.toml", task("mbpp", "[task.files]\ntest = \"mbpp.jsonl\"\n"));
    bench.bad("run mbpp.toml", 3, &["mbpp.jsonl:1", "no `test_list`"]);
    let row = |tests: &str| json!({"question": "Q", "input_output": tests, "solutions": "[\"x\"]"});
    let good = json!({"inputs": ["1"], "outputs": ["1"]}).to_string();
    bench.write("apps.jsonl", format!("{}\n{}\n", row(""), row(&good)));
    bench.write(
        "apps.toml",
        task("apps", "[task.files]\ntrain = \"apps.jsonl\"\ntest = \"apps.jsonl\"\n"),
    );
    let outcome = bench.bad("run apps.toml", 3, &["apps.jsonl"]);
    assert!(outcome.stderr.contains("stand in"), "{}", outcome.stderr);
    bench.write(
        "python.toml",
        task(
            "apps",
            "[task.files]\ntest = \"apps.jsonl\"\n[task.programs]\npython = \"/no/python\"\n",
        ),
    );
    bench.bad("run python.toml", 5, &["/no/python", "task.programs.python"]);
    bench.write(
        "words.toml",
        task("gsm8k", "[task.files]\ntest = \"apps.jsonl\"\n[task.programs]\n"),
    );
    bench.bad("run words.toml", 2, &["task.programs is set"]);
}

#[test]
fn puzzles_are_read_from_csv_and_answers_checked() {
    let bench = Bench::new();
    bench.write("24.csv", "Rank,Puzzles,Time\r\n1,1 1 4 6,4.4 s\r\n2,4 9 10 13,5.1 s\r\n");
    bench.write("puzzles.toml", task("game24", "[task.files]\ntest = \"24.csv\"\n"));
    // Nothing to learn from: the run says so, after the puzzles were read.
    bench.bad("run puzzles.toml", 3, &["task game24 has no training queries"]);
    bench.write("bad.csv", "Rank,Puzzles\n1,1 2 3\n");
    bench.write("bad.toml", task("game24", "[task.files]\ntest = \"bad.csv\"\n"));
    bench.bad("run bad.toml", 3, &["bad.csv:2", "four whole numbers"]);
    let answer = |pred: &str| json!({"gold": "4 9 10 13", "pred": pred});
    let rows = ["(10 - 4) * (13 - 9) = 24", "(10 - 4) * 4", "no idea", "24"].map(answer);
    bench.write("answers.jsonl", rows.map(|row| row.to_string() + "\n").concat());
    let outcome = bench.good("grade answers.jsonl --kind game24");
    let verdicts: Vec<Value> = outcome
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line)["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["correct", "incorrect", "no_answer", "incorrect"]);
}

#[test]
fn chat_prompts_need_a_model_that_chats() {
    let bench = Bench::new();
    bench.write(
        "train.jsonl",
        rows(|i| json!({"question": format!("{i}+1?"), "answer": "so\n#### 1"}), 4),
    );
    let files = "[task.files]\ntrain = \"train.jsonl\"\nvalidation_size = 1\nstyle = \"chat\"\n";
    bench.write("chat.toml", task("gsm8k", files));
    bench.bad("run chat.toml --set task.files.test=train.jsonl", 3, &["stand in"]);
    bench.write("test.jsonl", "{\"question\": \"2+2?\", \"answer\": \"#### 4\"}\n");
    let chat = "run chat.toml --set task.files.test=test.jsonl";
    bench.bad(chat, 2, &["a model from scratch cannot chat", "model.folder"]);
    bench.good(&format!("{chat} --set task.files.style=paper --dir plain --quiet"));
    bench.bad(&format!("{chat} --set model.folder=plain"), 2, &["has no chat template"]);
    let folder = "plain/checkpoints/iter-0000/chat_template.jinja";
    bench.write(folder, "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}");
    let outcome = bench.good(&format!(
        "{chat} --set model.folder=plain --set supervised.steps=0 --dir chatty --json"
    ));
    assert_eq!(outcome.json()["finished"], true);
    assert!(bench.path("chatty/checkpoints/iter-0000/chat_template.jinja").is_file());
}

/// The folder of the published files, if it is there.
fn shared() -> Option<PathBuf> {
    let named = std::env::var_os("BSTAR_SHARED").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = named.unwrap_or(beside).join("data");
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    if !folder.is_dir() {
        eprintln!("skipped: no shared data");
        return None;
    }
    Some(folder)
}

/// Rows of a published file as rows to grade.
fn published(path: &Path, every: usize, row: impl Fn(&Value) -> Vec<Value>) -> String {
    let bytes = std::fs::read(path).expect("a published file");
    let text = if path.extension().is_some_and(|end| end == "gz") {
        let mut text = String::new();
        let mut decoder = flate2::read::MultiGzDecoder::new(&bytes[..]);
        std::io::Read::read_to_string(&mut decoder, &mut text).expect("gzip");
        text
    } else {
        String::from_utf8(bytes).expect("text")
    };
    let chosen = text.lines().step_by(every);
    let rows = chosen.flat_map(|line| row(&serde_json::from_str(line).expect("a row")));
    rows.fold(String::new(), |mut out, row| {
        writeln!(out, "{row}").expect("text");
        out
    })
}

#[test]
fn published_solutions_pass_their_tests() {
    let bench = Bench::new();
    let Some(shared) = shared().filter(|_| can_grade(&bench)) else { return };
    let humaneval = published(&shared.join("humaneval/HumanEval.jsonl.gz"), 1, |row| {
        let mut row = row.clone();
        row["program"] = row["canonical_solution"].clone();
        vec![row]
    });
    // Every fifth row: all of them take a minute, and `docs/log.md` has their figures.
    let mbpp = published(&shared.join("mbpp/mbpp.jsonl"), 5, |row| {
        let mut row = row.clone();
        row["program"] = row["code"].clone();
        vec![row]
    });
    let apps = published(&shared.join("apps_mini/train_5.jsonl"), 1, |row| {
        let solutions = row["solutions"].as_array().into_iter().flatten().take(4);
        solutions
            .map(|solution| json!({"program": solution, "tests": row["input_output"]}))
            .collect()
    });
    for (name, rows, flags, failing) in [
        ("humaneval", humaneval, "--tests test", 0),
        ("mbpp", mbpp, "--tests test_list", 0),
        ("apps", apps, "", 1),
    ] {
        bench.write("rows.jsonl", &rows);
        let outcome = bench.good(&format!("grade rows.jsonl --kind code --time-limit 20 {flags}"));
        let graded: Vec<Value> =
            outcome.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(graded.len(), rows.lines().count());
        let wrong: Vec<&Value> = graded.iter().filter(|row| row["verdict"] != "correct").collect();
        assert!(wrong.len() <= failing, "{name}: {wrong:?}");
    }
}
