//! The equations in a response, for diversity (Distinct Equations, spec §2).
//!
//! Equations stand between `$…$`, `$$…$$`, `<<…>>` and `\[…\]`. Amounts of money are taken away
//! first, because a lone `$18` would pair with the dollar sign of something else. A dollar sign is
//! money if it is escaped, if `<<` follows it (GSM8K), or if a number follows it and what stands up
//! to the next dollar sign of the line reads as prose. Nothing here knows tasks.

use regex::Regex;
use std::sync::LazyLock;

/// The equations of a response, in order, trimmed.
pub(crate) fn in_response(response: &str) -> Vec<String> {
    let text = without_currency(response);
    let groups = EQUATION.captures_iter(&text);
    groups
        .filter_map(|found| found.iter().skip(1).flatten().next().map(|group| group.as_str()))
        .map(|equation| equation.trim().to_owned())
        .filter(|equation| !equation.is_empty())
        .collect()
}

static EQUATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)\$\$(.*?)\$\$|\$(.*?)\$|<<([^<>]*)>>|\\\[(.*?)\\\]").expect("a valid pattern")
});

static PROSE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:^|[^A-Za-z])[A-Za-z]{2,}").expect("a valid pattern"));

fn without_currency(response: &str) -> String {
    let response = response.replace("\\$", "");
    let mut out = String::with_capacity(response.len());
    let mut rest = response.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if is_currency(after) {
            rest = after;
        } else {
            let mark = if after.starts_with('$') { "$$" } else { "$" };
            let inside = &rest[at + mark.len()..];
            let end = inside.find(mark).map_or(rest.len(), |end| at + end + 2 * mark.len());
            out.push_str(&rest[at..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Whether a dollar sign with `after` behind it is money.
fn is_currency(after: &str) -> bool {
    if after.starts_with("<<") {
        return true;
    }
    let number = after.trim_start_matches(['-', ' ', '.']);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let line = after.lines().next().unwrap_or_default();
    line.split_once('$').is_none_or(|(inside, _)| !inside.contains('\\') && PROSE.is_match(inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(response: &str, expected: &[&str]) {
        assert_eq!(in_response(response), expected, "{response:?}");
    }

    #[test]
    fn equations_stand_between_marks() {
        check("x is <<1+2=3>>3 and $a+b$", &["1+2=3", "a+b"]);
        check("we have $a+b$ then $c$", &["a+b", "c"]);
        check("so \\[x\n=2\\] and $$y$$ and $ $", &["x\n=2", "y"]);
        check("<<>> and $$ $$", &[]);
        check("none", &[]);
    }

    #[test]
    fn money_is_no_equation() {
        check("It costs $18.", &[]);
        check("It costs $18 and $x+1$ more", &["x+1"]);
        check("He pays $5 and then $6 for $x$", &["x"]);
        check("She makes $<<9*2=18>>18 a day", &["9*2=18"]);
        check("about \\$5 of $y$", &["y"]);
        check("$18+2$ is $20$", &["18+2", "20"]);
        check("$5\\text{ cm}$ long", &["5\\text{ cm}"]);
        check("$2 x$", &["2 x"]);
        check("$ 1,000\nand $z$", &["z"]);
    }

    #[test]
    fn the_vector_of_the_specification_holds() {
        let all = [in_response("x is <<1+2=3>>3 and $a+b$"), in_response("we have $a+b$ then $c$")]
            .concat();
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!((unique.len(), all.len()), (3, 4));
    }

    proptest! {
        #[test]
        fn no_response_breaks_the_search(response in r"(\PC|[$<>=\\\[\]{}0-9\n ]){0,60}") {
            prop_assert!(in_response(&response).iter().all(|equation| !equation.trim().is_empty()));
        }
    }
}
