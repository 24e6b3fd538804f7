//! Turns what a guest said on its serial port into outcomes, and outcomes into a table. Pure.

use std::fmt::Write;

use super::guest::{COMPLAINT, EXIT, PREEMPTS};

/// What came of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Tests that passed.
    pub(crate) passed: Vec<String>,
    /// Tests that failed, and the one that the guest did not come back from.
    pub(crate) failed: Vec<String>,
    /// The last exit code that the guest told; absent when it never came to its end.
    pub(crate) exit: Option<i32>,
    /// How the kernel preempted; absent when it was built with one way only.
    pub(crate) preempts: Option<String>,
    /// Warnings and oopses of its kernel.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    /// Whether all went well: the guest says so, and nothing speaks against it.
    pub(crate) fn is_good(&self) -> bool {
        self.exit == Some(0) && self.failed.is_empty() && self.complaints.is_empty()
    }
}

/// Reads the serial port. Messages of the kernel may stand between the name of a test and its
/// result.
pub(crate) fn read(serial: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let mut running: Option<&str> = None;
    for line in serial.lines().map(str::trim_end) {
        let started = line.strip_prefix("test ").and_then(|rest| {
            let (name, result) = rest.split_once(" ... ").or(rest.split_once(" ..."))?;
            (!name.contains(' ')).then_some((name, result))
        });
        let result = match started {
            Some((name, result)) => {
                running = Some(name);
                result
            }
            None => line,
        };
        if let Some(code) = line.strip_prefix(EXIT) {
            outcome.exit = code.trim().parse().ok();
        } else if let Some(modes) = line.strip_prefix(PREEMPTS) {
            let used = modes
                .split_once('(')
                .and_then(|(_, rest)| rest.split_once(')'));
            outcome.preempts = used.map(|(used, _)| used.to_owned());
        } else if let Some(complaint) = line.strip_prefix(COMPLAINT) {
            outcome.complaints.push(complaint.trim().to_owned());
        } else if let Some(name) = running {
            let list = match result {
                _ if result == "ok" || result.ends_with(" ok") => &mut outcome.passed,
                _ if result == "FAILED" || result.ends_with(" FAILED") => &mut outcome.failed,
                _ => continue,
            };
            list.push(name.to_owned());
            running = None;
        }
    }
    outcome.failed.extend(running.map(str::to_owned));
    outcome
}

/// What came of one suite on one kernel, or in one environment.
pub(crate) struct Cell {
    /// The kernel or the environment, as its row is called.
    pub(crate) row: String,
    /// The suite, as its column is called.
    pub(crate) suite: &'static str,
    /// What came of it; absent when it could not be run at all.
    pub(crate) outcome: Option<Outcome>,
    /// What was left out, each with its reason.
    pub(crate) left_out: Vec<String>,
}

impl Cell {
    fn text(&self) -> String {
        match &self.outcome {
            None => "cannot".to_owned(),
            Some(outcome) => {
                let mut text = outcome.passed.len().to_string();
                if !outcome.failed.is_empty() {
                    let _ = write!(text, ", {} FAILED", outcome.failed.len());
                }
                if !self.left_out.is_empty() {
                    let _ = write!(text, ", {} cannot", self.left_out.len());
                }
                match outcome.exit {
                    None => text.push_str(", HUNG"),
                    Some(_) if !outcome.complaints.is_empty() => text.push_str(", KERNEL"),
                    Some(code) if code != 0 && outcome.failed.is_empty() => text.push_str(", DIED"),
                    Some(_) => {}
                }
                text
            }
        }
    }
}

