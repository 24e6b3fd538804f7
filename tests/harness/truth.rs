//! What a traced program says about itself. Compares nothing.

use serde_json::Value;

use crate::report::Held;

/// The lines of truth that a program has printed so far.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    lines: Vec<Value>,
}

impl Truth {
    /// Takes a line that the program printed.
    pub(crate) fn add(&mut self, line: &str) {
        let value: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("the program's truth {line:?} is no JSON: {error}"));
        self.lines.push(value);
    }

    /// Every line of one kind.
    pub fn lines<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["truth"] == kind)
    }

    /// The last value of a named number, if the program told one.
    pub fn find(&self, name: &str) -> Option<u64> {
        self.lines("number")
            .filter(|line| line["name"] == name)
            .last()
            .map(|line| {
                line["value"]
                    .as_u64()
                    .expect("a number that is not negative")
            })
    }

    /// The last value of a named number.
    pub fn number(&self, name: &str) -> u64 {
        self.find(name)
            .unwrap_or_else(|| panic!("the program has not told its {name}"))
    }

    /// Each caller with what it holds.
    pub fn sites(&self) -> Vec<(String, Held)> {
        self.lines("site")
            .map(|line| {
                let number = |key: &str| line[key].as_u64().expect("bytes and count of a site");
                let site = line["site"].as_str().expect("name of a site").to_owned();
                (
                    site,
                    Held {
                        bytes: number("bytes"),
                        count: number("count"),
                    },
                )
            })
            .collect()
    }

    /// Each stack: names of the program's own functions, and all return addresses, innermost first.
    pub fn stacks(&self) -> Vec<(Vec<String>, Vec<u64>)> {
        let parts = |line: &Value, key: &str| -> Vec<String> {
            let text = line[key].as_str().expect("a list in a string");
            text.split(',').map(str::to_owned).collect()
        };
        self.lines("stack")
            .map(|line| {
                let addresses = parts(line, "addresses")
                    .iter()
                    .map(|address| {
                        u64::from_str_radix(address.trim_start_matches("0x"), 16)
                            .expect("an address in hex")
                    })
                    .collect();
                (parts(line, "functions"), addresses)
            })
            .collect()
    }
}
