//! The program in a response, and the imports that it may take for granted.

use regex::Regex;
use std::fmt::Write as _;
use std::sync::LazyLock;

/// Bytes of a program that are looked at; longer ones are not run.
pub(super) const MAX_PROGRAM: usize = 256 * 1024;

/// Names that competition sites and published solutions use without importing them (spec §4.2).
const ASSUMED: [(&str, &[&str]); 15] = [
    (
        "typing",
        &[
            "Any",
            "Callable",
            "DefaultDict",
            "Deque",
            "Dict",
            "FrozenSet",
            "Generator",
            "Iterable",
            "Iterator",
            "List",
            "Mapping",
            "Optional",
            "Sequence",
            "Set",
            "Tuple",
            "TypeVar",
            "Union",
        ],
    ),
    ("collections", &["Counter", "OrderedDict", "defaultdict", "deque", "namedtuple"]),
    ("functools", &["cmp_to_key", "lru_cache", "partial", "reduce", "wraps"]),
    // From Python 3.9 on, so on a line of its own.
    ("functools", &["cache"]),
    (
        "heapq",
        &["heapify", "heappop", "heappush", "heappushpop", "heapreplace", "nlargest", "nsmallest"],
    ),
    ("bisect", &["bisect", "bisect_left", "bisect_right", "insort", "insort_left", "insort_right"]),
    (
        "itertools",
        &[
            "accumulate",
            "chain",
            "combinations",
            "combinations_with_replacement",
            "count",
            "cycle",
            "groupby",
            "islice",
            "permutations",
            "product",
            "repeat",
            "starmap",
            "takewhile",
            "zip_longest",
        ],
    ),
    ("math", &["ceil", "comb", "factorial", "floor", "gcd", "inf", "isqrt", "log2", "sqrt"]),
    ("string", &["ascii_letters", "ascii_lowercase", "ascii_uppercase", "digits", "punctuation"]),
    ("copy", &["deepcopy"]),
    ("operator", &["itemgetter", "attrgetter", "xor"]),
    ("fractions", &["Fraction"]),
    ("decimal", &["Decimal"]),
    ("datetime", &["timedelta"]),
    ("dataclasses", &["dataclass", "field"]),
];

/// Modules that are used under their own names.
const ASSUMED_MODULES: [&str; 22] = [
    "bisect",
    "cmath",
    "collections",
    "copy",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "heapq",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "os",
    "queue",
    "random",
    "re",
    "statistics",
    "string",
    "sys",
    "time",
];

static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z_][A-Za-z0-9_]*").expect("a valid pattern"));

static MODULE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b([a-z]+)\s*\.\s*[A-Za-z_]").expect("a valid pattern"));

static FENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^[ \t]*```[ \t]*([A-Za-z0-9_+-]*)[^\n`]*\r?\n").expect("a valid pattern")
});

/// Import lines for what the program uses by a well-known name. A name that the program defines
/// itself hides the import, because the program is run after them.
pub(super) fn prelude(program: &str) -> String {
    let words: std::collections::BTreeSet<&str> =
        WORD.find_iter(program).map(|word| word.as_str()).collect();
    let modules: std::collections::BTreeSet<&str> = MODULE
        .captures_iter(program)
        .map(|found| found.get(1).expect("the group is not optional").as_str())
        .collect();
    let mut prelude = String::new();
    for (module, names) in ASSUMED {
        for name in names.iter().filter(|name| words.contains(*name)) {
            writeln!(prelude, "from {module} import {name}").expect("a string takes every write");
        }
    }
    // Modules last: `bisect.bisect_left` needs the module where a function has its name too.
    for module in ASSUMED_MODULES.iter().filter(|module| modules.contains(*module)) {
        writeln!(prelude, "import {module}").expect("a string takes every write");
    }
    prelude
}

/// Import lines for what tests use and no program may stand in for: modules by their own names, and
/// classes of the standard library. Functions are left out, because the one under test may be called
/// `product` or `count`.
pub(super) fn prelude_of_tests(tests: &str) -> String {
    let is_class = |line: &&str| {
        let name = line.split_once(" import ").map_or("", |(_, name)| name);
        name.starts_with(|c: char| c.is_ascii_uppercase())
    };
    let whole = prelude(tests);
    let lines = whole.lines().filter(|line| line.starts_with("import ") || is_class(line));
    lines.fold(String::new(), |prelude, line| prelude + line + "\n")
}

/// The program that a response holds: its last fenced block of Python (one that defines
/// `entry_point` comes first), or the whole of a response without fences. Blocks that name no
/// language count where none names Python. `None` if the program is blank.
pub(super) fn program_in<'a>(response: &'a str, entry_point: Option<&str>) -> Option<&'a str> {
    let blocks = fenced_blocks(response);
    let defines = |block: &&&str| entry_point.is_some_and(|name| defines(block, name));
    let block = blocks.iter().rev().find(defines).or(blocks.last()).copied();
    let whole = if response.contains("```") { None } else { Some(response) };
    block.or(whole).filter(|program| !program.trim().is_empty())
}

