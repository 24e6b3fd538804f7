//! Which target a new process or program comes from. Pure.

/// The target that something new comes from, by its place among the targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::run) enum Origin {
    /// From the program that it runs.
    Present(usize),
    /// From a program that it ran before. Children that share the memory of their parent count to it, and
    /// stay behind when another thread of it executes a program.
    Former(usize),
}

/// The target of the program with this place in the session's table. Of each target: the place of its
/// program, and those of the programs before.
pub(in crate::run) fn origin<'a>(
    from: u16,
    targets: impl Iterator<Item = (u16, &'a [u16])>,
) -> Option<Origin> {
    let mut former = None;
    for (place, (present, before)) in targets.enumerate() {
        if present == from {
            return Some(Origin::Present(place));
        }
        if before.contains(&from) {
            former = Some(Origin::Former(place));
        }
    }
    former
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(from: u16, targets: &[(u16, &[u16])]) -> Option<Origin> {
        origin(from, targets.iter().copied())
    }

    #[test]
    fn a_child_comes_from_the_program_that_has_forked_it() {
        let targets: [(u16, &[u16]); 2] = [(0, &[]), (1, &[])];
        assert_eq!(find(1, &targets), Some(Origin::Present(1)));
        assert_eq!(find(2, &targets), None);
    }

    #[test]
    fn a_vfork_child_executes_a_program_after_its_parent_has() {
        // The parent ran 0, and 3 after that; the child counted to 0 all the time.
        assert_eq!(find(0, &[(3, &[0])]), Some(Origin::Former(0)));
    }

    #[test]
    fn a_child_in_its_parents_memory_forks_after_its_parent_has_executed_twice() {
        let targets: [(u16, &[u16]); 2] = [(1, &[]), (4, &[0, 3])];
        assert_eq!(find(0, &targets), Some(Origin::Former(1)));
        assert_eq!(find(3, &targets), Some(Origin::Former(1)));
    }

    #[test]
    fn who_has_the_place_now_goes_before_who_had_it() {
        assert_eq!(find(0, &[(3, &[0]), (0, &[])]), Some(Origin::Present(1)));
    }
}
