//! The tables of the requirement pages: an id first, the state and what shows it in the last two columns.
//!
//! Knows no ids by heart. A line that looks like a row and is none is a problem, not a line to skip.

use crate::tidy::Problem;

/// What a row says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The tests named show all the row asks for.
    Shown,
    /// Nothing shows it yet.
    Missing,
    /// It waits for the issue it names.
    Later,
    /// There is nothing to show.
    Informative,
}

/// One promise.
#[derive(Debug)]
pub struct Row {
    /// Such as `S0.1`, `SX.9` or `D3`.
    pub id: String,
    pub state: State,
    /// The names in backticks of the last column.
    pub shown_by: Vec<String>,
    /// Of the page; the first is 1.
    pub line: usize,
}

/// A page read as far as it can be.
pub struct Page {
    pub rows: Vec<Row>,
    pub problems: Vec<Problem>,
}

/// Reads every table of the page.
pub fn parse(path: &str, text: &str) -> Page {
    let mut page = Page { rows: Vec::new(), problems: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let Some(inner) = line.trim().strip_prefix('|') else { continue };
        let cells: Vec<&str> = inner.strip_suffix('|').unwrap_or(inner).split('|').map(str::trim).collect();
        let heading =
            cells[0] == "id" || cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':')));
        if heading {
            continue;
        }
        match row(&cells, index + 1) {
            Ok(row) => page.rows.push(row),
            Err(what) => page.problems.push(Problem { path: path.to_owned(), line: index + 1, what }),
        }
    }
    page
}

fn row(cells: &[&str], line: usize) -> Result<Row, String> {
    let [id, _, .., state, shown_by] = cells else {
        return Err(format!(
            "a row has {} columns; it needs an id, a promise, a state and tests",
            cells.len()
        ));
    };
    if !is_id(id) {
        return Err(format!("`{id}` is not a row's id"));
    }
    let state = match *state {
        "shown" => State::Shown,
        "missing" => State::Missing,
        "informative" => State::Informative,
        later if later.starts_with("later (") && later.contains("issue ") && later.ends_with(')') => {
            State::Later
        }
        other => return Err(format!("{id}: `{other}` is not a state")),
    };
    // Names stand at the odd places between backticks; between them only commas may.
    let parts: Vec<&str> = shown_by.split('`').collect();
    if parts.len().is_multiple_of(2)
        || parts.iter().step_by(2).any(|between| !matches!(between.trim(), "" | ","))
    {
        return Err(format!("{id}: what shows it is not a list of names in backticks: {shown_by}"));
    }
    let shown_by = parts.iter().skip(1).step_by(2).map(|&name| name.to_owned()).collect();
    Ok(Row { id: (*id).to_owned(), state, shown_by, line })
}

/// Capitals and digits, at most one dot, perhaps a small letter at the end: `S0.1`, `S2.67a`, `SX.9`, `D3`.
fn is_id(id: &str) -> bool {
    let id = id.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(id);
    let known = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '.';
    id.starts_with(|c: char| c.is_ascii_uppercase())
        && id.ends_with(|c: char| c.is_ascii_digit())
        && id.chars().all(known)
        && id.matches('.').count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rows_of_four_and_of_five_columns() {
        let text = "# T\n\n| id | what | state | shown by |\n|---|---|:-:|---|\n| S0.1a | a | shown | `a::b`, `cmd:c, d` |\n\
                    | D3 | fault | answer | later (after issue 7) | |\n";
        let page = parse("p.md", text);
        assert!(page.problems.is_empty(), "{:?}", page.problems);
        assert_eq!(page.rows[0].shown_by, ["a::b", "cmd:c, d"]);
        assert_eq!((page.rows[0].line, page.rows[0].state), (5, State::Shown));
        assert_eq!((page.rows[1].id.as_str(), page.rows[1].state), ("D3", State::Later));
    }

    #[test]
    fn canary_rows_that_cannot_be_read_are_problems() {
        for row in [
            "| S0.1 | a | shown |",
            "| S0.1 | a | done | |",
            "| s0.1 | a | missing | |",
            "| S0.1 | a | later | |",
            "| S0.1 | a | shown | a::b |",
            "| S0.1 | a | shown | `a::b |",
        ] {
            assert_eq!(parse("p.md", row).problems.len(), 1, "{row}");
        }
    }
}