/// Whether a program defines a function of this name at its left margin.
pub(super) fn defines(program: &str, function: &str) -> bool {
    program.lines().any(|line| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        let name = line.strip_prefix("def ").map(str::trim_start);
        name.and_then(|rest| rest.strip_prefix(function))
            .is_some_and(|rest| rest.trim_start().starts_with(['(', '[']))
    })
}

/// What ends a continuation where a line begins with it (Chen et al. 2021, "Evaluating large language
/// models trained on code", section 2): the function that the prompt began is over.
const ENDS: [&str; 5] = ["class", "def", "#", "if", "print"];

/// A response that goes on where a prompt ends, up to where its function ends.
pub(super) fn continuation(response: &str) -> &str {
    let mut at = 0;
    for line in response.split_inclusive('\n') {
        if at > 0 && ENDS.iter().any(|end| line.starts_with(end)) {
            return &response[..at];
        }
        at += line.len();
    }
    response
}

/// What is in the fenced blocks of Python, or else in those without a language; blank ones do not
/// count. A fence that is never closed runs to the end.
fn fenced_blocks(response: &str) -> Vec<&str> {
    let mut named = Vec::new();
    let mut nameless = Vec::new();
    let mut at = 0;
    while let Some(found) = FENCE.captures_at(response, at) {
        let start = found.get(0).expect("the whole match").end();
        let rest = &response[start..];
        let length = rest
            .split_inclusive('\n')
            .scan(0, |at, line| {
                let begins = *at;
                *at += line.len();
                Some((begins, line))
            })
            .find(|(_, line)| line.trim_start().starts_with("```"))
            .map(|(begins, _)| begins);
        let language = found[1].to_ascii_lowercase();
        let block = &rest[..length.unwrap_or(rest.len())];
        match language.as_str() {
            _ if block.trim().is_empty() => {}
            "python" | "python3" | "py" => named.push(block),
            "" => nameless.push(block),
            _ => {}
        }
        let Some(length) = length else { break };
        let close = rest[length..].find("```").map_or(length, |fence| length + fence + 3);
        at = start + close;
    }
    if named.is_empty() { nameless } else { named }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_its_fence() {
        for (response, entry_point, expected) in [
            ("print(1)", None, Some("print(1)")),
            ("So:\n```python\nprint(1)\n```\nDone.", None, Some("print(1)\n")),
            ("```\na = 1\n```\n```py\nb = 2\n```", None, Some("b = 2\n")),
            (
                "```python\ndef f(x):\n    return x\n```\n```python\nf(1)\n```",
                Some("f"),
                Some("def f(x):\n    return x\n"),
            ),
            ("```python\nprint(1)\n```\n```text\n1\n```", None, Some("print(1)\n")),
            ("```python\nprint(1)\n```\nOutput:\n```\n1\n```", None, Some("print(1)\n")),
            ("```python\nprint(2)", None, Some("print(2)")),
            ("  \n", None, None),
            ("```python\n```", None, None),
        ] {
            assert_eq!(program_in(response, entry_point), expected, "{response:?}");
        }
    }

    #[test]
    fn a_continuation_ends_with_its_function() {
        for (response, expected) in [
            ("    return 1\n", "    return 1\n"),
            ("    return 1\n\nprint(f())\n", "    return 1\n\n"),
            ("\n    a\n\n    b\ndef g():\n    pass", "\n    a\n\n    b\n"),
            ("    return 1\nimport os\n# so", "    return 1\nimport os\n"),
        ] {
            assert_eq!(continuation(response), expected, "{response:?}");
        }
    }

    #[test]
    fn a_function_is_defined_at_the_margin() {
        assert!(defines("x = 1\ndef f(a):\n  pass", "f"));
        assert!(defines("async def f (a):\n  pass", "f"));
        assert!(!defines("def ff(a):\n  pass", "f"));
        assert!(!defines("  def f(a):\n  pass", "f"));
    }

    #[test]
    fn tests_have_modules_and_classes_of_their_own() {
        let tests = "assert math.isclose(f(2), 4) and Counter(product(2)) == Counter([4])";
        let prelude = prelude_of_tests(tests);
        assert_eq!(prelude, "from collections import Counter\nimport math\n");
    }

    #[test]
    fn imports_are_given_for_what_is_used() {
        let program = "class Solution:\n    def f(self, a: List[int]):\n        \
                       return math.gcd(*a) + bisect.bisect_left(a, 1)\n";
        let prelude = prelude(program);
        let lines: Vec<&str> = prelude.lines().collect();
        assert_eq!(
            lines,
            [
                "from typing import List",
                "from bisect import bisect",
                "from bisect import bisect_left",
                "from math import gcd",
                "import bisect",
                "import math",
            ]
        );
    }
}
