//! Reports as JSON → series of the sites that are worth keeping, as text: a line of all times, then for
//! each site its name and a line for each of these times with what has changed since the one before.
//! Runs nothing and judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

/// Sites without a label that are kept: those that hold most at the end.
const KEPT_SITES: usize = 8;

/// One reading of a site.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    /// Bytes and blocks live, bytes and blocks allocated.
    numbers: [u64; 4],
    /// Live bytes by the time of their birth, in the form in which it is written.
    births: BTreeMap<Birth, u64>,
}

/// Tenths of a second.
type Birth = u64;

/// The readings of one session.
#[derive(Debug, Default)]
pub(super) struct Readings {
    times: Vec<f64>,
    /// By id: name and readings, by the index of the time.
    sites: BTreeMap<String, (String, BTreeMap<usize, Reading>)>,
    /// Indexes of the times at which every site was listed that held something.
    whole: BTreeSet<usize>,
    /// Ids of the last report, what holds most first.
    largest: Vec<String>,
}

impl Readings {
    /// Takes a line of leaktrace's; those that are no reports are passed over.
    ///
    /// # Errors
    /// When a report lacks what all have.
    pub(super) fn take(&mut self, report: &Value) -> Result<()> {
        let Some(listed) = report["sites"].as_array() else {
            return Ok(());
        };
        let at = self.times.len();
        self.times
            .push(report["elapsed_s"].as_f64().context("no time")?);
        if report["site_count"].as_u64() == Some(listed.len() as u64) {
            self.whole.insert(at);
        }
        let mut largest: Vec<(u64, String)> = Vec::new();
        for site in listed.iter().filter(|site| site["source"] == "heap") {
            let id = site["id"].as_str().context("no id")?.to_owned();
            let reading = reading(site)?;
            largest.push((reading.numbers[0], id.clone()));
            let known = self
                .sites
                .entry(id)
                .or_insert_with(|| (name_of(site), BTreeMap::new()));
            known.1.insert(at, reading);
        }
        largest.sort_unstable_by(|a, b| b.cmp(a));
        self.largest = largest.into_iter().map(|(_, id)| id).collect();
        Ok(())
    }

    /// The series of all labelled sites and of the largest others.
    pub(super) fn text(&self) -> String {
        let mut text = "times".to_owned();
        for at_s in &self.times {
            // Writing to a String cannot fail.
            let _ = write!(text, " {at_s:.2}");
        }
        text.push('\n');
        let unlabelled = |id: &&String| {
            let name = self.sites.get(*id).map(|(name, _)| name.as_str());
            name.is_some_and(|name| !is_label(name))
        };
        let largest: Vec<&String> = self
            .largest
            .iter()
            .filter(unlabelled)
            .take(KEPT_SITES)
            .collect();
        for (id, (name, readings)) in &self.sites {
            if is_label(name) || largest.contains(&id) {
                let _ = writeln!(text, "site {name}");
                self.write_site(&mut text, readings);
            }
        }
        text
    }

    /// A line for each time: `-` where it is not known what the site held, `=` where nothing has changed.
    fn write_site(&self, text: &mut String, readings: &BTreeMap<usize, Reading>) {
        let mut before = Reading::default();
        let mut is_begun = false;
        for at in 0..self.times.len() {
            let reading = match readings.get(&at) {
                Some(reading) => reading.clone(),
                // What holds nothing is not listed.
                None if self.whole.contains(&at) && is_begun => before.emptied(),
                None => {
                    text.push_str("-\n");
                    continue;
                }
            };
            is_begun = true;
            if reading == before {
                text.push('=');
            } else {
                reading.write_since(&before, text);
            }
            text.push('\n');
            before = reading;
        }
    }
}

impl Reading {
    fn emptied(&self) -> Self {
        let [_, _, bytes, count] = self.numbers;
        Self {
            numbers: [0, 0, bytes, count],
            births: BTreeMap::new(),
        }
    }

