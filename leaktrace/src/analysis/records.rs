//! A level that only rises → whether a pool that keeps the most it ever needed would rise as often. Knows
//! nothing of bytes and verdicts.

use super::series::Point;

/// Rises in the later two thirds of the time that leave no doubt. Of independent needs, the n-th is the
/// greatest so far with probability 1/n, whatever their distribution, and independently of those before
/// (A. Rényi, "Théorie des éléments saillants d'une suite d'observations", 1962): from a third of the
/// readings to their end that happens ln 3 = 1.1 times, and six times with a probability of 0.1%.
const BEYOND_RECORDS: usize = 6;

/// Whether a series has never fallen, and has risen no more often than the greatest of what goes up and
/// down would. Readings that were thinned out hide rises, but in both alike.
pub(super) fn may_be_records(points: &[Point]) -> bool {
    let [first, .., last] = points else {
        return true;
    };
    let late_s = first.at_s + (last.at_s - first.at_s) / 3.0;
    let mut rises = 0;
    for pair in points.windows(2) {
        if pair[1].low_bytes < pair[0].live_bytes {
            return false;
        }
        rises += usize::from(pair[0].at_s >= late_s && pair[1].live_bytes > pair[0].live_bytes);
    }
    rises < BEYOND_RECORDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::series::points;

    #[test]
    fn a_pool_that_keeps_the_most_it_needed_rises_as_records_do() {
        let runs = 2000;
        let mut state = 1_u64;
        let mut beyond = 0;
        for _ in 0..runs {
            let mut most = 0;
            let levels = points((0..100).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                most = most.max(state >> 40);
                most
            }));
            beyond += usize::from(!may_be_records(&levels));
        }
        assert!(beyond <= 6, "{beyond} of {runs}");
    }

    #[test]
    fn what_rises_throughout_or_falls_in_between_is_more() {
        assert!(!may_be_records(&points(0..15)));
        assert!(!may_be_records(&points([1, 2, 1, 3].into_iter())));
        assert!(may_be_records(&points((0..300).map(|at| at / 60))));
    }
}