/// A row for each kernel and a column for each suite, with the number of tests that passed; below,
/// each test by name that did not, and why.
pub(crate) fn table(cells: &[Cell]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    let mut columns: Vec<&str> = Vec::new();
    for cell in cells {
        if !rows.contains(&cell.row.as_str()) {
            rows.push(&cell.row);
        }
        if !columns.contains(&cell.suite) {
            columns.push(cell.suite);
        }
    }
    let mut lines = vec![
        ["tests passed"]
            .iter()
            .chain(&columns)
            .map(ToString::to_string)
            .collect(),
    ];
    for row in rows {
        let mut line = vec![row.to_owned()];
        line.extend(columns.iter().map(|column| {
            let cell = cells
                .iter()
                .find(|cell| cell.row == row && cell.suite == *column);
            cell.map_or_else(|| "-".to_owned(), Cell::text)
        }));
        lines.push(line);
    }
    let mut text = aligned(&lines);
    for cell in cells {
        tell(cell, &mut text);
    }
    text
}

fn tell(cell: &Cell, text: &mut String) {
    let mut line = |what: &str, name: &str| {
        let _ = writeln!(text, "{}: {}: {what}: {name}", cell.row, cell.suite);
    };
    for left_out in &cell.left_out {
        line("cannot", left_out);
    }
    let Some(outcome) = &cell.outcome else {
        return;
    };
    for failed in &outcome.failed {
        line("failed", failed);
    }
    for complaint in &outcome.complaints {
        line("the kernel says", complaint);
    }
    match outcome.exit {
        None => line("failed", "it never came to its end"),
        Some(0) => {}
        Some(code) => line("failed", &format!("exit code {code}")),
    }
}

fn aligned(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let widths = lines.iter().filter_map(|line| line.get(column));
            let width = widths.map(String::len).max().unwrap_or(0);
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exit_line_is_a_pass() {
        let told = "6.1.0\r\ntest one ... ok\r\ntest two ... ok\r\n\
                    test result: ok. 2 passed; 0 failed\r\n";
        let outcome = read(told);
        assert_eq!(outcome.passed, ["one", "two"]);
        assert!(!outcome.is_good());
        assert!(read(&format!("{told}VMTEST-EXIT 0\r\n")).is_good());
        let failed = read(&format!("{told}test three ... FAILED\nVMTEST-EXIT 0\n"));
        assert!(!failed.is_good());
        assert!(!read(&format!("{told}VMTEST-EXIT 101\n")).is_good());
    }

    #[test]
    fn a_message_between_a_test_and_its_result_hides_neither() {
        let told = "test one ... [   3.1] something: is odd\nok\ntest two ... noise FAILED\n\
                    test three ... \nVMTEST-KERNEL [ 9.0] BUG: x\n";
        let outcome = read(told);
        assert_eq!(outcome.passed, ["one"]);
        assert_eq!(outcome.failed, ["two", "three"]);
        assert_eq!(outcome.complaints, ["[ 9.0] BUG: x"]);
        assert_eq!(outcome.exit, None);
    }

    #[test]
    fn the_way_of_preempting_is_what_stands_in_brackets() {
        let of = |line: &str| read(line).preempts;
        assert_eq!(
            of("VMTEST-PREEMPT none voluntary (full)\r\n"),
            Some("full".into())
        );
        assert_eq!(of("VMTEST-PREEMPT \r\n"), None);
    }

    #[test]
    fn the_table_names_what_was_not_run_and_what_failed() {
        let outcome = read("test one ... ok\ntest two ... FAILED\nVMTEST-EXIT 101\n");
        let cells = [
            Cell {
                row: "5.10".into(),
                suite: "exact",
                outcome: None,
                left_out: vec!["all: no bpf_loop".into()],
            },
            Cell {
                row: "6.1".into(),
                suite: "exact",
                outcome: Some(outcome),
                left_out: vec!["three: too slow".into()],
            },
        ];
        assert_eq!(
            table(&cells),
            "tests passed  exact\n\
             5.10          cannot\n\
             6.1           1, 1 FAILED, 1 cannot\n\
             5.10: exact: cannot: all: no bpf_loop\n\
             6.1: exact: cannot: three: too slow\n\
             6.1: exact: failed: two\n\
             6.1: exact: failed: exit code 101\n"
        );
    }
}