    /// Writes the four differences, and the births that have another number of bytes than before.
    fn write_since(&self, before: &Self, text: &mut String) {
        let differences = self.numbers.iter().zip(before.numbers);
        let words: Vec<String> = differences
            .map(|(now, then)| (i128::from(*now) - i128::from(then)).to_string())
            .collect();
        text.push_str(&words.join(" "));
        let gone = before
            .births
            .keys()
            .filter(|birth| !self.births.contains_key(birth));
        let changed = self
            .births
            .iter()
            .filter(|(birth, bytes)| before.births.get(birth) != Some(bytes));
        for (birth, bytes) in gone.map(|birth| (birth, &0)).chain(changed) {
            // Writing to a String cannot fail.
            let _ = write!(text, " {birth}:{bytes}");
        }
    }
}

fn reading(site: &Value) -> Result<Reading> {
    let number = |key: &str| site[key].as_u64().with_context(|| format!("no {key}"));
    let pairs = site["live_bytes_since_s"].as_array();
    let birth = |pair: &Value| {
        let tenths = (pair[0].as_f64()? * 10.0).round() as Birth;
        Some((tenths, pair[1].as_u64()?))
    };
    Ok(Reading {
        numbers: [
            number("live_bytes")?,
            number("live_count")?,
            number("allocated_bytes")?,
            number("allocated_count")?,
        ],
        births: pairs.into_iter().flatten().filter_map(birth).collect(),
    })
}

/// The function that says what it does; else the innermost, which says nothing.
fn name_of(site: &Value) -> String {
    let frames = site["frames"].as_array().cloned().unwrap_or_default();
    let mut functions = frames
        .iter()
        .filter_map(|frame| frame["function"].as_str())
        .peekable();
    let first = functions.peek().copied();
    let name = functions.find(|name| is_label(name)).or(first);
    name.map_or_else(|| "unnamed".to_owned(), |name| name.replace(' ', "_"))
}

fn is_label(name: &str) -> bool {
    name.starts_with("leak_") || name.starts_with("fine_")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn report(at_s: f64, sites: &[(&str, u64, u64)]) -> Value {
        let site = |(name, live, allocated): &(&str, u64, u64)| {
            serde_json::json!({
                "id": name, "source": "heap", "frames": [{"function": "inner"}, {"function": name}],
                "live_bytes": live, "live_count": 1, "allocated_bytes": allocated, "allocated_count": 2,
                "live_bytes_since_s": [[1.07, live]],
            })
        };
        let sites: Vec<Value> = sites.iter().map(site).collect();
        serde_json::json!({"elapsed_s": at_s, "site_count": sites.len(), "sites": sites})
    }

    #[test]
    fn a_series_has_a_line_for_each_time_with_what_has_changed() {
        let mut readings = Readings::default();
        for (at_s, sites) in [
            (1.0, &[][..]),
            (2.0, &[("leak_a", 100, 200)]),
            (3.0, &[("leak_a", 100, 200)]),
            (4.0, &[]),
            (5.004, &[("leak_a", 70, 270)]),
        ] {
            readings.take(&report(at_s, sites)).unwrap();
        }
        let wanted = "times 1.00 2.00 3.00 4.00 5.00\nsite leak_a\n-\n100 1 200 2 11:100\n=\n\
                      -100 -1 0 0 11:0\n70 1 70 0 11:70\n";
        assert_eq!(readings.text(), wanted);
    }

    #[test]
    fn what_was_not_listed_for_lack_of_places_is_not_taken_for_empty() {
        let mut readings = Readings::default();
        readings.take(&report(1.0, &[("leak_a", 8, 8)])).unwrap();
        let mut cut = report(2.0, &[("other", 100, 100)]);
        cut["site_count"] = 2.into();
        readings.take(&cut).unwrap();
        assert!(readings.text().contains("site leak_a\n8 1 8 2 11:8\n-\n"));
    }
}
