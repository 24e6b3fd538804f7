//! Snapshots → what grows. Pure: reads no clock, no file and no kernel map.

mod alert;
mod candidates;
mod churn;
mod cohorts;
mod footprint;
mod forecast;
mod growth;
mod late;
mod memory;
mod ranking;
mod reason;
mod records;
mod series;
mod stopped;
mod survival;
mod temporary;
mod together;
mod trend;
mod trimmed;
mod verdict;
mod window;

use std::cell::Cell;
use std::time::Duration;

use foldhash::HashMap;

use crate::snapshot::{SiteReading, Snapshot, Totals};

pub use alert::{Alert, Alerted, Alerts, Change, Condition, Turn};
pub use churn::{Churn, ChurnOrder};
pub use footprint::{AreaReading, Footprint, Owners};
pub use growth::Growth;
pub use memory::{MemoryGrowth, MemoryTracker, TimeLeft};
pub use ranking::{Order, keep_places, rank};
pub use reason::{Finding, Reason, Steps};
pub use temporary::{FreedYoung, Temporaries};
pub use verdict::Verdict;

use cohorts::Cohorts;
use series::Series;

/// The history of every site of one process.
#[derive(Debug, Default)]
pub struct Tracker {
    sites: HashMap<u32, History>,
    /// When counting began, on the clock of the readings.
    begun: Duration,
    /// When the last reading was taken: a site that is new since held nothing then.
    last_reading: Duration,
}

/// The series of one site, and what it was last judged to say.
#[derive(Debug, Default)]
struct History {
    series: Series,
    /// Absent where births are not counted.
    cohorts: Option<Box<Cohorts>>,
    /// Absent while a reading has come since the last judgement. Slopes are quadratic in the
    /// readings, and a report asks for the same one several times.
    judged: Cell<Option<Growth>>,
}

impl History {
    fn growth(&self) -> Growth {
        let growth = self
            .judged
            .get()
            .unwrap_or_else(|| growth::judge(&self.series, self.cohorts.as_deref()));
        self.judged.set(Some(growth));
        growth
    }
}

impl Tracker {
    /// A tracker that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tracker of a program that was not counted before this time: a child, or what an exec started.
    pub fn since(begun: Duration) -> Self {
        Self {
            begun,
            last_reading: begun,
            ..Self::default()
        }
    }

    /// Adds one reading to the series of every site in the snapshot. Cheap: judges nothing.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        for site in &snapshot.sites {
            let history = self.sites.entry(site.index).or_insert_with(|| {
                let mut history = History::default();
                if self.last_reading < snapshot.elapsed {
                    history.series.push(self.last_reading, &Totals::default());
                }
                let begun_s = self.last_reading.min(snapshot.elapsed).as_secs_f64();
                let cohorts = || Box::new(Cohorts::since(begun_s));
                history.cohorts = site.live_by_birth.is_some().then(cohorts);
                history
            });
            let totals = trimmed::judged_totals(site);
            history.series.push(snapshot.elapsed, &totals);
            match (&site.live_by_birth, &mut history.cohorts) {
                (Some(births), Some(cohorts)) => {
                    let now_s = snapshot.elapsed.as_secs_f64();
                    cohorts.observe(now_s, births, site.totals.allocated_count);
                }
                // Of two sites with the same stack, births of one are not counted.
                _ => history.cohorts = None,
            }
            history.judged.set(None);
        }
        self.last_reading = snapshot.elapsed;
    }

    /// Passes over a time in which it is known that there was nothing.
    pub fn skip(&mut self, elapsed: Duration) {
        self.last_reading = elapsed;
    }

    /// How a site grows, by its index in the kernel's table; unknown for a site never observed.
    pub fn growth(&self, site_index: u32) -> Growth {
        self.sites
            .get(&site_index)
            .map_or(Growth::UNKNOWN, History::growth)
    }

    /// How several sites grow as one: what one takes, another may give back.
    pub fn growth_together(&self, site_indexes: &[u32]) -> Growth {
        let sites = site_indexes.iter();
        let members: Vec<&History> = sites.filter_map(|site| self.sites.get(site)).collect();
        together::growth_of(&members)
    }

    /// The sites of a snapshot that hold something, the top one first: `count` of them, all for
    /// zero.
    pub fn top<'a>(
        &self,
        snapshot: &'a Snapshot,
        order: Order,
        count: usize,
    ) -> Vec<&'a SiteReading> {
        ranking::top(self, snapshot, order, count)
    }

    /// The sites that allocate most often, or free most right after birth, whether or not they hold
    /// something: `count` of them, all for zero.
    pub fn busiest<'a>(
        &self,
        snapshot: &'a Snapshot,
        temporaries: &Temporaries,
        order: ChurnOrder,
        count: usize,
    ) -> Vec<(&'a SiteReading, Churn)> {
        churn::busiest(self, snapshot, temporaries, order, count)
    }

    /// Bytes per second of the fastest growth of the sites that hold something and are not among these;
    /// absent if none is known to grow.
    pub fn fastest_but(&self, snapshot: &Snapshot, listed: &[&SiteReading]) -> Option<f64> {
        ranking::fastest_but(self, snapshot, listed)
    }
}
